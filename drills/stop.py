"""Ctrl-C during a drill: it ends, and what it broke is mended, however often one presses.

So it is where the terminal goes away, or a time limit ends it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def once(say: Callable[[str], None]) -> None:
    """Let the first signal stop this program, and every further one only say that it is stopping.

    A second one in the middle of the cleaning up would leave a node cut off, or a client that the
    next `up` waits for.

    Args:
        say: tells the person.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` leaves it
        signals.append(signal.SIGHUP)

    def stopping(_signal: int, _frame: FrameType | None) -> None:
        say("stopping: what was broken is mended first, which takes a moment")

    def stop(_signal: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, stopping)
        raise KeyboardInterrupt

    for each in signals:
        signal.signal(each, stop)


def was_asked(error: BaseException | None) -> bool:
    """Whether an error came up while a stop was under way: it must not pass for its only cause."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
