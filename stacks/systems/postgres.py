"""Settings of PostgreSQL."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from stacks import schedules
from stacks.contradictions import Contradiction, repeated
from stacks.fault_domains import REGION_COPY, ZONES, lost_with_a_zone
from stacks.values import (
    DAY,
    HOUR,
    MAX_REPLICAS,
    MINUTE,
    YEAR,
    BucketName,
    Count,
    Days,
    Image,
    Integer,
    Memory,
    Model,
    Moment,
    Name,
    Objective,
    Resources,
    Seconds,
    enough_memory,
    enough_room,
    expects,
    within,
)

DATABASE: Final = "app"
"""The database that every cluster has, and the role that owns it."""

ISOLATION: Final = 12
"""Seconds until a primary that is cut off is killed, by the probes that the Cluster declares: the
third that fails begins within 9 s and takes 1.5 s, and a second of grace follows."""

_TAKEOVER: Final = 30
"""Seconds allowed beside the old primary's end, until another takes writes. Measured with all that
belongs to it: 13.5 to 19.4 s after its Pod was killed, 22.7 to 28.5 s after its node was, 24.7 to
32.6 s after it was cut off."""

_ARCHIVED: Final = 5 * MINUTE
"""CloudNativePG's own `archive_timeout`; longer only where somebody says so."""

_MAX_DATABASES: Final = 20
"""Every pooler holds connections for each, and each connection costs the server memory."""

_RESERVED: Final = frozenset({DATABASE, "postgres", "template0", "template1"})
"""Databases that every cluster has already; PostgreSQL's superuser is named as one of them."""

_KEPT: Final = frozenset({"public", "none", "pgbouncer"})
"""What neither a role nor a database can be named: PostgreSQL and PgBouncer mean something else."""

_TOKEN_FIELDS: Final = frozenset(
    {
        "databaseSystemIdentifier",
        "latestCheckpointREDOLocation",
        "latestCheckpointTimelineID",
        "operatorVersion",
        "redoWalFile",
        "timeOfLatestCheckpoint",
    }
)
"""What CloudNativePG wants in a promotion token."""


def _token(written: str) -> str:
    """Look into a token: base64 of JSON, with what CloudNativePG wants in it."""
    problem = ValueError(
        "should be status.demotionToken of the other region's Cluster, whole and as it is"
    )
    try:
        found = json.loads(base64.b64decode(written, validate=True))
    except ValueError:
        raise problem from None
    if not isinstance(found, dict) or not all(found.get(key) for key in _TOKEN_FIELDS):
        raise problem
    return written


PromotionToken = Annotated[
    str,
    AfterValidator(_token),
    Field(
        json_schema_extra=expects(
            "status.demotionToken of the other region's Cluster, whole and as it is"
        )
    ),
]
Extension = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$"),
    Field(json_schema_extra=expects("the name of an extension, such as pg_trgm")),
]


class RecoverySettings(Model):
    """What a cluster that is made anew begins with, instead of an empty database.

    It has no effect on a cluster that is there already, so it may stay.
    """

    server: Name = "postgres"
    """Name under which the lost cluster archived: its `archive`."""
    bucket: BucketName | None = None
    """Bucket of that archive; none: the stack's own."""
    target_time: Moment | None = None
    """The database becomes what it was then, to the microsecond; none: the newest that the archive
    has."""


class SourceSettings(Model):
    """The cluster of the other region, as its archive is found in this one."""

    bucket: BucketName
    """Bucket with that archive: the copy in this region, which outlives the other."""
    server: Name = "postgres"
    """Name under which the other cluster archives: its `archive`."""
    promotion_token: PromotionToken | None = None
    """For a planned switchover, set in one update with `role: active`: take over once all that the
    other wrote is here. None: take over at once with what is here, as when a region is lost."""


class DatabaseSettings(Model):
    """One more database, with a role that owns it."""

    owner: Name | None = None
    """Role that owns it, whose password clients get; none: one named as the database."""
    extensions: tuple[Extension, ...] = ()
    """Extensions that are created in it; the image must have them."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Each extension once."""
        return repeated(("extensions",), self.extensions)


class PostgresSettings(Model):
    """A PostgreSQL cluster run by CloudNativePG."""

    instances: Count = 3
    """Servers, the primary included."""
    synchronous: Annotated[Integer, Field(ge=0, le=MAX_REPLICAS - 1)] = 1
    """Standbys that must have a write before it is acknowledged; below `instances`."""
    image: Image = "ghcr.io/cloudnative-pg/postgresql:17.6"
    """Image of the servers."""
    storage: Memory = "100Gi"
    """Volume of each server for its data; at least 1Gi."""
    wal_storage: Memory = "20Gi"
    """Volume of each server for its write-ahead log; at least 512Mi."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each server asks for; at least 256Mi of memory."""
    switchover_delay: Annotated[Seconds, Field(ge=1, le=HOUR)] = 2 * MINUTE
    """Bounds the old primary's fast shutdown (upstream default 3600 s is far beyond any RTO)."""
    archive_timeout: Annotated[Seconds, Field(ge=1, le=DAY)] | None = None
    """The write-ahead log is archived at least so often: the RPO when only the archive is left.
    None: each 5m, or as often as the objective's RPO asks."""
    archive_jobs: Annotated[Integer, Field(ge=1, le=8)] = 1
    """Segments of the log that are archived side by side. One at a time keeps up with some 10 MB/s.
    As many are asked for side by side whenever a standby asks the archive, so each more makes a
    failover slower."""
    backup_every: Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)] = DAY
    """Between two base backups: 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d, which a schedule can keep.

    The RPO is kept by the WAL archive in between."""
    retention: Annotated[Days, Field(le=10 * YEAR)] = 30 * DAY
    """How far back a restore can go."""
    archive: Name = "postgres"
    """Name under which this cluster archives, in a folder of its own. A cluster that is made anew
    needs a new name, such as postgres-2, and keeps it: Barman refuses to mix two histories."""
    recovery: RecoverySettings | None = None
    """What a cluster that is made anew begins with; none: an empty database."""
    source: SourceSettings | None = None
    """The cluster of the other region: followed while the stack's role is standby, and what this
    one may follow again once it is active."""
    databases: Annotated[dict[Name, DatabaseSettings], Field(max_length=_MAX_DATABASES)] = Field(
        default={}
    )
    """Databases beside `app`, each with a role, a password and a client configuration."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A quorum that is possible, servers that start, backups that a schedule can express."""
        if self.synchronous >= self.instances:
            yield Contradiction(
                ("synchronous",),
                self.synchronous,
                f"should be less than instances ({self.instances}): "
                "the primary is no standby of its own",
                (("instances",),),
            )
        yield from enough_room("storage", self.storage)
        # A share of it is `max_wal_size`, which must be above `min_wal_size`, 80 MB.
        yield from enough_room("wal_storage", self.wal_storage, "512Mi")
        yield from enough_memory(("resources", "memory"), self.resources.memory, "256Mi")
        yield from schedules.unkept(("backup_every",), self.backup_every)
        if self.retention < self.backup_every:
            yield Contradiction(
                ("retention",),
                self.retention,
                "should not be shorter than backup_every, or there are times without any backup",
                (("backup_every",),),
            )
        if self.recovery and self.recovery.bucket is None and self.recovery.server == self.archive:
            yield Contradiction(
                ("archive",),
                self.archive,
                f"should be another name than recovery.server, such as {self.archive}-2: Barman "
                "refuses to archive a second history into the folder of the first",
                (("recovery", "server"),),
            )
        for name in _RESERVED & self.databases.keys():
            yield Contradiction(
                ("databases", name),
                name,
                "should have another name: every cluster has a database of that name already",
            )
        for name in _KEPT & self.databases.keys():
            yield Contradiction(
                ("databases", name),
                name,
                "should have another name: PostgreSQL or PgBouncer keeps that one for itself",
            )
        for name, database in self.databases.items():
            if database.owner in _RESERVED - {DATABASE} | _KEPT:
                yield Contradiction(
                    ("databases", name, "owner"),
                    database.owner,
                    "should be a role of its own: PostgreSQL or PgBouncer keeps that name for "
                    "itself",
                )


def archive_timeout(settings: PostgresSettings, objective: Objective) -> int:
    """Seconds after which the log is archived at the latest."""
    return settings.archive_timeout or max(1, min(_ARCHIVED, objective.rpo))


def against(settings: PostgresSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from within(
        archive_timeout(settings, objective),
        objective.rpo,
        ("objectives", "postgres", "rpo"),
        (("postgres", "archive_timeout"),),
        "the log is archived only so often (postgres.archive_timeout)",
    )
    # Never both: what is cut off is killed, and what still answers is shut down in order.
    ended = max(ISOLATION, settings.switchover_delay)
    yield from within(
        ended + _TAKEOVER,
        objective.rto,
        ("objectives", "postgres", "rto"),
        (("postgres", "switchover_delay"),),
        f"the old primary may take {ended}s to end ({ISOLATION}s where it is cut off, else "
        f"postgres.switchover_delay), and {_TAKEOVER}s more are allowed for another to take over",
    )


def across_regions(
    settings: PostgresSettings, objective: Objective, region: Objective
) -> Iterator[Contradiction]:
    """Hold the loss of a region to what its copied archive lacks; keys are those of the stack.

    Args:
        settings: of PostgreSQL.
        objective: of PostgreSQL.
        region: objective for the loss of the region.
    """
    yield from within(
        archive_timeout(settings, objective) + REGION_COPY,
        region.rpo,
        ("objectives", "region", "rpo"),
        (("postgres", "archive_timeout"), ("backup", "replica_region")),
        f"postgres.archive_timeout and the copy to the other region "
        f"({REGION_COPY // MINUTE}m) add up",
    )


def in_bucket(settings: PostgresSettings, retention: int) -> Iterator[Contradiction]:
    """Judge how long the bucket keeps what is in it; keys are those of the whole stack.

    Args:
        settings: of PostgreSQL.
        retention: seconds until the bucket deletes an object.
    """
    needed = settings.retention + settings.backup_every
    if needed > retention:
        yield Contradiction(
            ("backup", "retention"),
            retention,
            f"should be at least {-(-needed // DAY)}d: the oldest restore (postgres.retention) "
            "starts from a base backup that is up to postgres.backup_every older",
            (("postgres", "retention"), ("postgres", "backup_every")),
        )


def following(settings: PostgresSettings) -> Iterator[Contradiction]:
    """Judge the settings of a stack that stands by; keys are those of the whole stack."""
    role = (("role",),)
    if settings.source is None:
        yield Contradiction(
            ("postgres", "source"),
            None,
            "should name the other region's archive where role is standby: a database of its own, "
            "empty, could not take over",
            role,
        )
    elif settings.source.promotion_token is not None:
        yield Contradiction(
            ("postgres", "source", "promotion_token"),
            settings.source.promotion_token,
            "should be left out where role is standby: it promotes, together with role: active",
            role,
        )
    if settings.recovery is not None:
        yield Contradiction(
            ("postgres", "recovery"),
            settings.recovery.server,
            "should be left out where role is standby: the cluster begins with, and follows, "
            "postgres.source",
            role,
        )


def protected(settings: PostgresSettings) -> Iterator[Contradiction]:
    """Judge what must hold where data is protected: one zone gone, nothing lost or stopped."""
    instances, synchronous = settings.instances, settings.synchronous
    if instances < ZONES:
        yield Contradiction(
            ("postgres", "instances"),
            instances,
            f"should be at least {ZONES}, one for each zone, where protect is true",
            (("protect",),),
        )
        return
    # As many as go with a zone, the primary among them, could else be all that have a write: then
    # the failover quorum promotes nobody.
    least = lost_with_a_zone(instances)
    most = instances - least - 1
    if least > most:
        yield Contradiction(
            ("postgres", "instances"),
            instances,
            f"should be {ZONES}, or {instances + 1}, where protect is true: with {instances}, no "
            "number of synchronous standbys both survives the loss of a zone and loses nothing",
            (("protect",),),
        )
    elif not least <= synchronous <= most:
        right = str(most) if least == most else f"from {least} to {most}"
        yield Contradiction(
            ("postgres", "synchronous"),
            synchronous,
            f"should be {right} with {instances} instances, where protect is true: fewer lose "
            "acknowledged writes or refuse a failover, more stop writes when one zone is gone",
            (("postgres", "instances"), ("protect",)),
        )
