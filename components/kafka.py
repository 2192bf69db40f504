"""A Kafka cluster that keeps every acknowledged record, in order, when it loses a broker or a zone.

Strimzi runs it from the resources declared here: controllers and brokers of their own in different
zones, a record acknowledged only when another zone has it, a user for each service with no more
rights than its topics need, and the copy of another region while the stack stands by.

Draining a node: the operator's budget lets one server go at a time, but counts a broker as back
once it runs, which is before its copies have caught up. Strimzi's Drain Cleaner (a webhook that
comes with the operator's release: `components/operators.py`) turns evictions into restarts that
wait for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import alerts, certificates, connection, kafka_alerts, metrics, parts, strimzi
from components.kafka_mirror import KafkaMirror, KafkaMirrorArgs
from components.parts import Client, Endpoint
from components.service import DataAccess
from stacks.systems.kafka import KafkaSettings, TopicSettings

_WORKLOAD = "kafka"
"""What the operator puts into `app.kubernetes.io/name` of every server."""

_LISTENER = "clients"

_BROKER, _CONTROLLER = "broker", "controller"
_NUMBERS = {_BROKER: "[0-99]", _CONTROLLER: "[100-199]"}
"""Identities of the servers: those that are added later follow on, so that names tell roles."""

_STOP_SECONDS = 120
"""For a broker to hand its partitions over and close its log; a longer stop is a crash."""

_OPERATOR_CPU, _OPERATOR_MEMORY = "100m", "512Mi"
_BALANCER_CPU, _BALANCER_MEMORY = "250m", "1Gi"
_EXPORTER_CPU, _EXPORTER_MEMORY = "100m", "128Mi"

_MOVED_PER_SECOND = 50_000_000
"""Bytes that rebalancing may move to or from each broker: well below what a gp3 volume writes
(125 MB/s), so that producers keep their share."""

_MOVED_AT_ONCE = 2
"""Partitions that each broker moves at a time, for the same reason."""

_DELIVERY_SECONDS = 120
"""How long a producer tries again before it gives a record up: many times a failover."""

_RECONNECT_MILLISECONDS = 1000
"""The longest pause between two tries to reach a broker: one that is back is used within a second,
where librdkafka's own 10 s would outlast the failover."""

_CONNECT_MILLISECONDS = 2000
"""For a connection to be there: a broker that fell silent costs no more than that before another is
asked; librdkafka's own is 30 s."""

_VALID_DAYS, _RENEWED_DAYS = 90, 30
"""Of a certificate for services. For a new one Strimzi restarts the brokers by itself."""

_INTERNAL = {
    "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
}
"""Annotations that keep a load balancer inside the private network."""


@dataclass(frozen=True)
class User:
    """A service, and the topics that it may use."""

    client: Client
    produces: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()


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


class Kafka(pulumi.ComponentResource):
    """A Strimzi cluster with topics, users, rebalancing, metrics, alerts and network policies.

    Every client signs in with its own `username` and `password` and may touch its own topics and
    consumer group alone. Connections are encrypted, and by SCRAM both sides prove that they know
    the password. With `settings.issuer` clients verify the broker's certificate too; without it
    they do not, because the authority that signs it is made by the operator, after everything
    here, and known in this namespace alone.

    Example:
        A program of its own::

            kafka = Kafka(
                "kafka",
                KafkaArgs(
                    namespace="games-data",
                    settings=KafkaSettings(),
                    topics={"moves": TopicSettings(key="game")},
                    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
                    priority_class="games-data",
                    storage_class="gp3",
                    users=(User(Client("games-core", "engine"), produces=("moves",)),),
                    standby=False,
                    region_rpo=1200,
                    protect=True,
                ),
            )
            pulumi.export("kafka", kafka.endpoint)
    """

    endpoint: pulumi.Output[str]
    """Host and port that lead to the brokers."""
    access: Mapping[str, DataAccess]
    """The way in of each user, by the name of its client."""

    def __init__(
        self, name: str, args: KafkaArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:kafka:Kafka", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = _metadata(name, name, args, "broker")
        network = NetworkPolicy(
            f"{name}-network", metadata=metadata, spec=_network(name, args), opts=child
        )
        kept = pulumi.ResourceOptions(
            parent=self,
            depends_on=[network, *self._certificate(name, args)],
            protect=args.protect,
            retain_on_delete=args.protect,
        )
        template = strimzi.resource(
            f"{name}-rebalance",
            "KafkaRebalance",
            _metadata(
                name,
                f"{name}-rebalance",
                args,
                "rebalance",
                {"strimzi.io/rebalance-template": "true"},
            ),
            {
                "replicationThrottle": _MOVED_PER_SECOND,
                "concurrentPartitionMovementsPerBroker": _MOVED_AT_ONCE,
            },
            child,
        )
        pools = [
            strimzi.resource(
                f"{name}-{role}-pool",
                "KafkaNodePool",
                _metadata(name, role, args, role, {"strimzi.io/next-node-ids": _NUMBERS[role]}),
                _pool(name, role, args),
                kept,
            )
            for role in _NUMBERS
        ]
        cluster = strimzi.resource(
            f"{name}-cluster",
            "Kafka",
            _metadata(name, name, args, "broker", strimzi.readiness(args.wait)),
            _cluster(name, args),
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[template, *pools],
                protect=args.protect,
                retain_on_delete=args.protect,
            ),
        )
        self._topics(name, args, cluster)
        credentials = {
            user.client.name: self._user(name, user.client.name, _rights(user), args, cluster)
            for user in args.users
        }
        self._mirror(name, args, cluster)
        strimzi.pod_monitor(f"{name}-metrics", metadata, child)
        watched = kafka_alerts.of(
            name, args.namespace, args.settings.brokers, args.settings.controllers
        )
        alerts.rules(f"{name}-alerts", metadata, watched, child)

        brokers = Endpoint(
            args.namespace, strimzi.bootstrap(name), strimzi.CLIENT_PORT, workload=_WORKLOAD
        )
        address = f"{brokers.host}:{strimzi.CLIENT_PORT}"
        self.endpoint = pulumi.Output.from_input(address)
        self.access = {
            user.client.name: self._publish(
                name,
                user,
                brokers,
                _environment(address, user, args),
                credentials[user.client.name],
            )
            for user in args.users
        }
        self.register_outputs({"endpoint": self.endpoint})

    def _certificate(self, name: str, args: KafkaArgs) -> list[pulumi.Resource]:
        if args.settings.issuer is None:
            return []
        entrance = f"{strimzi.bootstrap(name)}.{args.namespace}.svc"
        return [
            certificates.certificate(
                f"{name}-certificate",
                _metadata(name, strimzi.tls_secret(name), args, "broker"),
                args.settings.issuer,
                [
                    f"{entrance}.cluster.local",
                    entrance,
                    # What brokers call themselves, once a client has found the first.
                    f"*.{name}-kafka-brokers.{args.namespace}.svc",
                ],
                pulumi.ResourceOptions(parent=self),
                days=_VALID_DAYS,
                renewed_days=_RENEWED_DAYS,
            )
        ]

    def _topics(self, name: str, args: KafkaArgs, cluster: pulumi.Resource) -> None:
        """Deleting a KafkaTopic deletes its records, so it is protected as the cluster is."""
        for topic, settings in args.topics.items():
            strimzi.resource(
                f"{name}-topic-{topic}",
                "KafkaTopic",
                _metadata(
                    name,
                    topic,
                    args,
                    "topic",
                    {"fault-tolerance/key": settings.key, **strimzi.readiness(args.wait)},
                ),
                _topic(settings, args.settings),
                pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[cluster],
                    protect=args.protect,
                    retain_on_delete=args.protect,
                ),
            )

    def _user(
        self,
        name: str,
        user: str,
        rights: list[parts.Object],
        args: KafkaArgs,
        cluster: pulumi.Resource,
    ) -> dict[str, pulumi.Output[str]]:
        """Create a user with a password that is made here: its client is in another namespace."""
        child = pulumi.ResourceOptions(parent=self)
        password = connection.password(f"{name}-{user}-password", child)
        kept_in = strimzi.password_secret(name, user)
        secret = Secret(
            f"{name}-{user}-password-secret",
            metadata=_metadata(name, kept_in, args, "user"),
            data={"password": connection.encoded(password)},
            opts=child,
        )
        strimzi.resource(
            f"{name}-user-{user}",
            "KafkaUser",
            _metadata(name, user, args, "user", strimzi.readiness(args.wait)),
            {
                "authentication": {
                    "type": strimzi.SCRAM,
                    "password": {
                        "valueFrom": {"secretKeyRef": {"name": kept_in, "key": "password"}}
                    },
                },
                "authorization": {"type": "simple", "acls": rights},
            },
            pulumi.ResourceOptions(parent=self, depends_on=[cluster, secret]),
        )
        return {"username": pulumi.Output.from_input(user), "password": password}

    def _mirror(self, name: str, args: KafkaArgs, cluster: pulumi.Resource) -> None:
        """Copy the source while the stack stands by, and let a standby copy this cluster."""
        mirror, source = strimzi.mirror_name(name), args.settings.source
        if args.standby and source is not None:
            self._user(name, mirror, _mirrors_rights(into=True), args, cluster)
            KafkaMirror(
                mirror,
                KafkaMirrorArgs(
                    namespace=args.namespace,
                    cluster=name,
                    settings=args.settings,
                    source=source,
                    topics=tuple(args.topics),
                    groups=tuple(user.client.name for user in args.users if user.consumes),
                    zones=args.zones,
                    priority_class=args.priority_class,
                    rpo=args.region_rpo,
                ),
                pulumi.ResourceOptions(parent=self, depends_on=[cluster]),
            )
        elif args.settings.host is not None:
            self._user(name, mirror, _mirrors_rights(into=False), args, cluster)

    def _publish(
        self,
        name: str,
        user: User,
        brokers: Endpoint,
        environment: dict[str, str],
        credentials: dict[str, pulumi.Output[str]],
    ) -> DataAccess:
        client = user.client
        secret = connection.publish(
            f"{name}-{client.name}", [client], environment, credentials, parent=self
        )
        return DataAccess((brokers,), environment, secret)


def _metadata(
    name: str,
    own: str,
    args: KafkaArgs,
    component: str,
    annotations: Mapping[str, str] | None = None,
) -> parts.Object:
    """Name and label an object; by its label the operator knows which cluster it belongs to."""
    labels = {**parts.labels(name, component), **strimzi.family(name)}
    return parts.metadata(own, args.namespace, labels, annotations)


# Servers ----------------------------------------------------------------------------------------


def _pool(name: str, role: str, args: KafkaArgs) -> parts.Object:
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


def _cluster(name: str, args: KafkaArgs) -> parts.Object:
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
        "log.retention.ms": settings.retention * 1000,
        # A group that was away finds its position for as long as there are records to read.
        "offsets.retention.minutes": -(-max(kept) // 60),
    }


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


def _network(name: str, args: KafkaArgs) -> parts.Object:
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


# Topics and users -------------------------------------------------------------------------------


def _topic(topic: TopicSettings, settings: KafkaSettings) -> parts.Object:
    expires = {} if topic.retention is None else {"retention.ms": topic.retention * 1000}
    return {
        "partitions": topic.partitions,
        "replicas": settings.replication_factor,
        "config": {
            "cleanup.policy": topic.cleanup.value,
            "min.insync.replicas": settings.min_in_sync,
            **expires,
        },
    }


def _rights(user: User) -> list[parts.Object]:
    """What a service may do: write and read its own topics, read as the group of its own name."""

    def operations(topic: str) -> list[str]:
        reads = ["Read"] if topic in user.consumes else []
        writes = ["Write"] if topic in user.produces else []
        return ["Describe", *reads, *writes]

    topics = dict.fromkeys((*user.produces, *user.consumes))
    group = [_right("group", user.client.name, ["Read"])] if user.consumes else []
    return [*(_right("topic", topic, operations(topic)) for topic in topics), *group]


def _mirrors_rights(*, into: bool) -> list[parts.Object]:
    """What a mirror may do with every topic and group: make and change them, or only read."""
    changes = ["Alter", "AlterConfigs", "Create", "Write"] if into else []
    moves = ["Read"] if into else []
    return [
        _right("topic", "*", ["Describe", "DescribeConfigs", "Read", *changes]),
        _right("group", "*", ["Describe", *moves]),
    ]


def _right(kind: str, name: str, operations: list[str]) -> parts.Object:
    resource = {"type": kind, "name": name, "patternType": "literal"}
    return {"type": "allow", "resource": resource, "operations": operations}


def _environment(address: str, user: User, args: KafkaArgs) -> dict[str, str]:
    """Where the brokers are, and how a client loses nothing.

    Named as Kafka's own properties. Producers wait for every copy in sync, and number their
    records, so that trying again neither doubles nor reorders them. Consumers commit what they have
    processed, by themselves: a crash repeats records, and skips none.
    """
    return {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION": "true" if args.settings.issuer else "false",
        "KAFKA_RECONNECT_BACKOFF_MAX_MS": str(_RECONNECT_MILLISECONDS),
        "KAFKA_SOCKET_CONNECTION_SETUP_TIMEOUT_MS": str(_CONNECT_MILLISECONDS),
        **_producer(user.produces),
        **_consumer(user),
    }


def _producer(topics: Iterable[str]) -> dict[str, str]:
    if not topics:
        return {}
    return {
        "KAFKA_PRODUCES": ",".join(topics),
        "KAFKA_ACKS": "all",
        "KAFKA_ENABLE_IDEMPOTENCE": "true",
        "KAFKA_DELIVERY_TIMEOUT_MS": str(_DELIVERY_SECONDS * 1000),
    }


def _consumer(user: User) -> dict[str, str]:
    if not user.consumes:
        return {}
    return {
        "KAFKA_CONSUMES": ",".join(user.consumes),
        "KAFKA_GROUP_ID": user.client.name,
        "KAFKA_ENABLE_AUTO_COMMIT": "false",
        "KAFKA_AUTO_OFFSET_RESET": "earliest",
        "KAFKA_ISOLATION_LEVEL": "read_committed",
    }
