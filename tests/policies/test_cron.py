"""Cron schedules: what is one, and how far apart its runs lie."""

from __future__ import annotations

import pytest

from policies import cron

pytestmark = pytest.mark.unit

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("schedule", "gap"),
    [
        ("* * * * *", 60),
        ("*/15 * * * *", 15 * 60),
        ("5,35 * * * *", 30 * 60),
        ("0 3 * * *", DAY),
        ("0 3,15 * * *", 12 * HOUR),
        ("0 8-17 * * *", 15 * HOUR),
        ("0 3 * * 0", 7 * DAY),
        ("0 3 * * SUN", 7 * DAY),
        ("0 3 * * 6", 7 * DAY),
        ("@every 6h", 6 * HOUR),
        ("@every 1h30m", 90 * 60),
        ("0 3 * * 1-5", 3 * DAY),
        ("0 3 1 * *", 31 * DAY),
        ("0 3 1 1 *", 366 * DAY),
        ("0 3 1,15 * 1", 7 * DAY),
        ("0 3 */2 * 1", 2 * DAY),
        ("0 3 */1 * 1", 7 * DAY),
        ("0 3 15,* * 1", 7 * DAY),
        ("0 3 15 * */2", 2 * DAY),
        ("@hourly", HOUR),
        ("@weekly", 7 * DAY),
    ],
)
def test_longest_gap(schedule: str, gap: int) -> None:
    assert cron.longest_gap(schedule) == gap


def test_six_fields_begin_with_the_second() -> None:
    assert cron.longest_gap("0 0 3 * * *", seconds=True) == DAY


def test_of_six_fields_one_with_a_step_is_no_alternative_to_the_other_day() -> None:
    assert cron.longest_gap("0 0 3 */2 * 1", seconds=True) == 21 * DAY


def test_both_days_may_have_to_match() -> None:
    assert cron.longest_gap("0 3 1-7 * 1", both_days=True) == 35 * DAY
    assert cron.longest_gap("0 3 * * 1", both_days=True) == 7 * DAY


def test_date_that_never_comes_has_no_gap() -> None:
    assert cron.longest_gap("0 0 30 2 *") is None


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("", "0 fields, not 5"),
        ("0 0 3 * * *", "6 fields, not 5"),
        ("60 * * * *", "minute '60' is not within 0-59"),
        ("* 24 * * *", "hour '24' is not within 0-23"),
        ("* * 0 * *", "day of month '0' is not within 1-31"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 7", "day of week '7' is not within 0-6"),
        ("@every day", "2 fields, not 5"),
        ("* * * * mo", "day of week 'mo' is no number"),
        ("5-1 * * * *", "minute '5-1'"),
        ("*/0 * * * *", "minute '\\*/0'"),
        ("a;b * * * *", "minute 'a;b' is no value"),
    ],
)
def test_says_what_is_wrong(schedule: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        cron.parse(schedule)
