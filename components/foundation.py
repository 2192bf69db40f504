"""Fault domains: namespaces that cannot starve, preempt or talk to one another unasked.

Priorities, quotas, default-deny and the classes of storage all follow from the settings, so a
catalogue with one more service has a quota with room for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import pulumi
from pulumi_kubernetes.core.v1 import LimitRange, Namespace, ResourceQuota
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.scheduling.v1 import PriorityClass
from pulumi_kubernetes.storage.v1 import StorageClass

from components import parts
from stacks.settings import Settings, Tier
from stacks.systems.kafka import KafkaSettings
from stacks.values import Resources, size, size_in_bytes

AREAS = (parts.DATA, Tier.CORE, Tier.STANDARD, Tier.BEST_EFFORT)
"""The fault domains, most important first."""

_PRIORITIES = {
    parts.DATA: 1_000_000,
    Tier.CORE: 100_000,
    Tier.STANDARD: 10_000,
    Tier.BEST_EFFORT: 1_000,
}
"""All far below 10⁹, from where on only the system's own classes may be."""

_SYSTEM_PRIORITIES = ("system-cluster-critical", "system-node-critical")

_CSI_DRIVER = "ebs.csi.aws.com"

_SERVICE_HEADROOM = 1.5
"""Quota over the declared maximum: a rollout at full scale runs old and new Pods side by side."""

_DATA_HEADROOM = 2
"""The same for data: a restored copy fits beside the original. It must never stop a failover."""

_HELPERS_PER_INSTANCE = 2
"""Small Pods that come with a data server: poolers, jobs that join or back up an instance."""

_NEO4J_BACKUPS = 2
_NEO4J_BACKUP = Resources(cpu="500m", memory="2Gi")
"""A full backup and one of what changed may run at the same time."""

_KAFKA_HELPERS, _KAFKA_HELPER = 5, Resources(cpu="500m", memory="1Gi")
"""Strimzi's Pods beside the servers: topics and users, Cruise Control, exporter, two MirrorMakers;
the size is that of the largest."""

_MONGODB_SIDECARS = Resources(cpu="120m", memory="640Mi")
"""The backup agent and the metrics exporter beside each member."""

_DATA_EPHEMERAL = "2Gi"
"""Default for data servers: they write logs and temporary files, and eviction is a failover."""


@dataclass(frozen=True)
class FoundationArgs:
    """What the foundation follows from: zones, catalogue, data systems, and `protect`."""

    settings: Settings


class Foundation(pulumi.ComponentResource):
    """Namespaces with their walls, priorities, and classes of storage and snapshots.

    Example:
        A program of its own::

            settings = Settings(region="us-east-1", zones=(…), services={…})
            foundation = Foundation("sim", FoundationArgs(settings))
            pulumi.export("storage_class", foundation.storage_class)
    """

    storage_class: str
    """For volumes of data: encrypted, in the stack's zones, kept after their claim if protected."""
    scratch_class: str
    """For volumes that somebody works on for a while: never kept after their claim."""
    snapshot_class: str
    """For snapshots of those volumes; a snapshot outlives its object."""

    def __init__(
        self, name: str, args: FoundationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:foundation:Foundation", name, None, opts)
        settings = args.settings
        self.storage_class = f"{settings.prefix}-gp3"
        # What is not protected is not kept either way.
        self.scratch_class = (
            f"{settings.prefix}-scratch" if settings.protect else self.storage_class
        )
        self.snapshot_class = f"{settings.prefix}-snapshots"
        for area in AREAS:
            self._priority(name, settings.prefix, area)
            self._fault_domain(name, settings, area)
        self._storage(name, settings)
        self.register_outputs(
            {
                "storage_class": self.storage_class,
                "scratch_class": self.scratch_class,
                "snapshot_class": self.snapshot_class,
            }
        )

    def _priority(self, name: str, prefix: str, area: Tier | str) -> None:
        PriorityClass(
            f"{name}-{area}-priority",
            metadata=parts.metadata(parts.priority_class(prefix, area)),
            value=_PRIORITIES[area],
            preemption_policy=("Never" if area == Tier.BEST_EFFORT else "PreemptLowerPriority"),
            description=f"{area} workloads of {prefix}",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _fault_domain(self, name: str, settings: Settings, area: Tier | str) -> None:
        namespace = parts.namespace(settings.prefix, area)
        kept = settings.protect and area == parts.DATA
        inside = pulumi.ResourceOptions(
            parent=self,
            depends_on=[
                Namespace(
                    f"{name}-{area}",
                    metadata=parts.metadata(
                        namespace,
                        labels=_namespace_labels(area),
                        annotations=_objectives(settings) if area == parts.DATA else None,
                    ),
                    opts=pulumi.ResourceOptions(parent=self, protect=kept, retain_on_delete=kept),
                )
            ],
        )
        NetworkPolicy(
            f"{name}-{area}-default-deny",
            metadata=parts.metadata("default-deny", namespace),
            spec=parts.network_policy({}),
            opts=inside,
        )
        NetworkPolicy(
            f"{name}-{area}-allow-dns",
            metadata=parts.metadata("allow-dns", namespace),
            spec={
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [_dns(settings.name_servers)],
            },
            opts=inside,
        )
        LimitRange(
            f"{name}-{area}-defaults",
            metadata=parts.metadata("defaults", namespace),
            spec={"limits": [_container_defaults(area)]},
            opts=inside,
        )
        ResourceQuota(
            f"{name}-{area}-capacity",
            metadata=parts.metadata("capacity", namespace),
            spec={"hard": _capacity(settings, area)},
            opts=inside,
        )
        ResourceQuota(
            f"{name}-{area}-priority-ceiling",
            metadata=parts.metadata("priority-ceiling", namespace),
            spec=_priority_ceiling(settings.prefix, area),
            opts=inside,
        )

    def _storage_class(self, name: str, called: str, settings: Settings, *, keep: bool) -> None:
        zones = [{"key": parts.ZONE, "values": list(settings.zones)}]
        StorageClass(
            name,
            metadata=parts.metadata(called),
            provisioner=_CSI_DRIVER,
            parameters={"type": "gp3", "encrypted": "true"},
            reclaim_policy="Retain" if keep else "Delete",
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            allowed_topologies=[{"matchLabelExpressions": zones}],
            # It cannot be changed, which the provider knows of other fields only.
            opts=pulumi.ResourceOptions(
                parent=self,
                replace_on_changes=["reclaimPolicy"],
                delete_before_replace=True,
            ),
        )

    def _storage(self, name: str, settings: Settings) -> None:
        self._storage_class(f"{name}-storage", self.storage_class, settings, keep=settings.protect)
        if self.scratch_class != self.storage_class:
            self._storage_class(f"{name}-scratch", self.scratch_class, settings, keep=False)
        # A VolumeSnapshotClass has no spec, and the SDK's CustomResource knows no other field.
        pulumi.CustomResource(
            "kubernetes:snapshot.storage.k8s.io/v1:VolumeSnapshotClass",
            f"{name}-snapshots",
            {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshotClass",
                "metadata": parts.metadata(self.snapshot_class),
                "driver": _CSI_DRIVER,
                "deletionPolicy": "Retain",
            },
            pulumi.ResourceOptions(parent=self, version=version("pulumi-kubernetes")),
        )


def _namespace_labels(area: Tier | str) -> dict[str, str]:
    modes = ("enforce", "audit", "warn")
    return {
        "app.kubernetes.io/part-of": "platform",
        "app.kubernetes.io/component": str(area),
        **{f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes},
    }


def _objectives(settings: Settings) -> dict[str, str]:
    """What an outage may cost, where policies and people find it."""
    return {
        parts.OBJECTIVE.format(system=system, what=what): str(seconds)
        for system, objective in settings.objectives.model_dump().items()
        for what, seconds in objective.items()
    }


def _dns(name_servers: Sequence[str]) -> parts.Object:
    """To the cluster's name server, and to others by address.

    No selector finds what runs in a node's own network, as NodeLocal DNSCache does.
    """
    pods = parts.peer("kube-system", {"k8s-app": "kube-dns"})
    others = [{"ipBlock": {"cidr": each}} for each in name_servers]
    return {"to": [pods, *others], "ports": parts.ports(53, protocol="UDP") + parts.ports(53)}


def _container_defaults(area: Tier | str) -> parts.Object:
    """Give a container that states nothing a small share, so that the quota can count it."""
    small = Resources()
    ephemeral = _DATA_EPHEMERAL if area == parts.DATA else parts.EPHEMERAL
    resources = parts.container_resources(small.cpu, small.memory, ephemeral)
    return {
        "type": "Container",
        "defaultRequest": resources["requests"],
        "default": resources["limits"],
    }


def _priority_ceiling(prefix: str, area: Tier | str) -> parts.Object:
    """Forbid the stack's own classes above the namespace's, and the system's: they preempt others.

    Classes of other stacks are not known here. To forbid all but one's own would keep Pods out that
    operators make without a class, where the cluster has a default one.
    """
    above = [parts.priority_class(prefix, other) for other in AREAS[: AREAS.index(area)]]
    return {
        "hard": {"pods": "0"},
        "scopeSelector": {
            "matchExpressions": [
                {
                    "scopeName": "PriorityClass",
                    "operator": "In",
                    "values": [*above, *_SYSTEM_PRIORITIES],
                }
            ]
        },
    }


# Capacity ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Demand:
    """What a number of equal Pods asks for."""

    pods: int
    resources: Resources
    volume_bytes: int = 0
    """Of each Pod."""
    volumes: int = 0
    """Claims of each Pod."""


def _capacity(settings: Settings, area: Tier | str) -> dict[str, str]:
    """Hard limits of a namespace: what the settings declare, with headroom.

    One Pod of the default size always fits, for a person who looks into a failure.
    """
    data = area == parts.DATA
    declared = _data_demands(settings) if data else _service_demands(settings, area)
    headroom = _DATA_HEADROOM if data else _SERVICE_HEADROOM
    demands = [
        _Demand(
            math.ceil(demand.pods * headroom),
            demand.resources,
            demand.volume_bytes,
            demand.volumes,
        )
        for demand in declared
    ]
    demands.append(_Demand(1, Resources()))
    memory = size(sum(d.pods * size_in_bytes(d.resources.memory) for d in demands))
    return {
        "pods": str(sum(d.pods for d in demands)),
        "requests.cpu": parts.cpu(sum(d.pods * parts.millicores(d.resources.cpu) for d in demands)),
        "requests.memory": memory,
        "limits.memory": memory,
        # State lives with the data, and traffic enters through the mesh's gateway alone: but for
        # the mirror of another region, which reaches every broker of Kafka by itself.
        "requests.storage": size(sum(d.pods * d.volume_bytes for d in demands)),
        "persistentvolumeclaims": str(sum(d.pods * d.volumes for d in demands)),
        "services.loadbalancers": str(_load_balancers(settings) if data else 0),
        "services.nodeports": "0",
    }


def _load_balancers(settings: Settings) -> int:
    return 0 if settings.kafka.host is None else settings.kafka.brokers + 1


def _service_demands(settings: Settings, area: Tier | str) -> Iterable[_Demand]:
    for service in settings.services.values():
        if service.tier == area:
            yield _Demand(service.replicas.max, service.resources)


def _kafka_demands(kafka: KafkaSettings) -> Iterable[_Demand]:
    for servers, resources, storage in (
        (kafka.brokers, kafka.resources, kafka.storage),
        (kafka.controllers, kafka.controller_resources, kafka.controller_storage),
    ):
        yield _Demand(servers, resources, size_in_bytes(storage), volumes=1)
    yield _Demand(_KAFKA_HELPERS, _KAFKA_HELPER)


def _data_demands(settings: Settings) -> Iterable[_Demand]:
    postgres, redis = settings.postgres, settings.redis
    yield _Demand(
        postgres.instances,
        postgres.resources,
        size_in_bytes(postgres.storage) + size_in_bytes(postgres.wal_storage),
        volumes=2,
    )
    # A fork that rewrites the append-only file may double the memory for as long as it runs.
    doubled = size(2 * size_in_bytes(redis.memory))
    yield _Demand(
        redis.replicas,
        Resources(cpu=redis.cpu, memory=doubled),
        size_in_bytes(redis.storage),
        volumes=1,
    )
    small = Resources()
    yield _Demand(redis.sentinels, small, size_in_bytes("1Gi"), volumes=1)
    mongodb = settings.mongodb
    yield _Demand(mongodb.members, mongodb.resources, size_in_bytes(mongodb.storage), volumes=1)
    yield _Demand(mongodb.members, _MONGODB_SIDECARS)
    neo4j = settings.neo4j
    yield _Demand(neo4j.servers, neo4j.resources, size_in_bytes(neo4j.storage), volumes=1)
    yield _Demand(_NEO4J_BACKUPS, _NEO4J_BACKUP, size_in_bytes(neo4j.storage), volumes=1)
    yield from _kafka_demands(settings.kafka)
    servers = postgres.instances + redis.replicas + redis.sentinels
    yield _Demand(servers * _HELPERS_PER_INSTANCE, small)
