"""Intervals that a cron schedule keeps exactly, and the schedule of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stacks.contradictions import Contradiction, Key
from stacks.values import DAY, HOUR

_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, 24, 7 * 24)
"""Divisors of a day, so that the interval holds across midnight too; and a week."""

INTERVALS: Final = "1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d"


def unkept(key: Key, every: int) -> Iterator[Contradiction]:
    """Refuse an interval, in seconds, that no schedule keeps."""
    if not _is_kept(every):
        yield Contradiction(key, every, f"should be one of {INTERVALS}, which a schedule can keep")


def cron(every: int, minute: int) -> str:
    """Write the schedule (five fields) that begins every so many seconds.

    Args:
        every: seconds; one of `INTERVALS`.
        minute: past the hour.

    Raises:
        ValueError: if no schedule keeps that interval exactly.
    """
    if not _is_kept(every):
        raise ValueError(f"the interval is {every}s; a schedule keeps only {INTERVALS}")
    if every == 7 * DAY:
        return f"{minute} 0 * * 0"
    if every == DAY:
        return f"{minute} 0 * * *"
    return f"{minute} */{every // HOUR} * * *"


def longest(limit: int) -> int:
    """The longest interval, in seconds, that a schedule keeps and that is no longer than `limit`.

    An hour, the shortest, where `limit` is below it: whether that will do, others judge.
    """
    return max((hours * HOUR for hours in _HOURS if hours * HOUR <= limit), default=HOUR)


def _is_kept(every: int) -> bool:
    hours, rest = divmod(every, HOUR)
    return not rest and hours in _HOURS
