"""What survives what, computed from what is declared alone.

For each data system and core service, and each domain that may fail (any one server, any one node,
any one zone, the region): whether what is left can decide (quorum), takes writes again without
anybody's help, how much acknowledged data is lost, and how long it takes. Each set of servers is
placed as badly as the scheduler may place it; zones are counted by the StorageClasses.

The seconds are those of the declared settings, and of documented defaults where nothing is
declared. What cannot be read before the update is left out, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from policies import spread
from policies.model import Resource, Undecided, is_true, mapping, mappings, number, text, texts
from policies.rules import aws, kafka, mongodb, neo4j, postgres, redis
from policies.spread import Placement
from policies.world import DEPLOYMENT, STATEFUL_SET, Workload, World

NODE_SILENT = 50.0
"""Seconds until Kubernetes calls a silent node lost: its default `node-monitor-grace-period`."""
_CORE = "core"
_COMPONENT = "app.kubernetes.io/component"
_SERVING_SHARE = 0.5
"""Of a core service's replicas: what must be left. An autoscaler doubles them again."""

_REDIS_PROMOTION = 10.0
"""Seconds: a vote, the promotion, and the clients' next question to a Sentinel."""
_MONGODB_ELECTION = 22.0
"""Seconds: electionTimeoutMillis (10 s), and up to 12 s until the new primary takes writes."""
_NEO4J_ELECTION = 6.0
"""Seconds, after the leader is found to be silent."""
_KAFKA_ELECTION = 6.0
"""Seconds, after the broker's session ran out: new leaders, and clients that hear of them."""

_REPLICATION = "aws:s3/BucketReplicationConfig"


class Domain(StrEnum):
    """What may fail; each takes what the ones before it take, and more."""

    SERVER = "server"
    NODE = "node"
    ZONE = "zone"
    REGION = "region"


@dataclass(frozen=True)
class Group:
    """Servers, or copies of data, of which so many must be left."""

    role: str
    placement: Placement
    quorum: int
    """That are needed to decide."""
    writes: int
    """That are needed to acknowledge a write."""

    def left(self, domain: Domain) -> int:
        """How many are left for sure."""
        lost = {
            Domain.SERVER: min(1, self.placement.servers),
            Domain.NODE: self.placement.per_host,
            Domain.ZONE: self.placement.per_zone,
            Domain.REGION: self.placement.servers,
        }
        return self.placement.servers - lost[domain]


@dataclass(frozen=True)
class System:
    """A data system, or a core service, seen as what must be left of it."""

    kind: str
    resource: Resource
    groups: tuple[Group, ...]
    failover_loss: float | None
    """Seconds of acknowledged writes that a failover may lose; None: no bound."""
    failover_time: float
    """Seconds until writes are acknowledged again."""
    backup_loss: float | None = None
    """Seconds of writes that are not in the backups yet; None: there are none."""
    buckets: frozenset[str] = frozenset()
    """That the backups go to."""

    @property
    def name(self) -> str:
        """Namespace and name."""
        return f"{self.resource.namespace}/{self.resource.object_name}"


@dataclass(frozen=True)
class Objectives:
    """What an outage may cost, in seconds; None where nothing is declared."""

    rpo: float | None
    rto: float | None


@dataclass(frozen=True)
class Verdict:
    """What becomes of one system when one domain fails."""

    system: str
    name: str
    domain: Domain
    quorum: bool
    writes: bool
    rpo_seconds: float | None
    """Acknowledged writes that may be lost; None: no bound."""
    rto_seconds: float | None
    """Until writes are acknowledged again; None: not until somebody acts."""
    meets_rpo: bool | None
    """None where no objective is declared."""
    meets_rto: bool | None
    why: str
    """What is left of what."""

    @property
    def survives(self) -> bool:
        """Whether it goes on by itself."""
        return self.quorum and self.writes


def matrix(world: World) -> tuple[list[Verdict], list[str]]:
    """Every system against every domain; and what cannot be read before the update, and why."""
    verdicts, unread = [], []
    for resource in world.of(*KINDS):
        try:
            system = system_of(resource, world)
            if system is not None:
                verdicts += [verdict(system, domain, world) for domain in Domain]
        except Undecided as reason:
            unread.append(f"{resource.name}: {reason}")
    return verdicts, unread


def verdict(system: System, domain: Domain, world: World) -> Verdict:
    """Judge one system against one domain."""
    quorum = all(each.left(domain) >= each.quorum for each in system.groups)
    writes = all(each.left(domain) >= each.writes for each in system.groups)
    regional = domain is Domain.REGION
    loss = region_loss(system, world) if regional else system.failover_loss
    time = system.failover_time if quorum and writes else None
    wanted = objectives(system, world, regional=regional)
    return Verdict(
        system=system.kind,
        name=system.name,
        domain=domain,
        quorum=quorum,
        writes=writes,
        rpo_seconds=loss,
        rto_seconds=time,
        meets_rpo=None if wanted.rpo is None else loss is not None and loss <= wanted.rpo,
        meets_rto=None if wanted.rto is None else time is not None and time <= wanted.rto,
        why="; ".join(_left(each, domain) for each in system.groups),
    )


def _left(group: Group, domain: Domain) -> str:
    needed = max(group.quorum, group.writes)
    return f"{group.left(domain)} of {group.placement.servers} {group.role} left, {needed} needed"


# Objectives -------------------------------------------------------------------------------------

OBJECTIVE = "fault-tolerance/{system}-{what}-seconds"
"""Annotation of a Namespace: what an outage of a system in it, or of `region`, may cost."""


def objectives(system: System, world: World, *, regional: bool = False) -> Objectives:
    """What the system's namespace declares.

    A region's loss can cost no less than what the system's own objective allows and the copy takes.
    """
    own = Objectives(
        _annotated(system, system.kind, "rpo", world), _annotated(system, system.kind, "rto", world)
    )
    if not regional:
        return own
    rpo = _annotated(system, "region", "rpo", world)
    if rpo is not None and own.rpo is not None and system.kind == "neo4j":
        rpo = max(rpo, own.rpo + (copy_delay(system, world) or 0))
    return Objectives(rpo, None)


def _annotated(system: System, name: str, what: str, world: World) -> float | None:
    key = OBJECTIVE.format(system=name, what=what)
    for namespace in world.with_value(
        "core/Namespace", ("metadata", "name"), system.resource.namespace
    ):
        written = text(namespace.props, "metadata", "annotations", key)
        if written.isdecimal():
            return float(written)
    return None


# Other regions ----------------------------------------------------------------------------------


def copy_delay(system: System, world: World) -> float | None:
    """Seconds until a backup is in another region; None: it is in this one alone.

    Raises:
        Undecided: if it is not known yet which bucket is copied.
    """
    delays = [_copy_delay(bucket, world) for bucket in sorted(system.buckets)]
    known = [each for each in delays if each is not None]
    return max(known) if delays and len(known) == len(delays) else None


def region_loss(system: System, world: World) -> float | None:
    """Seconds of writes that go with the region; None: all of them."""
    if not system.backup_loss:
        return system.backup_loss
    delay = copy_delay(system, world)
    return None if delay is None else system.backup_loss + delay


def _copy_delay(bucket: str, world: World) -> float | None:
    """Without Replication Time Control, S3 promises no time at all."""
    for each in world.with_value(_REPLICATION, ("bucket",), bucket):
        for rule in mappings(each.props, "rules"):
            timed = mapping(rule, "destination", "replicationTime")
            minutes = number(timed, "time", "minutes")
            enabled = text(rule, "status") == text(timed, "status") == "Enabled"
            if not enabled or not minutes or _stays(rule, bucket, world):
                continue
            if _copies_all(rule, bucket, world):
                return 60.0 * minutes
    return None


def _stays(rule: Mapping[str, object], bucket: str, world: World) -> bool:
    """Whether a rule copies into the region that it copies from, where both buckets name theirs."""
    here = _regions(bucket, world)
    # S3 names a bucket by its ARN, whose last part is its name.
    copy = text(rule, "destination", "bucket").rpartition(":")[2] if here else ""
    return bool(copy) and bool(here & _regions(copy, world))


def _regions(bucket: str, world: World) -> set[str]:
    declared = world.with_value(aws.BUCKET, ("bucket",), bucket)
    return {text(each.props, "region") for each in declared} - {""}


def _copies_all(rule: Mapping[str, object], bucket: str, world: World) -> bool:
    """Whether a rule leaves nothing out.

    Unless it is told to copy what KMS encrypts, S3 leaves that out, and says nothing.
    """
    narrowed = (
        text(rule, "prefix")
        or text(rule, "filter", "prefix")
        or mapping(rule, "filter", "tag")
        or mapping(rule, "filter", "and")
    )
    if narrowed:
        return False
    encrypted = text(rule, "sourceSelectionCriteria", "sseKmsEncryptedObjects", "status")
    return encrypted == "Enabled" or not _uses_kms(bucket, world)


def _uses_kms(bucket: str, world: World) -> bool:
    """Whether KMS encrypts what is in a bucket, where nothing else is asked for."""
    of_declared = [
        each
        for declared in world.with_value(aws.BUCKET, ("bucket",), bucket)
        for each in aws.about(declared, aws.ENCRYPTION, world)
    ]
    return any(
        text(rule, "applyServerSideEncryptionByDefault", "sseAlgorithm").startswith(aws.KMS)
        for each in of_declared or world.with_value(aws.ENCRYPTION, ("bucket",), bucket)
        for rule in mappings(each.props, "rules")
    )


# Systems ----------------------------------------------------------------------------------------

KINDS = (postgres.CLUSTER, mongodb.MONGODB, kafka.KAFKA, STATEFUL_SET, DEPLOYMENT)
"""What may be a system."""


def system_of(resource: Resource, world: World) -> System | None:
    """See a resource as a system; None if it is none.

    Raises:
        Undecided: if what it declares cannot be read before the update.
    """
    return world.once(_system_of, resource)


def _system_of(resource: Resource, world: World) -> System | None:
    match resource.kind:
        case postgres.CLUSTER:
            return _postgres(resource, world)
        case mongodb.MONGODB:
            return _mongodb(resource, world)
        case kafka.KAFKA:
            return _kafka(resource, world)
        case _:
            return _workload(resource, world)


def _majority(voters: int) -> int:
    return voters // 2 + 1


def _postgres(resource: Resource, world: World) -> System:
    count, needed = postgres.instances_of(resource), postgres.synchronous(resource)
    placement = spread.placed(
        count, postgres.pod(resource), spread.zones(world), spread.any_selector
    )
    # R + W > N: of the standbys that must have a write, one must be among those that are left.
    quorum = count - needed if needed else 1
    return System(
        "postgres",
        resource,
        (Group("instances", placement, quorum=quorum, writes=1 + needed),),
        failover_loss=0.0 if needed else None,
        failover_time=postgres.failover_seconds(resource, NODE_SILENT),
        backup_loss=postgres.archive_timeout(resource) if postgres.archives(resource) else None,
        buckets=frozenset(_archive_bucket(resource, world)),
    )


def _archive_bucket(cluster: Resource, world: World) -> set[str]:
    plugin = postgres.archiver(cluster) or {}
    name = text(plugin, "parameters", "barmanObjectName")
    store = world.named("barmancloud.cnpg.io/ObjectStore", cluster.namespace, name)
    configuration = (
        mapping(store.props, "spec", "configuration") if store else postgres.in_tree_store(cluster)
    )
    path = text(configuration, "destinationPath")
    return {path.removeprefix("s3://").partition("/")[0]} - {""}


def _mongodb(resource: Resource, world: World) -> System:
    zones, groups = spread.zones(world), []
    for where, replset in mongodb.replica_sets(resource):
        members, voters = mongodb.members(replset), mongodb.voters(replset)
        placement = spread.placed(members, mongodb.pod(replset), zones, spread.any_selector)
        # Other voters, arbiters among them, hold no data here: the members alone must do.
        role = f"members of {where.rpartition('.')[2]}"
        groups.append(Group(role, placement, quorum=_majority(voters), writes=_majority(voters)))
    recoverable = is_true(resource.props, "spec", "backup", "pitr", "enabled")
    return System(
        "mongodb",
        resource,
        tuple(groups),
        failover_loss=0.0,
        failover_time=_MONGODB_ELECTION,
        backup_loss=mongodb.oplog_span(resource) if recoverable else None,
        buckets=frozenset(mongodb.buckets(resource)),
    )


def _kafka(resource: Resource, world: World) -> System:
    controllers = _pools(resource, kafka.CONTROLLER, world)
    brokers = _pools(resource, kafka.BROKER, world)
    groups = [Group("controllers", controllers, quorum=_majority(controllers.servers), writes=0)]
    topics = {"a topic": (kafka.replication_factor(resource), kafka.min_in_sync(resource))}
    for topic in kafka.topics(resource, world):
        topics[f"topic {topic.object_name}"] = kafka.topic_copies(topic, resource)
    told = set()
    for name, (copies, in_sync) in topics.items():
        if (copies, in_sync) not in told:
            told.add((copies, in_sync))
            placement = _copies(copies, brokers, resource, world)
            groups.append(Group(f"copies of {name}", placement, quorum=1, writes=in_sync))
    return System(
        "kafka",
        resource,
        tuple(groups),
        failover_loss=None if kafka.loses_acknowledged(resource) else 0.0,
        failover_time=kafka.session_timeout(resource) + _KAFKA_ELECTION,
    )


def _pools(cluster: Resource, role: str, world: World) -> Placement:
    """All servers of a role; each pool is spread by itself, so their worst zones may coincide."""
    zones = spread.zones(world)
    placements = [
        spread.placed(
            int(number(each.props, "spec", "replicas") or 0),
            kafka.pod_template(each, world),
            zones,
            spread.any_selector,
        )
        for each in kafka.pools(cluster, world)
        if role in texts(each.props, "spec", "roles")
    ]
    return Placement(
        sum(each.servers for each in placements),
        sum(each.per_zone for each in placements),
        sum(each.per_host for each in placements),
    )


def _copies(copies: int, brokers: Placement, cluster: Resource, world: World) -> Placement:
    """Copies of a partition: on different brokers, and in different zones if these are known.

    Zones that are known say nothing where all brokers may lie in one.
    """
    copies = min(copies, brokers.servers)
    per_zone = min(copies, brokers.per_zone)
    if kafka.knows_zones(cluster) and brokers.per_zone < brokers.servers:
        per_zone = min(per_zone, -(-copies // spread.zones(world)))
    return Placement(copies, per_zone, min(per_zone, brokers.per_host))


def _workload(resource: Resource, world: World) -> System | None:
    workload = world.workload(resource)
    if resource.kind == STATEFUL_SET and redis.role_of(workload) == redis.DATA:
        return _redis(workload, world)
    if resource.kind == STATEFUL_SET and (group := neo4j.cluster(resource, world)):
        return _neo4j(group, world) if group[0].resource is resource else None
    if text(workload.labels, _COMPONENT) == _CORE:
        return _service(workload, world)
    return None


def _redis(servers: Workload, world: World) -> System:
    sentinels = [
        each
        for each in map(world.workload, world.within(servers.resource.namespace, STATEFUL_SET))
        if redis.role_of(each) == redis.SENTINEL
        and each.resource.object_name.startswith(servers.resource.object_name)
    ]
    needed = redis.min_replicas_to_write(servers, world)
    groups = [Group("data servers", _place(servers, world), quorum=1, writes=1 + needed)]
    groups += [
        Group(
            "Sentinels",
            _place(each, world),
            quorum=max(_majority(each.replicas), redis.quorum_of(each, world)[1] or 0),
            writes=0,
        )
        for each in sentinels
    ] or [Group("Sentinels", Placement(0, 0, 0), quorum=1, writes=0)]
    silent = max((redis.down_after(each, world) for each in sentinels), default=0.0)
    return System(
        "redis",
        servers.resource,
        tuple(groups),
        failover_loss=redis.max_lag(servers, world) if needed else None,
        failover_time=silent + _REDIS_PROMOTION,
    )


def _neo4j(group: list[Workload], world: World) -> System:
    placements = [_place(each, world) for each in group]
    servers = sum(each.servers for each in placements)

    def apart(key: str) -> bool:
        """Whether each of them keeps away from every one, for none sees to it for the others."""
        return all(spread.is_strict(a.pod, key, b.labels) for a in group for b in group)

    per_zone = -(-servers // spread.zones(world)) if apart(spread.ZONE) else servers
    per_host = 1 if apart(spread.HOST) else per_zone
    copies = min(neo4j.primaries(group[0], world), servers)
    zone_of_copies = min(copies, per_zone)
    namespace = group[0].resource.namespace
    return System(
        "neo4j",
        group[0].resource,
        (
            Group(
                "servers",
                Placement(servers, per_zone, per_host),
                quorum=_majority(servers),
                writes=_majority(servers),
            ),
            Group(
                "copies of a database",
                Placement(copies, zone_of_copies, min(zone_of_copies, per_host)),
                quorum=_majority(copies),
                writes=_majority(copies),
            ),
        ),
        # A server that is alone restarts from its volume, which has all that it acknowledged.
        failover_loss=0.0,
        failover_time=neo4j.detection(group[0], world) + _NEO4J_ELECTION,
        backup_loss=neo4j.backup_interval(group[0].resource, world),
        buckets=frozenset(neo4j.backup_buckets(namespace, world)),
    )


def _service(workload: Workload, world: World) -> System:
    replicas = world.least_replicas(workload)[0]
    placement = spread.placed(
        replicas, workload.pod, spread.zones(world), spread.own_labels(workload.labels)
    )
    needed = math.ceil(replicas * _SERVING_SHARE)
    group = Group("replicas", placement, quorum=0, writes=needed)
    # It keeps nothing, and the other replicas serve at once.
    return System("service", workload.resource, (group,), 0.0, 0.0, backup_loss=0.0)


def _place(workload: Workload, world: World) -> Placement:
    return spread.placed(
        workload.replicas,
        workload.pod,
        spread.zones(world),
        spread.own_labels(workload.labels),
    )


# Telling ----------------------------------------------------------------------------------------


def written(world: World) -> dict[str, object]:
    """The matrix as plain data for JSON: what `build/survival-<stack>.json` holds."""
    verdicts, unread = matrix(world)
    return {
        "zones": spread.zones(world),
        "verdicts": [asdict(each) | {"survives": each.survives} for each in verdicts],
        "unread": unread,
    }


def table(world: World) -> Iterator[str]:
    """The matrix as lines for people: a system each, and whether it goes on."""
    verdicts, unread = matrix(world)
    if not verdicts and not unread:
        yield "nothing to lose: neither a data system nor a core service is declared"
        return
    width = max((len(f"{each.system} {each.name}") for each in verdicts), default=0)
    yield f"{'':{width}}  " + "  ".join(f"{domain:8}" for domain in Domain)
    by_system: dict[str, dict[Domain, Verdict]] = {}
    for each in verdicts:
        by_system.setdefault(f"{each.system} {each.name}", {})[each.domain] = each
    for name, judged in by_system.items():
        words = (f"{_word(judged[domain]):8}" for domain in Domain)
        yield f"{name:{width}}  {'  '.join(words)}".rstrip()
    for reason in unread:
        yield f"not read: {reason}"


def _word(verdict: Verdict) -> str:
    if verdict.survives:
        return "goes on"
    return "restore" if verdict.rpo_seconds is not None else "lost"
