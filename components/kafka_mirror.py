"""MirrorMaker 2: a standby's copy of the topics and consumer groups of another region's Kafka.

It is asynchronous, so what the source acknowledged last may be missing when the source is lost, and
at-least-once, so records may be there twice. Topics keep their names, and groups their positions:
a consumer goes on where it was, a little before at worst. That holds while no consumer is here:
MirrorMaker sets no position of a group that has members, and never sets one back, so a standby runs
none of the services that consume (docs/decisions/standby-services.md). A mirror that is behind by
more than a topic's retention skips what has expired.

After a failover the former source holds records that the new one lacks: it is not mirrored back
into, but built anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import alerts, metrics, parts, strimzi
from components.alerts import Alert, Severity
from stacks.systems.kafka import KafkaSettings

SOURCE_SECRET = "kafka-source"  # noqa: S105, a name
"""Secret in the namespace of the mirror, put there by hand once, since it comes from another
cluster: `password` (of the source's Secret `<name>-<name>-mirror-password`) and `ca.crt` (of its
Secret `<name>-cluster-ca-cert`)."""

_REPLICAS = 2
_TASKS = 4
_CPU, _MEMORY = "500m", "1Gi"

_EVERY_SECONDS = 30
"""Between two looks for new topics and groups, and between two copies of positions."""

_AS_BROKERS_SAY = -1
"""A replication factor: the cluster's default."""


@dataclass(frozen=True)
class KafkaMirrorArgs:
    """Which cluster is copied from where."""

    namespace: str
    cluster: str
    """The Kafka cluster, in the same namespace, that is copied into."""
    settings: KafkaSettings
    source: str
    """Name that the other region's cluster is reached by, on port 9094."""
    topics: tuple[str, ...]
    groups: tuple[str, ...]
    zones: tuple[str, ...]
    priority_class: str
    rpo: int
    """Seconds; a copy that is older raises an alert."""


class KafkaMirror(pulumi.ComponentResource):
    """Two MirrorMakers in different zones, with their network policy, metrics and alerts."""

    def __init__(
        self, name: str, args: KafkaMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:kafka:KafkaMirror", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = parts.metadata(name, args.namespace, parts.labels(name, "mirror"))
        network = NetworkPolicy(
            f"{name}-network", metadata=metadata, spec=_network(name, args), opts=child
        )
        strimzi.resource(
            f"{name}-maker",
            "KafkaMirrorMaker2",
            metadata,
            _maker(name, args),
            pulumi.ResourceOptions(parent=self, depends_on=[network]),
        )
        strimzi.pod_monitor(f"{name}-metrics", metadata, child)
        alerts.rules(f"{name}-alerts", metadata, _alerts(name, args), child)
        self.register_outputs({})


def _maker(name: str, args: KafkaMirrorArgs) -> parts.Object:
    return {
        "version": args.settings.version,
        "image": args.settings.image,
        "replicas": _REPLICAS,
        "target": {
            "alias": "target",
            # By the name that every certificate of the brokers has, whoever signed it.
            "bootstrapServers": f"{strimzi.bootstrap(args.cluster)}.{args.namespace}.svc:"
            f"{strimzi.CLIENT_PORT}",
            **_trust_beside(args),
            **_login(name, strimzi.password_secret(args.cluster, name)),
            "groupId": name,
            **{f"{topic}StorageTopic": f"__{name}-{topic}" for topic in _STATE},
            "config": {f"{topic}.storage.replication.factor": _AS_BROKERS_SAY for topic in _STATE},
        },
        "mirrors": [
            {
                "source": {
                    "alias": "source",
                    "bootstrapServers": f"{args.source}:{strimzi.MIRROR_PORT}",
                    **_trust(SOURCE_SECRET),
                    **_login(name, SOURCE_SECRET),
                },
                "topicsPattern": _any_of(args.topics),
                "groupsPattern": _any_of(args.groups),
                "sourceConnector": _connector(_copies()),
                "checkpointConnector": _connector(_positions()),
            }
        ],
        "rack": {"topologyKey": parts.ZONE},
        "metricsConfig": strimzi.METRICS,
        **strimzi.sized(_CPU, _MEMORY),
        "template": strimzi.template(
            args.priority_class,
            "connectContainer",
            "initContainer",
            placement=strimzi.apart(strimzi.family(name), _REPLICAS, args.zones),
        ),
    }


_STATE = ("config", "offset", "status")
"""Topics in which MirrorMaker keeps its own state."""


def _trust_beside(args: KafkaMirrorArgs) -> parts.Object:
    """Trust whoever signs what the brokers beside the mirror show to clients."""
    if args.settings.issuer is not None:
        return _trust(strimzi.tls_secret(args.cluster), "ca.crt")
    return _trust(f"{args.cluster}-cluster-ca-cert")


def _trust(secret: str, pattern: str = "*.crt") -> parts.Object:
    """Trust the authorities of a Secret; Strimzi keeps a former one beside the present one."""
    return {"tls": {"trustedCertificates": [{"secretName": secret, "pattern": pattern}]}}


def _login(user: str, secret: str) -> parts.Object:
    return {
        "authentication": {
            "type": strimzi.SCRAM,
            "username": user,
            "passwordSecret": {"secretName": secret, "password": "password"},
        }
    }


def _any_of(names: tuple[str, ...]) -> str:
    """Write a pattern that is true for these names alone; none are names of topics or groups."""
    return "|".join(sorted(names)) or "-"


def _connector(config: parts.Object) -> parts.Object:
    return {
        "tasksMax": _TASKS,
        "autoRestart": {"enabled": True},
        "config": {
            # Topics keep their names, so that clients find them after a failover.
            "replication.policy.class": (
                "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"
            ),
            # Here and not at the source, where the mirror may only read.
            "offset-syncs.topic.location": "target",
            **config,
        },
    }


def _copies() -> parts.Object:
    return {
        "replication.factor": _AS_BROKERS_SAY,
        "offset-syncs.topic.replication.factor": _AS_BROKERS_SAY,
        "refresh.topics.interval.seconds": _EVERY_SECONDS,
        # Both sides declare topics and users from the same catalogue.
        "sync.topic.configs.enabled": False,
        "sync.topic.acls.enabled": False,
    }


def _positions() -> parts.Object:
    return {
        "checkpoints.topic.replication.factor": _AS_BROKERS_SAY,
        "refresh.groups.interval.seconds": _EVERY_SECONDS,
        "emit.checkpoints.interval.seconds": _EVERY_SECONDS,
        "sync.group.offsets.enabled": True,
        "sync.group.offsets.interval.seconds": _EVERY_SECONDS,
    }


def _network(name: str, args: KafkaMirrorArgs) -> parts.Object:
    own = [{"podSelector": {"matchLabels": strimzi.family(name)}}]
    cluster = [{"podSelector": {"matchLabels": strimzi.family(args.cluster)}}]
    return parts.network_policy(
        strimzi.family(name),
        ingress=[
            *parts.allow_from([*own, parts.peer(strimzi.OPERATOR_NAMESPACE)], strimzi.CONNECT_PORT),
            *parts.allow_from([metrics.reader()], strimzi.METRICS_PORT),
        ],
        egress=[
            *parts.allow_to(own, strimzi.CONNECT_PORT),
            *parts.allow_to(cluster, strimzi.CLIENT_PORT),
            # The addresses of the source and, for the node's zone, of the API server are not
            # known here.
            {"ports": parts.ports(strimzi.MIRROR_PORT, *strimzi.API_PORTS)},
        ],
    )


def _alerts(name: str, args: KafkaMirrorArgs) -> list[Alert]:
    pods = f'namespace="{args.namespace}",pod=~"{name}-mirrormaker2-.*"'
    return [
        Alert(
            "KafkaMirrorDown",
            f"(count(up{{{pods}}} == 1) or vector(0)) == 0",
            180,
            Severity.CRITICAL,
            "Nothing is copied from the other region",
            "kafka.md#mirror-down",
        ),
        Alert(
            "KafkaMirrorTasksFailed",
            f"sum(kafka_connect_connect_worker_metrics_connector_failed_task_count{{{pods}}}) > 0",
            180,
            Severity.CRITICAL,
            "{{ $value }} tasks of the mirror have failed",
            "kafka.md#mirror-down",
        ),
        # A source that cannot be reached fails nothing: there are no records then, and no latency.
        Alert(
            "KafkaMirrorIdle",
            "(sum(increase(kafka_connect_mirror_mirrorsourceconnector_record_count"
            f"{{{pods}}}[{args.rpo}s])) or vector(0)) == 0",
            60,
            Severity.CRITICAL,
            f"Nothing was copied for the region's RPO of {args.rpo}s",
            "kafka.md#mirror-idle",
        ),
        Alert(
            "KafkaMirrorBehind",
            "max by (topic) (kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_max"
            f"{{{pods}}}) > {args.rpo * 1000}",
            60,
            Severity.CRITICAL,
            f"The copy of {{{{ $labels.topic }}}} is older than the region's RPO of {args.rpo}s",
            "kafka.md#mirror-behind",
        ),
    ]
