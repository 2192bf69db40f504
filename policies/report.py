"""From the engine's policy events back to the facts: what `build/policy-<stack>.json` holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

from policies.rules import RULES

_COLOURS = re.compile(r"<\{%[^%]*%\}>")
"""The engine's marks of colour, such as ``<{%reset%}>``."""
_FACT = re.compile(r"^(found|remedy): (.*)$", re.MULTILINE)


class PolicyEvent(Protocol):
    """The part of the Automation API's `PolicyEvent` that is read here."""

    message: str
    policy_name: str
    enforcement_level: str
    resource_urn: str | None


@dataclass(frozen=True)
class Record:
    """One violation. `resource` is the URN; `found` says where and what."""

    rule: str
    severity: str
    level: str
    resource: str
    found: str
    remedy: str


def rule_count() -> int:
    """How many rules the pack has."""
    return len(RULES)


def record(event: PolicyEvent) -> Record:
    """Read one event.

    An event of another pack keeps its whole message as `found`; its severity is unknown.
    """
    message = _COLOURS.sub("", event.message).strip()
    facts = dict(_FACT.findall(message))
    rule = RULES.get(event.policy_name)
    return Record(
        rule=event.policy_name,
        severity=rule.severity if rule else "",
        level=event.enforcement_level,
        resource=event.resource_urn or "",
        found=facts.get("found", message),
        remedy=facts.get("remedy", rule.remedy if rule else ""),
    )


def findings(events: Iterable[PolicyEvent]) -> list[dict[str, str]]:
    """Read events into plain data for JSON: what is mandatory first, then by rule and resource."""
    found = sorted(
        {record(each) for each in events},
        key=lambda each: (each.level != "mandatory", each.rule, each.resource, each.found),
    )
    return [asdict(each) for each in found]
