"""What several runs of tests come to."""

from __future__ import annotations

import pytest

from local.check import _verdict
from local.errors import LocalError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("codes", "verdict"), [((0, 0), 0), ((0, 5), 0), ((5, 0), 0), ((1, 0), 1), ((5, 2), 2)]
)
def test_any_run_that_failed_fails_all(codes: tuple[int, int], verdict: int) -> None:
    assert _verdict(codes, ["tests"]) == verdict


def test_runs_that_find_no_test_at_all_are_no_success() -> None:
    with pytest.raises(LocalError, match="there is no test in docs"):
        _verdict([5, 5], ["docs"])
