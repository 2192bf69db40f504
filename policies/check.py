"""Judge manifests, or a running cluster, by the rules that the engine judges programs by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from policies.configuration import Configuration
from policies.exemptions import Exemptions, address
from policies.formats import Found, Report, ordered
from policies.model import Resource
from policies.rule import Level, Rule, Ruleset, Violation
from policies.sources import Declared
from policies.world import World


def check(
    declared: Iterable[Declared],
    rules: Iterable[Rule],
    configuration: Configuration,
    day: date,
    namespace: str = "default",
) -> Report:
    """Judge what is declared together.

    Args:
        declared: resources; two of one name are two.
        rules: all that there are; those that are disabled are left out.
        configuration: levels, thresholds and exemptions.
        day: which exemptions have expired.
        namespace: of objects that name none.
    """
    active = [each for each in rules if configuration.level(each) is not Level.DISABLED]
    placed = {f"{each.resource.urn}#{number}": each for number, each in enumerate(declared)}
    world = World(
        replace(each.resource, urn=urn, default_namespace=namespace) for urn, each in placed.items()
    )
    exempted = Exemptions(configuration.exemptions, day)
    violations = list(exempted.applied(Ruleset(active).judge(world, configuration.options)))
    file = Resource(type="", name=configuration.source, urn="", props={})
    violations += exempted.remarks(file)
    found = [_found(each, placed.get(each.resource.urn), configuration) for each in violations]
    return Report(ordered(found), tuple(active), len(placed))


def _found(violation: Violation, place: Declared | None, configuration: Configuration) -> Found:
    rule, finding = violation.rule, violation.finding
    return Found(
        rule=rule.name,
        severity=rule.severity,
        level=violation.level(configuration.level(rule)),
        resource=_printable(address(violation.resource) if place else "levels"),
        source=_printable(place.source if place else violation.resource.name),
        line=place.line(finding.where) if place else None,
        where=_printable(finding.where),
        found=_printable(finding.found),
        remedy=_printable(finding.remedy),
    )


def _printable(written: str) -> str:
    """One line without control characters, which names may hold and terminals obey."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in written)
