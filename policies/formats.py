"""What `check` found, as text for people, JSON for programs, SARIF and JUnit for CI."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from policies.rule import Level, Rule, Severity
from policies.sources import CLUSTER

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
INFORMATION = "https://github.com/pulumi/pulumi-policy"
_NAME = "fault-tolerance"

_SECURITY_SEVERITY = {
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.5",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}
"""What code scanning sorts by: CVSS' middle of each class."""


@dataclass(frozen=True)
class Found:
    """One violation: `resource` is Kind/namespace/name, `line` counts from 1 where it is known."""

    rule: str
    severity: str
    level: str
    resource: str
    source: str
    line: int | None
    where: str
    found: str
    remedy: str

    @property
    def place(self) -> str:
        """``web.yaml:12``."""
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True)
class Report:
    """All violations, mandatory ones first, and what was judged."""

    found: tuple[Found, ...]
    rules: tuple[Rule, ...]
    resources: int

    @property
    def mandatory(self) -> int:
        """How many violations stop an update."""
        return sum(each.level == Level.MANDATORY for each in self.found)


def text(report: Report) -> str:
    """One violation in three lines, and a count at the end."""
    lines = []
    for each in report.found:
        lines += [
            f"{each.place}: {each.level} {each.rule} ({each.severity}): {each.resource}",
            f"    found:  {each.where}: {each.found}",
            f"    remedy: {each.remedy}",
        ]
    advisory = len(report.found) - report.mandatory
    lines.append(
        f"{report.resources} resources, {len(report.rules)} rules: {report.mandatory} mandatory "
        f"and {advisory} advisory violations"
    )
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """A list of objects with the fields of `Found`."""
    return json.dumps([asdict(each) for each in report.found], indent=2) + "\n"


def sarif(report: Report) -> str:
    """SARIF 2.1.0: every rule with its metadata, one result a violation."""
    log = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": _NAME,
                        "informationUri": INFORMATION,
                        "rules": [_sarif_rule(rule) for rule in report.rules],
                    }
                },
                "columnKind": "utf16CodeUnits",
                "results": [_sarif_result(each) for each in report.found],
            }
        ],
    }
    return json.dumps(log, indent=2) + "\n"


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "name": rule.name.title().replace("-", ""),
        "shortDescription": {"text": rule.remedy},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.why}\n\nRemedy: {rule.remedy}\n\nSource: {rule.source}",
            "markdown": f"{rule.why}\n\n**Remedy:** {rule.remedy}\n\n[Source]({rule.source})",
        },
        "helpUri": rule.source,
        "defaultConfiguration": {"level": _sarif_level(rule.level)},
        "properties": {
            "severity": str(rule.severity),
            "security-severity": _SECURITY_SEVERITY[rule.severity],
        },
    }


def _sarif_level(level: str) -> str:
    return "error" if level == Level.MANDATORY else "warning"


def _sarif_result(each: Found) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": each.resource, "kind": "resource"}]
    }
    if each.source != CLUSTER:
        file = {"uri": quote(PurePath(each.source).as_posix())}
        location["physicalLocation"] = {"artifactLocation": file}
    if each.line:
        location["physicalLocation"]["region"] = {"startLine": each.line}
    return {
        "ruleId": each.rule,
        "level": _sarif_level(each.level),
        "message": {
            "text": f"{each.resource}: {each.where}: {each.found}. Remedy: {each.remedy}",
        },
        "locations": [location],
        "partialFingerprints": {
            "resourceRuleField/v1": f"{each.resource}/{each.rule}/{each.where}",
        },
    }


def junit(report: Report) -> str:
    """JUnit XML: a passing case for each rule that is kept, a case for each violation.

    A mandatory violation is a failure. An advisory one is a skipped case with the reason: shown,
    and never the cause of a red pipeline.
    """
    suite = ET.Element("testsuite", name=f"{_NAME} policies")
    broken = {each.rule for each in report.found}
    for rule in report.rules:
        if rule.name not in broken:
            ET.SubElement(suite, "testcase", classname=rule.name, name="kept by all resources")
    for each in report.found:
        case = ET.SubElement(
            suite, "testcase", classname=each.rule, name=f"{each.resource}: {each.where}"
        )
        if each.line:
            case.set("file", each.source)
            case.set("line", str(each.line))
        outcome = "failure" if each.level == Level.MANDATORY else "skipped"
        told = ET.SubElement(case, outcome, message=f"{each.where}: {each.found}")
        told.text = f"{each.place}\nseverity: {each.severity}\nremedy: {each.remedy}"
        if outcome == "failure":
            told.set("type", each.severity)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(report.mandatory))
    suite.set("skipped", str(len(report.found) - report.mandatory))
    suite.set("errors", "0")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": as_json,
    "sarif": sarif,
    "junit": junit,
}


def ordered(found: Sequence[Found]) -> tuple[Found, ...]:
    """Mandatory violations first, then by place."""
    return tuple(
        sorted(
            found,
            key=lambda each: (
                each.level != Level.MANDATORY,
                each.source,
                each.line or 0,
                each.rule,
                each.where,
                each.found,
            ),
        )
    )
