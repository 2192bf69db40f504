"""Settings of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field

from stacks import schedules
from stacks.contradictions import Contradiction, within
from stacks.fault_domains import ZONES, lost_with_a_zone
from stacks.values import (
    DAY,
    HOUR,
    MAX_REPLICAS,
    MINUTE,
    YEAR,
    Count,
    Days,
    Image,
    Integer,
    Memory,
    Model,
    Objective,
    Resources,
    Seconds,
)

_ISOLATION: Final = 30
"""Seconds until CloudNativePG stops a primary that is cut off (its liveness isolation check)."""


class PostgresSettings(Model):
    """A PostgreSQL cluster run by CloudNativePG."""

    instances: Count = 3
    """Servers, the primary included."""
    synchronous: Annotated[Integer, Field(ge=0, le=MAX_REPLICAS - 1)] = 1
    """Standbys that must have a write before it is acknowledged; below `instances`."""
    image: Image = "ghcr.io/cloudnative-pg/postgresql:17.6"
    """Image of the servers."""
    storage: Memory = "100Gi"
    """Volume of each server for its data."""
    wal_storage: Memory = "20Gi"
    """Volume of each server for its write-ahead log."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each server asks for."""
    switchover_delay: Annotated[Seconds, Field(ge=1, le=HOUR)] = 2 * MINUTE
    """Bounds the old primary's fast shutdown (upstream default 3600 s is far beyond any RTO)."""
    archive_timeout: Annotated[Seconds, Field(ge=1, le=DAY)] = 5 * MINUTE
    """The write-ahead log is archived at least so often: the RPO when only the archive is left."""
    backup_every: Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)] = DAY
    """Between two base backups: 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d, which a schedule can keep.

    The RPO is kept by the WAL archive in between."""
    retention: Annotated[Days, Field(le=10 * YEAR)] = 30 * DAY
    """How far back a restore can go."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A quorum that is possible, and backups that a schedule can express."""
        if self.synchronous >= self.instances:
            yield Contradiction(
                ("synchronous",),
                self.synchronous,
                f"should be less than instances ({self.instances}): "
                "the primary is no standby of its own",
                (("instances",),),
            )
        yield from schedules.unkept(("backup_every",), self.backup_every)
        if self.retention < self.backup_every:
            yield Contradiction(
                ("retention",),
                self.retention,
                "should not be shorter than backup_every, or there are times without any backup",
                (("backup_every",),),
            )


def against(settings: PostgresSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from within(
        settings.archive_timeout,
        objective.rpo,
        ("objectives", "postgres", "rpo"),
        (("postgres", "archive_timeout"),),
        "the log is archived only so often (postgres.archive_timeout)",
    )
    yield from within(
        _ISOLATION + settings.switchover_delay,
        objective.rto,
        ("objectives", "postgres", "rto"),
        (("postgres", "switchover_delay"),),
        f"a failover may take {_ISOLATION}s to stop the old primary and "
        "postgres.switchover_delay to shut it down",
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
    most = instances - lost_with_a_zone(instances) - 1
    if not 1 <= synchronous <= most:
        right = "1" if most == 1 else f"from 1 to {most}"
        yield Contradiction(
            ("postgres", "synchronous"),
            synchronous,
            f"should be {right} with {instances} instances, where protect is true: "
            "none loses acknowledged writes, more stop them when one zone is gone",
            (("postgres", "instances"), ("protect",)),
        )
