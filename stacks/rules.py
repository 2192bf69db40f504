"""Rules that span settings: each yields what cannot hold together, and what would.

The types of `stacks/settings.py` say what one value may be. These functions judge values against
each other, and know no more than the settings: what the platform makes of them is checked by
`policies/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

from stacks import versions
from stacks.contradictions import Contradiction, repeated
from stacks.problems import nearest
from stacks.systems import DataSystem, kafka, mongodb, neo4j, postgres, redis
from stacks.values import enough_memory, partition

if TYPE_CHECKING:
    from stacks import settings as model


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
    """Judge flag against tier, topics against systems, memory, lists that repeat something."""
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
    yield from _with_kafka(settings)
    yield from enough_memory(("resources", "memory"), settings.resources.memory, "16Mi")
    for key in ("calls", "uses", "produces", "consumes"):
        yield from repeated((key,), getattr(settings, key))


def _with_kafka(settings: model.ServiceSettings) -> Iterator[Contradiction]:
    topics = bool(settings.produces or settings.consumes)
    both = (("produces",), ("consumes",))
    if topics and DataSystem.KAFKA not in settings.uses:
        yield Contradiction(
            ("uses",),
            list(settings.uses),
            "should name kafka too: this service produces or consumes topics",
            both,
        )
    if not topics and DataSystem.KAFKA in settings.uses:
        yield Contradiction(
            ("uses", settings.uses.index(DataSystem.KAFKA)),
            DataSystem.KAFKA.value,
            "should be left out, unless produces or consumes names a topic: "
            "without one, this service may not do anything there",
            both,
        )


def stack(settings: model.Settings) -> Iterator[Contradiction]:
    """Judge what no part of the settings can see alone."""
    yield from _zones(settings)
    yield from _systems(settings)
    yield from versions.unknown(settings)
    for system, judge in _JUDGES.items():
        if system in settings.systems:
            yield from judge(settings)
    yield from _replica_region(settings)
    yield from _replaced_images(settings)
    for name, entry in settings.services.items():
        yield from _spread(name, entry, len(settings.zones))
        yield from _callees(name, entry, settings.services)
    yield from _cycles(settings.services)


def _zones(settings: model.Settings) -> Iterator[Contradiction]:
    yield from repeated(("zones",), settings.zones)
    for index, zone in enumerate(settings.zones):
        if zone[:-1] != settings.region:
            yield Contradiction(
                ("zones", index),
                zone,
                f"should be a zone of aws:region, {settings.region}, such as {settings.region}a",
                (("region",),),
            )


def _systems(settings: model.Settings) -> Iterator[Contradiction]:
    """Lists that name a system twice or in vain, and services that use one that there is not."""
    for key in ("systems", "unprotect"):
        yield from repeated((key,), getattr(settings, key))
    for index, system in enumerate(settings.unprotect):
        if system not in settings.systems:
            yield Contradiction(
                ("unprotect", index),
                system.value,
                "should be left out: systems does not name it",
                (("systems",),),
            )
    for name, entry in settings.services.items():
        if name in set(DataSystem):
            yield Contradiction(
                ("services", name), name, "should have another name: a data system has this one"
            )
        for index, system in enumerate(entry.uses):
            if system not in settings.systems:
                yield Contradiction(
                    ("services", name, "uses", index),
                    system.value,
                    "should be left out, or named in systems, which lists what the stack has: "
                    f"{', '.join(settings.systems) or 'nothing'}",
                    (("systems",),),
                )


def _postgres(settings: model.Settings) -> Iterator[Contradiction]:
    own, objectives = settings.postgres, settings.objectives
    refused = list(postgres.protected(own)) if settings.protect else []
    yield from refused
    if own.synchronous >= len(settings.zones) and not refused:
        yield Contradiction(
            ("postgres", "synchronous"),
            own.synchronous,
            f"should be less than the number of zones ({len(settings.zones)}): each copy needs a "
            "zone of its own",
            (("zones",),),
        )
    if settings.role == "standby":
        yield from postgres.following(own)
    yield from postgres.against(own, objectives.postgres)
    if settings.backup.replica_region is not None or own.source is not None:
        yield from postgres.across_regions(own, objectives.postgres, objectives.region)
    yield from postgres.in_bucket(own, settings.backup.retention)


def _redis(settings: model.Settings) -> Iterator[Contradiction]:
    yield from redis.against(settings.redis, settings.objectives.redis)
    yield from redis.in_bucket(settings.redis, settings.backup.retention)
    yield from _caches(settings)


def _mongodb(settings: model.Settings) -> Iterator[Contradiction]:
    own, objectives = settings.mongodb, settings.objectives
    yield from mongodb.against(own, objectives.mongodb)
    if settings.backup.replica_region is not None:
        yield from mongodb.across_regions(own, objectives.mongodb, objectives.region)
    yield from mongodb.in_bucket(own, settings.backup.retention)


def _neo4j(settings: model.Settings) -> Iterator[Contradiction]:
    if settings.neo4j.servers > len(settings.zones):
        yield Contradiction(
            ("neo4j", "servers"),
            settings.neo4j.servers,
            f"should be no more than the number of zones ({len(settings.zones)}): each server "
            "needs a zone of its own, or one zone takes a majority with it",
            (("zones",),),
        )
    if settings.protect:
        yield from neo4j.protected(settings.neo4j)
    yield from neo4j.licensed(settings.neo4j)
    yield from neo4j.against(settings.neo4j, settings.objectives.neo4j)
    yield from neo4j.in_bucket(settings.neo4j, settings.backup.retention)


def _kafka(settings: model.Settings) -> Iterator[Contradiction]:
    if settings.protect:
        yield from kafka.protected(settings.kafka)
    if settings.role == "standby":
        yield from kafka.following(settings.kafka)
    yield from kafka.against(settings.kafka, settings.objectives.kafka)
    yield from _topics(settings)


_JUDGES: Final[Mapping[DataSystem, Callable[[model.Settings], Iterator[Contradiction]]]] = {
    DataSystem.POSTGRES: _postgres,
    DataSystem.REDIS: _redis,
    DataSystem.MONGODB: _mongodb,
    DataSystem.NEO4J: _neo4j,
    DataSystem.KAFKA: _kafka,
}
"""What is asked of each data system that the stack has."""


def _replica_region(settings: model.Settings) -> Iterator[Contradiction]:
    replica = settings.backup.replica_region
    if replica == settings.region:
        remedy = "should be another region than aws:region, or both copies are lost together"
    elif replica and partition(replica) != partition(settings.region):
        own = partition(settings.region)
        remedy = f"should be in {own} too, as aws:region is: S3 copies nothing out of there"
    else:
        return
    yield Contradiction(("backup", "replica_region"), replica, remedy, (("region",),))


def _replaced_images(settings: model.Settings) -> Iterator[Contradiction]:
    """Replacements of images that no setting names: they have no effect."""
    named = settings.named_images()
    for image in settings.images.keys() - named:
        meant = nearest(image, named)
        yield Contradiction(
            ("images", image),
            settings.images[image],
            f"should take the place of an image that a setting names: none names {image}"
            + (f"; did you mean {meant}?" if meant else ""),
            (("services",), *((system.value,) for system in DataSystem)),
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


def _caches(settings: model.Settings) -> Iterator[Contradiction]:
    """Services with caches use Redis, and what they keep there can be evicted."""
    for name, entry in settings.services.items():
        if entry.caches and DataSystem.REDIS not in entry.uses:
            yield Contradiction(
                ("services", name, "uses"),
                list(entry.uses),
                "should name redis too: this service has caches",
                (("services", name, "caches"),),
            )
    caches = {name: entry.caches for name, entry in settings.services.items()}
    yield from redis.evictable(settings.redis, caches)


def _topics(settings: model.Settings) -> Iterator[Contradiction]:
    """Topics that services name exist, and each has somebody who writes to it."""
    produced: set[str] = set()
    for name, entry in settings.services.items():
        produced.update(entry.produces)
        for key in ("produces", "consumes"):
            for index, topic in enumerate(getattr(entry, key)):
                if topic not in settings.topics:
                    known = ", ".join(sorted(settings.topics)) or "there is none"
                    yield Contradiction(
                        ("services", name, key, index),
                        topic,
                        f"should name a topic of the catalogue: {known}",
                        (("topics", topic),),
                    )
    for topic in settings.topics.keys() - produced:
        yield Contradiction(
            ("topics", topic),
            topic,
            "should be named in produces of some service, or left out: nobody writes to it",
            (("services",),),
        )


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
