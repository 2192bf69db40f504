"""What every load client shares: bounds, outcomes, the log, the exit code."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from drills.account import Attempt, parse
from drills.load import attempts
from drills.load.attempts import Bounds, FailedError, UnknownError, run


class Store:
    """A session that does as told at each write."""

    def __init__(self, write: Callable[[int, int], None] = lambda _worker, _sequence: None) -> None:
        self._write, self.closed = write, 0

    def write(self, worker: int, sequence: int) -> None:
        """Store it, or fail."""
        self._write(worker, sequence)

    def read(self) -> None:
        """Read nothing."""

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def bounds(
    *, writers: int = 1, readers: int = 0, rate: float = 1000, seconds: float = 10, total: int = 5
) -> Bounds:
    return Bounds(writers, readers, rate, seconds, total)


def log_of(folder: Path) -> list[Attempt]:
    return parse((folder / "attempts.log").read_text())


def raising(error: Exception) -> Store:
    def write(_worker: int, _sequence: int) -> None:
        raise error

    return Store(write)


def test_every_write_has_its_own_worker_and_sequence(tmp_path: Path) -> None:
    assert run(Store, bounds(writers=2, total=6), tmp_path) == 0
    assert sorted(attempt.key for attempt in log_of(tmp_path)) == [
        (worker, sequence) for worker in range(2) for sequence in range(3)
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (FailedError("Refused"), ("failed", "Refused")),
        (UnknownError("Reset"), ("unknown", "Reset")),
        (ValueError("a surprise"), ("unknown", "ValueError")),
    ],
    ids=["failed", "unknown", "surprise"],
)
def test_an_error_is_told_by_what_it_means(
    tmp_path: Path, error: Exception, outcome: tuple[str, str]
) -> None:
    run(lambda: raising(error), bounds(total=1), tmp_path)
    (attempt,) = log_of(tmp_path)
    assert (attempt.outcome, attempt.error) == outcome


def test_a_connection_that_failed_is_dropped(tmp_path: Path) -> None:
    store = raising(FailedError("Refused"))
    run(lambda: store, bounds(total=3), tmp_path)
    assert store.closed == 3 + 1  # and once at the end


def test_it_fails_if_nothing_was_ever_acknowledged(tmp_path: Path) -> None:
    assert run(lambda: raising(UnknownError("Reset")), bounds(), tmp_path) == 1


def test_the_summary_counts_by_kind_and_outcome(tmp_path: Path) -> None:
    run(Store, bounds(total=5), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["write"] == {"ok": 5, "failed": 0, "unknown": 0}


def test_it_keeps_to_its_rate_even_after_a_stall(tmp_path: Path) -> None:
    def stall_once(_worker: int, sequence: int) -> None:
        if sequence == 0:
            time.sleep(0.5)

    run(lambda: Store(stall_once), bounds(rate=20, total=5), tmp_path)
    log = log_of(tmp_path)
    assert log[-1].start - log[0].end >= 3 * 0.05 * 0.9


def test_it_ends_in_time(tmp_path: Path) -> None:
    started = time.monotonic()
    run(Store, bounds(rate=20, seconds=0.5, total=10_000), tmp_path)
    assert time.monotonic() - started < 30  # 500 s for all that it may write


def test_a_file_named_stop_ends_it(tmp_path: Path) -> None:
    timer = threading.Timer(0.3, (tmp_path / "stop").touch)
    timer.start()
    started = time.monotonic()
    run(Store, bounds(rate=20, seconds=60, total=10_000), tmp_path)
    timer.join()
    assert time.monotonic() - started < 30


@pytest.mark.filterwarnings(  # it ends after all, and finds its log closed
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
def test_an_attempt_that_never_ends_is_told_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_LAST_SECONDS", 0.2)
    never = threading.Event()

    def hangs_for_good(_worker: int, _sequence: int) -> None:
        never.wait(60)

    try:
        run(lambda: Store(hangs_for_good), bounds(seconds=0.1), tmp_path)
    finally:
        never.set()
        for worker in (each for each in threading.enumerate() if each.name == "w-0"):
            worker.join()
    assert "in hangs_for_good" in (tmp_path / attempts.STUCK).read_text()


def test_a_load_whose_attempts_all_end_tells_of_none(tmp_path: Path) -> None:
    run(Store, bounds(), tmp_path)
    assert not (tmp_path / attempts.STUCK).exists()


def test_readers_read_beside_the_writers(tmp_path: Path) -> None:
    run(Store, bounds(writers=1, readers=1, rate=100, total=20), tmp_path)
    kinds = Counter(attempt.kind for attempt in log_of(tmp_path))
    assert kinds["w"] == 20
    assert kinds["r"] >= 10


def test_times_are_of_the_wall_clock(tmp_path: Path) -> None:
    before = time.time()
    run(Store, bounds(total=1), tmp_path)
    (attempt,) = log_of(tmp_path)
    assert before - 0.1 <= attempt.start <= attempt.end <= time.time() + 0.1
