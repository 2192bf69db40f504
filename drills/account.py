"""What a fault cost, computed from a client's attempts and from what the store held afterwards.

Definitions, all times in seconds of one clock:

acknowledged    writes whose outcome was `ok`
unknown         writes that were on their way when the connection broke; they may be stored or not
lost            acknowledged, and not stored afterwards: the number that must be 0
lost seconds    from the first acknowledgement of a lost write to the last: a store that promises an
                RPO may not exceed it. Where all is lost, that is how long the load ran before the
                fault, so there it begins longer before than the RPO
extra           unknown, and stored: allowed, the client was told nothing
contradicted    stored, although the client was told of a failure or never tried: the client or the
                store lied, and no other number of the run may be trusted
duplicates      copies beyond the first of the same (worker, sequence)

outage          the longest time between two successes that follow each other, of all workers
                together, counted from the end of the one to the end of the other, if the second
                ended after the fault. Attempts are finite, so a store that never fails still has
                an "outage" as long as the usual pause between two successes.
sustained       from the fault to the success after which no two successes were more than
                `STEADY_SECONDS` apart until the load ended. 0 if that never happened at all. It
                tells a clean recovery from one that stutters.
longest of one  the longest time between two successes of the same worker, or from its last one to
                the end, if that ended after the fault: what a single client may have had to bear
                while others were served.

Outage and sustained are None if the store never recovered: the load went on for more than
`STEADY_SECONDS` after the last success. Then `silence`, for how long it went on, is what is known.
It goes on until the last attempt of either kind starts, or the last of its own kind ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drills.load.attempts import OK, READ, UNKNOWN, WRITE

STEADY_SECONDS = 1.0
BIN_SECONDS = 0.5

Key = tuple[int, int]
"""Worker and sequence number of a write."""


@dataclass(frozen=True)
class Attempt:
    """One line of a client's log."""

    start: float
    end: float
    kind: str
    worker: int
    sequence: int
    outcome: str
    error: str

    @property
    def key(self) -> Key:
        """What identifies a write."""
        return self.worker, self.sequence


@dataclass(frozen=True)
class Durability:
    """What became of the writes."""

    acknowledged: int
    unknown: int
    lost: tuple[Key, ...]
    lost_seconds: float
    extra: int
    contradicted: tuple[Key, ...]
    duplicates: int


@dataclass(frozen=True)
class Availability:
    """When one kind of attempt succeeded."""

    outage: float | None
    outage_start: float | None
    """Its last success before, relative to the fault: negative if the fault itself began it."""
    sustained: float | None
    longest_of_one: float | None
    """None without any worker."""
    silence: float
    """From the last success to the end of the load."""
    succeeded: int
    errors: dict[str, int]
    """How many attempts ended otherwise, by class of error."""
    throughput: tuple[int, ...]
    """Successes in each bin of `BIN_SECONDS`."""
    first_bin: float
    """Where the first bin starts, relative to the fault, which is itself an edge of a bin."""


@dataclass(frozen=True)
class Account:
    """The whole bill of one fault."""

    durability: Durability
    writes: Availability
    reads: Availability


def parse(log: str) -> list[Attempt]:
    """Read a client's log; a last line that was cut off by the client's death is left out."""
    attempts = []
    for line in log.splitlines(keepends=True):
        fields = line.split()
        if not line.endswith("\n"):
            break
        start, end, kind, worker, sequence, outcome, error = fields
        attempts.append(
            Attempt(float(start), float(end), kind, int(worker), int(sequence), outcome, error)
        )
    return attempts


def parse_stored(text: str) -> list[Key]:
    """Read what the client printed of the store: `worker sequence` a line."""
    return [(int(worker), int(sequence)) for worker, sequence in map(str.split, text.splitlines())]


def account(attempts: Sequence[Attempt], stored: Iterable[Key], fault: float) -> Account:
    """Compute what the fault cost.

    Args:
        attempts: of one client, in any order.
        stored: every copy of every write that the store held once it had recovered.
        fault: the moment just before the fault was caused, by the clock of the attempts.
    """
    writes = [attempt for attempt in attempts if attempt.kind == WRITE]
    reads = [attempt for attempt in attempts if attempt.kind == READ]
    # When the load was asked to stop, a long poll of the other kind may still have been under way.
    stopped = max((attempt.start for attempt in attempts), default=fault)
    return Account(
        durability=_durability(writes, stored),
        writes=_availability(writes, fault, stopped),
        reads=_availability(reads, fault, stopped),
    )


def _durability(writes: Sequence[Attempt], stored: Iterable[Key]) -> Durability:
    acknowledged = {write.key for write in writes if write.outcome == OK}
    unknown = {write.key for write in writes if write.outcome == UNKNOWN}
    copies = Counter(stored)
    lost = acknowledged - copies.keys()
    told = [write.end for write in writes if write.key in lost]
    return Durability(
        acknowledged=len(acknowledged),
        unknown=len(unknown),
        lost=tuple(sorted(lost)),
        lost_seconds=max(told) - min(told) if told else 0.0,
        extra=len(unknown & copies.keys()),
        contradicted=tuple(sorted(copies.keys() - acknowledged - unknown)),
        duplicates=copies.total() - len(copies),
    )


def _availability(attempts: Sequence[Attempt], fault: float, stopped: float) -> Availability:
    end = max((stopped, *(attempt.end for attempt in attempts)))
    successes = sorted(attempt.end for attempt in attempts if attempt.outcome == OK)
    gaps = [(a, b) for a, b in pairwise(successes) if b > fault]
    silence = end - successes[-1] if successes else end - fault
    recovered = bool(gaps) and silence <= STEADY_SECONDS
    longest = max(gaps, key=lambda gap: gap[1] - gap[0]) if recovered else None
    first_bin, throughput = _throughput(successes, fault)
    return Availability(
        outage=longest[1] - longest[0] if longest else None,
        outage_start=longest[0] - fault if longest else None,
        sustained=_sustained(gaps, fault) if recovered else None,
        longest_of_one=_longest_of_one(attempts, fault, end),
        silence=silence,
        succeeded=len(successes),
        errors=dict(Counter(a.error for a in attempts if a.outcome != OK).most_common()),
        throughput=throughput,
        first_bin=first_bin,
    )


def _sustained(gaps: Sequence[tuple[float, float]], fault: float) -> float:
    return max((b - fault for a, b in gaps if b - a > STEADY_SECONDS), default=0.0)


def _longest_of_one(attempts: Sequence[Attempt], fault: float, end: float) -> float | None:
    served: dict[int, list[float]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.end):
        ends = served.setdefault(attempt.worker, [])
        if attempt.outcome == OK:
            ends.append(attempt.end)
    waits = (pairwise([*(ends or [fault]), end]) for ends in served.values())
    return max((b - a for gaps in waits for a, b in gaps if b > fault), default=None)


def _throughput(successes: Sequence[float], fault: float) -> tuple[float, tuple[int, ...]]:
    bins = Counter(int((moment - fault) // BIN_SECONDS) for moment in successes)
    if not bins:
        return 0.0, ()
    first, last = min(bins), max(bins)
    return first * BIN_SECONDS, tuple(bins[number] for number in range(first, last + 1))
