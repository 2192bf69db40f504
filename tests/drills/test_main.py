"""Which drills a name means."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from drills.__main__ import KINDS, main, named, place_of
from drills.faults import FAULTS
from drills.kube import Kube
from drills.trials import TRIALS
from local.errors import LocalError
from local.world import PROJECT
from stacks import loader

EVERY = [each.name for each in (*FAULTS, *TRIALS)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("redis-cut", ["redis-cut"]),
        ("redis-p", ["redis-process"]),
        ("zone", ["zone"]),
        ("all", EVERY),
    ],
)
def test_the_begin_of_a_name_is_all_that_begin_so_and_a_whole_name_is_one(
    asked: str, found: list[str]
) -> None:
    assert [each.name for each in named(asked)] == found


def test_a_store_that_no_service_uses_is_not_drilled() -> None:
    wanted = loader.from_file("dev", PROJECT)
    alone = wanted.model_copy(update={"services": {}})
    with pytest.raises(LocalError, match="no service of this stack uses kafka"):
        place_of(Mock(spec=Kube), "kafka", alone)


def test_names_are_unique() -> None:
    assert len(set(EVERY)) == len(EVERY)


def test_an_unknown_drill_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mysql"]) == 1
    said = capsys.readouterr().err
    assert "no drill 'mysql'" in said
    assert "postgres-cut, " in said


def test_every_store_that_a_drill_names_can_be_reached() -> None:
    assert {fault.store for fault in FAULTS} <= KINDS.keys()
    assert all(trial.goals.keys() <= KINDS.keys() for trial in TRIALS)
