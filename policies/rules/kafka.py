"""Kafka as Strimzi's resources: copies that are enough, in different zones, and never given up.

A `Kafka` holds the configuration, its `KafkaNodePool`s the servers. What belongs to a cluster names
it in the label `strimzi.io/cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.model import Resource, at, is_true, mapping, mappings, number, numbered, text, texts
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.spread import ZONE, is_strict
from policies.world import World

KAFKA = "kafka.strimzi.io/Kafka"
NODE_POOL = "kafka.strimzi.io/KafkaNodePool"
TOPIC = "kafka.strimzi.io/KafkaTopic"
USER = "kafka.strimzi.io/KafkaUser"
REBALANCE = "kafka.strimzi.io/KafkaRebalance"
MIRROR_MAKER = "kafka.strimzi.io/KafkaMirrorMaker2"

BROKER, CONTROLLER = "broker", "controller"

_CLUSTER_LABEL = "strimzi.io/cluster"
_CONFIG = "spec.kafka.config"
_LEAST_COPIES = 3
"""One lost, one being repaired or restarted, one left."""
_LEAST_IN_SYNC = 2
"""An acknowledged record is on more than one broker."""

_STRIMZI = "https://strimzi.io/docs/operators/1.2.0"
_BROKER_CONFIG = "https://kafka.apache.org/43/configuration/broker-configs/"
_TOPIC_CONFIG = "https://kafka.apache.org/43/configuration/topic-configs/"
_KRAFT = "https://kafka.apache.org/43/operations/kraft/"
_SIZES = {
    "minimum": Option(
        _LEAST_COPIES, {"type": "integer", "minimum": 1}, "Copies that there are at least."
    )
}


def _kafka(config: str) -> str:
    return f"{{kind: Kafka, metadata: {{name: kafka}}, spec: {{kafka: {{config: {config}}}}}}}"


def _pool(name: str, spec: str) -> str:
    return f"{{kind: KafkaNodePool, metadata: {{name: {name}}}, spec: {spec}}}"


def _topic(spec: str) -> str:
    return f"{{kind: KafkaTopic, metadata: {{name: games}}, spec: {spec}}}"


def _mirror(mirror: str) -> str:
    return f"""
        kind: KafkaMirrorMaker2
        metadata: {{name: mirror}}
        spec: {{mirrors: [{mirror}]}}
    """


# The cluster ------------------------------------------------------------------------------------


@rule(
    "kafka-replication-factor",
    Severity.CRITICAL,
    kinds=(KAFKA,),
    scope=Scope.STACK,
    why="Topics that do not say otherwise get this many copies; Kafka's default is one. More than "
    "there are brokers, and no such topic can be made.",
    source=f"{_BROKER_CONFIG}#brokerconfigs_default.replication.factor",
    remedy="Set default.replication.factor to 3, with three brokers or more.",
    options=_SIZES,
    passing=_kafka("{default.replication.factor: 3}"),
    failing=_kafka("{default.replication.factor: 5}"),
)
def kafka_replication_factor(
    resource: Resource, world: World, options: Options
) -> Iterator[Finding]:
    """Compare the default number of copies with the minimum and with the brokers."""
    copies, least = replication_factor(resource), int(options["minimum"])
    brokers = servers(resource, BROKER, world)
    where = f"{_CONFIG}[default.replication.factor]"
    if copies < least:
        yield Finding(where, f"{copies}", f"Set {where} to {least}.")
    elif copies > brokers:
        yield Finding(
            where,
            f"{copies} copies on {brokers} brokers",
            f"Set replicas of the broker pools to {copies} in all, or {where} to {brokers}.",
        )


@rule(
    "kafka-min-isr",
    Severity.CRITICAL,
    kinds=(KAFKA,),
    why="With one copy in sync a write is acknowledged that only the leader has, and lost with it; "
    "with all of them needed, one lost broker stops the writes.",
    source=f"{_BROKER_CONFIG}#brokerconfigs_min.insync.replicas",
    remedy="Set min.insync.replicas to 2, with three copies.",
    passing=_kafka("{min.insync.replicas: 2}"),
    failing=_kafka("{min.insync.replicas: 3}"),
)
def kafka_min_isr(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require more than one copy in sync, and fewer than there are."""
    yield from _within_copies(
        f"{_CONFIG}[min.insync.replicas]", min_in_sync(resource), replication_factor(resource)
    )


def _within_copies(where: str, in_sync: int, copies: int) -> Iterator[Finding]:
    if in_sync < _LEAST_IN_SYNC:
        yield Finding(where, str(in_sync), f"Set {where} to {_LEAST_IN_SYNC}.")
    elif in_sync >= copies:
        right = max(_LEAST_IN_SYNC, copies - 1)
        yield Finding(
            where,
            f"{in_sync} of {copies} copies, so one lost broker stops the writes",
            f"Set {where} to {right}, with {right + 1} copies or more.",
        )


_INTERNAL_TOPICS = {
    "offsets.topic.replication.factor": (_LEAST_COPIES, 3),
    "transaction.state.log.replication.factor": (_LEAST_COPIES, 3),
    "transaction.state.log.min.isr": (_LEAST_IN_SYNC, 2),
}
"""Least value and Kafka's default of each."""


@rule(
    "kafka-internal-topics",
    Severity.CRITICAL,
    kinds=(KAFKA,),
    why="Consumers' offsets and transactions are topics of Kafka's own: with one copy, the loss of "
    "one broker stops every consumer group, or makes it start over.",
    source=f"{_BROKER_CONFIG}#brokerconfigs_offsets.topic.replication.factor",
    remedy="Set the offsets' and transactions' replication factors to 3, and "
    "transaction.state.log.min.isr to 2.",
    passing=_kafka("{offsets.topic.replication.factor: 3}"),
    failing=_kafka("{offsets.topic.replication.factor: 1}"),
)
def kafka_internal_topics(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Compare the copies of Kafka's own topics."""
    for key, (least, default) in _INTERNAL_TOPICS.items():
        found = _whole(_config(resource), key, default)
        if found < least:
            where = f"{_CONFIG}[{key}]"
            yield Finding(where, str(found), f"Set {where} to {least}.")


@rule(
    "kafka-unclean-election",
    Severity.CRITICAL,
    kinds=(KAFKA, TOPIC),
    why="An unclean election makes a copy the leader that lacks acknowledged records; they are "
    "then removed from all others.",
    source=f"{_TOPIC_CONFIG}#topicconfigs_unclean.leader.election.enable",
    remedy="Set unclean.leader.election.enable to false, its default.",
    passing=_kafka("{unclean.leader.election.enable: false}"),
    failing=_kafka("{unclean.leader.election.enable: true}"),
)
def kafka_unclean_election(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse it, for all topics and for one."""
    key = "unclean.leader.election.enable"
    if _is_on(_config(resource), key, default=False):
        where = f"{_config_path(resource)}[{key}]"
        yield Finding(where, "true", f"Set {where} to false.")


@rule(
    "kafka-auto-creation",
    Severity.MEDIUM,
    kinds=(KAFKA,),
    why="A producer that misspells a topic makes a new one, with whatever copies are the default, "
    "and nobody reads what is in it.",
    source=f"{_BROKER_CONFIG}#brokerconfigs_auto.create.topics.enable",
    remedy="Set auto.create.topics.enable to false; its default is true.",
    passing=_kafka("{auto.create.topics.enable: false}"),
    failing=_kafka("{auto.create.topics.enable: null}"),
)
def kafka_auto_creation(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require that it is off."""
    key = "auto.create.topics.enable"
    if _is_on(_config(resource), key, default=True):
        found = "true" if key in _config(resource) else "not set (true)"
        yield Finding(f"{_CONFIG}[{key}]", found, f"Set {_CONFIG}[{key}] to false.")


@rule(
    "kafka-rack",
    Severity.HIGH,
    kinds=(KAFKA,),
    why="Brokers that do not know their zone put all copies of a partition into one.",
    source=f"{_STRIMZI}/configuring#type-Rack-reference",
    remedy=f"Set spec.kafka.rack.topologyKey to {ZONE}.",
    passing="{kind: Kafka, metadata: {name: kafka}}",
    failing="{kind: Kafka, metadata: {name: kafka}, spec: {kafka: {rack: null}}}",
)
def kafka_rack(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require the zone as the rack."""
    rack = mapping(resource.props, "spec", "kafka", "rack")
    if not knows_zones(resource):
        yield Finding(
            "spec.kafka.rack.topologyKey",
            text(rack, "topologyKey") or "not set",
            f"Set spec.kafka.rack to {{type: topology-label, topologyKey: {ZONE}}}.",
        )


# Its servers ------------------------------------------------------------------------------------


@rule(
    "kafka-controllers",
    Severity.HIGH,
    kinds=(KAFKA,),
    scope=Scope.STACK,
    why="The controllers elect by majority: of one or two, one lost means that no leader of any "
    "partition can be elected; an even number survives no more losses than one fewer.",
    source=f"{_KRAFT}#deployment-considerations",
    remedy="Run three or five controllers from the beginning: Strimzi can neither add any to a "
    "cluster that runs, nor take any away.",
    options=_SIZES,
    passing=_pool("controllers", "{replicas: 5}"),
    failing=_pool("controllers", "{replicas: 2}"),
)
def kafka_controllers(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Count the controllers of all pools."""
    count, least = servers(resource, CONTROLLER, world), int(options["minimum"])
    if count < least or count % 2 == 0:
        wanted = max(least | 1, count | 1)
        yield Finding(
            "KafkaNodePool: spec.replicas",
            f"{count} controllers in all",
            f"Set spec.replicas of the pools with the role controller to {wanted} in all, and make "
            "the cluster anew if it runs: Strimzi cannot change how many there are.",
        )


@rule(
    "kafka-zone-spread",
    Severity.HIGH,
    kinds=(NODE_POOL,),
    scope=Scope.STACK,
    why="Strimzi's rack spreads copies over brokers, and no Pods over zones: brokers, or the "
    "majority of the controllers, may come to lie in one zone.",
    source=f"{_STRIMZI}/configuring#type-PodTemplate-reference",
    remedy="Add a strict topology spread over zones to template.pod.",
    passing=_pool("brokers", "{replicas: 3}"),
    failing=_pool("brokers", "{template: {pod: {topologySpreadConstraints: []}}}"),
)
def kafka_zone_spread(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a spread that the scheduler must keep."""
    if (number(resource.props, "spec", "replicas") or 0) > 1 and not is_strict(
        pod_template(resource, world), ZONE
    ):
        yield Finding(
            "spec.template.pod.topologySpreadConstraints",
            f"no strict spread over {ZONE}",
            f"Add {{topologyKey: {ZONE}, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, "
            f"labelSelector: {{matchLabels: {{strimzi.io/pool-name: {resource.object_name}}}}}}}.",
        )


@rule(
    "kafka-storage",
    Severity.CRITICAL,
    kinds=(NODE_POOL,),
    why="Ephemeral storage goes with the Pod: a rolling update that is too fast for the copies, or "
    "an outage of all zones, loses every record.",
    source=f"{_STRIMZI}/deploying#considerations-for-data-storage-str",
    remedy="Use storage of type persistent-claim, or jbod with persistent volumes.",
    passing=_pool("brokers", "{replicas: 3}"),
    failing=_pool("brokers", "{storage: {type: ephemeral, volumes: null}}"),
)
def kafka_storage(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse storage that goes with the Pod."""
    for where, volume in _volumes(resource):
        if text(volume, "type") != "persistent-claim":
            yield Finding(
                f"{where}.type",
                text(volume, "type") or "not set",
                f"Set {where}.type to persistent-claim, with a size.",
            )


@rule(
    "kafka-delete-claim",
    Severity.HIGH,
    kinds=(NODE_POOL,),
    why="With deleteClaim, whoever deletes the cluster's resource by mistake deletes its volumes.",
    source=f"{_STRIMZI}/configuring#type-PersistentClaimStorage-reference",
    remedy="Set deleteClaim to false, its default.",
    passing=_pool("brokers", "{replicas: 3}"),
    failing=_pool(
        "brokers",
        "{storage: {volumes: [{id: 0, type: persistent-claim, size: 1Gi, deleteClaim: true}]}}",
    ),
)
def kafka_delete_claim(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse volumes that go with the cluster."""
    for where, volume in _volumes(resource):
        if is_true(volume, "deleteClaim"):
            yield Finding(f"{where}.deleteClaim", "true", f"Set {where}.deleteClaim to false.")


# What uses it -----------------------------------------------------------------------------------


@rule(
    "kafka-cluster-declared",
    Severity.HIGH,
    kinds=(NODE_POOL, TOPIC, USER, REBALANCE),
    scope=Scope.STACK,
    why="Strimzi does nothing for what names no cluster that it runs; a KafkaRebalance alone says "
    "so, in its status.",
    source=f"{_STRIMZI}/deploying#assembly-using-the-topic-operator-str",
    remedy=f"Name a declared Kafka in the label {_CLUSTER_LABEL}.",
    passing=_topic("{replicas: 3}"),
    failing="""
        kind: KafkaTopic
        metadata: {name: games, labels: {strimzi.io/cluster: kafak}}
    """,
)
def kafka_cluster_declared(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find what belongs to no declared cluster; a template for rebalances belongs to none."""
    if text(resource.props, "metadata", "annotations", "strimzi.io/rebalance-template") == "true":
        return
    if cluster_of(resource, world) is None:
        yield Finding(
            f"metadata.labels[{_CLUSTER_LABEL}]",
            text(resource.labels, _CLUSTER_LABEL) or "not set",
            f"Set metadata.labels[{_CLUSTER_LABEL}] to the name of a Kafka of namespace "
            f"{resource.namespace}.",
        )


@rule(
    "kafka-topic-replicas",
    Severity.CRITICAL,
    kinds=(TOPIC,),
    scope=Scope.STACK,
    why="A topic with too few copies loses records with one broker; one with more than there are "
    "brokers is never made.",
    source=f"{_STRIMZI}/configuring#type-KafkaTopicSpec-reference",
    remedy="Set spec.replicas to 3, or leave it out for the cluster's default.",
    options=_SIZES,
    passing=_topic("{replicas: 3}"),
    failing=_topic("{replicas: 5}"),
)
def kafka_topic_replicas(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Compare the copies with the minimum and with the brokers; -1 is the cluster's default."""
    declared, least = number(resource.props, "spec", "replicas"), int(options["minimum"])
    cluster = cluster_of(resource, world)
    if declared is None or declared < 0:
        return
    if declared < least:
        yield Finding("spec.replicas", str(declared), f"Set spec.replicas to {least}.")
    elif cluster is not None and declared > (brokers := servers(cluster, BROKER, world)):
        yield Finding(
            "spec.replicas",
            f"{declared} copies on {brokers} brokers",
            f"Set spec.replicas to {brokers}, or run more brokers.",
        )


@rule(
    "kafka-topic-min-isr",
    Severity.CRITICAL,
    kinds=(TOPIC,),
    scope=Scope.STACK,
    why="A topic's own min.insync.replicas wins over the cluster's: one gives up durability, as "
    "many as there are copies give up writes.",
    source=f"{_TOPIC_CONFIG}#topicconfigs_min.insync.replicas",
    remedy="Set min.insync.replicas to 2 with three copies, or leave it to the cluster.",
    passing=_topic("{config: {min.insync.replicas: 2}}"),
    failing=_topic("{config: {min.insync.replicas: 1}}"),
)
def kafka_topic_min_isr(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require more than one copy in sync, and fewer than there are."""
    cluster = cluster_of(resource, world)
    if "min.insync.replicas" in _config(resource) or cluster is not None:
        copies, in_sync = topic_copies(resource, cluster)
        yield from _within_copies("spec.config[min.insync.replicas]", in_sync, copies)


# Who may do what --------------------------------------------------------------------------------


@rule(
    "kafka-listeners",
    Severity.HIGH,
    kinds=(KAFKA,),
    why="Through a listener without authentication anybody in the network reads, writes and "
    "deletes topics; without TLS, passwords and records can be read on the way.",
    source=f"{_STRIMZI}/configuring#type-GenericKafkaListener-reference",
    remedy="Give every listener tls: true and an authentication.",
    passing="{kind: Kafka, metadata: {name: kafka}}",
    failing="""
        kind: Kafka
        metadata: {name: kafka}
        spec: {kafka: {listeners: [{name: tls, tls: false}]}}
    """,
)
def kafka_listeners(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require both of every listener."""
    for index, listener in numbered(resource.props, "spec", "kafka", "listeners"):
        where = f"spec.kafka.listeners[{text(listener, 'name') or index}]"
        if not is_true(listener, "tls"):
            yield Finding(f"{where}.tls", "not true", f"Set {where}.tls to true.")
        if not text(listener, "authentication", "type"):
            yield Finding(
                f"{where}.authentication",
                "not set",
                f"Set {where}.authentication.type to tls or scram-sha-512.",
            )


@rule(
    "kafka-authorization",
    Severity.HIGH,
    kinds=(KAFKA,),
    why="Without authorization every client may do everything, and users' ACLs mean nothing.",
    source=f"{_STRIMZI}/configuring#type-KafkaAuthorizationSimple-reference",
    remedy="Set spec.kafka.authorization.type to simple.",
    passing="{kind: Kafka, metadata: {name: kafka}}",
    failing="{kind: Kafka, metadata: {name: kafka}, spec: {kafka: {authorization: null}}}",
)
def kafka_authorization(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require an authorizer."""
    where = "spec.kafka.authorization.type"
    if not text(resource.props, *where.split(".")):
        yield Finding(where, "not set", f"Set {where} to simple, and give each KafkaUser its ACLs.")


@rule(
    "kafka-user-acls",
    Severity.HIGH,
    kinds=(USER,),
    why="A user without ACLs can do nothing; one that may do everything on every topic takes all "
    "data along when its key is stolen.",
    source=f"{_STRIMZI}/configuring#type-KafkaUserAuthorizationSimple-reference",
    remedy="List the operations and resources that the user needs.",
    passing="{kind: KafkaUser, metadata: {name: engine}}",
    failing="""
        kind: KafkaUser
        metadata: {name: engine}
        spec:
          authorization:
            acls: [{resource: {type: topic, name: "*", patternType: literal}, operations: [All]}]
    """,
)
def kafka_user_acls(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require ACLs, and none that allow everything."""
    where = "spec.authorization.acls"
    acls = list(numbered(resource.props, *where.split(".")))
    if not acls:
        yield Finding(where, "none", f"List in {where} what the user may do.")
    for index, acl in acls:
        all_of_it = "All" in texts(acl, "operations") and text(acl, "resource", "name") == "*"
        if all_of_it and text(acl, "type") != "deny":
            yield Finding(
                f"{where}[{index}]",
                "All on every resource",
                f"List in {where}[{index}].operations what is needed, and name the resource.",
            )


# Moving and mirroring ---------------------------------------------------------------------------


@rule(
    "kafka-rebalance-throttle",
    Severity.MEDIUM,
    kinds=(REBALANCE,),
    why="Moving partitions without a limit takes the network and the disks from the clients.",
    source=f"{_STRIMZI}/configuring#type-KafkaRebalanceSpec-reference",
    remedy="Set replicationThrottle, in bytes a second.",
    passing="{kind: KafkaRebalance, metadata: {name: full}}",
    failing="{kind: KafkaRebalance, metadata: {name: full}, spec: {replicationThrottle: null}}",
)
def kafka_rebalance_throttle(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a limit; a template only holds what others use, and moves nothing."""
    throttle = number(resource.props, "spec", "replicationThrottle")
    if not throttle or throttle < 0:
        yield Finding(
            "spec.replicationThrottle",
            "no limit",
            "Set spec.replicationThrottle, for example to 50000000 (50 MB/s).",
        )


@rule(
    "kafka-mirror-replicas",
    Severity.HIGH,
    kinds=(MIRROR_MAKER,),
    why="While its one worker is moved, nothing is mirrored, and the other region falls behind.",
    source=f"{_STRIMZI}/configuring#type-KafkaMirrorMaker2Spec-reference",
    remedy="Set spec.replicas to 2 or more.",
    passing="{kind: KafkaMirrorMaker2, metadata: {name: mirror}, spec: {replicas: 2}}",
    failing="{kind: KafkaMirrorMaker2, metadata: {name: mirror}, spec: {replicas: 1}}",
)
def kafka_mirror_replicas(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Count the workers."""
    replicas = number(resource.props, "spec", "replicas") or 0
    if replicas <= 1:
        yield Finding("spec.replicas", f"{replicas}", "Set spec.replicas to 2.")


@rule(
    "kafka-mirror-offsets",
    Severity.HIGH,
    kinds=(MIRROR_MAKER,),
    why="Without their offsets, consumers that move to the other region start over, or miss what "
    "came in meanwhile.",
    source=f"{_STRIMZI}/deploying#con-config-mirrormaker2-sync-groups-str",
    remedy="Set sync.group.offsets.enabled to true in checkpointConnector.config.",
    passing="{kind: KafkaMirrorMaker2, metadata: {name: mirror}}",
    failing=_mirror("""{
        source: {alias: primary},
        sourceConnector: {config: {replication.factor: 3}, autoRestart: {enabled: true}},
        checkpointConnector: {config: {}, autoRestart: {enabled: true}}}"""),
)
def kafka_mirror_offsets(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require that offsets are carried over."""
    for index, mirror in numbered(resource.props, "spec", "mirrors"):
        config = mapping(mirror, "checkpointConnector", "config")
        if not _is_on(config, "sync.group.offsets.enabled", default=False):
            where = f"spec.mirrors[{index}].checkpointConnector.config[sync.group.offsets.enabled]"
            yield Finding(where, "not true", f"Set {where} to true.")


@rule(
    "kafka-mirror-restart",
    Severity.MEDIUM,
    kinds=(MIRROR_MAKER,),
    why="A connector that failed once stays failed, and the other region falls behind unnoticed.",
    source=f"{_STRIMZI}/configuring#type-AutoRestart-reference",
    remedy="Set autoRestart.enabled to true on every connector.",
    passing="{kind: KafkaMirrorMaker2, metadata: {name: mirror}}",
    failing=_mirror("""{
        source: {alias: primary},
        sourceConnector: {config: {replication.factor: 3}},
        checkpointConnector:
            {config: {sync.group.offsets.enabled: true}, autoRestart: {enabled: true}}}"""),
)
def kafka_mirror_restart(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require it of each connector that is declared."""
    for index, mirror in numbered(resource.props, "spec", "mirrors"):
        for connector in ("sourceConnector", "checkpointConnector"):
            declared = mapping(mirror, connector)
            if declared and not is_true(declared, "autoRestart", "enabled"):
                where = f"spec.mirrors[{index}].{connector}.autoRestart.enabled"
                yield Finding(where, "not true", f"Set {where} to true.")


@rule(
    "kafka-mirror-copies",
    Severity.HIGH,
    kinds=(MIRROR_MAKER,),
    why="Mirrored topics with fewer copies make the other region the weaker one, just when it is "
    "the only one.",
    source=f"{_STRIMZI}/deploying#con-mirrormaker2-connectors-str",
    remedy="Set replication.factor in sourceConnector.config to 3, or to -1 for the target's "
    "default.",
    options=_SIZES,
    passing="{kind: KafkaMirrorMaker2, metadata: {name: mirror}}",
    failing=_mirror("""{
        source: {alias: primary},
        sourceConnector: {config: {replication.factor: 1}, autoRestart: {enabled: true}},
        checkpointConnector:
            {config: {sync.group.offsets.enabled: true}, autoRestart: {enabled: true}}}"""),
)
def kafka_mirror_copies(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Compare the copies of what is mirrored; MirrorMaker's own default is 2."""
    for index, mirror in numbered(resource.props, "spec", "mirrors"):
        copies = _whole(mapping(mirror, "sourceConnector", "config"), "replication.factor", 2)
        if 0 <= copies < options["minimum"]:
            where = f"spec.mirrors[{index}].sourceConnector.config[replication.factor]"
            yield Finding(where, str(copies), f"Set {where} to {options['minimum']}.")


# Reading ----------------------------------------------------------------------------------------


def pools(cluster: Resource, world: World) -> list[Resource]:
    """The node pools of a cluster.

    Raises:
        Undecided: if a pool may or may not be one of them, so that they cannot be counted.
    """
    path = ("metadata", "labels", _CLUSTER_LABEL)
    return [
        each
        for each in world.with_value(NODE_POOL, path, cluster.object_name, counted=True)
        if each.namespace == cluster.namespace
    ]


def topics(cluster: Resource, world: World) -> list[Resource]:
    """The declared topics of a cluster."""
    path = ("metadata", "labels", _CLUSTER_LABEL)
    return [
        each
        for each in world.with_value(TOPIC, path, cluster.object_name)
        if each.namespace == cluster.namespace
    ]


def servers(cluster: Resource, role: str, world: World) -> int:
    """How many servers of a cluster have a role."""
    return sum(
        int(number(each.props, "spec", "replicas") or 0)
        for each in pools(cluster, world)
        if role in texts(each.props, "spec", "roles")
    )


def cluster_of(resource: Resource, world: World) -> Resource | None:
    """The declared cluster that a resource belongs to."""
    name = text(resource.labels, _CLUSTER_LABEL)
    return world.named(KAFKA, resource.namespace, name) if name else None


def pod_template(pool: Resource, world: World) -> Mapping[str, object]:
    """What a pool's template says of its Pods; where it says nothing of them, its cluster's does.

    Strimzi merges the two by property: of a `pod` in both, the pool's counts alone.
    """
    cluster = cluster_of(pool, world)
    if at(pool.props, "spec", "template", "pod") is None and cluster is not None:
        return mapping(cluster.props, "spec", "kafka", "template", "pod")
    return mapping(pool.props, "spec", "template", "pod")


def knows_zones(cluster: Resource) -> bool:
    """Whether brokers put the copies of a partition into different zones."""
    return text(cluster.props, "spec", "kafka", "rack", "topologyKey") == ZONE


def replication_factor(cluster: Resource) -> int:
    """Copies of a topic that does not say; Kafka's default is 1."""
    return _whole(_config(cluster), "default.replication.factor", 1)


def min_in_sync(cluster: Resource) -> int:
    """Copies that must have a record before it is acknowledged; Kafka's default is 1."""
    return _whole(_config(cluster), "min.insync.replicas", 1)


def topic_copies(topic: Resource, cluster: Resource | None) -> tuple[int, int]:
    """Copies of a topic, and how many of them must be in sync."""
    declared = int(number(topic.props, "spec", "replicas") or -1)
    copies = replication_factor(cluster) if declared < 0 and cluster else max(declared, 1)
    default = min_in_sync(cluster) if cluster else 1
    return copies, _whole(_config(topic), "min.insync.replicas", default)


def loses_acknowledged(cluster: Resource) -> bool:
    """Whether a failover may lose what was acknowledged with ``acks=all``."""
    unclean = _is_on(_config(cluster), "unclean.leader.election.enable", default=False)
    return unclean or min_in_sync(cluster) < _LEAST_IN_SYNC


def session_timeout(cluster: Resource) -> float:
    """Seconds until a silent broker counts as lost; Kafka's default is 9."""
    return _whole(_config(cluster), "broker.session.timeout.ms", 9000) / 1000


def _config_path(resource: Resource) -> str:
    return _CONFIG if resource.kind == KAFKA else "spec.config"


def _config(resource: Resource) -> Mapping[str, object]:
    return mapping(resource.props, *_config_path(resource).split("."))


def _whole(config: Mapping[str, object], key: str, default: int) -> int:
    """A whole number, which may be written as text; the default where there is none."""
    found = at(config, key)
    if isinstance(found, str) and found.removeprefix("-").isdecimal():
        return int(found)
    amount = number(found)
    return default if amount is None else int(amount)


def _is_on(config: Mapping[str, object], key: str, *, default: bool) -> bool:
    found = at(config, key)
    return default if found is None else str(found).lower() == "true"


def _volumes(pool: Resource) -> list[tuple[str, Mapping[str, object]]]:
    """The volumes of a pool's servers, and where each is declared."""
    storage = mapping(pool.props, "spec", "storage")
    if text(storage, "type") != "jbod":
        return [("spec.storage", storage)]
    return [
        (f"spec.storage.volumes[{index}]", volume)
        for index, volume in enumerate(mappings(storage, "volumes"))
    ]
