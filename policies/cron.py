"""Cron schedules: whether one is valid, and how far apart its runs can lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise

DAY = 86_400

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_WEEKDAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS = {name: number for number, name in enumerate(_WEEKDAY_NAMES)}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _WEEKDAYS),
)
_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS = {"h": 3600, "m": 60, "s": 1}
_CALENDAR_START = date(2024, 1, 1)
_CALENDAR_DAYS = 4 * 366
"""A span that holds a leap year, and every date on several days of the week."""


@dataclass(frozen=True)
class Schedule:
    """When a cron schedule runs."""

    seconds_of_day: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Cron's rule: a restricted day of month and day of week are alternatives."""

    def runs_on(self, day: date) -> bool:
        """Whether it runs on that day."""
        if day.month not in self.months:
            return False
        monthly, weekly = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (monthly or weekly) if self.either_day else (monthly and weekly)


def go_seconds(written: str) -> int | None:
    """Read a duration of Go, such as 720h0m0s; None if it is none in whole seconds."""
    if not re.fullmatch(r"(\d+[hms])+", written, re.ASCII):
        return None
    parts = re.findall(r"(\d+)([hms])", written)
    return sum(int(amount) * _UNITS[unit] for amount, unit in parts)


@lru_cache(maxsize=1024)
def longest_gap(schedule: str, *, seconds: bool = False, both_days: bool = False) -> int | None:
    """The longest time between two runs in seconds, None if it never runs.

    Raises:
        ValueError: if it is no schedule; see `parse`.
    """
    word, _, every = schedule.strip().partition(" ")
    if word == "@every" and (gap := go_seconds(every)) is not None:
        return max(gap, 1)
    parsed = parse(schedule, seconds=seconds, both_days=both_days)
    times = parsed.seconds_of_day
    days = [number for number, day in enumerate(_calendar()) if parsed.runs_on(day)]
    if not days:
        return None
    overnight = max((b - a for a, b in pairwise(days)), default=_CALENDAR_DAYS) * DAY
    return max([overnight + times[0] - times[-1], *(b - a for a, b in pairwise(times))])


@lru_cache(maxsize=1)
def _calendar() -> tuple[date, ...]:
    return tuple(_CALENDAR_START + timedelta(days=number) for number in range(_CALENDAR_DAYS))


def parse(schedule: str, *, seconds: bool = False, both_days: bool = False) -> Schedule:
    """Read a schedule of five fields, or of six (the first is the second) with `seconds`.

    With `both_days` a day must match as a day of the month and as a day of the week, always.

    Raises:
        ValueError: if it is not one; the message says what is wrong with which field.
    """
    expanded = _SHORTHANDS.get(schedule.strip().lower())
    if expanded is not None:
        fields = ["0", *expanded.split()]
    else:
        fields = schedule.split()
        wanted = 6 if seconds else 5
        if len(fields) != wanted:
            raise ValueError(f"it has {len(fields)} fields, not {wanted}")
        fields = fields if seconds else ["0", *fields]
    second, minute, hour, days, months, weekdays = (
        frozenset(_field(text, *limits)) for text, limits in zip(fields, _FIELDS, strict=True)
    )
    return Schedule(
        seconds_of_day=tuple(
            sorted(h * 3600 + m * 60 + s for h in hour for m in minute for s in second)
        ),
        days=days,
        months=months,
        weekdays=weekdays,
        either_day=not both_days
        and not any(_open(field, stepped=seconds) for field in (fields[3], fields[5])),
    )


def _open(field: str, *, stepped: bool) -> bool:
    """Whether a field counts as open to every day; with `stepped`, `*/2` does so too.

    That is how robfig/cron v1 has it, by which CloudNativePG reads six fields. By v3, which reads
    five, a step restricts.
    """
    ranges = (part.partition("/") for part in field.split(","))
    return any(
        first in {"*", "?"} and (stepped or int(step or 1) == 1) for first, _slash, step in ranges
    )


def _field(
    field: str, name: str, lowest: int, highest: int, names: dict[str, int]
) -> Iterator[int]:
    for part in field.split(","):
        match = re.fullmatch(r"(?:(\*|\?)|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
        if match is None:
            raise ValueError(f"its {name} {part!r} is no value, range or step")
        anything, first, last, step = match.groups()
        start = lowest if anything else _value(first, name, names)
        end = highest if anything or (step and not last) else _value(last or first, name, names)
        if not lowest <= start <= end <= highest or step == "0":
            raise ValueError(f"its {name} {part!r} is not within {lowest}-{highest}")
        yield from range(start, end + 1, int(step or 1))


def _value(text: str, name: str, names: dict[str, int]) -> int:
    if text.isdecimal():
        return int(text)
    if text.lower() in names:
        return names[text.lower()]
    raise ValueError(f"its {name} {text!r} is no number")
