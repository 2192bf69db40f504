"""Ctrl-C during a drill: it ends, and what it broke is mended, however often one presses."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def once(say: Callable[[str], None]) -> None:
    """Let the first Ctrl-C stop this program, and every further one only say that it is stopping.

    A second one in the middle of the cleaning up would leave a node cut off, or a client that the
    next `up` waits for.

    Args:
        say: tells the person.
    """

    def stopping(_signal: int, _frame: FrameType | None) -> None:
        say("stopping: what was broken is mended first, which takes a moment")

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, stopping)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
