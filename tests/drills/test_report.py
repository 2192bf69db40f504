"""What a drill leaves behind: figures, verdict, plot, summary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drills import report
from drills.account import Account, Attempt, account
from drills.report import Row, Run, Spread

FAULT = Row("postgres-node", "postgres", "a node killed", 30, 0)


def bill(outage: float, stored: int | None = None) -> Account:
    """Writes every 0.1 s for 20 s, none while the outage lasts; `stored` of them are kept."""
    moments = [100 + 0.1 * step for step in range(-50, 150)]
    served = [moment for moment in moments if not 0 <= moment - 100 < outage]
    attempts = [Attempt(m - 0.01, m, "w", 0, n, "ok", "-") for n, m in enumerate(served)]
    reads = [Attempt(m - 0.01, m, "r", 0, n, "ok", "-") for n, m in enumerate(moments)]
    kept = len(served) if stored is None else stored
    return account([*attempts, *reads], [(0, number) for number in range(kept)], 100)


def run(outage: float = 5, stored: int | None = None, redundant: float | None = 12) -> Run:
    return Run(bill(outage, stored), redundant)


def test_a_spread_is_minimum_median_and_maximum() -> None:
    assert Spread.of([3, 1, 8]) == Spread(1, 3, 8)


def test_a_spread_does_not_leave_out_the_run_that_never_recovered() -> None:
    assert Spread.of([3, None, 8]) is None


def test_a_repetition_is_told_in_brief() -> None:
    assert report.brief(run(5)) == "0 lost, no writes for 5.1 s"
    assert report.brief(run(15)) == "0 lost, no writes until its end"


def test_a_drill_within_its_goal_that_lost_nothing_passes() -> None:
    assert report.verdict(FAULT, [run(), run(6)]) == []


def test_a_lost_write_is_a_broken_promise() -> None:
    assert report.verdict(FAULT, [run(), run(stored=3)]) == [
        f"run 2 lost {bill(5).durability.acknowledged - 3} acknowledged writes"
    ]


def test_writes_may_be_missing_where_the_store_promises_an_rpo() -> None:
    kept = bill(0).durability.acknowledged - 30  # writes are 0.1 s apart: those of 2.9 s are lost
    assert report.verdict(replace(FAULT, may_lose=10), [run(0, stored=kept)]) == []


def test_writes_of_more_seconds_than_the_rpo_may_not_be_missing() -> None:
    kept = bill(0).durability.acknowledged - 30
    assert report.verdict(replace(FAULT, may_lose=2), [run(0, stored=kept)]) == [
        "run 1 lost 30 acknowledged writes of 2.9 s, where 2 s may be missing"
    ]


def test_settings_that_promise_nothing_break_no_promise() -> None:
    assert report.verdict(replace(FAULT, may_lose=None), [run(stored=3)]) == []


def test_one_slow_run_among_many_is_a_broken_promise() -> None:
    problems = report.verdict(replace(FAULT, goal=6), [run(), run(7), run()])
    assert problems == ["run 2 took no writes for 7.1 s"]


def test_a_run_that_never_recovered_is_a_broken_promise() -> None:
    assert report.verdict(FAULT, [run(15)]) == ["run 1 took no writes until its end"]


def test_a_run_that_never_got_redundant_is_a_broken_promise() -> None:
    assert report.verdict(FAULT, [run(redundant=None)]) == [
        "run 1 was not redundant again until its end"
    ]


def test_a_client_that_never_read_is_not_trusted() -> None:
    served = run()
    unread = replace(served.account.reads, succeeded=0)
    broken = replace(served, account=replace(served.account, reads=unread))
    assert report.verdict(FAULT, [broken]) == [
        "run 1 cannot be trusted: its client never read anything"
    ]


def test_reads_that_do_not_come_back_are_a_broken_promise() -> None:
    served = run()
    silent = replace(served.account.reads, outage=None)
    broken = replace(served, account=replace(served.account, reads=silent))
    assert report.verdict(FAULT, [broken]) == ["run 1 answered no reads until its end"]


def test_a_fault_that_nobody_noticed_is_not_taken_for_one_that_was_survived() -> None:
    (problem,) = report.verdict(FAULT, [run(), replace(run(), noticed=False)])
    assert problem == "run 2: the lead did not move on; did the fault happen?"


def test_a_member_may_be_missing_but_not_two_of_one_system() -> None:
    missing = [replace(run(), most_missing={"redis": each}) for each in (1, 2)]
    assert report.verdict(FAULT, missing) == ["run 2: 2 members of redis were missing at once"]


def test_a_run_that_contradicts_itself_is_not_trusted() -> None:
    (problem,) = report.verdict(FAULT, [run(stored=10_000)])
    assert "cannot be trusted" in problem


def test_the_results_hold_every_run_and_the_settings(tmp_path: Path) -> None:
    report.write(tmp_path, FAULT, [run(), run(6)], {"failoverDelay": 0})
    written = json.loads((tmp_path / "postgres-node.json").read_text())
    assert written["seconds_without_writes"] == pytest.approx([5.1, 6.1])
    assert written["seconds_to_full_redundancy"] == [12, 12]
    assert written["settings"] == {"failoverDelay": 0}
    assert written["spread"]["seconds_without_writes"] == pytest.approx(
        {"minimum": 5.1, "median": 5.6, "maximum": 6.1}
    )
    assert len(written["runs"]) == written["repetitions"] == 2
    assert written["machine"]["cpus"] >= 1


def test_what_each_driver_said_lies_beside_the_results(tmp_path: Path) -> None:
    told = [replace(run(), said="a node is gone\n"), run(), replace(run(), said="timed out\n")]
    report.write(tmp_path, FAULT, told, {})
    assert {file.name: file.read_text() for file in tmp_path.glob("*.log")} == {
        "postgres-node-1.log": "a node is gone\n",
        "postgres-node-3.log": "timed out\n",
    }
    assert "timed out" not in (tmp_path / "postgres-node.json").read_text()


def test_what_drivers_said_in_an_earlier_drill_is_gone(tmp_path: Path) -> None:
    report.write(tmp_path, FAULT, [run(), replace(run(), said="timed out\n")], {})
    report.write(tmp_path, FAULT, [run()], {})
    assert list(tmp_path.glob("*.log")) == []


@pytest.mark.parametrize("may_lose", [0, 10, None])
def test_the_results_tell_what_was_promised_and_what_was_lost(
    tmp_path: Path, may_lose: float | None
) -> None:
    written = report.write(tmp_path, replace(FAULT, may_lose=may_lose), [run(stored=3)], {})
    assert written["promised_loss"] == may_lose
    assert written["acknowledged_lost"] == written["acknowledged"] - 3 > 0


@pytest.mark.parametrize("before", [0, 1])
def test_a_repetition_without_an_account_is_told_beside_those_before(
    tmp_path: Path, before: int
) -> None:
    report.write(tmp_path, FAULT, [run()] * before, {}, "run 2 has no account: nobody leads")
    written = json.loads((tmp_path / "postgres-node.json").read_text())
    assert written["repetitions"] == before
    assert written["verdict"] == ["run 2 has no account: nobody leads"]
    assert "nobody leads" in (tmp_path / "summary.md").read_text()
    ElementTree.parse(tmp_path / "postgres-node.svg")  # noqa: S314 (our own)


def test_the_plot_is_well_formed_and_shades_the_outage_of_each_run(tmp_path: Path) -> None:
    report.write(tmp_path, FAULT, [run(), run(6), run(15)], {})
    root = ElementTree.parse(tmp_path / "postgres-node.svg").getroot()  # noqa: S314 (our own)
    space = "{http://www.w3.org/2000/svg}"
    shades = [r for r in root.iter(f"{space}rect") if r.get("height") == "74"]
    words = "".join(root.itertext())
    assert len(shades) == 2
    assert "seconds since the fault" in words
    assert "not back" in words


def test_the_summary_has_a_row_for_every_drill_ever_run(tmp_path: Path) -> None:
    report.write(tmp_path, FAULT, [run()], {})
    report.write(tmp_path, replace(FAULT, name="redis-process"), [run()], {})
    rows = (tmp_path / "summary.md").read_text().splitlines()
    assert [row.split("]")[0] for row in rows if row.startswith("| [")] == [
        "| [postgres-node",
        "| [redis-process",
    ]
    assert all(row.count("|") == 13 for row in rows if row.startswith("|"))
