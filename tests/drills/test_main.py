"""Which drills a name means."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from drills.__main__ import KINDS, main, named, place_of, recorder
from drills.faults import FAULTS
from drills.kube import Kube
from drills.report import Row
from drills.run import Load
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


def test_the_results_of_two_stacks_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD", str(tmp_path))
    row = Row("redis-cut", "redis", "a cut", 6, 0)
    store = Mock(**{"settings.return_value": {}})
    for stack in ("dev", "staging"):
        recorder(stack, {"redis": row}, {"redis": store}, Load.of([row], 60))("redis", [], None)
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("drills/*/redis-cut.json")]
    assert sorted(each["settings"]["stack"] for each in kept) == ["dev", "staging"]


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
