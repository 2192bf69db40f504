"""Which moment is restored to, what is made for it, and how rows are compared."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from components import parts
from drills.account import Attempt
from drills.load.attempts import OK, UNKNOWN, WRITE
from drills.restore import (
    Comparison,
    Loss,
    Row,
    arguments,
    base_backup,
    compare,
    loss,
    moment_between,
    network_policy_for,
    not_kept,
    parse_rows,
    restored_cluster,
    verdict,
)
from local.errors import LocalError
from stacks import loader

pytestmark = pytest.mark.unit

BEGAN = 1_800_000_000
LIVE: dict[str, Any] = {
    "metadata": {"name": "postgres", "namespace": "sim-data"},
    "spec": {
        "imageName": "node.local/postgresql:17.6",
        "priorityClassName": "sim-data",
        "storage": {"storageClass": "gp3"},
        "backup": {"volumeSnapshot": {"className": "snapshots"}},
    },
}
STORE = {"spec": {"configuration": {"destinationPath": "s3://sim-backups/postgres"}}}
MOMENT = "2026-03-01T12:00:00.123456+00:00"


def rows(count: int, each: str = "0.050001") -> list[Row]:
    return [Row(n, BEGAN + n * Decimal(each)) for n in range(count)]


def restored(moment: str | None = MOMENT) -> dict[str, Any]:
    args = arguments(LIVE, STORE, loader.from_file("dev"), "moment-1", moment)
    return restored_cluster("restored", "postgres", args)


def test_rows_are_read_to_the_microsecond() -> None:
    assert parse_rows("0|1800000000.000001\n12|1800000000.050000\n") == [
        Row(0, Decimal("1800000000.000001")),
        Row(12, Decimal("1800000000.050000")),
    ]


def test_an_empty_table_has_no_rows() -> None:
    assert parse_rows("\n") == []


def test_the_moment_is_the_last_one_before_a_row() -> None:
    table = rows(100)
    count, moment = moment_between(table, BEGAN)
    told = datetime.fromisoformat(moment)
    exact = Decimal(int(told.timestamp())) + Decimal(told.microsecond) / 1_000_000
    assert table[count].written - exact == Decimal("0.000001")
    assert table[count - 1].written < exact


def test_the_moment_is_after_the_base_backup_and_rows_follow_it() -> None:
    table = rows(100)
    count, _ = moment_between(table, float(table[60].written))
    assert 61 < count < 99


def test_a_moment_on_the_full_second_is_the_microsecond_before() -> None:
    table = [Row(0, Decimal(BEGAN - 1)), Row(1, Decimal(BEGAN)), Row(2, Decimal(BEGAN + 1))]
    assert moment_between(table[:2], BEGAN - 2)[1].endswith("59:59.999999+00:00")


def test_without_rows_after_the_backup_there_is_no_moment() -> None:
    with pytest.raises(LocalError, match="too few rows"):
        moment_between(rows(10), BEGAN + 60)


def test_equal_tables_are_identical() -> None:
    found = compare(rows(10), rows(10))
    assert found.identical
    assert (found.expected, found.restored) == (10, 10)


def test_every_difference_is_told_by_its_number() -> None:
    changed = Row(3, Decimal(BEGAN))
    found = compare(rows(5), [*rows(3), changed, Row(9, Decimal(BEGAN))])
    assert (found.missing, found.extra, found.changed) == ((4,), (9,), (3,))
    assert not found.identical


def test_a_row_that_is_there_twice_is_changed() -> None:
    table = rows(3)
    assert compare(table, [*table, table[1]]).changed == (1,)


def test_what_the_archive_lacks_is_counted_and_timed() -> None:
    table = rows(100, "1")
    assert loss(table, table[:80], 50) == Loss(20, 20.0)
    assert loss(table, table, 50) == Loss(0, 0.0)


def test_what_the_archive_was_said_to_have_is_told_apart() -> None:
    table = rows(100, "1")
    assert loss(table, table[:40], 50).archived == 10
    assert loss(table, [], 50) == Loss(100, 99.0, archived=50)


def test_rows_that_lack_in_the_middle_are_told_apart() -> None:
    table = rows(100, "1")
    assert loss(table, [*table[:60], *table[70:90]], 50) == Loss(20, 10.0, holes=10)


def test_what_the_client_was_told_and_the_server_has_not_is_counted() -> None:
    outcomes = {0: OK, 1: OK, 2: UNKNOWN, 3: OK}
    attempts = [Attempt(0, 1, WRITE, 0, n, each, "-") for n, each in outcomes.items()]
    assert not_kept(attempts, rows(2)) == 1


SAME = Comparison(10, 10, (), (), ())


@pytest.mark.parametrize(
    ("at_moment", "newest", "lost", "words"),
    [
        (Comparison(10, 9, (9,), (), ()), SAME, Loss(0, 0.0), "9 rows instead of 10: 1 missing"),
        (SAME, Comparison(10, 11, (), (10,), ()), Loss(0, 0.0), "1 rows that were never"),
        (SAME, SAME, Loss(9, 1.0, holes=9), "lacks 9 rows in the middle"),
        (SAME, SAME, Loss(9, 1.0, archived=9), "lacks 9 rows whose log was said to be archived"),
        (SAME, SAME, Loss(9000, 331.0), "lacks the last 331 s, but archive_timeout is 300 s"),
    ],
)
def test_what_is_wrong_is_told(
    at_moment: Comparison, newest: Comparison, lost: Loss, words: str
) -> None:
    [problem] = verdict(at_moment, newest, lost, 300)
    assert words in problem


def test_a_loss_within_the_timeout_is_as_declared() -> None:
    assert verdict(SAME, Comparison(10, 5, (5, 6, 7, 8, 9), (), ()), Loss(5, 299.0), 300) == []


def test_what_is_restored_is_declared_by_the_component() -> None:
    spec = restored()["spec"]
    assert spec["bootstrap"]["recovery"]["recoveryTarget"] == {"targetTime": MOMENT}
    [external] = spec["externalClusters"]
    assert external["plugin"]["parameters"] == {
        "barmanObjectName": "postgres-backups",
        "serverName": "postgres",
    }


def test_the_newest_restore_has_no_target() -> None:
    assert "recoveryTarget" not in restored(None)["spec"]["bootstrap"]["recovery"]


def test_what_is_restored_archives_under_a_name_of_its_own() -> None:
    [plugin] = restored()["spec"]["plugins"]
    assert plugin["parameters"]["serverName"] == "moment-1"


def test_one_server_of_the_live_image_is_enough() -> None:
    spec = restored()["spec"]
    assert (spec["instances"], spec["imageName"]) == (1, "node.local/postgresql:17.6")
    assert "synchronous" not in spec["postgresql"]
    assert "replica" not in spec


def test_a_base_backup_is_taken_by_the_plugin() -> None:
    spec = base_backup("sim-data", "restore-1", "postgres")["spec"]
    assert (spec["method"], spec["cluster"]) == ("plugin", {"name": "postgres"})


def test_what_is_restored_reaches_what_the_original_reaches() -> None:
    def policy(name: str) -> dict[str, Any]:
        own = {"cnpg.io/cluster": name}
        return parts.network_policy(
            own, parts.allow_from([{"podSelector": {"matchLabels": own}}], 1)
        )

    original = {
        "metadata": {"name": "postgres", "namespace": "sim-data"},
        "spec": policy("postgres"),
    }
    assert network_policy_for("restored", original)["spec"] == policy("restored")
