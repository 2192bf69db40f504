"""The same rules behind the SDK's own analyzer: what ours is compared with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    StackValidationArgs,
    StackValidationPolicy,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from policies.model import Resource
from policies.rule import Rule, Ruleset
from policies.rules import RULES
from policies.world import World


def plain(value: object) -> Any:
    """Undo the SDK's proxies; it raises where a value is unknown."""
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def validation(rule: Rule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    """One rule in the SDK's form."""
    ruleset = Ruleset([rule])

    def validate(stack: StackValidationArgs, report: ReportViolation) -> None:
        resources = [
            Resource(each.resource_type, each.name, each.urn, plain(each.props))
            for each in stack.resources
        ]
        for violation in ruleset.judge(World(resources), {rule.name: plain(stack.get_config())}):
            report(violation.message, violation.resource.urn)

    return validate


PolicyPack(
    name="fault-tolerance-sdk",
    policies=[
        StackValidationPolicy(
            name=rule.name,
            description=rule.why,
            validate=validation(rule),
            enforcement_level=EnforcementLevel(rule.level),
            config_schema=PolicyConfigSchema(
                properties={name: dict(option.schema) for name, option in rule.options.items()}
            ),
        )
        for rule in RULES.values()
    ],
)
