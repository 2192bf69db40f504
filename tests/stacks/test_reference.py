"""The committed reference says what the models say."""

from __future__ import annotations

import pytest

from stacks.reference import PAGE, page

pytestmark = pytest.mark.unit


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m stacks.reference"


@pytest.mark.parametrize(
    "row",
    [
        "| `aws:region` | a region of AWS outside of China, such as us-east-1 | required |",
        "| `resources.memory` | a size with a unit, such as 512Mi, 10Gi or 1Ti | `8Gi` |",
        "| `redis.rpo` | a time from 0s to 7d, such as 30s, 5m, 1h or 7d | `10s` |",
        "| `<name>.replicas.min` | a whole number from 3 to 100 | `3` |",
        "| `<name>.tier` | one of core, standard, best-effort | required |",
        "| `lock` | a time in whole days from 1d to 3650d, such as 7d or 30d | `7d` |",
    ],
)
def test_a_setting_is_told_with_bounds_and_default(row: str) -> None:
    assert row in page()


def test_no_setting_is_left_without_meaning() -> None:
    assert "|  |" not in page()
