"""The foundation: walls, quotas, priorities and classes follow from the settings."""

from __future__ import annotations

from typing import Any

import pytest

from components import parts
from components.foundation import Foundation, FoundationArgs
from stacks.settings import Settings
from stacks.systems.kafka import KafkaSettings
from tests.components.conftest import Registry, registered_by

pytestmark = pytest.mark.unit

NAMESPACES = {"sim-data", "sim-core", "sim-standard", "sim-best-effort"}


def _foundation(settings: Settings, **changes: Any) -> Registry:
    changed = settings.model_copy(update=changes)
    return registered_by(lambda: Foundation("sim", FoundationArgs(changed)))


@pytest.fixture
def foundation(settings: Settings) -> Registry:
    return _foundation(settings)


def _names(registry: Registry, kind: str) -> set[str]:
    return {resource.inputs["metadata"]["name"] for resource in registry.of(kind)}


def _specs(registry: Registry, kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Specs by namespace of the objects of that name."""
    return {
        resource.inputs["metadata"]["namespace"]: resource.inputs["spec"]
        for resource in registry.of(kind)
        if resource.inputs["metadata"]["name"] == name
    }


def test_every_tier_and_the_data_have_a_namespace(foundation: Registry) -> None:
    assert _names(foundation, "Namespace") == NAMESPACES


def test_every_namespace_enforces_restricted_pods(foundation: Registry) -> None:
    for namespace in foundation.of("Namespace"):
        labels = namespace.inputs["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_namespace_denies_by_default(foundation: Registry) -> None:
    policies = _specs(foundation, "NetworkPolicy", "default-deny")
    assert set(policies) == NAMESPACES
    for spec in policies.values():
        assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_namespace_may_look_up_names(foundation: Registry) -> None:
    policies = _specs(foundation, "NetworkPolicy", "allow-dns")
    assert set(policies) == NAMESPACES
    for spec in policies.values():
        (rule,) = spec["egress"]
        assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {
            ("UDP", 53),
            ("TCP", 53),
        }
        assert rule["to"] == [
            parts.peer("kube-system", {"k8s-app": "kube-dns"}),
            {"ipBlock": {"cidr": "169.254.20.10/32"}},  # of NodeLocal DNSCache, which is no Pod's
        ]


def test_priorities_fall_from_data_to_best_effort(foundation: Registry) -> None:
    values = {
        resource.inputs["metadata"]["name"]: resource.inputs["value"]
        for resource in foundation.of("PriorityClass")
    }
    ordered = ["sim-data", "sim-core", "sim-standard", "sim-best-effort"]
    assert sorted(values, key=lambda name: -values[name]) == ordered
    assert max(values.values()) < 10**9


def test_only_best_effort_never_preempts(foundation: Registry) -> None:
    never = {
        resource.inputs["metadata"]["name"]
        for resource in foundation.of("PriorityClass")
        if resource.inputs["preemptionPolicy"] == "Never"
    }
    assert never == {"sim-best-effort"}


def test_no_namespace_may_use_a_priority_above_its_own(foundation: Registry) -> None:
    ceilings = _specs(foundation, "ResourceQuota", "priority-ceiling")
    forbidden = {
        namespace: set(spec["scopeSelector"]["matchExpressions"][0]["values"])
        for namespace, spec in ceilings.items()
    }
    system = {"system-cluster-critical", "system-node-critical"}
    assert forbidden == {
        "sim-data": system,
        "sim-core": system | {"sim-data"},
        "sim-standard": system | {"sim-data", "sim-core"},
        "sim-best-effort": system | {"sim-data", "sim-core", "sim-standard"},
    }
    assert all(spec["hard"] == {"pods": "0"} for spec in ceilings.values())


def test_quota_has_room_for_the_maximum_and_a_rollout(foundation: Registry) -> None:
    hard = _specs(foundation, "ResourceQuota", "capacity")["sim-standard"]["hard"]
    # One service of at most 9 Pods, half as many again for a rollout (14), and one to look around.
    assert hard["pods"] == "15"
    assert hard["requests.cpu"] == "3750m"
    assert hard["requests.memory"] == hard["limits.memory"] == "3840Mi"


def test_quota_of_an_empty_tier_is_one_small_pod(settings: Settings) -> None:
    engine = {"engine": settings.services["engine"]}
    registry = _foundation(settings, services=engine)
    assert _specs(registry, "ResourceQuota", "capacity")["sim-standard"]["hard"]["pods"] == "1"


def test_services_may_keep_no_volumes(foundation: Registry) -> None:
    quotas = _specs(foundation, "ResourceQuota", "capacity")
    claims = {name: spec["hard"]["persistentvolumeclaims"] for name, spec in quotas.items()}
    assert claims.pop("sim-data") != "0"
    assert set(claims.values()) == {"0"}


def test_restored_copy_of_the_data_fits_beside_the_original(foundation: Registry) -> None:
    hard = _specs(foundation, "ResourceQuota", "capacity")["sim-data"]["hard"]
    # Twice: 3 x (100 + 20) Gi of PostgreSQL, 3 x 10 Gi of Redis, 3 x 1 Gi of Sentinels, 3 x 100 Gi
    # of MongoDB, 3 x 50 Gi of Neo4j and 2 x 50 Gi of its backups, and of Kafka 3 x 100 Gi of
    # brokers and 3 x 10 Gi of controllers.
    assert hard["requests.storage"] == "2546Gi"


def test_only_a_kafka_that_is_mirrored_has_load_balancers(settings: Settings) -> None:
    mirrored = KafkaSettings(host="kafka.example.com", brokers=4)
    quotas = _specs(_foundation(settings, kafka=mirrored), "ResourceQuota", "capacity")
    allowed = {name: spec["hard"]["services.loadbalancers"] for name, spec in quotas.items()}
    # One for each broker, and one that leads to any of them.
    assert allowed == {**dict.fromkeys(NAMESPACES, "0"), "sim-data": "5"}


def test_every_container_has_defaults_that_the_quota_counts(foundation: Registry) -> None:
    ranges = _specs(foundation, "LimitRange", "defaults")
    assert set(ranges) == NAMESPACES
    for spec in ranges.values():
        (limit,) = spec["limits"]
        assert set(limit["defaultRequest"]) == {"cpu", "memory", "ephemeral-storage"}
        assert limit["default"]["memory"] == limit["defaultRequest"]["memory"]


def test_volumes_are_encrypted_and_wait_for_the_zone_of_their_pod(foundation: Registry) -> None:
    storage = foundation.one("StorageClass", "sim-gp3").inputs
    assert storage["parameters"]["encrypted"] == "true"
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
    assert storage["allowVolumeExpansion"] is True


def test_volumes_stay_in_the_zones_of_the_stack(foundation: Registry, settings: Settings) -> None:
    (term,) = foundation.one("StorageClass", "sim-gp3").inputs["allowedTopologies"]
    (expression,) = term["matchLabelExpressions"]
    assert expression == {"key": parts.ZONE, "values": list(settings.zones)}


@pytest.mark.parametrize(("protect", "policy"), [(True, "Retain"), (False, "Delete")])
def test_protection_keeps_volumes(settings: Settings, protect: bool, policy: str) -> None:
    registry = _foundation(settings, protect=protect)
    assert registry.one("StorageClass", "sim-gp3").inputs["reclaimPolicy"] == policy


def test_what_is_only_worked_on_is_never_kept(settings: Settings) -> None:
    kept = _foundation(settings, protect=True)
    assert kept.one("StorageClass", "sim-scratch").inputs["reclaimPolicy"] == "Delete"
    assert len(_foundation(settings, protect=False).of("StorageClass")) == 1


@pytest.mark.parametrize("protect", [True, False])
def test_protection_keeps_the_namespace_of_the_data(settings: Settings, protect: bool) -> None:
    registry = _foundation(settings, protect=protect)
    data = registry.one("Namespace", "sim-data")
    core = registry.one("Namespace", "sim-core")
    assert (data.protect, data.retain_on_delete) == (protect, protect)
    assert (core.protect, core.retain_on_delete) == (False, False)


def test_snapshots_outlive_their_objects(foundation: Registry) -> None:
    snapshots = foundation.one("VolumeSnapshotClass", "sim-snapshots")
    assert snapshots.type == "kubernetes:snapshot.storage.k8s.io/v1:VolumeSnapshotClass"
    assert snapshots.inputs["deletionPolicy"] == "Retain"
    assert (
        snapshots.inputs["driver"]
        == foundation.one("StorageClass", "sim-gp3").inputs["provisioner"]
    )


def test_cluster_scoped_names_carry_the_prefix(settings: Settings) -> None:
    registry = _foundation(settings, prefix="other")
    scoped = ("PriorityClass", "StorageClass", "VolumeSnapshotClass", "Namespace")
    names = {name for kind in scoped for name in _names(registry, kind)}
    assert all(name.startswith("other-") for name in names)


def test_what_is_in_a_namespace_waits_for_it(foundation: Registry) -> None:
    namespaces = {r.inputs["metadata"]["name"]: r.urn for r in foundation.of("Namespace")}
    inside = [r for r in foundation.resources if "namespace" in r.inputs.get("metadata", {})]
    assert inside
    for resource in inside:
        assert namespaces[resource.inputs["metadata"]["namespace"]] in resource.dependencies


def test_everything_is_a_child_of_the_component(foundation: Registry) -> None:
    component, *children = foundation.resources
    assert component.type == "fault-tolerance:foundation:Foundation"
    assert {child.parent for child in children} == {component.urn}


def test_outputs_are_the_classes_of_storage(foundation: Registry) -> None:
    assert foundation.outputs[foundation.resources[0].urn] == {
        "storage_class": "sim-gp3",
        "scratch_class": "sim-scratch",
        "snapshot_class": "sim-snapshots",
    }


def test_nothing_is_left_unknown_to_policies(settings: Settings) -> None:
    registry = registered_by(lambda: Foundation("sim", FoundationArgs(settings)), preview=True)
    assert registry.unknowns() == []
