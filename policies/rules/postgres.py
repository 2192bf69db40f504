"""PostgreSQL as a CloudNativePG Cluster: no acknowledged write lost, and a way back in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.model import Resource, at, is_true, mapping, mappings, number, text
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.spread import HOST, ZONE, is_strict
from policies.world import World

CLUSTER = "postgresql.cnpg.io/Cluster"
POOLER = "postgresql.cnpg.io/Pooler"
SCHEDULED_BACKUP = "postgresql.cnpg.io/ScheduledBackup"

_DOCS = "https://cloudnative-pg.io/docs/1.30"
_REPLICATION = f"{_DOCS}/replication/#synchronous-replication"
_BACKUP = f"{_DOCS}/backup/"
_PLUGIN = "barman-cloud.cloudnative-pg.io"
_ARCHIVE_TIMEOUT = 300
"""Seconds: CloudNativePG's default for `archive_timeout`."""
_LEASE = 15
"""Seconds: CloudNativePG's default for how long the primary's lease lasts."""
_PROMOTION = 10
"""Seconds: CloudNativePG's own threshold for a failover."""
_LIVENESS = 30
"""Seconds: CloudNativePG's default for how long a server may fail its liveness probe."""
_EXTERNAL = (
    ("bootstrap", "recovery", "source"),
    ("bootstrap", "pg_basebackup", "source"),
    ("replica", "source"),
    ("replica", "primary"),
    ("replica", "self"),
)
"""Where a Cluster names one of its external clusters."""
_DELAYS = {"switchoverDelay": 3600, "stopDelay": 1800}
"""Seconds: CloudNativePG's defaults."""


def _cluster(spec: str) -> str:
    return f"{{kind: Cluster, metadata: {{name: postgres}}, spec: {spec}}}"


@rule(
    "postgres-instances",
    Severity.HIGH,
    kinds=(CLUSTER,),
    why="With fewer than three instances, the loss of one leaves no standby to acknowledge "
    "writes: they stop, or are at risk.",
    source=f"{_DOCS}/replication/",
    remedy="Set spec.instances to 3 or more.",
    options={"minimum": Option(3, {"type": "integer", "minimum": 1}, "Instances at least.")},
    passing=_cluster("{instances: 3}"),
    failing=_cluster("{instances: 2}"),
)
def postgres_instances(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Count the instances."""
    instances, minimum = instances_of(resource), int(options["minimum"])
    if instances < minimum:
        yield Finding("spec.instances", str(instances), f"Set spec.instances to {minimum}.")


@rule(
    "postgres-synchronous",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    why="Replication is asynchronous by default: a failover loses what was acknowledged but not "
    "yet copied.",
    source=_REPLICATION,
    remedy="Set postgresql.synchronous.number to 1 or more, and below instances.",
    passing=_cluster("{postgresql: {synchronous: {method: any, number: 1}}}"),
    failing=_cluster("{postgresql: {synchronous: {number: 3}}}"),
)
def postgres_synchronous(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require synchronous standbys, but fewer than there are instances."""
    where = "spec.postgresql.synchronous.number"
    standbys, instances = synchronous(resource), instances_of(resource)
    if standbys < 1:
        yield Finding(where, str(standbys or "not set"), f"Set {where} to 1, with method: any.")
    elif standbys >= instances:
        yield Finding(
            where,
            f"{standbys} with {instances} instances, so writes stop when one is lost",
            f"Set {where} to {max(1, instances - 2)}.",
        )


@rule(
    "postgres-durability",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    why="With dataDurability: preferred, writes are acknowledged without a standby whenever none "
    "is there: just when the primary is the only copy.",
    source=f"{_DOCS}/replication/#data-durability-and-synchronous-replication",
    remedy="Set postgresql.synchronous.dataDurability to required.",
    passing=_cluster("{postgresql: {synchronous: {dataDurability: required}}}"),
    failing=_cluster("{postgresql: {synchronous: {dataDurability: preferred}}}"),
)
def postgres_durability(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse durability that gives way; CloudNativePG's default is `required`."""
    where = "spec.postgresql.synchronous.dataDurability"
    durability = text(resource.props, *where.split(".")) or "required"
    if synchronous(resource) and durability != "required":
        yield Finding(where, durability, f"Set {where} to required.")


@rule(
    "postgres-failover-quorum",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    why="Only the failover quorum (R + W > N) makes sure that what is promoted has every "
    "acknowledged write.",
    source=f"{_DOCS}/failover/#failover-quorum-quorum-based-failover",
    remedy="Set postgresql.synchronous.failoverQuorum to true.",
    passing=_cluster("{postgresql: {synchronous: {failoverQuorum: true}}}"),
    failing=_cluster("{postgresql: {synchronous: {failoverQuorum: false}}}"),
)
def postgres_failover_quorum(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require the quorum where there is something to fail over to."""
    where = "spec.postgresql.synchronous.failoverQuorum"
    on = is_true(resource.props, *where.split("."))
    if synchronous(resource) and instances_of(resource) > 1 and not on:
        yield Finding(where, "not true", f"Set {where} to true.")


@rule(
    "postgres-zone-affinity",
    Severity.HIGH,
    kinds=(CLUSTER,),
    why="Preferred anti-affinity, the default, may put primary and standbys into one zone.",
    source=f"{_DOCS}/scheduling/#pod-affinity-and-anti-affinity",
    remedy=f"Set affinity.podAntiAffinityType to required and topologyKey to {ZONE}; with more "
    "instances than zones, spread them by topologySpreadConstraints with DoNotSchedule.",
    passing=_cluster(f"{{affinity: {{podAntiAffinityType: required, topologyKey: {ZONE}}}}}"),
    failing=_cluster("{affinity: {podAntiAffinityType: preferred}}"),
)
def postgres_zone_affinity(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require that not all instances may share a zone."""
    if instances_of(resource) <= 1 or is_strict(pod(resource), ZONE):
        return
    affinity = mapping(resource.props, "spec", "affinity")
    if at(affinity, "enablePodAntiAffinity") is False:
        where = "spec.affinity.enablePodAntiAffinity"
        yield Finding(where, "false", f"Set {where} to true.")
    for key, wanted in {"podAntiAffinityType": "required", "topologyKey": ZONE}.items():
        found = text(affinity, key)
        if found != wanted:
            where = f"spec.affinity.{key}"
            yield Finding(where, found or "not set", f"Set {where} to {wanted}.")


@rule(
    "postgres-delays",
    Severity.MEDIUM,
    kinds=(CLUSTER,),
    why="switchoverDelay bounds the shutdown of an old primary that still answers, in a switchover "
    "and in a failover: its default of an hour is an outage of an hour.",
    source=f"{_DOCS}/instance_manager/#shutdown-control",
    remedy="Set switchoverDelay and stopDelay within the bounds.",
    options={
        "switchoverDelay": Option(300, {"type": "integer", "minimum": 1}, "Seconds at most."),
        "stopDelay": Option(1800, {"type": "integer", "minimum": 1}, "Seconds at most."),
    },
    passing=_cluster("{switchoverDelay: 120, stopDelay: 180}"),
    failing=_cluster("{switchoverDelay: null}"),
)
def postgres_delays(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Bound the delays."""
    for key, default in _DELAYS.items():
        declared = number(resource.props, "spec", key)
        seconds, most = default if declared is None else declared, options[key]
        if seconds > most:
            found = f"not set ({default} s)" if declared is None else f"{seconds} s"
            yield Finding(f"spec.{key}", found, f"Set spec.{key} to {most} or less.")


@rule(
    "postgres-wal-archive",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    why="Without an archive of the write-ahead log, a restore goes back to the last base backup; "
    "with one, to `archive_timeout` before the loss.",
    source=f"{_DOCS}/wal_archiving/",
    remedy="Let the Barman Cloud plugin archive the WAL, with archive_timeout within the RPO.",
    options={"rpo": Option(300, {"type": "integer", "minimum": 1}, "Seconds of writes at risk.")},
    passing=_cluster("{postgresql: {parameters: {archive_timeout: 5min}}}"),
    failing=_cluster("{plugins: []}"),
)
def postgres_wal_archive(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Require an archive that is never further behind than the RPO."""
    if not archives(resource):
        yield Finding(
            "spec.plugins",
            "none archives the WAL",
            f"Add {{name: {_PLUGIN}, isWALArchiver: true, parameters: {{barmanObjectName: …}}}}.",
        )
        return
    timeout = archive_timeout(resource)
    if timeout is None or timeout > options["rpo"]:
        where = "spec.postgresql.parameters.archive_timeout"
        written = at(resource.props, *where.split("."))
        yield Finding(
            where, f"{written}, not within the RPO", f"Set {where} to {options['rpo']}s or less."
        )


@rule(
    "postgres-scheduled-backup",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    scope=Scope.STACK,
    why="An archived log is worth nothing without a base backup to start from.",
    source=_BACKUP,
    remedy="Declare a ScheduledBackup for the cluster.",
    passing="""
        kind: ScheduledBackup
        metadata: {name: postgres}
        spec: {cluster: {name: postgres}}
    """,
    failing="{kind: ScheduledBackup, metadata: {name: postgres}, $delete: true}",
)
def postgres_scheduled_backup(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for a schedule that is not suspended."""
    schedules = world.with_value(
        SCHEDULED_BACKUP, ("spec", "cluster", "name"), resource.object_name
    )
    if not any(
        each.namespace == resource.namespace and not is_true(each.props, "spec", "suspend")
        for each in schedules
    ):
        yield Finding(
            "ScheduledBackup",
            f"none names Cluster {resource.object_name} in namespace {resource.namespace}",
            f"Declare a ScheduledBackup there with spec.cluster.name: {resource.object_name} and "
            "method: plugin.",
        )


@rule(
    "postgres-backup-method",
    Severity.HIGH,
    kinds=(SCHEDULED_BACKUP, CLUSTER),
    why="The default method is the in-tree one, which CloudNativePG has deprecated.",
    source=_BACKUP,
    remedy="Set spec.method to plugin, or to volumeSnapshot; archive with the plugin too.",
    passing="{kind: ScheduledBackup, metadata: {name: postgres}, spec: {method: plugin}}",
    failing="{kind: ScheduledBackup, metadata: {name: postgres}, spec: {method: null}}",
)
def postgres_backup_method(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse the deprecated method."""
    if resource.kind == CLUSTER:
        if in_tree_store(resource):
            yield Finding(
                "spec.backup.barmanObjectStore",
                "the in-tree store",
                f"Move it to an ObjectStore, and add plugin {_PLUGIN} to spec.plugins.",
            )
        return
    method = text(resource.props, "spec", "method")
    if method not in {"plugin", "volumeSnapshot"}:
        yield Finding(
            "spec.method",
            method or "not set (barmanObjectStore)",
            "Set spec.method to plugin, with spec.pluginConfiguration.name: " + _PLUGIN + ".",
        )


@rule(
    "postgres-isolation-check",
    Severity.CRITICAL,
    kinds=(CLUSTER,),
    why="The check stops a primary that reaches neither the API server nor all of the other "
    "instances. Without it, clients on its side of a cut may still read from it, and wait on it, "
    "while another is primary.",
    source=f"{_DOCS}/instance_manager/#primary-isolation",
    remedy="Leave probes.liveness.isolationCheck as it is by default: enabled.",
    passing=_cluster("{probes: {liveness: {isolationCheck: {enabled: true}}}}"),
    failing=_cluster("{probes: {liveness: {isolationCheck: {enabled: false}}}}"),
)
def postgres_isolation_check(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse to switch it off; CloudNativePG's default is on."""
    where = "spec.probes.liveness.isolationCheck.enabled"
    if at(resource.props, *where.split(".")) is False:
        yield Finding(where, "false", f"Remove {where}.")


_MOST_GRACE_SECONDS = 5
"""Less than any shutdown in order takes while clients are connected."""


@rule(
    "postgres-isolated-shutdown",
    Severity.HIGH,
    kinds=(CLUSTER,),
    why="An isolated primary that shuts down in order archives the end of its log once the "
    "network is back. A standby that restores it while another is promoted follows nobody any "
    "more, and the next failover may promote it: what was acknowledged in between is lost.",
    source="https://github.com/cloudnative-pg/cloudnative-pg/issues/4990",
    remedy="Have an isolated primary killed: probes.liveness.terminationGracePeriodSeconds: 1.",
    passing=_cluster("{probes: {liveness: {terminationGracePeriodSeconds: 1}}}"),
    failing=_cluster("{probes: {liveness: {terminationGracePeriodSeconds: 30}}}"),
)
def postgres_isolated_shutdown(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Where standbys restore from an archive, leave an isolated primary no time for a shutdown."""
    where = "spec.probes.liveness.terminationGracePeriodSeconds"
    given = number(resource.props, *where.split("."))
    if instances_of(resource) == 1 or not archives(resource):
        return
    if given is None or given > _MOST_GRACE_SECONDS:
        yield Finding(
            where,
            "not set (as long as a shutdown takes)" if given is None else f"{given:g} s",
            f"Set {where} to 1, at most {_MOST_GRACE_SECONDS}.",
        )


@rule(
    "postgres-wal-volume",
    Severity.MEDIUM,
    kinds=(CLUSTER,),
    why="Log and data on one volume fill it together: an archive that is away for long stops the "
    "server for want of room, and takes the room to mend it.",
    source=f"{_DOCS}/storage/#volume-for-wal",
    remedy="Give the log a volume of its own with walStorage.",
    passing=_cluster("{walStorage: {size: 20Gi}}"),
    failing=_cluster("{walStorage: null}"),
)
def postgres_wal_volume(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a volume of its own for the log."""
    if not mapping(resource.props, "spec", "walStorage"):
        yield Finding("spec.walStorage", "not set", "Set spec.walStorage.size, such as 20Gi.")


@rule(
    "postgres-external-clusters",
    Severity.HIGH,
    kinds=(CLUSTER,),
    why="A recovery or a standby begins with, and follows, what it names; a name that nothing in "
    "externalClusters has leads nowhere.",
    source=f"{_DOCS}/replica_cluster/#defining-an-external-cluster",
    remedy="Declare each cluster that bootstrap and replica name in externalClusters.",
    passing=_cluster(
        "{externalClusters: [{name: there, plugin: {name: barman-cloud.cloudnative-pg.io}}], "
        "bootstrap: {recovery: {source: there}}, replica: {enabled: true, source: there}}"
    ),
    failing=_cluster("{bootstrap: {recovery: {source: there}}}"),
)
def postgres_external_clusters(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Look up every name of an external cluster."""
    known = {text(each, "name") for each in mappings(resource.props, "spec", "externalClusters")}
    for way in _EXTERNAL:
        name = text(resource.props, "spec", *way)
        if name and name not in known:
            yield Finding(
                f"spec.{'.'.join(way)}",
                f"{name}, which spec.externalClusters does not have",
                f"Declare {name} in spec.externalClusters.",
            )


@rule(
    "postgres-pooler-instances",
    Severity.HIGH,
    kinds=(POOLER,),
    why="A single pooler, the default, takes every client's way to the database with it.",
    source=f"{_DOCS}/connection_pooling/#high-availability-ha",
    remedy="Set spec.instances to 2 or more.",
    options={"minimum": Option(2, {"type": "integer", "minimum": 1}, "Poolers at least.")},
    passing="{kind: Pooler, metadata: {name: postgres-rw}, spec: {instances: 2}}",
    failing="{kind: Pooler, metadata: {name: postgres-rw}, spec: {instances: 1}}",
)
def postgres_pooler_instances(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Count the poolers."""
    poolers, minimum = instances_of(resource), int(options["minimum"])
    if poolers < minimum:
        yield Finding("spec.instances", str(poolers), f"Set spec.instances to {minimum}.")


def instances_of(cluster: Resource) -> int:
    """Servers of a Cluster, the primary included, or a Pooler's; CloudNativePG's default is 1."""
    return int(number(cluster.props, "spec", "instances") or 1)


def synchronous(cluster: Resource) -> int:
    """Standbys that must have a write before it is acknowledged."""
    return int(number(cluster.props, "spec", "postgresql", "synchronous", "number") or 0)


def archiver(cluster: Resource) -> Mapping[str, object] | None:
    """The plugin that archives the log, if one does."""
    plugins = mappings(cluster.props, "spec", "plugins")
    return next((each for each in plugins if is_true(each, "isWALArchiver")), None)


def archives(cluster: Resource) -> bool:
    """Whether the log is archived: by a plugin, or in the deprecated way that the operator has."""
    return archiver(cluster) is not None or bool(in_tree_store(cluster))


def in_tree_store(cluster: Resource) -> Mapping[str, object]:
    """The store that the operator itself archives to; empty if there is none."""
    return mapping(cluster.props, "spec", "backup", "barmanObjectStore")


def archive_timeout(cluster: Resource) -> float | None:
    """Seconds of the log that are not archived yet, at most; None if there is no such bound."""
    written = at(cluster.props, "spec", "postgresql", "parameters", "archive_timeout")
    timeout = _ARCHIVE_TIMEOUT if written is None else _seconds(str(written))
    return timeout or None


def pod(cluster: Resource) -> Mapping[str, object]:
    """The scheduling rules of the instances in the form of a Pod's, defaults filled in."""
    affinity = mapping(cluster.props, "spec", "affinity")
    off = at(affinity, "enablePodAntiAffinity") is False
    required = text(affinity, "podAntiAffinityType") == "required" and not off
    term = {"topologyKey": text(affinity, "topologyKey") or HOST}
    return {
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term] if required else []
            }
        },
        "topologySpreadConstraints": mappings(cluster.props, "spec", "topologySpreadConstraints"),
    }


def failover_seconds(cluster: Resource, node_silent: float) -> float:
    """How long writes are away, at most, when the primary is lost, cut off or replaced.

    Only one of the three holds its successor up: a lost node is silent until it counts as lost, a
    primary that is cut off is killed by its liveness probe, and one that still answers is shut
    down in order, once it is found not to be ready. One whose PostgreSQL stands still while its
    manager lives is shut down by CloudNativePG 1.30.1 and later alone (its issue 11348).
    """
    spec = mapping(cluster.props, "spec")
    allowed = number(spec, "livenessProbeTimeout") or _LIVENESS
    isolated = _failing(mapping(spec, "probes", "liveness"), allowed)
    switchover = number(spec, "switchoverDelay") or _DELAYS["switchoverDelay"]
    answering = _failing(mapping(spec, "probes", "readiness")) + switchover
    lease = number(spec, "primaryLease", "leaseDurationSeconds") or _LEASE
    promoted = (number(spec, "failoverDelay") or 0) + lease + _PROMOTION
    return promoted + max(node_silent, isolated, answering)


def _failing(probe: Mapping[str, object], allowed: float | None = None) -> float:
    """Seconds until a probe has failed as often as it may, the last time by not being answered.

    Where that is not declared: as often as the time allowed asks, or three times.
    """
    period = number(probe, "periodSeconds") or 10
    most = 3 if allowed is None else max(1, -(-allowed // period))
    failures = number(probe, "failureThreshold") or most
    return period * failures + (number(probe, "timeoutSeconds") or 5)


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(written: str) -> float | None:
    """Read a duration as PostgreSQL writes it; None if it is none."""
    digits = written.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = _UNITS.get(written.removeprefix(digits).strip())
    return int(digits) * unit if unit is not None and digits.isdecimal() else None
