"""What a drill leaves in `build/drills/<stack>/`: `<name>.json`, `<name>.svg`, `summary.md`'s line.

Beside them `<name>-<repetition>.log`, what the client's driver said, if it said anything. The
summary is made anew from all JSON files that are there, so drills may run on different days.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drills.account import Account
from drills.plot import svg
from local.files import write_whole


@dataclass(frozen=True)
class Row:
    """What is reported: a fault, or what a trial means to one store."""

    name: str
    """Of the report."""
    store: str
    """Which was loaded."""
    text: str
    """What was done."""
    goal: float | None
    """Seconds without writes, at most; None: not what the drill is about."""
    may_lose: float | None
    """Seconds of acknowledged writes that may be missing: 0 for none, the store's RPO where that is
    what it promises, None where it runs with settings that promise nothing."""


@dataclass(frozen=True)
class Run:
    """One repetition."""

    account: Account
    redundant: float | None
    """Seconds from the fault until every instance was back and followed; None if the wait ended
    before. With a fault that somebody must mend (a node that is off), that time is in it."""
    most_missing: Mapping[str, int] = field(default_factory=dict)
    """Of each data system that was watched: how many members were missing at the same moment."""
    noticed: bool = True
    """Whether the lead moved on, where that is waited for: else the fault may not have happened."""
    where: str = ""
    """Who was struck; of a trial, the zone whose turn it was, and whether the store led there."""
    said: str = ""
    """What the client's driver wrote down: why one waited is to be known afterwards."""


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum over the repetitions."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """None if any repetition has no value: a spread over the lucky ones would flatter."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(min(known), statistics.median(known), max(known))

    def __str__(self) -> str:
        return f"{self.minimum:.1f} / {self.median:.1f} / {self.maximum:.1f}"


_FIGURES: Mapping[str, Callable[[Run], float | None]] = {
    "seconds_without_writes": lambda run: run.account.writes.outage,
    "seconds_until_steady": lambda run: run.account.writes.sustained,
    "seconds_without_writes_of_one": lambda run: run.account.writes.longest_of_one,
    "seconds_without_reads": lambda run: run.account.reads.outage,
    "seconds_to_full_redundancy": lambda run: run.redundant,
}
"""What is told of each repetition; None where it did not recover while it was watched."""
_SUMMARY_HEAD = """# Drills

Seconds are minimum / median / maximum over the repetitions; "-" where some run did not recover
while it was watched. How each figure is defined: the first lines of `drills/account.py`.

| drill | runs | acknowledged | lost | unknown | without writes | until steady \
| one writer without writes | without reads | until redundant | goal | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def write(
    folder: Path,
    row: Row,
    runs: Sequence[Run],
    settings: Mapping[str, Any],
    broken_off: str | None = None,
) -> dict[str, Any]:
    """Write the results of one drill and bring the summary up to date.

    Args:
        folder: `build/drills/<stack>`.
        row: what was done.
        runs: every repetition, none left out.
        settings: all that the figures depend on: of the store, the operator, the nodes, the load.
        broken_off: why the repetition after them has no account; None if all have.

    Returns:
        What was written as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accounts = [run.account for run in runs]
    result = {
        "name": row.name,
        "system": row.store,
        "fault": row.text,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repetitions": len(runs),
        "promised_loss": row.may_lose,
        **_totals(accounts),
        **{name: [figure(run) for run in runs] for name, figure in _FIGURES.items()},
        "spread": {name: spread and asdict(spread) for name, spread in spreads(runs).items()},
        "goal_seconds": row.goal,
        "verdict": [*verdict(row, runs), *([broken_off] if broken_off else [])],
        "settings": dict(settings),
        "machine": machine(),
        "runs": [asdict(replace(run, said="")) for run in runs],
    }
    _write_said(folder, row.name, runs)
    write_whole(folder / f"{row.name}.json", json.dumps(result, indent=1))
    write_whole(folder / f"{row.name}.svg", svg(f"{row.name}: {row.text}", accounts))
    write_whole(folder / "summary.md", summary(folder))
    return result


def _write_said(folder: Path, name: str, runs: Sequence[Run]) -> None:
    """Write down each driver's words, in place of those of earlier drills."""
    for old in folder.glob(f"{name}-[0-9]*.log"):
        old.unlink()
    for number, run in enumerate(runs, start=1):
        if run.said:
            write_whole(folder / f"{name}-{number}.log", run.said)


def spreads(runs: Sequence[Run]) -> dict[str, Spread | None]:
    """Each figure of a drill over its repetitions."""
    return {name: Spread.of([figure(run) for run in runs]) for name, figure in _FIGURES.items()}


def brief(run: Run) -> str:
    """A few words on one repetition."""
    outage = run.account.writes.outage
    gap = "until its end" if outage is None else f"for {outage:.1f} s"
    return f"{len(run.account.durability.lost)} lost, no writes {gap}"


def verdict(row: Row, runs: Sequence[Run]) -> list[str]:
    """Every broken promise; empty if the drill passed."""
    problems = []
    for number, run in enumerate(runs, start=1):
        durability, outage = run.account.durability, run.account.writes.outage
        if durability.lost and row.may_lose == 0:
            problems.append(f"run {number} lost {len(durability.lost)} acknowledged writes")
        elif row.may_lose is not None and durability.lost_seconds > row.may_lose:
            problems.append(
                f"run {number} lost {len(durability.lost)} acknowledged writes of "
                f"{durability.lost_seconds:.1f} s, where {row.may_lose:g} s may be missing"
            )
        if durability.contradicted or durability.duplicates:
            problems.append(
                f"run {number} cannot be trusted: {len(durability.contradicted)} writes are "
                f"stored that failed, {durability.duplicates} are stored twice"
            )
        if outage is None:
            problems.append(f"run {number} took no writes until its end")
        elif row.goal is not None and outage > row.goal:
            problems.append(f"run {number} took no writes for {outage:.1f} s")
        if not run.account.reads.succeeded:
            problems.append(f"run {number} cannot be trusted: its client never read anything")
        elif run.account.reads.outage is None:
            problems.append(f"run {number} answered no reads until its end")
        if not run.noticed:
            problems.append(f"run {number}: the lead did not move on; did the fault happen?")
        if run.redundant is None:
            problems.append(f"run {number} was not redundant again until its end")
        problems += [
            f"run {number}: {missing} members of {system} were missing at once"
            for system, missing in run.most_missing.items()
            if missing > 1
        ]
    return problems


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def summary(folder: Path) -> str:
    """Make the table of all drills whose results are in the folder."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return _SUMMARY_HEAD + "".join(_row(result) for result in results)


def _row(result: Mapping[str, Any]) -> str:
    spreads = [
        str(Spread(**spread)) if spread else "-"
        for spread in (result["spread"][name] for name in _FIGURES)
    ]
    cells = [
        f"[{result['name']}]({result['name']}.svg): {result['fault']}",
        result["repetitions"],
        f"{result['acknowledged']:,}",
        result["acknowledged_lost"],
        result["unknown"],
        *spreads,
        "-" if result["goal_seconds"] is None else f"{result['goal_seconds']:g}",
        "; ".join(result["verdict"]) or "met",
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def _totals(accounts: Sequence[Account]) -> dict[str, int]:
    each = [account.durability for account in accounts]
    return {
        "acknowledged": sum(one.acknowledged for one in each),
        "acknowledged_lost": sum(len(one.lost) for one in each),
        "unknown": sum(one.unknown for one in each),
        "extra": sum(one.extra for one in each),
        "contradicted": sum(len(one.contradicted) for one in each),
        "duplicates": sum(one.duplicates for one in each),
    }
