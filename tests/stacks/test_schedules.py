"""Schedules keep the interval that they are asked for, or are refused."""

from __future__ import annotations

import pytest

from stacks import schedules
from stacks.values import DAY, HOUR, MINUTE

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("every", "expected"),
    [(HOUR, "5 */1 * * *"), (6 * HOUR, "5 */6 * * *"), (DAY, "5 0 * * *"), (7 * DAY, "5 0 * * 0")],
)
def test_an_interval_becomes_a_schedule(every: int, expected: str) -> None:
    assert schedules.cron(every, 5) == expected
    assert list(schedules.unkept(("backup_every",), every)) == []


@pytest.mark.parametrize("every", [5 * HOUR, 90 * MINUTE, 2 * DAY, 60, 0])
def test_an_interval_that_no_schedule_keeps_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"^the interval is {every}s; a schedule keeps only 1h, "):
        schedules.cron(every, 0)
    [found] = schedules.unkept(("backup_every",), every)
    assert (found.key, found.value) == (("backup_every",), every)
