"""The shared pieces: quantities as the API server stores them, spread, security, network rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import parts
from components.parts import Client, Endpoint
from stacks.settings import Tier

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("250m", 250), ("2", 2000), ("0.5", 500), ("1.25", 1250)],
)
def test_millicores_reads_every_spelling(quantity: str, expected: int) -> None:
    assert parts.millicores(quantity) == expected


@pytest.mark.parametrize(("amount", "expected"), [(0, "0"), (250, "250m"), (1000, "1")])
def test_cpu_is_canonical(amount: int, expected: str) -> None:
    assert parts.cpu(amount) == expected


@given(st.integers(min_value=0, max_value=10**6))
def test_cpu_and_millicores_are_inverse(amount: int) -> None:
    assert parts.millicores(parts.cpu(amount)) == amount


def test_memory_limit_is_its_request() -> None:
    resources = parts.container_resources("250m", "1024Mi")
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == "1Gi"


def test_ephemeral_storage_limit_is_its_request() -> None:
    resources = parts.container_resources("250m", "1Gi", "2Gi")
    limits, requests = resources["limits"], resources["requests"]
    assert limits["ephemeral-storage"] == requests["ephemeral-storage"] == "2Gi"


@pytest.mark.parametrize(("requested", "limit"), [("500m", "2"), ("250m", "1"), ("50m", "1")])
def test_cpu_may_burst_within_a_limit_to_a_whole_core_at_least(requested: str, limit: str) -> None:
    resources = parts.container_resources(requested, "1Gi")
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == (requested, limit)


def test_cpu_that_would_only_be_burnt_is_held_to_a_limit() -> None:
    resources = parts.container_resources("50m", "64Mi", cpu_limit="250m")
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("50m", "250m")


def test_labels_contain_the_selector() -> None:
    assert parts.selector("redis").items() <= parts.labels("redis", "data").items()


def test_metadata_leaves_out_what_is_empty() -> None:
    assert set(parts.metadata("sim-gp3", labels={})) == {"name", "annotations"}


def test_declared_fields_win_over_a_hand() -> None:
    annotations = parts.metadata("web", annotations={"note": "kept"})["annotations"]
    assert annotations == {"pulumi.com/patchForce": "true", "note": "kept"}


def test_each_tier_has_its_namespace() -> None:
    assert parts.namespace("sim", Tier.BEST_EFFORT) == "sim-best-effort"


def test_zone_spread_is_strict_and_host_spread_is_not() -> None:
    strict = {rule["topologyKey"]: rule["whenUnsatisfiable"] for rule in parts.spread({"a": "b"})}
    assert strict == {parts.ZONE: "DoNotSchedule", parts.HOST: "ScheduleAnyway"}


def test_a_lost_zone_does_not_count_in_the_spread() -> None:
    for rule in parts.spread({"a": "b"}):
        assert rule["nodeTaintsPolicy"] == "Honor"
        assert "minDomains" not in rule


def test_each_revision_spreads_by_itself() -> None:
    assert all(rule["matchLabelKeys"] == ["pod-template-hash"] for rule in parts.spread({"a": "b"}))


def test_pods_whose_volumes_stay_are_counted_with_their_predecessors() -> None:
    """Else a rollout of five may get stuck: the third new one must be in a zone that has two."""
    rules = parts.spread({"a": "b"}, stay=True)
    assert not any("matchLabelKeys" in rule for rule in rules)


def test_apart_is_required_by_zone() -> None:
    rules = parts.apart({"a": "b"})["podAntiAffinity"]
    (term,) = rules["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term == {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": parts.ZONE}


def test_silent_nodes_are_left_long_before_the_default() -> None:
    seconds = {
        rule["key"].removeprefix("node.kubernetes.io/"): rule["tolerationSeconds"]
        for rule in parts.tolerations()
    }
    assert seconds == {"not-ready": 30, "unreachable": 30}


def test_a_silent_node_may_be_left_sooner_than_an_unready_one() -> None:
    ready, unreachable = parts.tolerations(30, silent=0)
    assert (ready["tolerationSeconds"], unreachable["tolerationSeconds"]) == (30, 0)


def test_containers_cannot_gain_privileges() -> None:
    context = parts.container_security()
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is context["privileged"] is False


def test_volumes_belong_to_the_user_of_the_pod() -> None:
    context = parts.pod_security(999)
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 999


def test_scratch_is_bounded() -> None:
    assert parts.scratch("tmp", "1024Mi")["emptyDir"] == {"sizeLimit": "1Gi"}


def test_scratch_in_memory_says_so() -> None:
    assert parts.scratch("tmp", "8Mi", memory=True)["emptyDir"]["medium"] == "Memory"


def test_probes_have_a_timeout() -> None:
    assert parts.exec_probe(["true"], period=5, failures=3) == {
        "exec": {"command": ["true"]},
        "periodSeconds": 5,
        "failureThreshold": 3,
        "timeoutSeconds": 5,
    }


def test_unhealthy_pods_do_not_block_a_drain() -> None:
    budget = parts.disruption_budget({"a": "b"})
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["maxUnavailable"] == 1


def test_no_peers_means_no_rule() -> None:
    assert parts.allow_from([], 80) == parts.allow_to([], 80) == []


def test_a_policy_without_rules_denies_both_ways() -> None:
    assert parts.network_policy({}) == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_clients_are_selected_in_their_namespace() -> None:
    (rule,) = parts.client_peers([Client("sim-core", "engine")])
    assert rule == {
        "namespaceSelector": {"matchLabels": {parts.NAMESPACE_LABEL: "sim-core"}},
        "podSelector": {"matchLabels": {parts.NAME_LABEL: "engine"}},
    }


def test_endpoint_is_named_in_full() -> None:
    assert Endpoint("sim-core", "engine", 8080).url == (
        "http://engine.sim-core.svc.cluster.local:8080"
    )


def test_endpoint_selects_the_workload_behind_it() -> None:
    rule = Endpoint("sim-data", "postgres-rw", 5432, workload="postgres").peer
    assert rule["podSelector"] == {"matchLabels": {parts.NAME_LABEL: "postgres"}}
