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

from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import (
    alerts,
    certificates,
    connection,
    kafka_access,
    kafka_alerts,
    kafka_cluster,
    parts,
    strimzi,
)
from components.kafka_access import User
from components.kafka_cluster import KafkaArgs
from components.kafka_mirror import KafkaMirror, KafkaMirrorArgs
from components.parts import Endpoint
from components.service import DataAccess

__all__ = ["Kafka", "KafkaArgs", "User"]

_WORKLOAD = "kafka"
"""What the operator puts into `app.kubernetes.io/name` of every server."""

_VALID_DAYS, _RENEWED_DAYS = 90, 30
"""Of a certificate for services. For a new one Strimzi restarts the brokers by itself."""


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
            f"{name}-network", metadata=metadata, spec=kafka_cluster.network(name, args), opts=child
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
            kafka_cluster.REBALANCE,
            child,
        )
        pools = [
            strimzi.resource(
                f"{name}-{role}-pool",
                "KafkaNodePool",
                _metadata(
                    name,
                    role,
                    args,
                    role,
                    {"strimzi.io/next-node-ids": kafka_cluster.NUMBERS[role]},
                ),
                kafka_cluster.pool(name, role, args),
                kept,
            )
            for role in kafka_cluster.NUMBERS
        ]
        cluster = strimzi.resource(
            f"{name}-cluster",
            "Kafka",
            _metadata(name, name, args, "broker", strimzi.readiness(args.wait)),
            kafka_cluster.cluster(name, args),
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[template, *pools],
                protect=args.protect,
                retain_on_delete=args.protect,
            ),
        )
        self._topics(name, args, cluster)
        credentials = {
            user.client.name: self._user(
                name, user.client.name, kafka_access.rights(user), args, cluster
            )
            for user in args.users
        }
        self._mirror(name, args, cluster)
        strimzi.pod_monitor(f"{name}-metrics", metadata, child)
        watched = kafka_alerts.of(
            name,
            args.namespace,
            args.settings.brokers,
            args.settings.controllers,
            issued=args.settings.issuer is not None,
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
                kafka_access.environment(
                    address,
                    user,
                    session_timeout=args.settings.session_timeout,
                    verified=args.settings.issuer is not None,
                ),
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
                kafka_cluster.topic_spec(settings, args.settings),
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
            self._user(name, mirror, kafka_access.mirrors_rights(into=True), args, cluster)
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
            self._user(name, mirror, kafka_access.mirrors_rights(into=False), args, cluster)

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
