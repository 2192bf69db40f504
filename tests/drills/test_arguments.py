"""Wrong arguments of a drill: told in one line, and nothing is run."""

from __future__ import annotations

import pytest

from drills.__main__ import main
from drills.arguments import repetitions

pytestmark = pytest.mark.unit


def test_a_number_of_repetitions_is_taken() -> None:
    assert repetitions("10") == 10


@pytest.mark.parametrize("times", ["0", "-1", "often", "1.5", ""])
def test_a_drill_that_would_never_run_is_refused(
    times: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["redis-cut", f"--times={times}"])
    assert stopped.value.code == 2
    assert f"--times: {times!r}; it should be a whole number of at least 1" in (
        capsys.readouterr().err
    )
