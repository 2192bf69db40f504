"""The Cluster of CloudNativePG: servers in different zones, and what the first one begins with.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from components import parts, postgres_archive, postgres_pooler
from components.parts import Client
from stacks.systems.postgres import DATABASE, PostgresSettings, SourceSettings, archive_timeout
from stacks.values import Objective, size_in_bytes

OWNER: Final = DATABASE
"""The role that owns the database which every cluster has."""

LOST, HERE, THERE = "lost", "here", "there"
"""How a Cluster calls what it is recovered from, itself, and that of the other region."""

_EPHEMERAL = "1Gi"

_SHARED_BUFFERS_SHARE = Decimal(1) / 4
"""Of the memory, as PostgreSQL's documentation recommends for a server of its own."""

_WAL_KEPT_SHARE = Decimal(1) / 2
"""Of the log's volume: what may be kept for a standby that is away. Beyond it the standby has to
catch up from the archive; without a bound, it would fill the volume and stop the primary."""

_WAL_SIZE, _WAL_SIZE_SHARE = Decimal(2**30), Decimal(1) / 4
"""Of the log's volume, and at most PostgreSQL's own 1 GB: what is written between two checkpoints.
It is a soft limit, and half as much again is kept for standbys (upstream: 512 MB)."""

_SMART_SHUTDOWN_SECONDS = 15
"""How long a stopping server waits for clients to leave by themselves. The pooler's never do."""

_STOP_MARGIN_SECONDS = 60
"""Beyond `switchover_delay` and the smart shutdown, until the Pod is killed."""

_START_SECONDS = 600
"""For replaying the log after a crash, at most `max_wal_size`; upstream's 3600 s would hide a
server that hangs for an hour."""

_LEASE = {"leaseDurationSeconds": 3, "renewDeadlineSeconds": 2, "retryPeriodSeconds": 1}
"""Who may be primary. A standby that the operator has chosen takes over once it has seen the lease
unrenewed for its duration: upstream's 15 s would be half of a failover. A primary that misses a
renewal goes on until another holds the lease. It costs a write to the API server each second."""

_FAILOVER_DELAY_SECONDS = 3
"""How long a primary may be away before another is chosen. One that only crashed is back by then,
on its own volume. Begun while it starts, a failover makes it end again with a checkpoint that its
archive still takes: a standby that restores this has a history of its own and follows nobody any
more (CloudNativePG's issue 4990; seen in a drill). Upstream's default is 0."""

_PROBES = {
    # A server that was restarted takes part again as soon as it answers.
    "startup": {"periodSeconds": 1, "failureThreshold": _START_SECONDS},
    # Failover begins when the primary is not ready: 6 s after it refuses connections, not 30. With
    # two seconds for an answer, healthy instances were not ready on a busy machine. Who answers
    # nothing at all is not replaced either way: see docs/decisions/hanging-primary.md.
    "readiness": {"periodSeconds": 2, "failureThreshold": 3, "timeoutSeconds": 5},
    # A primary that reaches neither the API server nor all of the other instances is stopped within
    # 12 s (`ISOLATION`): before another has the lease, so that the two never overlap. Upstream's
    # 30 s would be too late for that. It is killed, not asked to shut down: see
    # docs/decisions/isolated-primary.md.
    "liveness": {
        "periodSeconds": 3,
        "failureThreshold": 3,
        "timeoutSeconds": 3,
        "terminationGracePeriodSeconds": 1,
    },
}

_FOLLOW_AGAIN = "500ms"
"""A new primary acknowledges nothing until the other standby follows it; that looks for its log
every 5 s by default."""

_ABANDONED = "60s"
"""After so long, a client that died inside a transaction loses its locks."""


@dataclass(frozen=True)
class PostgresArgs:
    """Settings and surroundings of the cluster.

    Raises:
        ValueError: if the settings cannot meet the objective.
    """

    namespace: str
    settings: PostgresSettings
    objective: Objective
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    snapshot_class: str
    backup_bucket: str
    clients: tuple[Client, ...]
    protect: bool
    standby: bool = False
    """Whether `settings.source` is followed; it is promoted when this ends."""
    region_rpo: int | None = None
    """Seconds; a standby that is further behind raises an alert. None: it never does."""
    wait: bool = False
    """Wait until the operator reports the cluster ready when it is made. A later change is not
    awaited: the operator does not tell which it has seen. Only where the operator runs: without it
    nobody would ever report."""

    def __post_init__(self) -> None:
        timeout = archive_timeout(self.settings, self.objective)
        if timeout > self.objective.rpo:
            raise ValueError(
                f"postgres: archive_timeout is {timeout}s, but the objective's rpo is "
                f"{self.objective.rpo}s: with only the archive left, more than that would be lost; "
                "archive at least that often"
            )
        if len(set(self.zones)) <= self.settings.synchronous:
            raise ValueError(
                f"postgres: synchronous is {self.settings.synchronous}, but there "
                f"are only {len(set(self.zones))} zones: each copy needs a zone of its own"
            )
        if self.standby and self.settings.source is None:
            raise ValueError(
                "postgres: standby is set, but source is not: name the archive that it follows"
            )
        for key, read in (("recovery", self.settings.recovery), ("source", self.settings.source)):
            if read and (read.bucket, read.server) == (self.backup_bucket, self.settings.archive):
                raise ValueError(
                    f"postgres: {key} names bucket {read.bucket} and server {read.server}, under "
                    "which this cluster archives itself; give it another archive, such as "
                    f"{read.server}-2"
                )


def store_name(name: str) -> str:
    """The name of the ObjectStore that the cluster archives into."""
    return f"{name}-backups"


def password_name(name: str, role: str) -> str:
    """The name of the Secret with a role's password."""
    return f"{name}-owner" if role == OWNER else f"{name}-role-{role}"


def owner(settings: PostgresSettings, database: str) -> str:
    """The role that owns a further database."""
    return settings.databases[database].owner or database


def roles(settings: PostgresSettings) -> list[str]:
    """Every role that clients sign in as."""
    others = {owner(settings, database) for database in settings.databases}
    return [OWNER, *sorted(others - {OWNER})]


def family(name: str) -> dict[str, str]:
    """Select instances, their jobs and poolers: the operator labels them all."""
    return {"cnpg.io/cluster": name}


def cluster_spec(name: str, args: PostgresArgs) -> parts.Object:
    """Spec of the Cluster; a drill makes one beside it from the same."""
    settings = args.settings
    resources = settings.resources
    return {
        "instances": settings.instances,
        "imageName": settings.image,
        "enableSuperuserAccess": False,
        "enablePDB": True,
        "priorityClassName": args.priority_class,
        "resources": parts.container_resources(resources.cpu, resources.memory, _EPHEMERAL),
        "bootstrap": _bootstrap(name, args),
        **_topology(name, args),
        **_managed(name, settings),
        "postgresql": {
            "parameters": _parameters(settings, archive_timeout(settings, args.objective)),
            **_synchronous(settings),
        },
        "storage": _volume(settings.storage, args),
        "walStorage": _volume(settings.wal_storage, args),
        **_placement(name, args),
        # A standby that has caught up takes over within seconds; a restart is as long as it takes.
        "primaryUpdateMethod": "switchover",
        "primaryUpdateStrategy": "unsupervised",
        "failoverDelay": _FAILOVER_DELAY_SECONDS,
        "primaryLease": _LEASE,
        "probes": _PROBES,
        "startDelay": _START_SECONDS,
        "smartShutdownTimeout": _SMART_SHUTDOWN_SECONDS,
        "switchoverDelay": settings.switchover_delay,
        "stopDelay": settings.switchover_delay + _SMART_SHUTDOWN_SECONDS + _STOP_MARGIN_SECONDS,
        "backup": {
            "target": "prefer-standby",
            "volumeSnapshot": {
                "className": args.snapshot_class,
                "walClassName": args.snapshot_class,
                "snapshotOwnerReference": "none",
            },
        },
        "plugins": [
            {
                "enabled": True,
                "isWALArchiver": True,
                **postgres_archive.plugin(store_name(name), settings.archive),
            }
        ],
    }


def _bootstrap(name: str, args: PostgresArgs) -> parts.Object:
    """What the first instance begins with; nobody asks once it is there."""
    application = {
        "database": DATABASE,
        "owner": OWNER,
        "secret": {"name": password_name(name, OWNER)},
    }
    recovery = args.settings.recovery
    if args.standby:
        return {"recovery": {"source": THERE, **application}}
    if recovery is None:
        return {"initdb": {"dataChecksums": True, **application}}
    moment = recovery.target_time
    target = {"recoveryTarget": {"targetTime": moment}} if moment else {}
    return {"recovery": {"source": LOST, **target, **application}}


def _topology(name: str, args: PostgresArgs) -> parts.Object:
    """The archives that are read, and which of two regions has the primary."""
    known, recovery, source = stores(name, args), args.settings.recovery, args.settings.source
    clusters = {}
    if recovery is not None:
        store, _ = known.get(LOST, known[HERE])
        clusters[LOST] = postgres_archive.plugin(store, recovery.server)
    if source is not None:
        clusters[HERE] = postgres_archive.plugin(known[HERE][0], args.settings.archive)
        clusters[THERE] = postgres_archive.plugin(known[THERE][0], source.server)
    if not clusters:
        return {}
    return {
        "externalClusters": [{"name": key, "plugin": plugin} for key, plugin in clusters.items()],
        **({"replica": _replica(source, args.standby)} if source else {}),
    }


def _replica(source: SourceSettings, standby: bool) -> parts.Object:
    token = None if standby else source.promotion_token
    return {
        "self": HERE,
        "primary": THERE if standby else HERE,
        "source": THERE,
        **({"promotionToken": token} if token else {}),
    }


def _managed(name: str, settings: PostgresSettings) -> parts.Object:
    """Roles of the further databases; `app` and its owner come with the cluster."""
    further = [
        {
            "name": role,
            "ensure": "present",
            "login": True,
            "passwordSecret": {"name": password_name(name, role)},
        }
        for role in roles(settings)
        if role != OWNER
    ]
    return {"managed": {"roles": further}} if further else {}


def _parameters(settings: PostgresSettings, timeout: int) -> dict[str, str]:
    memory = size_in_bytes(settings.resources.memory)
    kept = size_in_bytes(settings.wal_storage)
    return {
        "archive_timeout": f"{timeout}s",
        "max_connections": str(postgres_pooler.connections(1 + len(settings.databases))),
        "idle_in_transaction_session_timeout": _ABANDONED,
        "max_slot_wal_keep_size": _megabytes(kept * _WAL_KEPT_SHARE),
        "max_wal_size": _megabytes(min(_WAL_SIZE, kept * _WAL_SIZE_SHARE)),
        "shared_buffers": _megabytes(memory * _SHARED_BUFFERS_SHARE),
        "wal_keep_size": _megabytes(min(_WAL_SIZE, kept * _WAL_SIZE_SHARE) / 2),
        "wal_retrieve_retry_interval": _FOLLOW_AGAIN,
    }


def _megabytes(amount: Decimal) -> str:
    """Write a size in bytes in PostgreSQL's unit."""
    return f"{int(amount) // 2**20}MB"


def _synchronous(settings: PostgresSettings) -> parts.Object:
    """Acknowledge a write once so many standbys have it, and promote only one that must have it."""
    if settings.synchronous == 0:
        return {}
    return {
        "synchronous": {
            "method": "any",
            "number": settings.synchronous,
            "dataDurability": "required",
            "failoverQuorum": True,
        }
    }


def _volume(size: str, args: PostgresArgs) -> parts.Object:
    return {
        "size": size,
        "storageClass": args.storage_class,
        "resizeInUseVolumes": True,
    }


def _placement(name: str, args: PostgresArgs) -> parts.Object:
    """Never two in one zone; more instances than zones are spread evenly, never two on one host."""
    crowded = args.settings.instances > len(args.zones)
    return {
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "required",
            "topologyKey": parts.HOST if crowded else parts.ZONE,
            # While the Pod of a lost node counts as running, the operator asks it for its state and
            # waits 2 s each time: before it promotes, and before it points clients to the promoted.
            "tolerations": parts.tolerations(silent=0),
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": parts.ZONE,
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": {**family(name), "cnpg.io/podRole": "instance"}},
            }
        ],
    }


def stores(name: str, args: PostgresArgs) -> dict[str, tuple[str, str]]:
    """Name and bucket of each ObjectStore, by whose archive is in it."""
    found = {HERE: (store_name(name), args.backup_bucket)}
    recovery, source = args.settings.recovery, args.settings.source
    if recovery is not None and recovery.bucket is not None:
        found[LOST] = (f"{name}-{LOST}", recovery.bucket)
    if source is not None:
        found[THERE] = (f"{name}-source", source.bucket)
    return found
