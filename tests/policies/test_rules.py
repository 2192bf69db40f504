"""Every rule through the real analyzer: silent where it should be, alone where it should speak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from policies import manifests
from policies.model import Resource
from policies.rule import Rule, Severity
from policies.rules import RULES, SUBJECTS
from tests.policies.analyzer_session import UNKNOWN, Diagnostic, Session

Failures = Callable[[str], list[Diagnostic]]

pytestmark = pytest.mark.unit

OVERALL = {rule.name for rule in (*SUBJECTS["survival"], *SUBJECTS["objectives"])}
"""Rules that judge all settings together, so one wrong setting may break them too."""

each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def test_baseline_keeps_every_rule(analyzer: Session) -> None:
    assert analyzer.judge(manifests.baseline()) == []


@each_rule
def test_passing_example_passes(analyzer: Session, rule: Rule) -> None:
    assert analyzer.judge(manifests.passing(rule)) == []


@each_rule
def test_failing_example_breaks_this_rule_and_no_other(failures: Failures, rule: Rule) -> None:
    found = failures(rule.name)
    assert {each.rule for each in found} - (OVERALL - {rule.name}) == {rule.name}


@each_rule
def test_violation_has_the_default_level(failures: Failures, rule: Rule) -> None:
    found = [each for each in failures(rule.name) if each.rule == rule.name]
    assert {each.level for each in found} == {rule.level}


@each_rule
def test_message_says_what_where_and_how_to_mend(failures: Failures, rule: Rule) -> None:
    for each in failures(rule.name):
        found, remedy, why = each.message.splitlines()
        assert found.startswith("found: ")
        assert found.count(": ") >= 2, "no field before what was found"
        assert remedy.startswith("remedy: ")
        assert remedy.endswith(".")
        assert why == f"why: {RULES[each.rule].why}"


@each_rule
def test_violation_names_a_resource_of_the_right_kind(failures: Failures, rule: Rule) -> None:
    declared = [manifests.resource(each) for each in manifests.failing(rule)]
    kinds = {f"{each.type}::{each.name}": each.kind for each in declared}
    for each in (found for found in failures(rule.name) if found.rule == rule.name):
        kind = kinds["::".join(each.urn.split("::")[-2:])]
        assert kind in rule.kinds or "*" in rule.kinds


@each_rule
def test_example_changes_something(rule: Rule) -> None:
    assert manifests.failing(rule) != manifests.baseline()


@each_rule
def test_metadata_is_complete(rule: Rule) -> None:
    assert rule.source.startswith("https://")
    assert rule.why.endswith(".")
    assert rule.remedy
    assert isinstance(rule.severity, Severity)


def test_no_two_rules_share_a_name() -> None:
    assert len(RULES) == sum(len(rules) for rules in SUBJECTS.values())


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_service_without_a_probe_is_named_with_its_field(analyzer: Session, probe: str) -> None:
    change = {
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "web", probe: None}]}}},
    }
    found = analyzer.judge(manifests.changed(manifests.baseline(), [change]))
    assert [each.urn.rpartition("::")[2] for each in found] == ["games-web"]
    where = f"spec.template.spec.containers[web].{probe}"
    assert f"found: {where}: not set\nremedy: Add {where} with" in found[0].message


def test_redis_on_two_sentinels_is_found(analyzer: Session) -> None:
    change = {
        "kind": "StatefulSet",
        "metadata": {"name": "redis-sentinel"},
        "spec": {"replicas": 2},
    }
    everything = analyzer.judge(manifests.changed(manifests.baseline(), [change]))
    (found,) = [each for each in everything if each.rule not in OVERALL]
    assert found.rule == "redis-sentinels"
    assert "found: spec.replicas: 2 Sentinels\nremedy: Set spec.replicas to 3." in found.message


@pytest.mark.parametrize(
    ("line", "sentinels", "broken"),
    [
        ("sentinel monitor main redis-0 6379 2", 3, False),
        ("sentinel monitor main redis-0 6379 1", 3, True),
        ("sentinel monitor main redis-0 6379 4", 3, True),
        ("sentinel monitor main redis-0 6379 2", 5, True),
        ("sentinel monitor main redis-0 6379 3", 5, False),
    ],
)
def test_quorum_is_read_from_the_configuration(
    analyzer: Session, line: str, sentinels: int, *, broken: bool
) -> None:
    volumes = [{"name": "config", "configMap": {"name": "redis-sentinel"}}]
    changes = [
        {
            "kind": "ConfigMap",
            "metadata": {"name": "redis-sentinel"},
            "data": {"sentinel.conf": f"port 26379\n{line}\n"},
        },
        {
            "kind": "StatefulSet",
            "metadata": {"name": "redis-sentinel"},
            "spec": {"replicas": sentinels, "template": {"spec": {"volumes": volumes}}},
        },
    ]
    found = analyzer.judge(manifests.changed(manifests.baseline(), changes))
    broken_rules = {each.rule for each in found} - OVERALL
    assert broken_rules == ({"redis-quorum"} if broken else set())


@pytest.mark.parametrize(
    ("pod", "broken"),
    [("redis-sentinel-2", False), ("redis-sentinel-3", True), ("redis-2", True)],
)
def test_a_service_of_one_pod_needs_the_stateful_set_that_makes_it(
    analyzer: Session, pod: str, *, broken: bool
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": pod, "namespace": "games"},
        "spec": {
            "selector": {
                "app.kubernetes.io/name": "redis-sentinel",
                "statefulset.kubernetes.io/pod-name": pod,
            },
            "ports": [{"port": 26379}],
        },
    }
    found = {each.rule for each in analyzer.judge([*manifests.baseline(), service])} - OVERALL
    assert found == ({"service-selects"} if broken else set())


def test_buckets_are_known_by_reference_before_they_have_a_name(analyzer: Session) -> None:
    declared = [_of_unnamed_bucket(each) for each in _resources(analyzer.new_stack())]
    assert {each.rule for each in analyzer.judge_resources(declared)} <= OVERALL
    without = [each for each in declared if each.kind != "aws:s3/BucketVersioning"]
    found = [each for each in analyzer.judge_resources(without) if each.rule not in OVERALL]
    assert [(each.rule, each.level) for each in found] == [("bucket-versioning", "mandatory")]


def _resources(stack: str) -> list[Resource]:
    return [manifests.resource(each, stack) for each in manifests.baseline()]


def _of_unnamed_bucket(resource: Resource) -> Resource:
    """The resource as a first preview sees it: the bucket that it is about has no name yet."""
    if "bucket" not in resource.props:
        return resource
    props = {**resource.props, "bucket": UNKNOWN}
    own = f"{resource.urn.rpartition('::aws')[0]}::aws:s3/bucket:Bucket::{resource.name}"
    return replace(resource, props=props, references={"bucket": (own,)})
