"""Every weakness that a rule is for, put into each of the four stacks: the rule finds it.

What has no place in any of them is put into the rules' own baseline. Weak stacks are made by
`tests/policies/mutations`, a table from rule to weaknesses, so a rule that has none there fails
here. A weakness is found if the rule says something about the weak stack that it does not say about
the stack as it ships, for sure and not only "could not be judged".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]

from policies import manifests
from policies.cli import LEVELS, STACKS
from policies.model import Resource
from policies.rule import Options, Rule, Ruleset
from policies.rules import RULES
from policies.wire import plain
from policies.world import World
from tests.policies.mutations import MUTATIONS
from tests.policies.mutations.making import Mutant
from tests.policies.test_stacks import declared, wired

pytestmark = pytest.mark.unit

each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

LEAST = 300
"""Mutants in all."""
CAUGHT = 0.99
"""Share of them that the rule meant finds, at least."""
BASELINE = "baseline"
"""In the place of a stack, for kinds that no stack declares."""


@dataclass(frozen=True)
class Outcome:
    """One mutant, and whether the rule that it is for found it."""

    rule: str
    mutation: int
    """Which of the rule's."""
    stack: str
    place: str
    caught: bool


@cache
def shipped(stack: str, *, promoted: bool = False) -> World:
    """The stack as the analyzer sees it: every value has been over the wire."""
    if stack == BASELINE:
        return World(map(manifests.resource, manifests.baseline()))
    resources = []
    for each in declared(stack, promoted=promoted):
        sent = Struct()
        sent.update(wired(each.inputs))
        references = {key: tuple(each.dependencies) for key in each.inputs}
        resources.append(Resource(each.type, each.name, each.urn, plain(sent), references))
    return World(resources)


@cache
def options(stack: str) -> dict[str, Options]:
    """The thresholds of the stack's levels file."""
    if stack == BASELINE:
        return {}
    entries: dict[str, Any] = json.loads((LEVELS / f"{stack}.json").read_text(encoding="utf-8"))
    return {rule: entry for rule, entry in entries.items() if isinstance(entry, dict)}


def said(rule: Rule, world: World, stack: str) -> set[tuple[str, str, str]]:
    """What a rule has to say, for sure."""
    return {
        (each.resource.urn, each.finding.where, each.finding.found)
        for each in Ruleset([rule]).judge(world, options(stack))
        if not each.undecided
    }


def mutants(rule: Rule, stack: str) -> Iterator[tuple[int, Mutant]]:
    """All weak stacks that the rule must find something in, with the number of the mutation."""
    for number, mutation in enumerate(MUTATIONS.get(rule.name, ())):
        for mutant in mutation(shipped(stack)):
            yield number, mutant


def judged(rule: str, stack: str) -> list[Outcome]:
    """Every mutant of a rule in one stack."""
    before = said(RULES[rule], shipped(stack), stack)
    return [
        Outcome(
            rule,
            number,
            stack,
            mutant.place,
            caught=bool(said(RULES[rule], World(mutant.resources), stack) - before),
        )
        for number, mutant in mutants(RULES[rule], stack)
    ]


@cache
def outcomes(rule: str) -> tuple[Outcome, ...]:
    """Every mutant of a rule in all stacks, and in the baseline where no stack has a place."""
    in_stacks = [each for stack in STACKS for each in judged(rule, stack)]
    placed = {each.mutation for each in in_stacks}
    elsewhere = [each for each in judged(rule, BASELINE) if each.mutation not in placed]
    return (*in_stacks, *elsewhere)


@each_rule
def test_rule_has_a_mutation(rule: Rule) -> None:
    assert rule.name in MUTATIONS, (
        f"{rule.name} has no mutation: add one to the table of its subject in "
        "tests/policies/mutations/"
    )


@each_rule
def test_each_mutation_of_a_rule_has_a_place(rule: Rule) -> None:
    placed = {each.mutation for each in outcomes(rule.name)}
    assert placed == set(range(len(MUTATIONS[rule.name])))


@each_rule
def test_rule_finds_most_of_its_mutants(rule: Rule) -> None:
    missed = [each for each in outcomes(rule.name) if not each.caught]
    assert len(missed) <= (1 - CAUGHT) * len(outcomes(rule.name))


def test_nearly_all_mutants_are_found() -> None:
    made = [each for rule in RULES for each in outcomes(rule)]
    missed = [each for each in made if not each.caught]
    assert len(made) >= LEAST
    assert len(missed) <= (1 - CAUGHT) * len(made), missed


def test_table_names_only_rules_that_exist() -> None:
    assert MUTATIONS.keys() <= RULES.keys()


@pytest.mark.parametrize("stack", STACKS)
def test_no_rule_fires_on_the_stack_as_shipped(stack: str) -> None:
    levels = json.loads((LEVELS / f"{stack}.json").read_text(encoding="utf-8"))
    advice = {name for name, entry in levels.items() if entry == "advisory"}
    found = {rule.name: said(rule, shipped(stack), stack) for rule in RULES.values()}
    assert {name for name, those in found.items() if those} <= advice
