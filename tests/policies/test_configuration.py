"""Levels files as `check` reads them: one clear line for each mistake in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.cli import LEVELS, STACKS
from policies.configuration import Configuration, ConfigurationError, read
from policies.rule import Level
from policies.rules import RULES

pytestmark = pytest.mark.unit


def configured(folder: Path, entries: object) -> Configuration:
    path = folder / "levels.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return read(path, RULES)


@pytest.mark.parametrize("stack", STACKS)
def test_reads_what_ships(stack: str) -> None:
    assert read(LEVELS / f"{stack}.json", RULES).levels["all"] is Level.MANDATORY


def test_own_level_goes_before_that_of_all(tmp_path: Path) -> None:
    found = configured(tmp_path, {"all": "advisory", "redis-quorum": "mandatory"})
    assert found.level(RULES["redis-quorum"]) is Level.MANDATORY
    assert found.level(RULES["redis-sentinels"]) is Level.ADVISORY


def test_default_level_where_nothing_is_said(tmp_path: Path) -> None:
    rule = RULES["container-image-digest"]
    assert configured(tmp_path, {}).level(rule) is rule.level


def test_threshold_and_exemption_of_a_rule(tmp_path: Path) -> None:
    entry = {"resource": "Deployment/a/b", "owner": "c", "reason": "d", "expires": "2026-01-01"}
    found = configured(tmp_path, {"workload-replicas": {"minimum": 3, "exemptions": [entry]}})
    assert found.options["workload-replicas"] == {"minimum": 3}
    assert [each.owner for each in found.exemptions] == ["c"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{\n  1}", r"levels.json:2: not JSON: "),
        ("[]", "not an object with a level for each rule"),
        ({"redis-qorum": "advisory"}, "no rule is named 'redis-qorum': did you mean redis-quorum"),
        ({"redis-quorum": "high"}, "redis-quorum: 'high' is not a level: advisory, mandatory"),
        ({"redis-quorum": 3}, "redis-quorum: 3 is not a level"),
        ({"workload-replicas": {"least": 3}}, "'least' is not one of its options: minimum"),
        ({"workload-replicas": {"minimum": "3"}}, "minimum: '3' is not of type 'integer'"),
        ({"workload-replicas": {"minimum": 0}}, "minimum: 0 is less than the minimum of 1"),
        ({"workload-replicas": {"exemptions": [{}]}}, r"exemptions\[0\] has no resource"),
        ({"all": {"minimum": 3}}, "no rule is named 'all'"),
    ],
)
def test_mistake_is_told_in_one_line(tmp_path: Path, entries: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        configured(tmp_path, entries)
    assert "\n" not in str(refused.value)
    assert "levels.json" in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none.json: No such file"):
        read(tmp_path / "none.json", RULES)
