"""Neo4j: enough primaries, enough copies of each database, and a way back.

A server is a StatefulSet (or one replica of it) whose image is `neo4j`; those of one namespace are
one cluster. Settings are read where the image reads them: `neo4j.conf` in a ConfigMap that is
mounted, and variables such as `NEO4J_initial_dbms_default__primaries__count`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from policies import cron
from policies.model import Resource, is_true, mapping, mappings, text, texts
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.spread import ZONE, is_strict
from policies.world import (
    CONFIG_MAP,
    CRON_JOB,
    STATEFUL_SET,
    Container,
    Workload,
    World,
)

PRIMARIES = "initial.dbms.default_primaries_count"
DETECTION = "dbms.cluster.raft.leader_failure_detection_window"

_IMAGE = "neo4j"
_LEAST = 3
_DETECTION_SECONDS = 23
"""Neo4j's default window is 20-23 s."""

_DOCS = "https://neo4j.com/docs/operations-manual/current"
_CLUSTERING = f"{_DOCS}/clustering/introduction/"
_SIZES = {
    "minimum": Option(
        _LEAST, {"type": "integer", "minimum": 1}, "Primaries that there are at least."
    )
}


def _server(spec: str) -> str:
    return f"{{kind: StatefulSet, metadata: {{name: neo4j-1}}, spec: {spec}}}"


def _conf(count: int) -> str:
    return f"""
        kind: ConfigMap
        metadata: {{name: neo4j}}
        data: {{neo4j.conf: "{PRIMARIES}={count}"}}
    """


@rule(
    "neo4j-edition",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    why="The Community edition is one server: it has no cluster, no online backup and no metrics. "
    "Its loss is an outage until the server runs again.",
    source=f"{_DOCS}/introduction/#_community_edition",
    remedy="Use the Enterprise image, whose licence must be accepted, or say that it may be lost.",
    passing=_server("{replicas: 1}"),
    failing=_server(
        "{template: {spec: {containers: [{name: neo4j, image: 'neo4j:2025.09.0@sha256:"
        "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9'}]}}}"
    ),
)
def neo4j_edition(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse the edition that cannot fail over."""
    server = world.workload(resource)
    for container in _containers(server):
        if not _is_enterprise(container):
            yield Finding(
                f"{container.path}.image",
                "the Community edition, a single point of failure",
                f"Set {container.path}.image to the same version with the suffix -enterprise.",
            )


@rule(
    "neo4j-primaries",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="Primaries commit by majority: of two, one lost stops all writes; an even number survives "
    "no more losses than one fewer.",
    source=_CLUSTERING,
    remedy="Run three or five servers.",
    options=_SIZES,
    passing=_server("{replicas: 1}"),
    failing=_server("{replicas: 2}"),
)
def neo4j_primaries(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Count the servers of the cluster; told once, at the first of them."""
    group = cluster(resource, world)
    if not group or group[0].resource is not resource:
        return
    count, least = sum(each.replicas for each in group), int(options["minimum"])
    if count < least or count % 2 == 0:
        wanted = max(least | 1, count | 1)
        yield Finding("spec.replicas", f"{count} servers in all", f"Run {wanted} servers in all.")


@rule(
    "neo4j-default-primaries",
    Severity.CRITICAL,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="By default a cluster of three servers keeps one copy of each database: it is lost with "
    "its server, and the cluster only looks redundant.",
    source=f"{_DOCS}/configuration/configuration-settings/#config_{PRIMARIES}",
    remedy=f"Set {PRIMARIES} to 3.",
    options=_SIZES,
    passing=_conf(3),
    failing=_conf(1),
)
def neo4j_default_primaries(
    resource: Resource, world: World, options: Options
) -> Iterator[Finding]:
    """Require copies on an odd number of servers, no more than there are."""
    group = cluster(resource, world)
    if not group or not is_cluster(group):
        return
    copies, least = primaries(world.workload(resource), world), int(options["minimum"])
    servers = sum(each.replicas for each in group)
    if copies < least or copies % 2 == 0 or copies > servers:
        yield Finding(
            f"neo4j.conf: {PRIMARIES}",
            f"{copies} copies on {servers} servers",
            f"Set {PRIMARIES} to {least}, with as many servers or more.",
        )


@rule(
    "neo4j-zone-spread",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="Two primaries of three in one zone make that zone a single point of failure.",
    source="https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/",
    remedy="Add required anti-affinity over zones, by a label that all servers share.",
    passing=_server("{replicas: 1}"),
    failing="""
        kind: StatefulSet
        metadata: {name: neo4j-1}
        spec:
          template:
            spec:
              affinity:
                podAntiAffinity:
                  requiredDuringSchedulingIgnoredDuringExecution:
                    - topologyKey: kubernetes.io/hostname
                      labelSelector: {matchLabels: {app.kubernetes.io/part-of: graph}}
    """,
)
def neo4j_zone_spread(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a spread that the scheduler must keep between all servers of the cluster."""
    group = cluster(resource, world)
    server = world.workload(resource)
    if not group or sum(each.replicas for each in group) <= 1:
        return
    if not all(is_strict(server.pod, ZONE, each.labels) for each in group):
        yield Finding(
            server.path("affinity.podAntiAffinity"),
            f"no strict spread of all servers over {ZONE}",
            f"Add a required term with topologyKey {ZONE} and the label that all servers share.",
        )


@rule(
    "neo4j-backup",
    Severity.CRITICAL,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="Copies repeat every mistake at once; only a backup leads back before it.",
    source=f"{_DOCS}/backup-restore/online-backup/",
    remedy="Declare a CronJob that runs neo4j-admin database backup within the RPO.",
    options={"rpo": Option(86_400, {"type": "integer", "minimum": 1}, "Seconds between backups.")},
    passing="{kind: CronJob, metadata: {name: neo4j-backup}}",
    failing="{kind: CronJob, metadata: {name: neo4j-backup}, $delete: true}",
)
def neo4j_backup(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Look for a CronJob that backs the cluster up, often enough.

    The Community edition has no online backup: `neo4j-edition` tells of that.
    """
    group = cluster(resource, world)
    if not group or group[0].resource is not resource or not is_cluster(group):
        return
    interval, most = backup_interval(resource, world), options["rpo"]
    if interval is None:
        yield Finding(
            "CronJob",
            f"none in namespace {resource.namespace} runs neo4j-admin",
            "Declare one there that runs `neo4j-admin database backup`, outside the servers.",
        )
    elif interval > most:
        yield Finding(
            "CronJob: spec.schedule",
            f"up to {interval / 3600:g} h between two backups",
            f"Schedule it at least every {most / 3600:g} h.",
        )


# Reading ----------------------------------------------------------------------------------------


def cluster(resource: Resource, world: World) -> list[Workload]:
    """All servers of the cluster that a server belongs to, by name; none for anything else."""
    if not _containers(world.workload(resource)):
        return []
    servers = (world.workload(each) for each in world.within(resource.namespace, STATEFUL_SET))
    return sorted(
        (each for each in servers if _containers(each)), key=lambda each: each.resource.object_name
    )


def is_cluster(group: list[Workload]) -> bool:
    """Whether all servers are of the edition that has clusters."""
    return all(_is_enterprise(container) for each in group for container in _containers(each))


def primaries(server: Workload, world: World) -> int:
    """Copies of a database that does not say; Neo4j's default is 1."""
    written = settings(server, world).get(PRIMARIES, "1")
    return int(written) if written.isdecimal() else 1


def detection(server: Workload, world: World) -> float:
    """Seconds until a leader that went silent is noticed, at most."""
    written = settings(server, world).get(DETECTION, "").rpartition("-")[2]
    amount = written.removesuffix("s")
    return float(amount) if amount.isdecimal() else _DETECTION_SECONDS


def backup_interval(resource: Resource, world: World) -> float | None:
    """The longest time between two backups in seconds; None if there is none that runs."""
    gaps = []
    for job in backup_jobs(resource.namespace, world):
        try:
            gap = cron.longest_gap(text(job.props, "spec", "schedule"))
        except ValueError:
            continue
        if gap is not None:
            gaps.append(gap)
    return min(gaps, default=None)


def backup_jobs(namespace: str, world: World) -> list[Resource]:
    """The CronJobs of a namespace that run neo4j-admin, and are not suspended."""
    return [
        each
        for each in world.within(namespace, CRON_JOB)
        if not is_true(each.props, "spec", "suspend")
        and any(_backs_up(container) for container in world.workload(each).all_containers)
    ]


def backup_buckets(namespace: str, world: World) -> set[str]:
    """The S3 buckets that the backups go to, as the jobs' commands or variables name them."""
    return {
        bucket
        for job in backup_jobs(namespace, world)
        for container in world.workload(job).all_containers
        for written in (
            *_words(container),
            *(text(each, "value") for each in mappings(container.spec, "env")),
        )
        for bucket in _BUCKET.findall(written)
    }


_BUCKET = re.compile(r"s3://([a-z0-9][-a-z0-9.]*)")


def _words(container: Container) -> list[str]:
    return [*texts(container.spec, "command"), *texts(container.spec, "args")]


def _backs_up(container: Container) -> bool:
    return "neo4j-admin" in " ".join(_words(container)) or _is_server(container)


def settings(server: Workload, world: World) -> Mapping[str, str]:
    """What the server is told: by the file, and by variables, which win."""
    found: dict[str, str] = {}
    for volume in mappings(server.pod, "volumes"):
        sources = [volume, *mappings(volume, "projected", "sources")]
        for name in (text(each, "configMap", "name") for each in sources):
            found |= _of_file(server.resource.namespace, name, world)
    for container in _containers(server):
        for source in mappings(container.spec, "envFrom"):
            name = text(source, "configMapRef", "name")
            declared = world.named(CONFIG_MAP, server.resource.namespace, name) if name else None
            data = mapping(declared.props, "data") if declared else {}
            found |= {_setting(key): text(data, key) for key in data}
        for variable in mappings(container.spec, "env"):
            found[_setting(text(variable, "name"))] = text(variable, "value")
    return found


def _of_file(namespace: str, name: str, world: World) -> dict[str, str]:
    declared = world.named(CONFIG_MAP, namespace, name) if name else None
    lines = text(declared.props, "data", "neo4j.conf").splitlines() if declared else []
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {key.strip(): value.strip() for key, found, value in pairs if found}


def _setting(variable: str) -> str:
    """Read a variable of the image: NEO4J_a_b__c is the setting a.b_c."""
    name = variable.removeprefix("NEO4J_")
    return name.replace("__", "\0").replace("_", ".").replace("\0", "_")


def _containers(server: Workload) -> list[Container]:
    return [each for each in server.containers if _is_server(each)]


def _is_server(container: Container) -> bool:
    repository = text(container.spec, "image").partition("@")[0].rpartition("/")[2]
    return repository.partition(":")[0] == _IMAGE


def _is_enterprise(container: Container) -> bool:
    return "enterprise" in text(container.spec, "image").partition("@")[0].rpartition(":")[2]
