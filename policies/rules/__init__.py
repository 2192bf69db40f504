"""Every rule of the pack, by name. A new subject is a module here and a line in `_SUBJECTS`.

The places of what is not yet judged: recovery (alerts, runbooks, bounds of automatic actions) and
degradation (flags, tiers) come with those components.
"""

from __future__ import annotations

from policies.rule import Rule
from policies.rules import (
    aws,
    backups,
    containers,
    istio,
    kafka,
    keda,
    mongodb,
    neo4j,
    objectives,
    placement,
    postgres,
    redis,
    references,
    replicas,
    security,
    survival,
)

_SUBJECTS = (
    replicas,
    placement,
    containers,
    references,
    security,
    redis,
    postgres,
    mongodb,
    neo4j,
    kafka,
    istio,
    keda,
    survival,
    objectives,
    backups,
    aws,
)

SUBJECTS: dict[str, tuple[Rule, ...]] = {
    module.__name__.rpartition(".")[2]: tuple(
        each for each in vars(module).values() if isinstance(each, Rule)
    )
    for module in _SUBJECTS
}
"""Rules by subject, in the order of their definition."""

RULES: dict[str, Rule] = {each.name: each for rules in SUBJECTS.values() for each in rules}
