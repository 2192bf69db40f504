"""The levels files: they name only what exists, and no stack that matters is laxer than it may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.cli import LEVELS, STACKS, level
from policies.rule import Level
from policies.rules import RULES

pytestmark = pytest.mark.unit

each_stack = pytest.mark.parametrize("stack", STACKS)


def entries(stack: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((LEVELS / f"{stack}.json").read_text(encoding="utf-8"))
    return found


def test_every_stack_has_a_file() -> None:
    assert {each.stem for each in LEVELS.glob("*.json")} == set(STACKS)


@each_stack
def test_names_only_rules_that_exist(stack: str) -> None:
    assert entries(stack).keys() - {"all"} <= RULES.keys()


@each_stack
def test_sets_only_options_that_exist(stack: str) -> None:
    for name, entry in entries(stack).items():
        if isinstance(entry, dict):
            assert entry.keys() - {"enforcementLevel"} <= RULES[name].options.keys()


@each_stack
def test_levels_are_levels(stack: str) -> None:
    assert {level(rule, stack) for rule in RULES.values()} <= set(Level)


@each_stack
def test_nothing_is_switched_off(stack: str) -> None:
    assert "disabled" not in {level(rule, stack) for rule in RULES.values()}


@pytest.mark.parametrize("stack", ["staging", "prod", "dr"])
def test_all_but_digests_are_mandatory_where_users_are(stack: str) -> None:
    advisory = {name for name, rule in RULES.items() if level(rule, stack) != "mandatory"}
    assert advisory == {"container-image-digest"}


def test_dr_is_no_laxer_than_what_it_stands_in_for() -> None:
    assert entries("dr") == entries("prod")


def test_nothing_critical_is_only_advice_in_dev() -> None:
    critical = [rule for rule in RULES.values() if rule.severity == "critical"]
    assert {level(rule, "dev") for rule in critical} == {"mandatory"}
