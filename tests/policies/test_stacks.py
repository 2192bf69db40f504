"""The four stacks as they ship: nothing mandatory is broken, and each weakness is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from components.platform import Platform, PlatformArgs
from policies.cli import LEVELS, STACKS
from policies.model import Resource
from policies.rules import RULES
from stacks import loader
from stacks.settings import Role
from tests.components.conftest import Registered, Secret, registered_by
from tests.policies.analyzer_session import Diagnostic, Session, secret

pytestmark = pytest.mark.unit

each_stack = pytest.mark.parametrize("stack", STACKS)


@cache
def declared(stack: str, *, promoted: bool = False) -> tuple[Registered, ...]:
    """Everything that a first preview of the stack declares, perhaps after its promotion."""
    settings = loader.from_file(stack)
    if promoted:
        settings = settings.model_copy(update={"role": Role.ACTIVE})
    arguments = PlatformArgs(settings=settings, stack=stack)
    registry = registered_by(lambda: Platform(arguments.settings.prefix, arguments), preview=True)
    return tuple(registry.resources)


def wired(value: Any) -> Any:
    """A registered value in the wire's form again."""
    if isinstance(value, Secret):
        return secret(wired(value.value))
    if isinstance(value, dict):
        return {key: wired(each) for key, each in value.items()}
    return [wired(each) for each in value] if isinstance(value, list) else value


def _what(finding: Diagnostic) -> tuple[str, str]:
    """A rule, and the resource that it was broken by."""
    return finding.rule, finding.urn.rpartition("::")[2]


def judged(session: Session, stack: str, resources: tuple[Registered, ...]) -> list[Diagnostic]:
    """Judge with the levels of the stack."""
    session.configure(RULES.values(), json.loads((LEVELS / f"{stack}.json").read_text()))
    run = session.new_stack()
    return session.judge_resources(
        [
            Resource(
                each.type,
                each.name,
                f"{run}::{each.urn}",
                wired(each.inputs),
                {key: tuple(f"{run}::{urn}" for urn in each.dependencies) for key in each.inputs},
            )
            for each in resources
        ]
    )


@each_stack
def test_stack_as_shipped_breaks_nothing_mandatory(analyzer: Session, stack: str) -> None:
    found = judged(analyzer, stack, declared(stack))
    assert [each for each in found if each.level == "mandatory"] == []


def test_dr_once_promoted_breaks_nothing_mandatory(analyzer: Session) -> None:
    found = judged(analyzer, "dr", declared("dr", promoted=True))
    assert [each for each in found if each.level == "mandatory"] == []


@each_stack
def test_nothing_of_a_stack_is_left_undecided(analyzer: Session, stack: str) -> None:
    found = judged(analyzer, stack, declared(stack))
    assert [each for each in found if "could not be judged" in each.message] == []


@dataclass(frozen=True)
class Weakness:
    """Something that a person may do to a stack, and the rules that must find it."""

    kind: str
    name: str
    change: Callable[[dict[str, Any]], object]
    rules: frozenset[str]


def _without_probes(deployment: dict[str, Any]) -> None:
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        container.pop("readinessProbe")
        container.pop("livenessProbe")


WEAKNESSES = {
    "probes-removed": Weakness(
        "Deployment",
        "gateway",
        _without_probes,
        frozenset({"container-readiness-probe", "container-liveness-probe"}),
    ),
    "two-sentinels": Weakness(
        "StatefulSet",
        "redis-sentinel",
        lambda each: each["spec"].update(replicas=2),
        # The third has a Service of its own, which leads nowhere now.
        frozenset({"redis-sentinels", "survival-zone", "service-selects"}),
    ),
    "one-postgres": Weakness(
        "Cluster",
        "postgres",
        lambda each: each["spec"].update(instances=1),
        frozenset({"postgres-instances", "postgres-synchronous", "survival-zone"}),
    ),
}


@each_stack
@pytest.mark.parametrize("weakness", WEAKNESSES.values(), ids=WEAKNESSES)
def test_weakness_is_found_with_rule_and_resource(
    analyzer: Session, stack: str, weakness: Weakness
) -> None:
    weak = copy.deepcopy(declared(stack))
    (target,) = [
        each
        for each in weak
        if each.kind == weakness.kind and each.inputs["metadata"]["name"] == weakness.name
    ]
    weakness.change(target.inputs)
    # By rule and resource: dev's one Neo4j server does not survive its zone either.
    before = {_what(each) for each in judged(analyzer, stack, declared(stack))}
    found = [each for each in judged(analyzer, stack, weak) if _what(each) not in before]
    assert {each.rule for each in found} == weakness.rules
    # What does not survive is the system, whichever part is weak; what leads nowhere, another one.
    parts = [each for each in found if each.rule not in {"survival-zone", "service-selects"}]
    assert {each.urn.rpartition("::")[2] for each in parts} == {target.name}
    if stack != "dev":
        assert {each.level for each in found} == {"mandatory"}
