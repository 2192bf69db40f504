"""What `check` writes for people and for CI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema  # type: ignore[import-untyped]
import pytest

from policies.formats import FORMATS, Found, Report, as_json, junit, sarif, text
from policies.rules import RULES

pytestmark = pytest.mark.unit

SCHEMA = Path(__file__).with_name("sarif-2.1.0-rtm.5.json")
"""From npm's @microsoft/jest-sarif 1.0.0-beta.0 (MIT), without its white space."""

MANDATORY = Found(
    rule="container-liveness-probe",
    severity="high",
    level="mandatory",
    resource="Deployment/games/web",
    source="apps/web server.yaml",
    line=12,
    where="spec.template.spec.containers[web].livenessProbe",
    found="not set",
    remedy="Add one <soon> & well.",
)
ADVISORY = Found(
    rule="container-image-digest",
    severity="low",
    level="advisory",
    resource="Deployment/games/web",
    source="cluster",
    line=None,
    where="spec.template.spec.containers[web].image",
    found="web:1",
    remedy="Pin it.",
)
REPORT = Report((MANDATORY, ADVISORY), tuple(RULES.values()), resources=7)


def test_text_says_where_what_and_how_to_mend() -> None:
    lines = text(REPORT).splitlines()
    assert lines[0] == (
        "apps/web server.yaml:12: mandatory container-liveness-probe (high): Deployment/games/web"
    )
    assert lines[1].endswith("livenessProbe: not set")
    assert lines[2] == "    remedy: Add one <soon> & well."
    assert lines[3].startswith("cluster: advisory container-image-digest")
    assert lines[-1].endswith(f"{len(RULES)} rules: 1 mandatory and 1 advisory violations")


def test_json_has_the_fields() -> None:
    found = json.loads(as_json(REPORT))
    assert [Found(**each) for each in found] == [MANDATORY, ADVISORY]


@pytest.fixture
def log() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sarif(REPORT))
    return found


def test_sarif_keeps_the_schema(log: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    assert log["version"] == "2.1.0"


def test_sarif_has_every_rule_with_why_and_help(log: dict[str, Any]) -> None:
    described = {each["id"]: each for each in log["runs"][0]["tool"]["driver"]["rules"]}
    assert described.keys() == RULES.keys()
    for name, rule in RULES.items():
        assert described[name]["fullDescription"]["text"] == rule.why
        assert rule.remedy in described[name]["help"]["markdown"]
        assert described[name]["helpUri"] == rule.source


def test_sarif_names_file_and_line(log: dict[str, Any]) -> None:
    result = log["runs"][0]["results"][0]
    assert (result["ruleId"], result["level"]) == ("container-liveness-probe", "error")
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "apps/web%20server.yaml"},
        "region": {"startLine": 12},
    }


def test_sarif_of_a_cluster_names_only_the_resource(log: dict[str, Any]) -> None:
    result = log["runs"][0]["results"][1]
    (location,) = result["locations"]
    assert result["level"] == "warning"
    assert location.keys() == {"logicalLocations"}
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "Deployment/games/web"


def test_junit_has_failures_skips_and_passing_rules() -> None:
    (suite,) = ET.fromstring(junit(REPORT))  # noqa: S314 - our own
    cases = {each.get("classname"): each for each in suite}
    assert cases.keys() == RULES.keys()
    failure = cases["container-liveness-probe"].find("failure")
    assert failure is not None
    assert "remedy: Add one <soon> & well." in (failure.text or "")
    assert cases["container-liveness-probe"].get("line") == "12"
    assert cases["container-image-digest"].find("skipped") is not None
    assert len(cases["redis-quorum"]) == 0
    counts = {key: suite.get(key) for key in ("tests", "failures", "skipped", "errors")}
    assert counts == {
        "tests": str(len(RULES)),
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }


@pytest.mark.parametrize("name", FORMATS)
def test_clean_report_can_be_written(name: str) -> None:
    assert FORMATS[name](Report((), tuple(RULES.values()), resources=3))
