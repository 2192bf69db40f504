"""Each figure of the accounting, on logs made by hand. The fault is at 100 s."""

from __future__ import annotations

import pytest

from drills.account import Account, Attempt, account, parse, parse_stored

FAULT = 100.0


def attempt(
    end: float, sequence: int = 0, outcome: str = "ok", *, kind: str = "w", error: str = "-"
) -> Attempt:
    return Attempt(end - 0.01, end, kind, 0, sequence, outcome, error)


def of(*attempts: Attempt, stored: tuple[int, ...] = ()) -> Account:
    return account(attempts, [(0, sequence) for sequence in stored], FAULT)


def test_what_one_worker_had_to_bear_while_others_were_served_is_told() -> None:
    others = [Attempt(end, end + 0.01, "w", 1, int(end), "ok", "-") for end in range(95, 150)]
    one = [Attempt(end, end + 0.01, "w", 0, int(end), "ok", "-") for end in (98, 138, 149)]
    done = of(*others, *one).writes
    assert done.longest_of_one == pytest.approx(40)
    assert done.outage == pytest.approx(1)


def test_what_one_worker_had_to_bear_before_the_fault_is_not_its_cost() -> None:
    assert successes(60, 99, 101).writes.longest_of_one == pytest.approx(2)


def test_a_worker_that_is_served_no_more_bears_until_the_end() -> None:
    others = [Attempt(end, end + 0.01, "w", 1, int(end), "ok", "-") for end in range(95, 150)]
    assert of(*others, attempt(98)).writes.longest_of_one == pytest.approx(51, abs=0.1)


def successes(*ends: float) -> Account:
    return of(*(attempt(end, number) for number, end in enumerate(ends)))


def test_a_line_of_the_log_is_an_attempt() -> None:
    assert parse("100.5 100.75 w 3 17 unknown OperationalError\n") == [
        Attempt(100.5, 100.75, "w", 3, 17, "unknown", "OperationalError")
    ]


def test_a_line_that_the_client_did_not_finish_is_left_out() -> None:
    assert len(parse("100.5 100.75 w 3 17 ok -\n100.5 100.75 w 3 1")) == 1


def test_the_store_is_listed_by_worker_and_sequence() -> None:
    assert parse_stored("3 17\n0 2\n") == [(3, 17), (0, 2)]


@pytest.mark.parametrize(("kept", "seconds"), [((1, 4), 2), ((1, 2, 4), 0), ((1, 2, 3, 4), 0)])
def test_lost_writes_span_the_time_between_their_acknowledgements(
    kept: tuple[int, ...], seconds: float
) -> None:
    every = (attempt(99, 1), attempt(101, 2), attempt(103, 3), attempt(104, 4))
    assert of(*every, stored=kept).durability.lost_seconds == seconds


def test_an_acknowledged_write_that_is_not_stored_is_lost() -> None:
    done = of(attempt(99, 1), attempt(101, 2), stored=(2,)).durability
    assert (done.acknowledged, done.lost) == (2, ((0, 1),))


def test_an_unknown_write_that_is_not_stored_is_not_lost() -> None:
    done = of(attempt(99, 1, "unknown")).durability
    assert (done.unknown, done.lost, done.extra) == (1, (), 0)


def test_an_unknown_write_that_is_stored_is_extra() -> None:
    done = of(attempt(99, 1, "unknown"), stored=(1,)).durability
    assert (done.extra, done.contradicted) == (1, ())


def test_a_failed_write_that_is_stored_contradicts() -> None:
    assert of(attempt(99, 1, "failed"), stored=(1,)).durability.contradicted == ((0, 1),)


def test_a_write_that_nobody_tried_contradicts() -> None:
    assert of(stored=(5,)).durability.contradicted == ((0, 5),)


def test_copies_beyond_the_first_are_duplicates() -> None:
    done = of(attempt(99, 1), stored=(1, 1, 1)).durability
    assert (done.duplicates, done.lost) == (2, ())


def test_reads_are_no_writes() -> None:
    assert of(attempt(99, 1, kind="r")).durability.acknowledged == 0


def test_the_outage_is_from_the_last_success_before_to_the_first_after() -> None:
    writes = successes(99.0, 99.9, 107.4, 107.5).writes
    assert writes.outage == pytest.approx(7.5)
    assert writes.outage_start == pytest.approx(-0.1)


def test_a_longer_gap_before_the_fault_does_not_count() -> None:
    assert successes(80.0, 99.0, 101.0, 101.5).writes.outage == pytest.approx(2.0)


def test_a_longer_gap_that_begins_after_the_fault_counts() -> None:
    assert successes(99.5, 101.0, 105.0, 105.5).writes.outage == pytest.approx(4.0)


def test_what_finishes_out_of_order_is_put_in_order() -> None:
    assert successes(103.0, 99.0, 104.0).writes.outage == pytest.approx(4.0)


def test_attempts_that_fail_do_not_end_the_outage() -> None:
    done = of(attempt(99.0), attempt(101.0, 1, "failed"), attempt(104.0, 2))
    assert done.writes.outage == pytest.approx(5.0)


def test_it_is_sustained_after_the_last_pause_of_more_than_a_second() -> None:
    assert successes(99.9, 105.0, 105.5, 108.0, 108.5).writes.sustained == pytest.approx(8.0)


def test_it_is_sustained_at_once_if_nobody_noticed() -> None:
    assert successes(99.5, 100.2, 100.9, 101.5).writes.sustained == 0


def test_a_store_that_ended_silent_never_recovered() -> None:
    writes = of(attempt(99.0), attempt(101.0, 1), attempt(120.0, 2, "failed")).writes
    assert (writes.outage, writes.sustained) == (None, None)
    assert writes.silence == pytest.approx(19.0)


def test_a_read_that_was_still_under_way_at_the_end_makes_no_silence_of_writes() -> None:
    poll = Attempt(101.1, 104.0, "r", 1, 0, "ok", "-")
    assert of(attempt(99.0), attempt(101.0, 1), poll).writes.outage == pytest.approx(2.0)


def test_a_writer_that_ended_before_the_load_did_is_silent() -> None:
    reads = (Attempt(at, at + 0.1, "r", 1, 0, "ok", "-") for at in (101.0, 110.0))
    assert of(attempt(99.0), attempt(101.0, 1), *reads).writes.silence == pytest.approx(9.0)


def test_a_store_with_no_success_after_the_fault_never_recovered() -> None:
    assert successes(98.0, 99.5).writes.outage is None


def test_no_success_at_all_is_no_recovery() -> None:
    writes = of(attempt(130.0, 1, "failed")).writes
    assert (writes.outage, writes.silence) == (None, 30.0)


def test_reads_and_writes_are_judged_apart() -> None:
    done = of(
        *(attempt(99.5 + 0.5 * step, step, kind="r") for step in range(20)),
        attempt(99.5, 1),
        attempt(109.0, 2),
    )
    assert done.reads.outage == pytest.approx(0.5)
    assert done.writes.outage == pytest.approx(9.5)


def test_errors_are_counted_by_class() -> None:
    done = of(
        attempt(101, 1, "failed", error="ReadOnly"),
        attempt(102, 2, "failed", error="ReadOnly"),
        attempt(103, 3, "unknown", error="Timeout"),
    )
    assert done.writes.errors == {"ReadOnly": 2, "Timeout": 1}


def test_throughput_is_counted_in_half_seconds_with_the_fault_on_an_edge() -> None:
    writes = successes(99.6, 99.9, 100.0, 101.2).writes
    assert (writes.first_bin, writes.throughput) == (-0.5, (2, 1, 0, 1))
