"""Settings of Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from stacks import schedules
from stacks.contradictions import Contradiction
from stacks.fault_domains import lost_with_a_zone, majority
from stacks.values import (
    DAY,
    HOUR,
    MAX_REPLICAS,
    MINUTE,
    YEAR,
    BucketName,
    Cpu,
    Image,
    Integer,
    Memory,
    Model,
    Objective,
    Seconds,
    ServiceCount,
    duration,
    enough_memory,
    enough_room,
    expects,
    size,
    size_in_bytes,
    within,
)

_LOG_SHARE: Final = 2
"""Of the memory that a volume has at least: the append-only file, and what it is rewritten into."""

_PROMOTION: Final = 10
"""Seconds allowed from "the master is down" to a promoted replica: Sentinel's vote and the
replicas' new configuration take one to two, the clients' next look-up the rest."""


class Eviction(StrEnum):
    """What Redis drops when its memory is full.

    `noeviction` is left out on purpose: a full cache would then answer writes with errors.
    """

    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_RANDOM = "allkeys-random"
    VOLATILE_LRU = "volatile-lru"
    VOLATILE_LFU = "volatile-lfu"
    VOLATILE_RANDOM = "volatile-random"
    VOLATILE_TTL = "volatile-ttl"


class CacheSettings(Model):
    """How long one kind of entry that a service keeps in Redis may be used."""

    ttl: Annotated[Seconds, Field(ge=1, le=YEAR)] | None = None
    """An entry is fresh for so long after it was written; none: until it is evicted."""
    stale_while_down: Annotated[Seconds, Field(ge=1, le=YEAR)] | None = None
    """How old an entry may be that is served while the store it comes from is down; none: no older
    than `ttl`. Redis keeps it for that long, and the service tells its age."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Staleness only where something can be stale, and later than that."""
        if self.stale_while_down is None:
            return
        if self.ttl is None:
            yield Contradiction(
                ("stale_while_down",),
                self.stale_while_down,
                "should be left out, or ttl be set: without one an entry is never stale",
                (("ttl",),),
            )
        elif self.stale_while_down < self.ttl:
            yield Contradiction(
                ("stale_while_down",),
                self.stale_while_down,
                f"should not be below ttl ({duration(self.ttl)}): an entry is fresh until then",
                (("ttl",),),
            )


class RedisRecovery(Model):
    """What a new cache begins with. It has no effect where there is data already."""

    file: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z\.rdb$"),
        Field(json_schema_extra=expects("the name of a backup, such as 2026-01-31T042500Z.rdb")),
    ]
    """Name of the backup. Entries whose time to live has ended since are gone."""
    bucket: BucketName | None = None
    """Bucket that it is in; none: the stack's own."""


class RedisSettings(Model):
    """A Redis cache: one master, its replicas, and Sentinels that agree on who is master."""

    replicas: ServiceCount = 3
    """Data servers, the master included."""
    sentinels: Annotated[Integer, Field(ge=3, le=9)] = 3
    """Sentinels; an odd number, since a majority of them must be reachable."""
    quorum: Annotated[Integer, Field(ge=2, le=9)] = 2
    """Sentinels that must agree that the master is down; at least a majority of `sentinels`."""
    image: Image = "redis:7.4.6"
    """Image of the servers and the Sentinels."""
    exporter_image: Image = "oliver006/redis_exporter:v1.74.0"
    """Image of the metrics exporter beside each server."""
    storage: Memory = "10Gi"
    """Volume of each server; at least 1Gi, and twice `memory`."""
    memory: Memory = "2Gi"
    """Memory of each server; at least 64Mi."""
    cpu: Cpu = "500m"
    """CPU of each server."""
    eviction: Eviction = Eviction.ALLKEYS_LRU
    """Which keys are dropped when the memory is full."""
    min_replicas_to_write: Annotated[Integer, Field(ge=1, le=MAX_REPLICAS)] = 1
    """Replicas that must keep up with the master, or it takes no more writes."""
    max_lag: Annotated[Seconds, Field(ge=1, le=HOUR)] = 10
    """A replica keeps up if it was heard from within this time: the most a failover loses."""
    down_after: Annotated[Seconds, Field(ge=1, le=5 * MINUTE)] = 3
    """A server that is silent for so long counts as down, a stalled one too. Sentinel asks each
    second, and distrusts itself after a stall of 2s of its own: below 3s it may blame others."""
    failover_timeout: Annotated[Seconds, Field(ge=1, le=HOUR)] = 10
    """A failover in which a step takes longer is given up; it is tried again twice this time after
    it began, and so is a vote that elected nobody."""
    backup_every: Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)] = HOUR
    """Between two copies of the dataset in the bucket of the backups: 1h, 2h, 3h, 4h, 6h, 8h, 12h,
    1d or 7d; a restore lacks what was written since. The bucket says how long one is kept."""
    backup_image: Image = "amazon/aws-cli:2.23.6"
    """Image of what brings a backup to the bucket, and back: the AWS command line."""
    recovery: RedisRecovery | None = None
    """What a new cache begins with; none: it begins empty."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A quorum that is a majority, servers that start, writes that survive a zone."""
        if self.sentinels % 2 == 0:
            yield Contradiction(
                ("sentinels",),
                self.sentinels,
                f"should be odd, such as {self.sentinels - 1} or {self.sentinels + 1}: "
                "one more Sentinel than an odd number survives no more losses",
            )
        else:
            yield from self._quorum()
        yield from enough_room("storage", self.storage)
        yield from enough_memory(("memory",), self.memory, "64Mi")
        yield from self._log()
        yield from schedules.unkept(("backup_every",), self.backup_every)
        most = self.replicas - lost_with_a_zone(self.replicas) - 1
        if self.min_replicas_to_write > most:
            yield Contradiction(
                ("min_replicas_to_write",),
                self.min_replicas_to_write,
                f"should be at most {most} with {self.replicas} servers, "
                "or the loss of one zone stops all writes",
                (("replicas",),),
            )

    def _log(self) -> Iterator[Contradiction]:
        least = size(_LOG_SHARE * size_in_bytes(self.memory))
        if size_in_bytes(self.storage) < size_in_bytes(least):
            yield Contradiction(
                ("storage",),
                self.storage,
                f"should be at least {least}, {_LOG_SHARE} times memory: while the append-only "
                "file is rewritten, the old one and the new one are there",
                (("memory",),),
            )

    def _quorum(self) -> Iterator[Contradiction]:
        least = majority(self.sentinels)
        left = self.sentinels - lost_with_a_zone(self.sentinels)
        if least <= self.quorum <= left:
            return
        right = str(least) if least == left else f"from {least} to {left}"
        yield Contradiction(
            ("quorum",),
            self.quorum,
            f"should be {right} with {self.sentinels} sentinels: a majority, "
            "and no more than are left when one zone is gone",
            (("sentinels",),),
        )


def against(settings: RedisSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from within(
        settings.max_lag,
        objective.rpo,
        ("objectives", "redis", "rpo"),
        (("redis", "max_lag"),),
        "a failover may lose what a replica lags behind (redis.max_lag)",
    )
    yield from within(
        settings.down_after + _PROMOTION,
        objective.rto,
        ("objectives", "redis", "rto"),
        (("redis", "down_after"),),
        f"a failover takes redis.down_after to notice and up to {_PROMOTION}s to promote",
    )
    yield from within(
        2 * settings.failover_timeout,
        objective.rto,
        ("objectives", "redis", "rto"),
        (("redis", "failover_timeout"),),
        "a failover that fails is tried again twice redis.failover_timeout after it began",
    )


def in_bucket(settings: RedisSettings, retention: int) -> Iterator[Contradiction]:
    """Judge how long the bucket keeps a backup (seconds); keys are those of the whole stack."""
    if settings.backup_every > retention:
        yield Contradiction(
            ("redis", "backup_every"),
            settings.backup_every,
            "should not be longer than backup.retention, or there are times without any backup",
            (("backup", "retention"),),
        )


def evictable(
    settings: RedisSettings, caches: Mapping[str, Mapping[str, CacheSettings]]
) -> Iterator[Contradiction]:
    """Refuse entries that are never evicted; keys are those of the whole stack.

    Args:
        settings: of Redis.
        caches: of each service, by name.
    """
    if not settings.eviction.startswith("volatile-"):
        return
    for service, own in caches.items():
        for name, cache in own.items():
            if cache.ttl is None:
                yield Contradiction(
                    ("services", service, "caches", name, "ttl"),
                    cache.ttl,
                    f"should be set: {settings.eviction} drops nothing without a time to live, and "
                    "such entries would fill the memory until every write fails",
                    (("redis", "eviction"),),
                )
