"""What runs where: every workload of a cluster with its Pods, zones and nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from local.api import Api

ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class Workload:
    """One Deployment, StatefulSet or Job, by its Pods."""

    namespace: str
    kind: str
    name: str
    ready: int
    total: int
    zones: tuple[str, ...]
    nodes: tuple[str, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """Every workload, and the nodes that carry them."""

    workloads: tuple[Workload, ...]
    nodes: Mapping[str, int]
    """How many nodes of each kind (simulated, real) are Ready."""

    @property
    def ready(self) -> int:
        """Pods that are Ready."""
        return sum(workload.ready for workload in self.workloads)

    @property
    def total(self) -> int:
        """Pods that there are."""
        return sum(workload.total for workload in self.workloads)

    def unready(self, absent: Set[str]) -> tuple[Workload, ...]:
        """Workloads that miss Ready Pods, without those that need an image of the absent ones."""
        return tuple(
            workload
            for workload in self.workloads
            if workload.ready < workload.total and absent.isdisjoint(workload.images)
        )

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones that carry at least one Pod."""
        return tuple(sorted({zone for workload in self.workloads for zone in workload.zones}))


def take(api: Api) -> Inventory:
    """Ask the API server what runs where."""
    nodes = {node["metadata"]["name"]: node for node in api.items("/api/v1/nodes")}
    pods: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for pod in api.items("/api/v1/pods"):
        if _is_replaced(pod):
            continue
        pods[(pod["metadata"]["namespace"], *_owner(pod))].append(pod)
    workloads = (_workload(key, pods[key], nodes) for key in sorted(pods))
    kinds = [
        node["metadata"]["labels"].get("node.kubernetes.io/kind", "real")
        for node in nodes.values()
        if _condition(node, "Ready")
    ]
    return Inventory(tuple(workloads), {kind: kinds.count(kind) for kind in ("real", "simulated")})


def _workload(
    key: tuple[str, str, str],
    pods: list[dict[str, Any]],
    nodes: Mapping[str, dict[str, Any]],
) -> Workload:
    used = sorted({name for pod in pods if (name := pod["spec"].get("nodeName")) in nodes})
    zones = {nodes[name]["metadata"]["labels"].get(ZONE, "") for name in used}
    return Workload(
        *key,
        ready=sum(_is_ready(pod) for pod in pods),
        total=len(pods),
        zones=tuple(sorted(zones - {""})),
        nodes=tuple(used),
        images=tuple(sorted({image for pod in pods for image in _images(pod["spec"])})),
    )


def _images(spec: Mapping[str, Any]) -> list[str]:
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    return [container["image"] for container in containers]


def _owner(pod: Mapping[str, Any]) -> tuple[str, str]:
    """The kind and name of what made a Pod; a ReplicaSet's Pods count as their Deployment's."""
    metadata = pod["metadata"]
    for owner in metadata.get("ownerReferences", []):
        if owner["kind"] == "ReplicaSet":
            suffix = metadata["labels"].get("pod-template-hash", "")
            return "Deployment", owner["name"].removesuffix(f"-{suffix}")
        return owner["kind"], owner["name"]
    return "Pod", metadata["name"]


def _is_replaced(pod: Mapping[str, Any]) -> bool:
    """Whether it failed, as one does that is evicted, and another was made in its place.

    It stays listed until somebody deletes it. A Job's counts: the Job may have failed with it.
    """
    owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])}
    return pod["status"].get("phase") == "Failed" and bool(owners) and "Job" not in owners


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return _condition(pod, "Ready") or pod["status"].get("phase") == "Succeeded"


def _condition(thing: Mapping[str, Any], kind: str) -> bool:
    conditions = thing["status"].get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def service_at(api: Api, namespace: str, address: str) -> str | None:
    """The name of the Service with this address."""
    found = api.items(f"/api/v1/namespaces/{namespace}/services")
    named = (each["metadata"]["name"] for each in found if each["spec"]["clusterIP"] == address)
    return next(named, None)
