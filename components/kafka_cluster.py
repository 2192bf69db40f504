"""The Kafka of Strimzi: controllers and brokers in different zones, and what they keep.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from components import metrics, parts, strimzi
from components.kafka_access import User
from stacks.systems.kafka import KafkaSettings, TopicSettings
from stacks.values import DAY

_LISTENER = "clients"

_BROKER, _CONTROLLER = "broker", "controller"
NUMBERS = {_BROKER: "[0-99]", _CONTROLLER: "[100-199]"}
"""Identities of the servers, so that names tell roles. Brokers that are added later follow on;
controllers are those of the beginning, for Strimzi's quorum is static."""

_STOP_SECONDS = 120
"""For a broker to hand its partitions over and close its log; a longer stop is a crash."""

_OPERATOR_CPU, _OPERATOR_MEMORY = "100m", "512Mi"
_BALANCER_CPU, _BALANCER_MEMORY = "250m", "1Gi"
_EXPORTER_CPU, _EXPORTER_MEMORY = "100m", "128Mi"

REBALANCE: Final = {"replicationThrottle": 50_000_000, "concurrentPartitionMovementsPerBroker": 2}
"""How much rebalancing may move: bytes a second to or from each broker, well below what a gp3
volume writes (125 MB/s), and partitions of each at a time, so that producers keep their share."""

_INTERNAL = {
    "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
}
"""Annotations that keep a load balancer inside the private network."""


_SEGMENT_SECONDS = 7 * DAY
"""How long one file of a log is written to; Kafka's own."""

_VOLUME_LEFT = 0.05
"""Share of a volume below which producers stall: a full one stops its broker, and soon the rest."""

_BEATS = 5
"""Heartbeats within a broker's session, of which some may be late; Kafka's defaults make it 4.5."""


@dataclass(frozen=True)
class KafkaArgs:
    """Settings and surroundings of the cluster.

    Raises:
        ValueError: if a user names a topic that is not there.
    """

    namespace: str
    """Holds no other Kafka: the pools of servers carry plain names."""
    settings: KafkaSettings
    topics: Mapping[str, TopicSettings]
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    users: tuple[User, ...]
    standby: bool
    """Whether `settings.source` is copied; it ends when the standby is made active."""
    region_rpo: int
    """Seconds; a copy of the source that is older raises an alert."""
    protect: bool
    wait: bool = False
    """Wait until the operator reports cluster, topics and users ready, so that an update which
    leaves them broken fails. Only where the operator runs: without it nobody would ever report."""

    def __post_init__(self) -> None:
        for user in self.users:
            if strange := {*user.produces, *user.consumes} - self.topics.keys():
                raise ValueError(
                    f"kafka: {user.client.name} names {', '.join(sorted(strange))}, but the topics "
                    f"are {', '.join(sorted(self.topics)) or 'none'}; declare what it uses"
                )


def pool(name: str, role: str, args: KafkaArgs) -> parts.Object:
    """Spec of the KafkaNodePool of a role."""
    settings = args.settings
    replicas, resources, storage = (
        (settings.brokers, settings.resources, settings.storage)
        if role == _BROKER
        else (settings.controllers, settings.controller_resources, settings.controller_storage)
    )
    pods = {**strimzi.family(name), strimzi.POOL_LABEL: role}
    placement = {
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        **strimzi.apart(pods, replicas, args.zones),
    }
    return {
        "replicas": replicas,
        "roles": [role],
        "storage": {
            "type": "jbod",
            "volumes": [
                {
                    "id": 0,
                    "type": "persistent-claim",
                    "size": storage,
                    "class": args.storage_class,
                    "deleteClaim": False,
                    "kraftMetadata": "shared",
                }
            ],
        },
        **strimzi.sized(resources.cpu, resources.memory),
        "template": strimzi.template(
            args.priority_class, "kafkaContainer", "initContainer", placement=placement
        ),
    }


def cluster(name: str, args: KafkaArgs) -> parts.Object:
    """Spec of the Kafka."""
    settings = args.settings
    return {
        "kafka": {
            "version": settings.version,
            "image": settings.image,
            "listeners": _listeners(name, args),
            "authorization": {"type": "simple"},
            "config": _config(args),
            # A consumer that says its zone reads from the copy there.
            "rack": {"topologyKey": parts.ZONE},
            "metricsConfig": strimzi.METRICS,
            # Strimzi itself exempts brokers, which copy, and Cruise Control.
            "quotas": {"type": "strimzi", "minAvailableRatioPerVolume": _VOLUME_LEFT},
        },
        "entityOperator": {
            "topicOperator": _small(_OPERATOR_CPU, _OPERATOR_MEMORY),
            "userOperator": {
                # Its Secrets share a namespace with those of other systems.
                "secretPrefix": f"{name}-",
                **_small(_OPERATOR_CPU, _OPERATOR_MEMORY),
            },
            "template": strimzi.template(
                args.priority_class, "topicOperatorContainer", "userOperatorContainer"
            ),
        },
        "cruiseControl": {
            "image": settings.image,
            # Brokers that are added get their share of the partitions, and those that are to go
            # are emptied first.
            "autoRebalance": [
                {"mode": mode, "template": {"name": f"{name}-rebalance"}}
                for mode in ("add-brokers", "remove-brokers")
            ],
            **strimzi.sized(_BALANCER_CPU, _BALANCER_MEMORY),
            "template": strimzi.template(args.priority_class, "cruiseControlContainer"),
        },
        "kafkaExporter": {
            "image": settings.image,
            "topicRegex": ".*",
            "groupRegex": ".*",
            **_small(_EXPORTER_CPU, _EXPORTER_MEMORY),
            "template": strimzi.template(args.priority_class, "container"),
        },
    }


def _small(cpu: str, memory: str) -> parts.Object:
    return {"resources": parts.container_resources(cpu, memory)}


def _config(args: KafkaArgs) -> parts.Object:
    """What keeps records. Upstream's defaults are one copy, and topics that appear by a slip."""
    settings = args.settings
    copies, in_sync = settings.replication_factor, settings.min_in_sync
    kept = [settings.retention, *(topic.retention or 0 for topic in args.topics.values())]
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Rather no leader for a while than one that lacks acknowledged records.
        "unclean.leader.election.enable": False,
        "auto.create.topics.enable": False,
        "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        "broker.session.timeout.ms": settings.session_timeout * 1000,
        "broker.heartbeat.interval.ms": settings.session_timeout * 1000 // _BEATS,
        "log.retention.ms": settings.retention * 1000,
        "log.roll.ms": _segment(settings.retention),
        # A group that was away finds its position for as long as there are records to read.
        "offsets.retention.minutes": -(-max(kept) // 60),
    }


def _segment(retention: int) -> int:
    """Milliseconds after which a log goes on in another file.

    Records are deleted file by file, and never from the one that is written to: with Kafka's own
    week, a quiet topic would keep for that long what should be gone after a minute.
    """
    return min(retention, _SEGMENT_SECONDS) * 1000


def _listeners(name: str, args: KafkaArgs) -> list[parts.Object]:
    """One for clients, and one for the mirror of another region where there is a name for it."""
    own = {"podSelector": {"matchLabels": strimzi.family(name)}}
    secured = {"tls": True, "authentication": {"type": strimzi.SCRAM}}
    clients = {
        "name": _LISTENER,
        "port": strimzi.CLIENT_PORT,
        "type": "internal",
        **secured,
        **_own_certificate(name, args),
        # The operator opens a listener to everybody unless it is told to whom.
        "networkPolicyPeers": [own, *_peers(name, args)],
    }
    host = args.settings.host
    if host is None:
        return [clients]
    mirror = {
        "name": "mirror",
        "port": strimzi.MIRROR_PORT,
        "type": "loadbalancer",
        **secured,
        "configuration": {
            "class": "service.k8s.aws/nlb",
            "allocateLoadBalancerNodePorts": False,
            "bootstrap": {
                "alternativeNames": [host],
                "annotations": {
                    **_INTERNAL,
                    "external-dns.alpha.kubernetes.io/hostname": host,
                },
            },
            "perBrokerAnnotationsTemplate": _INTERNAL,
        },
    }
    return [clients, mirror]


def _own_certificate(name: str, args: KafkaArgs) -> parts.Object:
    if args.settings.issuer is None:
        return {}
    files = {"certificate": "tls.crt", "key": "tls.key"}
    shown = {"secretName": strimzi.tls_secret(name), **files}
    return {"configuration": {"brokerCertChainAndKey": shown}}


def _peers(name: str, args: KafkaArgs) -> list[parts.Object]:
    mirror = {"podSelector": {"matchLabels": strimzi.family(strimzi.mirror_name(name))}}
    return [mirror, *parts.client_peers(user.client for user in args.users)]


def network(name: str, args: KafkaArgs) -> parts.Object:
    """Let clients, mirror and operator in, and the servers talk to each other."""
    own = [{"podSelector": {"matchLabels": strimzi.family(name)}}]
    operator = [parts.peer(strimzi.OPERATOR_NAMESPACE)]
    between = (strimzi.CONTROL_PORT, strimzi.REPLICATION_PORT)
    # The addresses of load balancers, and of the API server below, are not known here.
    outside = [{"ports": parts.ports(strimzi.MIRROR_PORT)}] if args.settings.host else []
    return parts.network_policy(
        strimzi.family(name),
        ingress=[
            *parts.allow_from(own, *between, strimzi.CLIENT_PORT),
            *parts.allow_from(operator, *between, strimzi.AGENT_PORT),
            *parts.allow_from(_peers(name, args), strimzi.CLIENT_PORT),
            *parts.allow_from([metrics.reader()], strimzi.METRICS_PORT),
            *outside,
        ],
        egress=[
            *parts.allow_to(own, *between, strimzi.CLIENT_PORT),
            {"ports": parts.ports(*strimzi.API_PORTS)},
        ],
    )


def topic_spec(topic: TopicSettings, settings: KafkaSettings) -> parts.Object:
    """Spec of a KafkaTopic."""
    expires = (
        {}
        if topic.retention is None
        else {
            "retention.ms": topic.retention * 1000,
            "segment.ms": _segment(topic.retention),
        }
    )
    return {
        "partitions": topic.partitions,
        "replicas": settings.replication_factor,
        "config": {
            "cleanup.policy": topic.cleanup.value,
            "min.insync.replicas": settings.min_in_sync,
            **expires,
        },
    }
