"""MongoDB as Percona's operator runs it: a majority that outlives a zone, and a way back in time.

The API server accepts a wrong TLS mode, a schedule that cannot be read, an even number of members
and a storage that does not exist. The operator refuses all but the first, by doing nothing for the
whole cluster any more, and says so in its status; the TLS mode goes unnoticed by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies import cron
from policies.model import Resource, at, is_true, mapping, mappings, number, numbered, text, texts
from policies.rule import Finding, Option, Options, Severity, rule
from policies.spread import HOST, ZONE, is_strict
from policies.world import World

MONGODB = "psmdb.percona.com/PerconaServerMongoDB"

_MOST_VOTERS = 7
"""MongoDB allows no more."""
_OPLOG_SPAN = 10.0
"""Minutes: the operator's default for `oplogSpanMin`."""
_FULL_TYPES = frozenset({"logical", "physical", "incremental-base"})
"""Backups from which a restore can start."""
_NO_AFFINITY = "none"

_OPERATOR = "https://docs.percona.com/percona-operator-for-mongodb"
_CR = f"{_OPERATOR}/operator.html"
_MONGODB = "https://www.mongodb.com/docs/manual/core"


def _mongodb(spec: str) -> str:
    return f"{{kind: PerconaServerMongoDB, metadata: {{name: mongodb}}, spec: {spec}}}"


def _replset(spec: str) -> str:
    return _mongodb(f"{{replsets: [{{name: rs0, {spec}}}]}}")


def _tasks(*tasks: str) -> str:
    return _mongodb(f"{{backup: {{tasks: [{', '.join(tasks)}]}}}}")


@rule(
    "mongodb-members",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="A primary needs the votes of a majority: of two members, both. An even number survives no "
    "more losses than one fewer, and more than seven cannot vote.",
    source=f"{_MONGODB}/replica-set-architectures/",
    remedy="Run three, five or seven voting members.",
    options={
        "minimum": Option(3, {"type": "integer", "minimum": 1}, "Members that vote at least.")
    },
    passing=_replset("size: 5"),
    failing=_replset("size: 4"),
)
def mongodb_members(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Count the votes of each replica set; arbiters and external nodes vote too."""
    least = int(options["minimum"])
    for where, replset in replica_sets(resource):
        count = voters(replset)
        if count < least or count % 2 == 0 or count > _MOST_VOTERS:
            wanted = min(max(least | 1, count | 1), _MOST_VOTERS)
            yield Finding(f"{where}.size", f"{count} voters", f"Set {where}.size to {wanted}.")


@rule(
    "mongodb-no-arbiter",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="An arbiter votes but holds no data: with one member lost, a majority is left that cannot "
    "acknowledge a write on a majority.",
    source=f"{_MONGODB}/replica-set-arbiter/",
    remedy="Run one more member with data instead of the arbiter.",
    passing=_replset("arbiter: {enabled: false, size: 1}"),
    failing=_replset("size: 4, arbiter: {enabled: true, size: 1}"),
)
def mongodb_no_arbiter(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse voters without data."""
    for where, replset in replica_sets(resource):
        if is_true(replset, "arbiter", "enabled"):
            yield Finding(
                f"{where}.arbiter.enabled",
                "true",
                f"Set {where}.arbiter.enabled to false, and {where}.size to an odd number.",
            )


@rule(
    "mongodb-zone-spread",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="The operator keeps members on different hosts only: a majority of them may lie in one "
    "zone, and is lost with it.",
    source=f"{_OPERATOR}/constraints.html",
    remedy="Add a strict topology spread over zones to each replica set.",
    passing=_replset("size: 3"),
    failing=_replset("topologySpreadConstraints: []"),
)
def mongodb_zone_spread(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a spread that the scheduler must keep."""
    for where, replset in replica_sets(resource):
        if voters(replset) > 1 and not is_strict(pod(replset), ZONE):
            yield Finding(
                f"{where}.topologySpreadConstraints",
                f"no strict spread over {ZONE}",
                f"Add {{topologyKey: {ZONE}, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, "
                f"labelSelector: the members' labels}} to {where}.topologySpreadConstraints.",
            )


@rule(
    "mongodb-tls",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="The default, preferTLS, accepts connections in clear. Any other word is accepted by the "
    "operator, and the servers do not start.",
    source=f"{_OPERATOR}/TLS.html",
    remedy="Set tls.mode to requireTLS.",
    passing=_mongodb("{tls: {mode: requireTLS}}"),
    failing=_mongodb("{tls: {mode: preferTLS}}"),
)
def mongodb_tls(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require TLS."""
    mode = text(resource.props, "spec", "tls", "mode")
    if mode != "requireTLS":
        yield Finding(
            "spec.tls.mode", mode or "not set (preferTLS)", "Set spec.tls.mode to requireTLS."
        )


@rule(
    "mongodb-unsafe-flags",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="Each of these flags switches off a check by which the operator refuses a cluster that "
    "loses data or its majority.",
    source=f"{_CR}#unsafeflags-section",
    remedy="Remove unsafeFlags.",
    passing=_mongodb("{unsafeFlags: {replsetSize: false}}"),
    failing=_mongodb("{unsafeFlags: {backupIfUnhealthy: true}}"),
)
def mongodb_unsafe_flags(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse the flags."""
    flags = mapping(resource.props, "spec", "unsafeFlags")
    for flag in flags:
        if is_true(flags, flag):
            yield Finding(f"spec.unsafeFlags.{flag}", "true", f"Remove spec.unsafeFlags.{flag}.")


@rule(
    "mongodb-pinned-version",
    Severity.MEDIUM,
    kinds=(MONGODB,),
    why="A crVersion that is missing becomes that of whichever operator ran at the creation; the "
    "program does not say which. Where it may, the operator's version service changes the servers' "
    "version at a time that nobody chose.",
    source=f"{_OPERATOR}/update.html",
    remedy="Set crVersion, and upgradeOptions.apply to disabled.",
    passing=_mongodb("{crVersion: 1.22.0, upgradeOptions: {apply: disabled}}"),
    failing=_mongodb("{upgradeOptions: {apply: recommended}}"),
)
def mongodb_pinned_version(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require that versions change only with the program."""
    if not text(resource.props, "spec", "crVersion"):
        yield Finding("spec.crVersion", "not set", "Set spec.crVersion to the operator's version.")
    where = "spec.upgradeOptions.apply"
    apply = text(resource.props, *where.split("."))
    if apply.lower() not in {"", "disabled", "never"}:
        yield Finding(where, apply, f"Set {where} to disabled.")


@rule(
    "mongodb-keeps-volumes",
    Severity.HIGH,
    kinds=(MONGODB,),
    why="With this finalizer, whoever deletes the cluster's resource by mistake deletes its "
    "volumes; storage in an emptyDir goes with each Pod.",
    source=f"{_CR}#metadata",
    remedy="Remove the finalizer percona.com/delete-psmdb-pvc, and keep data on volumes.",
    passing="{kind: PerconaServerMongoDB, metadata: {name: mongodb, finalizers: []}}",
    failing="""
        kind: PerconaServerMongoDB
        metadata: {name: mongodb, finalizers: [percona.com/delete-psmdb-pvc]}
    """,
)
def mongodb_keeps_volumes(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse volumes that go with the cluster or the Pod."""
    finalizer = "percona.com/delete-psmdb-pvc"
    if finalizer in texts(resource.props, "metadata", "finalizers"):
        yield Finding("metadata.finalizers", finalizer, f"Remove {finalizer}.")
    for where, replset in replica_sets(resource):
        for kind in ("emptyDir", "hostPath"):
            if at(replset, "volumeSpec", kind) is not None:
                yield Finding(
                    f"{where}.volumeSpec.{kind}",
                    "set",
                    f"Use {where}.volumeSpec.persistentVolumeClaim instead.",
                )


# Backups ----------------------------------------------------------------------------------------


@rule(
    "mongodb-backup",
    Severity.CRITICAL,
    kinds=(MONGODB,),
    why="Replicas repeat every mistake at once; only a full backup leads back before it. Nothing "
    "of the oplog is uploaded either until there is one.",
    source=f"{_OPERATOR}/backups-scheduled.html",
    remedy="Enable backups, with a scheduled task of type logical, physical or incremental-base.",
    passing=_mongodb("{backup: {enabled: true}}"),
    failing=_mongodb("{backup: {enabled: false}}"),
)
def mongodb_backup(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a task from which a restore can start; a cluster without a life of its own has none.

    The operator takes no backups of one that is `unmanaged`, a standby of another cluster.
    """
    if is_true(resource.props, "spec", "unmanaged"):
        return
    if not is_true(resource.props, "spec", "backup", "enabled"):
        yield Finding("spec.backup.enabled", "not true", "Set spec.backup.enabled to true.")
    elif not any(task_type(each) in _FULL_TYPES for _, each in tasks(resource)):
        yield Finding(
            "spec.backup.tasks",
            "no enabled task of type logical, physical or incremental-base",
            'Add {name: daily, enabled: true, schedule: "0 3 * * *", type: logical, storageName: …}'
            ".",
        )


@rule(
    "mongodb-backup-schedule",
    Severity.CRITICAL,
    kinds=(MONGODB,),
    why="At a schedule that it cannot read the operator stops, before it looks at the members: no "
    "backup is made, and no change arrives. Its status says so.",
    source=f"{_OPERATOR}/backups-scheduled.html",
    remedy="Write five fields, such as 0 3 * * *.",
    passing=_mongodb("{backup: {enabled: true}}"),
    failing=_tasks(
        '{name: base, enabled: true, schedule: "0 0 3 * * 0"}',
    ),
)
def mongodb_backup_schedule(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Read each schedule as the operator will."""
    for where, task in tasks(resource):
        schedule = text(task, "schedule")
        try:
            gap = cron.longest_gap(schedule)
            problem = "it never runs" if gap is None else None
        except ValueError as error:
            problem = str(error)
        if problem:
            yield Finding(
                f"{where}.schedule",
                f"{schedule!r}: {problem}",
                f'Set {where}.schedule, for example to "0 3 * * *".',
            )


@rule(
    "mongodb-backup-storage",
    Severity.CRITICAL,
    kinds=(MONGODB,),
    why="At a task whose storage does not exist the operator stops, before it looks at the "
    "members: no backup is made, and no change arrives. Its status says so.",
    source=f"{_OPERATOR}/backups-storage.html",
    remedy="Let each task name one of spec.backup.storages.",
    passing=_mongodb("{backup: {enabled: true}}"),
    failing=_tasks("{name: daily, storageName: elsewhere}"),
)
def mongodb_backup_storage(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find tasks that name no declared storage."""
    storages = mapping(resource.props, "spec", "backup", "storages")
    for where, task in tasks(resource):
        name = text(task, "storageName")
        if name not in storages:
            known = ", ".join(storages) or "none is declared"
            yield Finding(
                f"{where}.storageName",
                name or "not set",
                f"Set {where}.storageName to one of spec.backup.storages: {known}.",
            )


@rule(
    "mongodb-incremental-base",
    Severity.CRITICAL,
    kinds=(MONGODB,),
    why="An increment restores nothing without the base that it builds on, in the same storage.",
    source=f"{_OPERATOR}/backups-incremental.html",
    remedy="Schedule an incremental-base in the storage of the incremental task.",
    passing=_mongodb("{backup: {enabled: true}}"),
    failing=_tasks("{name: base, type: logical}"),
)
def mongodb_incremental_base(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find increments without their base."""
    bases = {
        text(each, "storageName")
        for _, each in tasks(resource)
        if task_type(each) == "incremental-base"
    }
    for where, task in tasks(resource):
        storage = text(task, "storageName")
        if task_type(task) == "incremental" and storage not in bases:
            yield Finding(
                f"{where}.type",
                f"incremental, without an incremental-base in {storage or 'its storage'}",
                "Add an enabled task of type incremental-base with storageName: "
                f"{storage or 'the same'}.",
            )


@rule(
    "mongodb-point-in-time",
    Severity.CRITICAL,
    kinds=(MONGODB,),
    why="Without point-in-time recovery a restore goes back to the last backup; with it, to the "
    "last span of the oplog that was uploaded.",
    source=f"{_OPERATOR}/backups-pitr.html",
    remedy="Set backup.pitr.enabled to true, and oplogSpanMin within the RPO.",
    options={"rpo": Option(300, {"type": "integer", "minimum": 1}, "Seconds of writes at risk.")},
    passing=_mongodb("{backup: {pitr: {enabled: true, oplogSpanMin: 1}}}"),
    failing=_mongodb("{backup: {pitr: {oplogSpanMin: null}}}"),
)
def mongodb_point_in_time(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Require spans that are never longer than the RPO."""
    if not is_true(resource.props, "spec", "backup", "enabled"):
        return
    if not is_true(resource.props, "spec", "backup", "pitr", "enabled"):
        where = "spec.backup.pitr.enabled"
        yield Finding(where, "not true", f"Set {where} to true.")
        return
    span, most = oplog_span(resource), options["rpo"]
    if span > most:
        where = "spec.backup.pitr.oplogSpanMin"
        yield Finding(where, f"{span / 60:g} min", f"Set {where} to {most / 60:g} or less.")


# Reading ----------------------------------------------------------------------------------------


def replica_sets(resource: Resource) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The replica sets of a cluster, that of the configuration servers too, and their places."""
    for index, replset in numbered(resource.props, "spec", "replsets"):
        yield f"spec.replsets[{text(replset, 'name') or index}]", replset
    if is_true(resource.props, "spec", "sharding", "enabled"):
        where = "spec.sharding.configsvrReplSet"
        yield where, mapping(resource.props, *where.split("."))


def members(replset: Mapping[str, object]) -> int:
    """Members that vote and hold data, in this Kubernetes."""
    return int(number(replset, "size") or 0)


def voters(replset: Mapping[str, object]) -> int:
    """All members that vote: of this Kubernetes, arbiters, and of elsewhere."""
    arbiters = is_true(replset, "arbiter", "enabled") and number(replset, "arbiter", "size")
    elsewhere = sum(int(number(each, "votes") or 0) for each in mappings(replset, "externalNodes"))
    return members(replset) + int(arbiters or 0) + elsewhere


def pod(replset: Mapping[str, object]) -> Mapping[str, object]:
    """The scheduling rules of the members in the form of a Pod's; the operator's default is hosts.

    `affinity.advanced` wins over `antiAffinityTopologyKey`.
    """
    advanced = mapping(replset, "affinity", "advanced")
    key = text(replset, "affinity", "antiAffinityTopologyKey") or HOST
    required = [] if key == _NO_AFFINITY else [{"topologyKey": key}]
    return {
        "affinity": advanced
        or {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "topologySpreadConstraints": mappings(replset, "topologySpreadConstraints"),
    }


def tasks(resource: Resource) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The backup tasks that are enabled, and their places."""
    if not is_true(resource.props, "spec", "backup", "enabled"):
        return
    for index, task in numbered(resource.props, "spec", "backup", "tasks"):
        if is_true(task, "enabled"):
            yield f"spec.backup.tasks[{text(task, 'name') or index}]", task


def task_type(task: Mapping[str, object]) -> str:
    """The operator's default is a logical backup."""
    return text(task, "type") or "logical"


def oplog_span(resource: Resource) -> float:
    """Seconds between two uploads of the oplog; the operator also takes the number as text."""
    found = at(resource.props, "spec", "backup", "pitr", "oplogSpanMin")
    try:
        minutes = float(found)
    except (TypeError, ValueError):
        minutes = 0.0
    return 60 * (minutes or _OPLOG_SPAN)


def buckets(resource: Resource) -> set[str]:
    """The S3 buckets that its backups go to."""
    storages = mapping(resource.props, "spec", "backup", "storages")
    return {text(storages, name, "s3", "bucket") for name in storages} - {""}
