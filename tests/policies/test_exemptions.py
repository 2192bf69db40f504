"""One resource that may break one rule, because somebody answers for it, until a day."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from policies import exemptions, manifests
from policies.exemptions import Exemptions
from policies.model import UNKNOWN, Resource
from policies.rule import Level, Ruleset, Violation
from policies.rules import RULES
from policies.world import World
from tests.policies.analyzer_session import Diagnostic, Session

pytestmark = pytest.mark.unit

RULE = RULES["workload-replicas"]
LAST_DAY = date(2026, 3, 31)
ENTRY: dict[str, Any] = {
    "resource": "Deployment/games/web",
    "owner": "team-web",
    "reason": "moves to another platform in spring",
    "expires": "2026-03-31",
}


def judged(day: date, **changes: str) -> list[Violation]:
    """The violations of the rule's failing example, and the remarks, on a day."""
    world = World(manifests.resource(each) for each in manifests.failing(RULE))
    exempted = Exemptions(exemptions.read(RULE, [{**ENTRY, **changes}]), day)
    found = list(exempted.applied(Ruleset([RULE]).judge(world, {})))
    return [*found, *exempted.remarks(Resource("", "levels file", "", {}))]


def test_exempted_resource_may_break_the_rule_until_the_last_day() -> None:
    assert judged(LAST_DAY) == []


def test_expired_exemption_covers_nothing_and_is_mandatory_itself() -> None:
    violation, remark = judged(date(2026, 4, 1))
    assert violation.resource.object_name == "web"
    assert remark.level(Level.ADVISORY) is Level.MANDATORY
    for named in ("Deployment/games/web", "expired on 2026-03-31", "team-web", ENTRY["reason"]):
        assert named in remark.message


def test_exemption_that_covers_nothing_is_pointed_out() -> None:
    violation, remark = judged(LAST_DAY, resource="Deployment/games/wbe")
    assert violation.resource.object_name == "web"
    assert remark.level(Level.MANDATORY) is Level.ADVISORY
    assert "covers no violation" in remark.message


@pytest.mark.parametrize("pattern", ["Deployment/games/*", "*/web", "Deployment/*"])
def test_resource_is_a_pattern(pattern: str) -> None:
    assert judged(LAST_DAY, resource=pattern) == []


@pytest.mark.parametrize("name", ["resource", "owner", "reason", "expires"])
@pytest.mark.parametrize("value", [None, "", 7])
def test_every_field_is_asked_for(name: str, value: object) -> None:
    entry = {key: each for key, each in ENTRY.items() if key != name}
    if value is not None:
        entry[name] = value
    with pytest.raises(ValueError, match=rf"workload-replicas: exemptions\[0\] has no {name} \("):
        exemptions.read(RULE, [entry])


@pytest.mark.parametrize("expires", ["soon", "2026-02-30", "31.03.2026"])
def test_expiry_is_a_date(expires: str) -> None:
    with pytest.raises(ValueError, match=f"expires is '{expires}', which is no date"):
        exemptions.read(RULE, [{**ENTRY, "expires": expires}])


def test_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="'until' is not one of resource, owner, reason, expires"):
        exemptions.read(RULE, [{**ENTRY, "until": "2026-03-31"}])


@pytest.mark.parametrize(
    ("metadata", "address"),
    [
        ({"name": "web", "namespace": "games"}, "Deployment/games/web"),
        ({"name": "web"}, "Deployment/web"),
        ({"name": UNKNOWN}, "Deployment/registered"),
        (None, "Deployment/registered"),
    ],
)
def test_address_of_an_object(metadata: object, address: str) -> None:
    props = {"kind": "Deployment", "metadata": metadata}
    resource = Resource("kubernetes:apps/v1:Deployment", "registered", "urn", props)
    assert exemptions.address(resource) == address


def test_address_of_another_resource() -> None:
    bucket = Resource("aws:s3/bucket:Bucket", "backup", "urn", {})
    assert exemptions.address(bucket) == "Bucket/backup"


# Through the analyzer ---------------------------------------------------------------------------


def answered(analyzer: Session, **changes: str) -> list[Diagnostic]:
    """What the real analyzer says of the failing example under an exemption."""
    levels = {RULE.name: {"enforcementLevel": "advisory", "exemptions": [{**ENTRY, **changes}]}}
    analyzer.configure(RULES.values(), levels)
    return analyzer.judge(manifests.failing(RULE))


def test_analyzer_keeps_to_an_exemption(analyzer: Session) -> None:
    assert answered(analyzer, expires="2999-12-31") == []


def test_analyzer_fails_on_an_expired_exemption(analyzer: Session) -> None:
    found = answered(analyzer, expires="2020-01-01")
    assert [each.level for each in found] == ["advisory", "mandatory"]
    assert "exemption of Deployment/games/web from workload-replicas" in found[1].message


def test_analyzer_points_out_an_exemption_that_covers_nothing(analyzer: Session) -> None:
    found = answered(analyzer, expires="2999-12-31", resource="Deployment/games/api")
    assert [each.level for each in found] == ["advisory", "advisory"]
    assert "covers no violation" in found[1].message


def test_analyzer_exempts_from_rules_of_single_resources_too(analyzer: Session) -> None:
    rule = RULES["pod-grace-period"]
    entry = {**ENTRY, "expires": "2999-12-31"}
    analyzer.configure(RULES.values(), {rule.name: {"exemptions": [entry]}})
    assert analyzer.judge(manifests.failing(rule)) == []
