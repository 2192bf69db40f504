"""Weaknesses of what operators run, and of whole stacks: Kafka, MongoDB, survival, objectives.

No stack declares Istio or KEDA yet, and none Neo4j or the mirror everywhere: there the rule's own
failing example is added, or another change of the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from policies import manifests
from policies.model import Resource
from policies.rules import SUBJECTS
from policies.rules.kafka import KAFKA, NODE_POOL, TOPIC, USER
from policies.rules.mongodb import MONGODB
from policies.rules.postgres import CLUSTER
from policies.world import World
from tests.policies.mutations.making import (
    Change,
    Mutant,
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


def _beside(change: str) -> Mutation:
    """One mutant: the baseline with a change, in YAML, beside all that the stack declares."""

    def mutants(world: World) -> Iterator[Mutant]:
        declared = manifests.changed(manifests.baseline(), [yaml.safe_load(change)])
        added = (manifests.resource(one, "mutant") for one in declared)
        yield Mutant("a change of the baseline", (*world.resources, *added))

    return mutants


def _arena(kind: str, spec: str, name: str = "arena") -> Mutation:
    return _beside(f"{{kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}")


def _policy_of_port(policy: str) -> Mutation:
    """A DestinationRule with a policy for the port of HTTP."""
    settings = f"[{{port: {{number: 80}}, {policy}}}]"
    return _arena("DestinationRule", f"{{trafficPolicy: {{portLevelSettings: {settings}}}}}")


def _retried(retries: str) -> Mutation:
    """A VirtualService whose one route takes any method."""
    route = "route: [{destination: {host: arena}}]"
    return _arena("VirtualService", f"{{http: [{{timeout: 9s, retries: {retries}, {route}}}]}}")


_POOL = "connectionPool: {tcp: {maxConnections: 9}, http: {http2MaxRequests: 9}}"
_DETECTION = "outlierDetection: {consecutive5xxErrors: 5, maxEjectionPercent: 10}"


def _replication(change: Change) -> Mutation:
    """Change the rules of a replication."""

    def changed(props: Props) -> None:
        for rule in props["rules"]:
            change(rule)

    return each("aws:s3/BucketReplicationConfig", changed)


_EXAMPLES: Table = {
    rule.name: (example(rule.name),)
    for subject in ("istio", "keda", "neo4j")
    for rule in SUBJECTS[subject]
}

MUTATIONS: Table = {
    **_EXAMPLES,
    "virtual-service-idempotent-retries": (
        example("virtual-service-idempotent-retries"),
        _retried("{attempts: 3}"),
        _retried("{attempts: 3, retryOn: unavailable}"),
    ),
    "destination-rule-limits": (example("destination-rule-limits"), _policy_of_port(_POOL)),
    "destination-rule-outlier-detection": (
        example("destination-rule-outlier-detection"),
        _policy_of_port(_POOL),
        _arena(
            "DestinationRule",
            "{trafficPolicy: {outlierDetection: "
            "{consecutive5xxErrors: 0, consecutiveGatewayErrors: null}}}",
        ),
        _arena(
            "DestinationRule",
            "{trafficPolicy: {outlierDetection: "
            "{consecutive5xxErrors: null, consecutiveGatewayErrors: 10}}}",
        ),
    ),
    "destination-rule-ejection": (
        example("destination-rule-ejection"),
        _policy_of_port(_DETECTION),
    ),
    "mesh-mutual-tls": (
        example("mesh-mutual-tls"),
        _arena("PeerAuthentication", "{mtls: {mode: UNSET}}", name="strict"),
        _arena(
            "PeerAuthentication",
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: DISABLE}}}",
            name="strict",
        ),
    ),
    "mesh-authorization": (
        example("mesh-authorization"),
        _arena("AuthorizationPolicy", "{action: DENY}"),
        _arena("AuthorizationPolicy", "{action: CUSTOM}"),
        _arena("AuthorizationPolicy", "{rules: [{}]}"),
        _arena("AuthorizationPolicy", "{targetRefs: [{kind: Gateway, name: arena}]}"),
    ),
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
    "survival-region": (
        removed("aws:s3/BucketReplicationConfig"),
        each("aws:s3/Bucket", put("region", "us-east-1")),
        _replication(drop("sourceSelectionCriteria")),
        _replication(put("filter", {"prefix": "postgres/"})),
        _replication(put("filter", {"and": {"prefix": "", "tags": {"kept": "yes"}}})),
    ),
    "objective-rpo": (_promised("postgres-rpo", 10), _promised("mongodb-rpo", 1)),
    "objective-rto": (_promised("kafka-rto", 1), _promised("redis-rto", 5)),
    "objective-region-rpo": (example("objective-region-rpo"),),
}
