"""From the engine's events to `build/policy-<stack>.json`."""

from __future__ import annotations

import pytest
from pulumi.automation.events import PolicyEvent

from policies import report
from policies.rules import RULES

pytestmark = pytest.mark.unit


def event(message: str, rule: str = "redis-sentinels", level: str = "mandatory") -> PolicyEvent:
    return PolicyEvent(message, "raw", rule, "fault-tolerance", "0.1.0", "", level, "urn")


MESSAGE = "<{%fg 12%}>found: spec.replicas: 2\nremedy: Set it to 3.\nwhy: Votes.<{%reset%}>\n"


def test_reads_what_the_rule_said() -> None:
    assert report.findings([event(MESSAGE)]) == [
        {
            "rule": "redis-sentinels",
            "severity": "critical",
            "level": "mandatory",
            "resource": "urn",
            "found": "spec.replicas: 2",
            "remedy": "Set it to 3.",
        }
    ]


def test_an_event_that_comes_twice_counts_once() -> None:
    assert len(report.findings([event(MESSAGE), event(MESSAGE)])) == 1


def test_mandatory_comes_first() -> None:
    events = [event(MESSAGE, "backup-active", "advisory"), event(MESSAGE)]
    assert [each["level"] for each in report.findings(events)] == ["mandatory", "advisory"]


def test_an_event_of_another_pack_keeps_its_message() -> None:
    (found,) = report.findings([event("No public buckets.", "someone-elses")])
    assert found["found"] == "No public buckets."
    assert found["severity"] == ""


def test_counts_the_rules() -> None:
    assert report.rule_count() == len(RULES)
