"""Run pieces of work side by side, each in a thread: all of them, or an error and none.

For work that waits on other programs (compilers, downloads), which threads do not slow down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from local.toolchain.build import Say


class StoppedError(Exception):
    """Raised in a piece of work when it next speaks, once another one has failed."""


def side_by_side(works: Sequence[Callable[[Say], object]], say: Say) -> None:
    """Run all works at once, and return when the last one is done.

    An error in one of them, or Ctrl-C, stops the others: each ends where it next says how it goes.
    So a work should speak every few seconds, and end what it started when speaking raises.

    Args:
        works: each is given what it should speak with.
        say: told what any of them says.

    Raises:
        BaseException: what the first work to fail raised.
    """
    stopped = threading.Event()

    def speak(text: str) -> None:
        if stopped.is_set():
            raise StoppedError
        say(text)

    with ThreadPoolExecutor(max_workers=len(works)) as pool:
        running = [pool.submit(work, speak) for work in works]
        try:
            for done in as_completed(running):
                done.result()
        except BaseException:
            stopped.set()
            raise
