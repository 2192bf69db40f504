"""Rules that span settings: each yields what cannot hold together, and what would.

The types of `stacks/settings.py` say what one value may be. These functions judge values against
each other, and know no more than the settings: what the platform makes of them is checked by
`policies/`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

from stacks.contradictions import Contradiction, Key

if TYPE_CHECKING:
    from stacks import settings as model

_ZONES: Final = 3
"""Fewest zones of a stack: losing one takes at most a third of the servers, rounded up."""

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR

_BACKUP_HOURS: Final = (1, 2, 3, 4, 6, 8, 12, 24, 7 * 24)
"""Intervals that a cron schedule keeps exactly, across midnight too."""

_POSTGRES_ISOLATION: Final = 30
"""Seconds until CloudNativePG stops a primary that is cut off (its liveness isolation check)."""

_REDIS_PROMOTION: Final = 10
"""Seconds allowed from "the master is down" to a promoted replica: Sentinel's vote and the
replicas' new configuration take one to two, the clients' next look-up the rest."""

_REPLICATION: Final = 900
"""Seconds within which S3's Replication Time Control promises a copy in the other region."""


def postgres(settings: model.PostgresSettings) -> Iterator[Contradiction]:
    """Judge quorum and backups of PostgreSQL."""
    if settings.synchronous >= settings.instances:
        yield Contradiction(
            ("synchronous",),
            settings.synchronous,
            f"should be less than instances ({settings.instances}): "
            "the primary is no standby of its own",
            (("instances",),),
        )
    hours, rest = divmod(settings.backup_every, _HOUR)
    if rest or hours not in _BACKUP_HOURS:
        yield Contradiction(
            ("backup_every",),
            settings.backup_every,
            "should be one of 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d, which a schedule can keep",
        )
    if settings.retention < settings.backup_every:
        yield Contradiction(
            ("retention",),
            settings.retention,
            "should not be shorter than backup_every, or there are times without any backup",
            (("backup_every",),),
        )


def redis(settings: model.RedisSettings) -> Iterator[Contradiction]:
    """Judge the Sentinels' quorum and the write path of Redis with one zone gone."""
    sentinels = settings.sentinels
    if sentinels % 2 == 0:
        yield Contradiction(
            ("sentinels",),
            sentinels,
            f"should be odd, such as {sentinels - 1} or {sentinels + 1}: "
            "one more Sentinel than an odd number survives no more losses",
        )
    else:
        yield from _sentinel_quorum(sentinels, settings.quorum)
    most = settings.replicas - _lost_with_a_zone(settings.replicas) - 1
    if settings.min_replicas_to_write > most:
        yield Contradiction(
            ("min_replicas_to_write",),
            settings.min_replicas_to_write,
            f"should be at most {most} with {settings.replicas} servers, "
            "or the loss of one zone stops all writes",
            (("replicas",),),
        )


def _sentinel_quorum(sentinels: int, quorum: int) -> Iterator[Contradiction]:
    majority = sentinels // 2 + 1
    left = sentinels - _lost_with_a_zone(sentinels)
    if majority <= quorum <= left:
        return
    right = str(majority) if majority == left else f"from {majority} to {left}"
    yield Contradiction(
        ("quorum",),
        quorum,
        f"should be {right} with {sentinels} sentinels: a majority, "
        "and no more than are left when one zone is gone",
        (("sentinels",),),
    )


def backup(settings: model.BackupSettings) -> Iterator[Contradiction]:
    """Judge lock against retention."""
    if settings.lock > settings.retention:
        yield Contradiction(
            ("lock",),
            settings.lock,
            "should not be longer than retention, or the bucket cannot delete what has expired",
            (("retention",),),
        )


def replicas(settings: model.Replicas) -> Iterator[Contradiction]:
    """Judge the bounds of scaling."""
    if settings.max < settings.min:
        yield Contradiction(
            ("max",), settings.max, f"should not be below min ({settings.min})", (("min",),)
        )


def probes(settings: model.Probes) -> Iterator[Contradiction]:
    """Judge readiness against liveness."""
    if settings.ready == settings.live:
        yield Contradiction(
            ("live",),
            settings.live,
            "should differ from ready: a service that only waits for its database must not be "
            "restarted",
            (("ready",),),
        )


def service(settings: model.ServiceSettings) -> Iterator[Contradiction]:
    """Judge flag against tier, and lists that name something twice."""
    if settings.tier == "core" and settings.flag is not None:
        yield Contradiction(
            ("flag",),
            settings.flag,
            "should be left out: a core service cannot be switched off",
            (("tier",),),
        )
    if settings.tier != "core" and settings.flag is None:
        yield Contradiction(
            ("flag",),
            settings.flag,
            f"should name the feature flag that switches this {settings.tier} service off: "
            "whatever calls it must do without it when it is shed",
            (("tier",),),
        )
    for key, names in (("calls", settings.calls), ("uses", settings.uses)):
        yield from _repeated((key,), names)


def stack(settings: model.Settings) -> Iterator[Contradiction]:
    """Judge what no part of the settings can see alone."""
    yield from _zones(settings)
    yield from _protected_postgres(settings)
    yield from _objectives(settings)
    yield from _backups(settings)
    for name, entry in settings.services.items():
        yield from _spread(name, entry, len(settings.zones))
        yield from _callees(name, entry, settings.services)
    yield from _cycles(settings.services)


def _zones(settings: model.Settings) -> Iterator[Contradiction]:
    yield from _repeated(("zones",), settings.zones)
    for index, zone in enumerate(settings.zones):
        if zone[:-1] != settings.region:
            yield Contradiction(
                ("zones", index),
                zone,
                f"should be a zone of aws:region, {settings.region}, such as {settings.region}a",
                (("region",),),
            )


def _protected_postgres(settings: model.Settings) -> Iterator[Contradiction]:
    if not settings.protect:
        return
    instances, synchronous = settings.postgres.instances, settings.postgres.synchronous
    if instances < _ZONES:
        yield Contradiction(
            ("postgres", "instances"),
            instances,
            f"should be at least {_ZONES}, one for each zone, where protect is true",
            (("protect",),),
        )
        return
    most = instances - _lost_with_a_zone(instances) - 1
    if not 1 <= synchronous <= most:
        right = "1" if most == 1 else f"from 1 to {most}"
        yield Contradiction(
            ("postgres", "synchronous"),
            synchronous,
            f"should be {right} with {instances} instances, where protect is true: "
            "none loses acknowledged writes, more stop them when one zone is gone",
            (("postgres", "instances"), ("protect",)),
        )


def _objectives(settings: model.Settings) -> Iterator[Contradiction]:
    yield from _within(
        settings.postgres.archive_timeout,
        settings.objectives.postgres.rpo,
        ("objectives", "postgres", "rpo"),
        (("postgres", "archive_timeout"),),
        "the log is archived only so often (postgres.archive_timeout)",
    )
    yield from _within(
        _POSTGRES_ISOLATION + settings.postgres.switchover_delay,
        settings.objectives.postgres.rto,
        ("objectives", "postgres", "rto"),
        (("postgres", "switchover_delay"),),
        f"a failover may take {_POSTGRES_ISOLATION}s to stop the old primary and "
        "postgres.switchover_delay to shut it down",
    )
    yield from _within(
        settings.redis.max_lag,
        settings.objectives.redis.rpo,
        ("objectives", "redis", "rpo"),
        (("redis", "max_lag"),),
        "a failover may lose what a replica lags behind (redis.max_lag)",
    )
    yield from _within(
        settings.redis.down_after + _REDIS_PROMOTION,
        settings.objectives.redis.rto,
        ("objectives", "redis", "rto"),
        (("redis", "down_after"),),
        f"a failover takes redis.down_after to notice and up to {_REDIS_PROMOTION}s to promote",
    )
    if settings.backup.replica_region is not None:
        yield from _within(
            settings.postgres.archive_timeout + _REPLICATION,
            settings.objectives.region.rpo,
            ("objectives", "region", "rpo"),
            (("postgres", "archive_timeout"), ("backup", "replica_region")),
            f"postgres.archive_timeout and the copy to the other region ({_REPLICATION // 60}m) "
            "add up",
        )


def _within(
    needed: int, objective: int, key: Key, others: tuple[Key, ...], why: str
) -> Iterator[Contradiction]:
    if needed > objective:
        yield Contradiction(key, objective, f"should be at least {needed}s: {why}", others)


def _backups(settings: model.Settings) -> Iterator[Contradiction]:
    needed = settings.postgres.retention + settings.postgres.backup_every
    if needed > settings.backup.retention:
        days = -(-needed // _DAY)
        yield Contradiction(
            ("backup", "retention"),
            settings.backup.retention,
            f"should be at least {days}d: the oldest restore (postgres.retention) starts from a "
            "base backup that is up to postgres.backup_every older",
            (("postgres", "retention"), ("postgres", "backup_every")),
        )
    if settings.backup.replica_region == settings.region:
        yield Contradiction(
            ("backup", "replica_region"),
            settings.backup.replica_region,
            "should be another region than aws:region, or both copies are lost together",
            (("region",),),
        )


def _spread(name: str, entry: model.ServiceSettings, zones: int) -> Iterator[Contradiction]:
    if entry.replicas.min < zones:
        yield Contradiction(
            ("services", name, "replicas", "min"),
            entry.replicas.min,
            f"should be at least {zones}, one for each zone",
            (("zones",),),
        )


def _callees(
    name: str, entry: model.ServiceSettings, services: Mapping[str, model.ServiceSettings]
) -> Iterator[Contradiction]:
    for index, callee in enumerate(entry.calls):
        if callee == name:
            remedy = "should name another service: this one is itself"
        elif callee not in services:
            remedy = f"should name a service of the catalogue: {', '.join(sorted(services))}"
        else:
            continue
        key = ("services", name, "calls", index)
        yield Contradiction(key, callee, remedy, (("services", callee),))


def _cycles(services: Mapping[str, model.ServiceSettings]) -> Iterator[Contradiction]:
    """Calls that come back to where they began: retries multiply along them without end.

    Each circle is told once, at the call that closes it; that call is then taken out to look for
    the next one.
    """
    calls = {
        name: [callee for callee in entry.calls if callee in services and callee != name]
        for name, entry in services.items()
    }
    while circle := _circle(calls):
        caller, callee = circle[-2:]
        calls[caller] = [other for other in calls[caller] if other != callee]
        yield Contradiction(
            ("services", caller, "calls", services[caller].calls.index(callee)),
            callee,
            f"should be left out: it closes the circle {' → '.join(circle)}, "
            "in which retries multiply without end",
            tuple(("services", member, "calls") for member in circle[:-1]),
        )


def _circle(calls: Mapping[str, list[str]]) -> list[str]:
    """One circle of calls, beginning and ending with the same service; empty if there is none."""
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle[::-1]  # the sorter tells it from callee to caller
    return []


def _repeated(key: Key, names: tuple[str, ...]) -> Iterator[Contradiction]:
    counts = Counter(names)
    for name in (name for name, count in counts.items() if count > 1):
        last = len(names) - 1 - names[::-1].index(name)
        yield Contradiction((*key, last), name, "should be left out: it is in the list already")


def _lost_with_a_zone(servers: int) -> int:
    """Servers that go with one zone when all are spread evenly: a third, rounded up."""
    return -(-servers // _ZONES)
