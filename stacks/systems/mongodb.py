"""Settings of MongoDB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from stacks import schedules
from stacks.contradictions import Contradiction, Key
from stacks.fault_domains import REGION_COPY
from stacks.values import (
    DAY,
    HOUR,
    MINUTE,
    YEAR,
    Days,
    Image,
    Integer,
    Memory,
    Model,
    Name,
    Objective,
    Resources,
    Seconds,
    enough_memory,
    enough_room,
    within,
)

_FAILOVER: Final = 30
"""Seconds allowed from the last sign of a primary to writes on the next: the members wait 10 s
(`electionTimeoutMillis`) and vote, 12 s in all at the median by MongoDB's manual; the rest is for a
vote that elects nobody, and for the clients to find the new primary."""

_Interval = Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)]


class MongodbSettings(Model):
    """A MongoDB replica set run by Percona's operator."""

    members: Annotated[Integer, Field(ge=3, le=7)] = 3
    """Voting members, the primary included: 3, 5 or 7, since the operator refuses fewer without
    switching off its checks, and MongoDB lets no more vote."""
    image: Image = "percona/percona-server-mongodb:8.0.19-7"
    """Image of the servers."""
    backup_image: Image = "percona/percona-backup-mongodb:2.12.0"
    """Image of the backup agent beside each server."""
    exporter_image: Image = "percona/mongodb_exporter:0.47.2"
    """Image of the metrics exporter beside each server."""
    issuer: Name | None = None
    """ClusterIssuer of cert-manager that signs the members' certificates; clients then verify them:
    their images must trust that authority. Set it with a new replica set: members of two
    authorities do not trust each other. None: an authority of the operator's own signs, which
    clients do not know; they encrypt and do not verify."""
    storage: Memory = "100Gi"
    """Volume of each member; at least 1Gi."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each member asks for; at least 512Mi of memory."""
    oplog_span: Annotated[Seconds, Field(ge=MINUTE, le=DAY)] | None = None
    """The log of operations is archived at least so often; none: half of the objective's RPO, which
    leaves as much time for the upload."""
    base_every: _Interval = 7 * DAY
    """Between two full physical backups, on which the incremental ones build: 1h, 2h, 3h, 4h, 6h,
    8h, 12h, 1d or 7d, which a schedule can keep."""
    incremental_every: _Interval = HOUR
    """Between two incremental backups: one of the same, and shorter than `base_every`."""
    logical_every: _Interval = DAY
    """Between two logical backups, which restore single collections, and into other versions: one
    of the same."""
    retention: Annotated[Days, Field(le=10 * YEAR)] = 28 * DAY
    """How far back a restore can go."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Votes that decide, members that can start, and backups that a restore can use."""
        if self.members % 2 == 0:
            yield Contradiction(
                ("members",),
                self.members,
                f"should be odd, such as {self.members - 1} or {self.members + 1}: one more voter "
                "than an odd number survives no more losses",
            )
        yield from enough_room("storage", self.storage)
        yield from enough_memory(("resources", "memory"), self.resources.memory, "512Mi")
        for key in ("base_every", "incremental_every", "logical_every"):
            every = getattr(self, key)
            yield from schedules.unkept((key,), every)
            if self.retention < every:
                yield Contradiction(
                    ("retention",),
                    self.retention,
                    f"should not be shorter than {key}, or there are times without any backup",
                    ((key,),),
                )
        if self.incremental_every >= self.base_every:
            yield Contradiction(
                ("incremental_every",),
                self.incremental_every,
                "should be shorter than base_every, or no incremental backup is ever taken between "
                "two full ones",
                (("base_every",),),
            )

    def kept(self, every: int) -> int:
        """Backups to keep of those taken `every` so many seconds.

        One more than fits into the retention: the newest that is older than the oldest moment to
        restore is where that restore begins.
        """
        return math.ceil(self.retention / every) + 1


def oplog_span(settings: MongodbSettings, objective: Objective) -> int:
    """Seconds after which the log of operations is archived at the latest."""
    if settings.oplog_span is not None:
        return settings.oplog_span
    return max(MINUTE, objective.rpo // 2 // MINUTE * MINUTE)


def against(settings: MongodbSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from within(
        oplog_span(settings, objective),
        objective.rpo,
        ("objectives", "mongodb", "rpo"),
        (("mongodb", "oplog_span"),),
        "the log of operations is archived only so often (mongodb.oplog_span)",
    )
    yield from within(
        _FAILOVER,
        objective.rto,
        ("objectives", "mongodb", "rto"),
        (),
        "the members wait 10s for a silent primary before they elect another, and clients have to "
        "find it",
    )


def across_regions(
    settings: MongodbSettings, objective: Objective, region: Objective
) -> Iterator[Contradiction]:
    """Hold the loss of a region to what its copied log lacks; keys are those of the stack.

    Args:
        settings: of MongoDB.
        objective: of MongoDB.
        region: objective for the loss of the region.
    """
    yield from within(
        oplog_span(settings, objective) + REGION_COPY,
        region.rpo,
        ("objectives", "region", "rpo"),
        (("mongodb", "oplog_span"), ("backup", "replica_region")),
        f"mongodb.oplog_span and the copy to the other region ({REGION_COPY // MINUTE}m) add up",
    )


def in_bucket(settings: MongodbSettings, retention: int) -> Iterator[Contradiction]:
    """Judge how long the bucket keeps what is in it; keys are those of the whole stack.

    Args:
        settings: of MongoDB.
        retention: seconds until the bucket deletes an object.
    """
    every = max(settings.base_every, settings.logical_every)
    needed = settings.kept(every) * every
    if needed > retention:
        others: tuple[Key, ...] = (("mongodb", "retention"), ("mongodb", "base_every"))
        yield Contradiction(
            ("backup", "retention"),
            retention,
            f"should be at least {-(-needed // DAY)}d: the oldest restore (mongodb.retention) "
            "starts from a full backup that is up to mongodb.base_every older",
            others,
        )
