"""What every load client shares: bounds, pace, one line per attempt, and the closing summary.

A client opens a `Session` for each worker thread. Each call of a session is one attempt with an
outcome of three:

    ok       the store acknowledged it
    failed   it certainly had no effect
    unknown  it was on its way when the connection broke or the deadline passed: the store may hold
             it or not, so it counts neither as acknowledged nor as lost

Attempts are never repeated under the same sequence number, so a duplicate is the store's doing.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, TextIO

WRITE, READ = "w", "r"
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"

DEADLINE_SECONDS = 2.0
"""For a connection, and again for each request. A cut network answers nothing, so this bounds how
late a client notices, and thereby how exact the measured outage is."""

STUCK = "stuck"
"""File that tells where attempts stood that did not end."""

_STOP_POLL_SECONDS = 0.2
_LAST_SECONDS = 130.0
"""For attempts that are on their way: a producer of Kafka gives a record up after 120 s."""


class FailedError(Exception):
    """The attempt had no effect; the text is a short class of error."""


class UnknownError(Exception):
    """Whether the attempt had an effect cannot be known; the text is a short class of error."""


class Session(Protocol):
    """One worker's way into the store; connects when need be."""

    def write(self, worker: int, sequence: int) -> None:
        """Store (worker, sequence); return once it is acknowledged."""

    def read(self) -> None:
        """Read one entry."""

    def close(self) -> None:
        """Drop the connection; the next attempt makes another, perhaps to another server."""


@dataclass(frozen=True)
class Bounds:
    """How much load at most."""

    writers: int
    readers: int
    rate: float
    """Attempts a second, writers and readers together; each worker has an equal share."""
    seconds: float
    total: int
    """Writes, of all writers together."""


@dataclass(frozen=True)
class Attempt:
    """One try of one worker."""

    kind: str
    worker: int
    sequence: int


@dataclass(frozen=True)
class Outcome:
    """How it ended."""

    name: str
    error: str = "-"
    """The class of error, one word."""


class Clock:
    """Wall-clock time that never jumps: read once, then moved on by the monotonic clock.

    Comparable with the moment of a fault taken on the same machine; between machines, only as
    exact as their clocks agree.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._offset + time.monotonic()


class Recorder:
    """Writes one line per attempt: `start end w|r worker sequence outcome error`.

    Lines are flushed one by one, so that what was acknowledged is known even if the client dies.
    """

    def __init__(self, log: TextIO) -> None:
        self._log, self._lock = log, threading.Lock()
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def record(self, start: float, end: float, attempt: Attempt, outcome: Outcome) -> None:
        """Add one attempt, with its start and end in seconds since the epoch."""
        fields = (attempt.kind, attempt.worker, attempt.sequence, outcome.name, outcome.error)
        line = " ".join([f"{start:.6f}", f"{end:.6f}", *map(str, fields)])
        with self._lock:
            self._log.write(f"{line}\n")
            self._log.flush()
            self.outcomes[attempt.kind, outcome.name] += 1


def run(open_session: Callable[[], Session], bounds: Bounds, folder: Path) -> int:
    """Load the store within bounds, or until a file `stop` appears in the folder.

    Returns:
        The exit code: 1 if no write was ever acknowledged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + bounds.seconds
    with (folder / "attempts.log").open("w") as log:
        load = _Load(Recorder(log), Clock(), threading.Event(), _interval(bounds))
        share = bounds.total // bounds.writers
        writers = [_Worker(load, WRITE, n, open_session(), share) for n in range(bounds.writers)]
        readers = [_Worker(load, READ, n, open_session()) for n in range(bounds.readers)]
        for worker in (*writers, *readers):
            worker.start()
        while any(writer.is_alive() for writer in writers):
            if time.monotonic() > deadline or (folder / "stop").exists():
                break
            time.sleep(_STOP_POLL_SECONDS)
        load.stop.set()
        _await_end((*writers, *readers), folder)
    summary = _summary(load.recorder)
    (folder / "summary.json").write_text(json.dumps(summary))
    print(json.dumps(summary), flush=True)  # noqa: T201 (the Pod's log)
    return 0 if summary["write"][OK] else 1


def _await_end(workers: Sequence[threading.Thread], folder: Path) -> None:
    """Wait for the last attempts. One that never ends is told by where it stands, and left."""
    deadline = time.monotonic() + _LAST_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    if any(worker.is_alive() for worker in workers):
        with (folder / STUCK).open("w") as stacks:
            faulthandler.dump_traceback(stacks, all_threads=True)


def end(code: int) -> NoReturn:
    """End the program without taking its drivers down, which may wait for servers that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _interval(bounds: Bounds) -> float:
    """Seconds between two attempts of one worker."""
    return (bounds.writers + bounds.readers) / bounds.rate


@dataclass(frozen=True)
class _Load:
    """What all workers share."""

    recorder: Recorder
    clock: Clock
    stop: threading.Event
    interval: float


class _Worker(threading.Thread):
    """Attempts at an even pace. When the store is slower: back to back, and no burst afterwards."""

    def __init__(
        self, load: _Load, kind: str, number: int, session: Session, limit: int = sys.maxsize
    ) -> None:
        super().__init__(name=f"{kind}-{number}", daemon=True)
        self._load, self._session = load, session
        self._kind, self._number, self._limit = kind, number, limit

    def run(self) -> None:
        """Attempt until the limit, or until asked to stop."""
        load, due = self._load, time.monotonic()
        for sequence in range(self._limit):
            if load.stop.wait(max(0.0, due - time.monotonic())):
                break
            start = load.clock.now()
            outcome = self._attempt(sequence)
            attempt = Attempt(self._kind, self._number, sequence)
            load.recorder.record(start, load.clock.now(), attempt, outcome)
            due = max(due + load.interval, time.monotonic())
        self._session.close()

    def _attempt(self, sequence: int) -> Outcome:
        try:
            if self._kind == WRITE:
                self._session.write(self._number, sequence)
            else:
                self._session.read()
        except FailedError as error:
            outcome = Outcome(FAILED, str(error))
        except UnknownError as error:
            outcome = Outcome(UNKNOWN, str(error))
        except Exception as error:  # noqa: BLE001 (a client that dies of a surprise measures nothing)
            outcome = Outcome(UNKNOWN, type(error).__name__)
        else:
            return Outcome(OK)
        self._session.close()
        return outcome


def _summary(recorder: Recorder) -> dict[str, dict[str, int]]:
    return {
        name: {outcome: recorder.outcomes[kind, outcome] for outcome in (OK, FAILED, UNKNOWN)}
        for name, kind in (("write", WRITE), ("read", READ))
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that all clients share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("command", choices=("prepare", "run", "stored"))
    options.add_argument("--folder", type=Path, default=Path("/out"), help="of the results")
    options.add_argument("--writers", type=int, default=4)
    options.add_argument("--readers", type=int, default=2)
    options.add_argument("--rate", type=float, default=120.0, help="attempts a second, in all")
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--total", type=int, default=100_000, help="writes, in all")
    return options


def bounds(given: argparse.Namespace) -> Bounds:
    """Read the bounds from parsed options."""
    return Bounds(given.writers, given.readers, given.rate, given.seconds, given.total)


def print_stored(rows: Sequence[tuple[int, int]]) -> None:
    """Print what the store holds, one `worker sequence` a line, for the accounting."""
    sys.stdout.writelines(f"{worker} {sequence}\n" for worker, sequence in rows)
    sys.stdout.flush()
