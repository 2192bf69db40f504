"""Settings of Neo4j."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from stacks import schedules
from stacks.contradictions import Contradiction
from stacks.fault_domains import ZONES
from stacks.values import (
    DAY,
    HOUR,
    YEAR,
    BucketName,
    Days,
    Flag,
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

_FAILOVER: Final = 60
"""Seconds until another primary leads: Neo4j looks for a silent leader for 20 to 23 s
(`dbms.cluster.raft.leader_failure_detection_window`) and elects for 3 to 6 s; the rest is for
drivers to ask for a new routing table, and for a vote that elects nobody."""

_Interval = Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)]


class Edition(StrEnum):
    """Which Neo4j runs; only one of them can fail over."""

    ENTERPRISE = "enterprise"
    COMMUNITY = "community"


class Neo4jRecovery(Model):
    """A database as it was, made from backups as a dump beside them. Enterprise only.

    How the cluster then takes it: docs/runbooks/neo4j.md.
    """

    file: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*\.backup$"),
        Field(
            json_schema_extra=expects(
                "the name of a backup, such as neo4j-2026-01-31T10-50-36.backup"
            )
        ),
    ]
    """Name of the backup, full or of what changed: the last of the chain to restore. With
    `target_time`, the first that was taken after it."""
    bucket: BucketName | None = None
    """Bucket that it is in; none: the stack's own."""
    database: Name = "neo4j"
    """Name of the database that it is of."""
    target_time: Moment | None = None
    """The database becomes what it was then, to the second; none: what the backup holds."""


class Neo4jSettings(Model):
    """A Neo4j graph database: a cluster of primaries (Enterprise), or one server (Community)."""

    edition: Edition = Edition.ENTERPRISE
    """Community is one server and cannot fail over: a declared single point of failure, refused
    where `protect` is true."""
    accept_license: Flag = False
    """Says that whoever runs the stack holds a licence of Neo4j Enterprise."""
    servers: Annotated[Integer, Field(ge=1, le=7)] = 3
    """Servers, each a primary of every database; 1 with Community."""
    image: Image = "neo4j:5.26.12-enterprise"
    """Image of the servers; of the edition."""
    issuer: Name | None = None
    """ClusterIssuer of cert-manager that signs the servers' certificate. Then every connection is
    encrypted, and clients verify the servers: their images must trust that authority. None: nothing
    is encrypted; refused where `protect` is true."""
    storage: Memory = "50Gi"
    """Volume of each server; at least 1Gi."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each server asks for: half of the memory, which is at least 768Mi, for the heap, a
    quarter for the page cache."""
    backup_every: _Interval | None = None
    """Between two backups, of which all but the first of a chain hold only what changed: 1h, 2h,
    3h, 4h, 6h, 8h, 12h, 1d or 7d; none: the longest that keeps the objective's RPO. Community dumps
    all it holds, for which it must stop for that long."""
    full_every: _Interval = DAY
    """Between two full backups, each the first of a chain: one of the same. Enterprise only."""
    retention: Annotated[Days, Field(le=10 * YEAR)] = 28 * DAY
    """How far back a restore can go."""
    recovery: Neo4jRecovery | None = None
    """A database to restore; none: none is."""

    def contradictions(self) -> Iterator[Contradiction]:
        """An edition that can do what is asked of it, votes that decide, backups that are kept."""
        enterprise = self.edition is Edition.ENTERPRISE
        if not enterprise and self.servers != 1:
            yield Contradiction(
                ("servers",),
                self.servers,
                "should be 1: servers of the Community edition form no cluster",
                (("edition",),),
            )
        if enterprise and self.servers % 2 == 0:
            yield Contradiction(
                ("servers",),
                self.servers,
                f"should be odd, such as {self.servers - 1} or {self.servers + 1}: one more "
                "primary than an odd number survives no more losses",
            )
        if self.image.split("@")[0].endswith("-enterprise") != enterprise:
            yield Contradiction(
                ("image",),
                self.image,
                f"should be of the {self.edition} edition, with a tag that ends with "
                f"-{self.edition}",
                (("edition",),),
            )
        if not enterprise and self.recovery is not None:
            yield Contradiction(
                ("recovery",),
                self.recovery.file,
                "should be left out: the Community edition has dumps instead, on its server's "
                "volume, which docs/runbooks/neo4j.md says how to load",
                (("edition",),),
            )
        yield from enough_room("storage", self.storage)
        yield from enough_memory(("resources", "memory"), self.resources.memory, "768Mi")
        yield from schedules.unkept(("full_every",), self.full_every)
        if self.backup_every is not None:
            yield from schedules.unkept(("backup_every",), self.backup_every)
        if self.retention < self.full_every:
            yield Contradiction(
                ("retention",),
                self.retention,
                "should not be shorter than full_every, or there are times without any backup",
                (("full_every",),),
            )


def backup_every(settings: Neo4jSettings, objective: Objective) -> int:
    """Seconds between two backups."""
    return settings.backup_every or schedules.longest(objective.rpo)


def against(settings: Neo4jSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    every = backup_every(settings, objective)
    yield from within(
        every,
        objective.rpo,
        ("objectives", "neo4j", "rpo"),
        (("neo4j", "backup_every"),),
        "a backup is taken only so often (neo4j.backup_every)",
    )
    if settings.edition is Edition.ENTERPRISE:
        yield from within(
            _FAILOVER,
            objective.rto,
            ("objectives", "neo4j", "rto"),
            (),
            "a silent leader is looked for up to 23s before another is elected",
        )


def licensed(settings: Neo4jSettings) -> Iterator[Contradiction]:
    """Refuse Enterprise unless its licence is accepted; keys are those of the whole stack."""
    if settings.edition is Edition.ENTERPRISE and not settings.accept_license:
        yield Contradiction(
            ("neo4j", "accept_license"),
            settings.accept_license,
            "should be true: Neo4j Enterprise needs a licence, which only you can accept; or set "
            "neo4j.edition to community, one server that cannot fail over",
            (("neo4j", "edition"),),
        )


def protected(settings: Neo4jSettings) -> Iterator[Contradiction]:
    """Judge what must hold where data is protected: any one zone gone, and writes go on."""
    if settings.edition is Edition.COMMUNITY:
        yield Contradiction(
            ("neo4j", "edition"),
            settings.edition.value,
            "should be enterprise where protect is true: the loss of the one Community server is "
            "an outage, and that of its volume the loss of all its data",
            (("protect",),),
        )
    elif settings.servers < ZONES:
        yield Contradiction(
            ("neo4j", "servers"),
            settings.servers,
            f"should be at least {ZONES}, one for each zone, where protect is true",
            (("protect",),),
        )
    elif settings.issuer is None:
        yield Contradiction(
            ("neo4j", "issuer"),
            settings.issuer,
            "should name a ClusterIssuer of cert-manager where protect is true: without "
            "certificates passwords and data are sent in clear",
            (("protect",),),
        )


def in_bucket(settings: Neo4jSettings, retention: int) -> Iterator[Contradiction]:
    """Judge how long the bucket keeps what is in it; keys are those of the whole stack.

    Args:
        settings: of Neo4j.
        retention: seconds until the bucket deletes an object.
    """
    needed = settings.retention + settings.full_every
    if settings.edition is Edition.ENTERPRISE and needed > retention:
        yield Contradiction(
            ("backup", "retention"),
            retention,
            f"should be at least {-(-needed // DAY)}d: the oldest restore (neo4j.retention) starts "
            "from a full backup that is up to neo4j.full_every older",
            (("neo4j", "retention"), ("neo4j", "full_every")),
        )
