"""What a rule is: metadata, a check over one resource in its world, and two examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from policies.model import Resource, Undecided
from policies.world import World

ANY = "*"
"""In `Rule.kinds`: every Kubernetes object."""


class Severity(StrEnum):
    """How bad it is to break the rule.

    `CRITICAL` loses data or lets anyone in, `HIGH` makes one failure an outage, `MEDIUM` makes an
    outage longer or likelier, `LOW` is hygiene.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Level(StrEnum):
    """What a violation does: `MANDATORY` stops the update, `ADVISORY` is shown."""

    ADVISORY = "advisory"
    MANDATORY = "mandatory"
    DISABLED = "disabled"


class Scope(StrEnum):
    """What a check looks at.

    `RESOURCE`: one resource, judged before it is created. `STACK`: a resource among all others,
    judged once all are declared.
    """

    RESOURCE = "resource"
    STACK = "stack"


@dataclass(frozen=True)
class Option:
    """A threshold that a stack's levels file may set."""

    default: Any
    schema: Mapping[str, Any]
    """JSON schema of the value, which the engine holds the levels file to."""
    about: str


Options = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """What a rule saw: the field, what it holds, and the exact change that mends it."""

    where: str
    found: str
    remedy: str


Check = Callable[[Resource, World, Options], Iterable[Finding]]


@dataclass(frozen=True)
class Rule:
    """One rule; its name is ``<resource>-<what>``."""

    name: str
    severity: Severity
    kinds: tuple[str, ...]
    why: str
    source: str
    remedy: str
    passing: str
    failing: str
    check: Check
    scope: Scope
    level: Level
    options: Mapping[str, Option] = field(default_factory=dict)

    @cached_property
    def defaults(self) -> Options:
        """The thresholds where no levels file says otherwise."""
        return {name: option.default for name, option in self.options.items()}


def rule(
    name: str,
    severity: Severity,
    *,
    kinds: tuple[str, ...],
    why: str,
    source: str,
    remedy: str,
    passing: str,
    failing: str,
    scope: Scope = Scope.RESOURCE,
    level: Level = Level.MANDATORY,
    options: Mapping[str, Option] | None = None,
) -> Callable[[Check], Rule]:
    """Make a check function a rule.

    `passing` and `failing` are YAML manifests merged over the clean set in `baseline.yaml`.
    """

    def made(check: Check) -> Rule:
        return Rule(
            name=name,
            severity=severity,
            kinds=kinds,
            why=why,
            source=source,
            remedy=remedy,
            passing=passing,
            failing=failing,
            check=check,
            scope=scope,
            level=level,
            options=options or {},
        )

    return made


@dataclass(frozen=True)
class Violation:
    """A rule that a resource breaks, or, with `undecided`, one that cannot be judged yet."""

    rule: Rule
    resource: Resource
    finding: Finding
    undecided: bool = False
    fixed_level: Level | None = None
    """Its level where no levels file may set one."""

    def level(self, configured: Level) -> Level:
        """Its level where the rule has `configured`; what cannot be judged is advice."""
        return Level.ADVISORY if self.undecided else self.fixed_level or configured

    @property
    def message(self) -> str:
        """The same three facts for every rule, in lines that `policies.report` reads back."""
        return (
            f"found: {self.finding.where}: {self.finding.found}\n"
            f"remedy: {self.finding.remedy}\n"
            f"why: {self.rule.why}"
        )


class Ruleset:
    """Rules ready to judge: indexed by what they look at."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_kind: dict[str, list[Rule]] = {}
        for each in rules:
            for kind in each.kinds:
                self._by_kind.setdefault(kind, []).append(each)

    def judge(self, world: World, options: Mapping[str, Options]) -> Iterator[Violation]:
        """Judge every resource of the world; `options` is by rule, the rest are defaults."""
        for resource in world.resources:
            for each in self._rules_for(resource):
                yield from _judge(each, resource, world, options.get(each.name, {}))

    def _rules_for(self, resource: Resource) -> Iterator[Rule]:
        yield from self._by_kind.get(resource.kind, ())
        if resource.is_kubernetes:
            yield from self._by_kind.get(ANY, ())


def _judge(rule: Rule, resource: Resource, world: World, options: Options) -> Iterator[Violation]:
    try:
        chosen = {**rule.defaults, **options} if options else rule.defaults
        for finding in rule.check(resource, world, chosen):
            yield Violation(rule, resource, finding)
    except Undecided as reason:
        finding = Finding(
            where=f"a value that {rule.name} reads",
            found=f"{reason}, so this rule could not be judged",
            remedy="Nothing, if the update passes: it judges again with what is known then. "
            "To have it judged now, set the value in clear in the program.",
        )
        yield Violation(rule, resource, finding, undecided=True)
