"""Weaknesses of what operators run, and of whole stacks: Kafka, MongoDB, survival, objectives.

No stack declares Istio or KEDA yet, and none Neo4j or the mirror everywhere: there the rule's own
failing example is added.
"""

from __future__ import annotations

from policies.model import Resource
from policies.rules import SUBJECTS
from policies.rules.kafka import KAFKA, NODE_POOL, TOPIC, USER
from policies.rules.mongodb import MONGODB
from policies.rules.postgres import CLUSTER
from policies.world import World
from tests.policies.mutations.making import (
    Change,
    Mutation,
    Props,
    Table,
    drop,
    each,
    example,
    put,
    removed,
)


def _config(key: str, value: object) -> Change:
    """Set one line of Kafka's configuration, whose name has dots."""

    def change(props: Props) -> None:
        spec = props["spec"].get("kafka", props["spec"])
        spec.setdefault("config", {})[key] = value

    return change


def _replset(key: str, value: object) -> Change:
    def change(props: Props) -> None:
        for replset in props["spec"]["replsets"]:
            replset[key] = value

    return change


def _tasks(key: str, value: object, of: str = "") -> Change:
    def change(props: Props) -> None:
        for task in props["spec"]["backup"]["tasks"]:
            if task.get("type", "").startswith(of):
                task[key] = value

    return change


def _listeners(key: str, value: object) -> Change:
    def change(props: Props) -> None:
        for listener in props["spec"]["kafka"]["listeners"]:
            listener[key] = value

    return change


def _controllers(resource: Resource, _: World) -> bool:
    return "controller" in resource.props["spec"]["roles"]


def _data(resource: Resource, _: World) -> bool:
    return resource.object_name.endswith("-data")


def _promised(name: str, seconds: int) -> Mutation:
    """A promise that what is declared cannot keep."""
    path = f"metadata.annotations.fault-tolerance/{name}-seconds"
    return each("core/Namespace", put(path, str(seconds)), _data)


_EXAMPLES: Table = {
    rule.name: (example(rule.name),)
    for subject in ("istio", "keda", "neo4j")
    for rule in SUBJECTS[subject]
}

MUTATIONS: Table = {
    **_EXAMPLES,
    "kafka-replication-factor": (
        each(KAFKA, _config("default.replication.factor", 1)),
        each(KAFKA, _config("default.replication.factor", 99)),
    ),
    "kafka-min-isr": (
        each(KAFKA, _config("min.insync.replicas", 1)),
        each(KAFKA, _config("min.insync.replicas", 3)),
    ),
    "kafka-internal-topics": (
        each(KAFKA, _config("offsets.topic.replication.factor", 1)),
        each(KAFKA, _config("transaction.state.log.min.isr", "1")),
    ),
    "kafka-unclean-election": (
        each((KAFKA, TOPIC), _config("unclean.leader.election.enable", "true")),
    ),
    "kafka-auto-creation": (each(KAFKA, _config("auto.create.topics.enable", True)),),
    "kafka-rack": (each(KAFKA, drop("spec.kafka.rack")),),
    "kafka-controllers": (each(NODE_POOL, put("spec.replicas", 2), _controllers),),
    "kafka-zone-spread": (each(NODE_POOL, drop("spec.template")),),
    "kafka-storage": (each(NODE_POOL, put("spec.storage", {"type": "ephemeral"})),),
    "kafka-delete-claim": (
        each(
            NODE_POOL,
            put("spec.storage", {"type": "persistent-claim", "size": "1Gi", "deleteClaim": True}),
        ),
    ),
    "kafka-cluster-declared": (each((NODE_POOL, TOPIC, USER), drop("metadata.labels")),),
    "kafka-topic-replicas": (
        each(TOPIC, put("spec.replicas", 1)),
        each(TOPIC, put("spec.replicas", 99)),
    ),
    "kafka-topic-min-isr": (each(TOPIC, _config("min.insync.replicas", 1)),),
    "kafka-listeners": (
        each(KAFKA, _listeners("tls", False)),
        each(KAFKA, _listeners("authentication", None)),
    ),
    "kafka-authorization": (each(KAFKA, drop("spec.kafka.authorization")),),
    "kafka-user-acls": (each(USER, drop("spec.authorization")),),
    **{
        name: (example(name),)
        for name in (
            "kafka-rebalance-throttle",
            "kafka-mirror-replicas",
            "kafka-mirror-offsets",
            "kafka-mirror-restart",
            "kafka-mirror-copies",
        )
    },
    "mongodb-members": (
        each(MONGODB, _replset("size", 2)),
        each(MONGODB, _replset("size", 9)),
    ),
    "mongodb-no-arbiter": (each(MONGODB, _replset("arbiter", {"enabled": True, "size": 1})),),
    "mongodb-zone-spread": (each(MONGODB, _replset("topologySpreadConstraints", [])),),
    "mongodb-tls": (each(MONGODB, put("spec.tls.mode", "allowTLS")),),
    "mongodb-unsafe-flags": (each(MONGODB, put("spec.unsafeFlags.tls", True)),),
    "mongodb-pinned-version": (
        each(MONGODB, drop("spec.crVersion")),
        each(MONGODB, put("spec.upgradeOptions.apply", "latest")),
    ),
    "mongodb-keeps-volumes": (
        each(MONGODB, put("metadata.finalizers", ["percona.com/delete-psmdb-pvc"])),
        each(MONGODB, _replset("volumeSpec", {"emptyDir": {}})),
    ),
    "mongodb-backup": (
        each(MONGODB, put("spec.backup.enabled", False)),
        each(MONGODB, put("spec.backup.tasks", [])),
    ),
    "mongodb-backup-schedule": (each(MONGODB, _tasks("schedule", "0 0 3 * * *")),),
    "mongodb-backup-storage": (each(MONGODB, _tasks("storageName", "nowhere")),),
    "mongodb-incremental-base": (each(MONGODB, _tasks("enabled", False, of="incremental-base")),),
    "mongodb-point-in-time": (
        each(MONGODB, put("spec.backup.pitr.enabled", False)),
        each(MONGODB, put("spec.backup.pitr.oplogSpanMin", "60")),
    ),
    "survival-zone": (
        each(CLUSTER, put("spec.instances", 2)),
        each(MONGODB, _replset("topologySpreadConstraints", [])),
        each(NODE_POOL, drop("spec.template"), _controllers),
    ),
    "survival-region": (removed("aws:s3/BucketReplicationConfig"),),
    "objective-rpo": (_promised("postgres-rpo", 10), _promised("mongodb-rpo", 1)),
    "objective-rto": (_promised("kafka-rto", 1), _promised("redis-rto", 5)),
    "objective-region-rpo": (example("objective-region-rpo"),),
}
