"""Where the line of a rule runs: what it lets pass and what it finds, by the real analyzer."""

from __future__ import annotations

from typing import Any

import pytest

from policies import manifests
from tests.policies.analyzer_session import Diagnostic, Session
from tests.policies.test_rules import OVERALL

pytestmark = pytest.mark.unit

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
WEB = {"matchLabels": {"app.kubernetes.io/name": "web"}}

Change = dict[str, Any]


def judged(analyzer: Session, *changes: Change) -> list[Diagnostic]:
    """What is said of the baseline with these changes."""
    found = analyzer.judge(manifests.changed(manifests.baseline(), changes))
    return [each for each in found if each.rule not in OVERALL]


def broken(analyzer: Session, *changes: Change) -> set[str]:
    """The rules that the baseline breaks with these changes."""
    return {each.rule for each in judged(analyzer, *changes)}


def of(kind: str, name: str, spec: Change, **more: Any) -> Change:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec, **more}


def web(container: Change) -> Change:
    """A change of the one container of the baseline's service."""
    pod = {"containers": [{"name": "web", **container}]}
    return of("Deployment", "web", {"template": {"spec": pod}})


# Autoscalers by events --------------------------------------------------------------------------

SOURCE = {"bootstrapServers": "kafka:9092", "consumerGroup": "games"}
QUERY = {"serverAddress": "http://prometheus:9090", "threshold": "50"}
METRIC = {"url": "http://games/waiting", "valueLocation": "waiting"}


@pytest.mark.parametrize(
    ("kind", "metadata", "missing"),
    [
        ("prometheus", {**QUERY, "query": "up"}, []),
        ("prometheus", {**QUERY, "queryFromEnv": "QUERY"}, ["query"]),
        ("redis", {"address": "redis:6379", "listNameFromEnv": "LIST"}, ["listName"]),
        ("kafka", SOURCE, []),
        ("kafka", {f"{key}FromEnv": "VARIABLE" for key in SOURCE}, []),
        ("kafka", {"consumerGroup": "games"}, ["bootstrapServers"]),
        ("postgresql", {"query": "select 1"}, ["targetQueryValue"]),
        ("postgresql", {"query": "select 1", "targetQueryValueFromEnv": "A"}, ["targetQueryValue"]),
        ("metrics-api", METRIC, ["targetValue"]),
    ],
)
def test_a_trigger_reads_from_the_environment_what_its_scaler_says(
    analyzer: Session, kind: str, metadata: Change, missing: list[str]
) -> None:
    triggers = [{"type": kind, "metadata": metadata}]
    found = judged(analyzer, of("ScaledObject", "worker", {"triggers": triggers}))
    assert {each.rule for each in found} == ({"scaled-object-query"} if missing else set())
    fields = [each.message.removeprefix("found: ").partition(": ")[0] for each in found]
    assert fields == [f"spec.triggers[0].metadata.{key}" for key in missing]


@pytest.mark.parametrize(
    ("kind", "metadata", "needed"),
    [
        ("postgresql", {"query": "select 1"}, False),
        ("metrics-api", METRIC, False),
        ("mysql", {"query": "select 1"}, True),
        ("mssql", {"query": "select 1"}, True),
    ],
)
def test_a_formula_has_the_target_of_some_triggers(
    analyzer: Session, kind: str, metadata: Change, *, needed: bool
) -> None:
    formula = {"scalingModifiers": {"formula": "waiting / 2", "target": "5"}}
    spec = {"advanced": formula, "triggers": [{"type": kind, "metadata": metadata}]}
    found = broken(analyzer, of("ScaledObject", "worker", spec))
    assert found == ({"scaled-object-query"} if needed else set())


@pytest.mark.parametrize(
    ("trigger", "complete"),
    [
        ({"metricType": "Utilization", "metadata": {"value": "70"}}, True),
        ({"metricType": "Utilization", "metadata": {"valueFromEnv": "CPU"}}, False),
        ({"metadata": {"value": "70"}}, False),
        ({"metadata": {"value": "70", "type": "Utilization"}}, False),
    ],
)
@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_a_trigger_by_resource_names_its_value_and_what_it_measures(
    analyzer: Session, kind: str, trigger: Change, *, complete: bool
) -> None:
    spec = {"triggers": [{"type": kind, **trigger}]}
    found = broken(analyzer, of("ScaledObject", "worker", spec))
    assert found == (set() if complete else {"scaled-object-query"})


@pytest.mark.parametrize(
    ("fallback", "where"),
    [
        ({"replicas": 3, "behavior": "currentReplicasIfHigher"}, None),
        ({"replicas": 2, "behavior": "currentReplicasIfHigher"}, "replicas: 2, below the 3"),
        ({"replicas": 0, "behavior": "currentReplicas"}, None),
        ({"replicas": 0, "behavior": "scalingModifiers"}, None),
        ({"replicas": 6, "behavior": "currentReplicasIfLower"}, "behavior: currentReplicasIfLower"),
        ({"replicas": 6, "behavior": "static"}, "behavior: static"),
        ({"replicas": 6, "behavior": None}, "behavior: static"),
        ({"replicas": 9, "behavior": None}, None),
    ],
)
def test_a_fallback_takes_nothing_away(
    analyzer: Session, fallback: dict[str, Any], where: str | None
) -> None:
    """Of a workload with 3 to 9 replicas."""
    spec = {"fallback": {"failureThreshold": 3, **fallback}}
    found = judged(analyzer, of("ScaledObject", "worker", spec))
    assert {each.rule for each in found} == ({"scaled-object-fallback"} if where else set())
    assert all(f"found: spec.fallback.{where}" in each.message for each in found)


def test_a_workload_that_may_have_none_falls_back_to_one(analyzer: Session) -> None:
    fallback = {"failureThreshold": 3, "replicas": 0, "behavior": "currentReplicasIfHigher"}
    spec = {"minReplicaCount": 0, "fallback": fallback}
    said = [each.message for each in judged(analyzer, of("ScaledObject", "worker", spec))]
    assert [each for each in said if "found: spec.fallback.replicas: 0, below the 1" in each]


# Networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "open_for"),
    [
        ({"policyTypes": ["Ingress", "Egress"]}, ""),
        ({"policyTypes": ["Ingress"]}, "Egress"),
        ({"policyTypes": ["Egress"]}, "Ingress"),
        ({"policyTypes": None}, "Egress"),
        ({"policyTypes": None, "egress": []}, "Egress"),
        ({"policyTypes": None, "egress": [{"ports": [{"port": 53}]}]}, ""),
        ({"policyTypes": ["Ingress"], "egress": [{"ports": [{"port": 53}]}]}, "Egress"),
    ],
)
def test_a_policy_of_one_direction_leaves_the_other_open(
    analyzer: Session, spec: Change, open_for: str
) -> None:
    found = judged(analyzer, of("NetworkPolicy", "web", spec))
    assert {each.rule for each in found} == ({"pod-network-policy"} if open_for else set())
    for each in found:
        assert f"selects its Pods for {open_for}\n" in each.message


def test_policies_hold_both_directions_together(analyzer: Session) -> None:
    inward = of("NetworkPolicy", "web", {"policyTypes": ["Ingress"]})
    outward = of("NetworkPolicy", "web-out", {"podSelector": WEB, "policyTypes": ["Egress"]})
    assert broken(analyzer, inward, outward) == set()


def test_without_a_policy_both_directions_are_open(analyzer: Session) -> None:
    found = judged(analyzer, of("NetworkPolicy", "web", {}, **{"$delete": True}))
    assert {each.rule for each in found} == {"pod-network-policy"}
    assert all("selects its Pods for Ingress and Egress\n" in each.message for each in found)


@pytest.mark.parametrize(
    ("port", "exists"),
    [({"name": "use-annotation"}, True), ({"name": "http"}, False), ({"number": 80}, False)],
)
def test_an_action_of_the_load_balancer_is_no_service(
    analyzer: Session, port: Change, *, exists: bool
) -> None:
    path = {"path": "/", "backend": {"service": {"name": "ssl-redirect", "port": port}}}
    found = broken(analyzer, of("Ingress", "web", {"rules": [{"http": {"paths": [path]}}]}))
    assert found == (set() if exists else {"ingress-backend-exists"})


# Containers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["httpGet", "tcpSocket"])
@pytest.mark.parametrize(
    ("port", "works"), [("http", True), (8080, True), (9999, True), ("ghost", False)]
)
def test_only_the_name_of_a_port_must_be_declared(
    analyzer: Session, handler: str, port: str | int, *, works: bool
) -> None:
    probe = {"httpGet": None, handler: {"port": port}}
    found = broken(analyzer, web({"livenessProbe": probe}))
    assert found == (set() if works else {"container-probe-port"})


@pytest.mark.parametrize(
    ("resources", "rules"),
    [
        ({"requests": {"memory": None}}, set()),
        ({"requests": None}, set()),
        ({"requests": {"cpu": "0"}}, {"container-requests"}),
        ({"requests": {"cpu": "0m"}}, {"container-requests"}),
        (
            {"requests": {"cpu": None}, "limits": {"cpu": None}},
            {"container-requests", "container-limits"},
        ),
        ({"limits": {"cpu": None}}, {"container-limits"}),
    ],
)
def test_a_limit_stands_in_for_a_request_that_is_left_out(
    analyzer: Session, resources: Change, rules: set[str]
) -> None:
    assert broken(analyzer, web({"resources": resources})) == rules


# Replicas ---------------------------------------------------------------------------------------


def spread(key: str, skew: int | None, unsatisfiable: str = "DoNotSchedule") -> Change:
    constraint: Change = {
        "topologyKey": key,
        "whenUnsatisfiable": unsatisfiable,
        "labelSelector": WEB,
    }
    return constraint if skew is None else {**constraint, "maxSkew": skew}


@pytest.mark.parametrize(
    ("zone", "host", "rules"),
    [
        (spread(ZONE, None), spread(HOST, None), set()),
        (spread(ZONE, 2), spread(HOST, 2), set()),
        (spread(ZONE, 3), spread(HOST, 1), {"workload-zone-spread"}),
        (spread(ZONE, 1), spread(HOST, 3), {"workload-host-spread"}),
        (spread(ZONE, 1), spread(HOST, 3, "ScheduleAnyway"), set()),
    ],
)
def test_a_skew_of_all_replicas_allows_them_in_one_place(
    analyzer: Session, zone: Change, host: Change, rules: set[str]
) -> None:
    pod = {"topologySpreadConstraints": [zone, host]}
    found = broken(analyzer, of("Deployment", "web", {"template": {"spec": pod}}))
    assert found == rules


@pytest.mark.parametrize("name", ["web", "api"])  # of 3 replicas, and of 3 at least
@pytest.mark.parametrize(
    ("unavailable", "stops_all"),
    [
        (0, False),
        (2, False),
        (3, True),
        (9, True),
        ("34%", False),
        ("99%", False),
        ("100%", True),
        ("150%", True),
    ],
)
def test_an_update_leaves_some_replicas(
    analyzer: Session, name: str, unavailable: int | str, *, stops_all: bool
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}}
    found = broken(analyzer, of("Deployment", name, {"strategy": strategy}))
    assert found == ({"workload-rolling-update"} if stops_all else set())


@pytest.mark.parametrize(
    ("bound", "blocks"),
    [
        ({"minAvailable": "100%"}, True),
        ({"minAvailable": "50%"}, False),
        ({"minAvailable": 2}, False),
        ({"maxUnavailable": 0}, True),
        ({"maxUnavailable": "0%"}, True),
        ({"maxUnavailable": "1%"}, False),
    ],
)
def test_a_budget_of_all_pods_blocks_evictions_whoever_makes_them(
    analyzer: Session, bound: Change, *, blocks: bool
) -> None:
    made = {"matchLabels": {"cnpg.io/cluster": "postgres"}}
    spec = {**bound, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": made}
    found = broken(analyzer, of("PodDisruptionBudget", "postgres", spec))
    assert found == ({"disruption-budget-allows-eviction"} if blocks else set())


# Data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ('appendonly yes\nsave ""', True),
        ("appendonly no", True),
        ("", True),
        ("appendonly no\nsave 60 1", True),
        ('appendonly no\nsave ""\nsave 60 1', True),
        ('appendonly no\nsave ""', False),
        ("save ''", False),
        ('save 60 1\nsave ""', False),
    ],
)
def test_redis_takes_snapshots_unless_told_not_to(
    analyzer: Session, lines: str, *, kept: bool
) -> None:
    rest = "min-replicas-to-write 1\nmaxmemory 512mb\nmaxmemory-policy allkeys-lru"
    conf = {"redis.conf": f"{lines}\n{rest}\n"}
    found = broken(analyzer, {"kind": "ConfigMap", "metadata": {"name": "redis"}, "data": conf})
    assert found == (set() if kept else {"redis-persistence"})


@pytest.mark.parametrize(
    ("schedule", "rules"),
    [
        ("0 3 * * *", set()),
        ("0 3 1-31 * *", set()),
        ("0 3 1-31 * 0", {"backup-interval"}),
        ("0 3 30 2 0", {"backup-schedule"}),
    ],
)
def test_velero_takes_both_days_where_both_are_given(
    analyzer: Session, schedule: str, rules: set[str]
) -> None:
    assert broken(analyzer, of("Schedule", "platform", {"schedule": schedule})) == rules


# API versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("apiregistration.k8s.io", "APIService"),
        ("node.k8s.io", "RuntimeClass"),
        ("events.k8s.io", "Event"),
    ],
)
@pytest.mark.parametrize(("version", "gone"), [("v1beta1", True), ("v1", False)])
def test_first_versions_of_an_api_are_gone(
    analyzer: Session, group: str, kind: str, version: str, *, gone: bool
) -> None:
    declared = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "a"}}
    assert broken(analyzer, declared) == ({"resource-api-version"} if gone else set())
