"""What an update may not do to data: compare what is wanted with what the last update declared.

Every update leaves what it declared as an output of the stack, `OUTPUT`; the next one is held to
it before it declares anything. Nothing here asks a cluster, so a preview says the same wherever it
runs. Why so, and what is left to Pulumi's own protection: docs/decisions/guards.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from stacks import versions
from stacks.contradictions import Contradiction
from stacks.fault_domains import majority
from stacks.systems import DataSystem
from stacks.values import size_in_bytes

if TYPE_CHECKING:
    from stacks.settings import Settings

OUTPUT: Final = "declared"
"""Name of the stack's output that holds what `declared` returns."""

Declared = Mapping[str, Any]
"""``prefix``, ``region``, and ``systems``: by name, the settings that an update is held to."""

_VOLUMES: Final = {
    DataSystem.POSTGRES: ("storage", "wal_storage"),
    DataSystem.REDIS: ("storage",),
    DataSystem.MONGODB: ("storage",),
    DataSystem.NEO4J: ("storage",),
    DataSystem.KAFKA: ("storage", "controller_storage"),
}

_SERIES: Final = {
    DataSystem.POSTGRES: 1,
    DataSystem.REDIS: 2,
    DataSystem.MONGODB: 2,
    DataSystem.NEO4J: None,
    DataSystem.KAFKA: None,
}
"""Leading parts of a version that may not go down; None: no part may. Within a series of the
others, every server reads the files of every other."""

_UNPROTECT: Final = "first name {} in unprotect and run an update"


def declared(settings: Settings) -> dict[str, Any]:
    """What the update that comes next is held to; before images are replaced by others."""
    return {
        "prefix": settings.prefix,
        "region": settings.region,
        "systems": {
            system.value: {
                "protect": settings.seen_by(system).protect,
                "version": versions.declared(settings, system)[1],
                **{key: getattr(getattr(settings, system), key) for key in _VOLUMES[system]},
                **_counts(settings, system),
                **_archive(settings, system),
            }
            for system in settings.systems
        },
    }


def _counts(settings: Settings, system: DataSystem) -> dict[str, Any]:
    """What a system has how many of, where another number may lose data or the majority."""
    if system is DataSystem.NEO4J:
        return {"servers": settings.neo4j.servers}
    if system is DataSystem.KAFKA:
        topics = {name: topic.partitions for name, topic in settings.topics.items()}
        return {
            "replication_factor": settings.kafka.replication_factor,
            "controllers": settings.kafka.controllers,
            "topics": topics,
        }
    return {}


def _archive(settings: Settings, system: DataSystem) -> dict[str, str]:
    """Where PostgreSQL archives: what a restore of the running cluster begins with."""
    return {"archive": settings.postgres.archive} if system is DataSystem.POSTGRES else {}


def losses(settings: Settings, before: Declared) -> Iterator[Contradiction]:
    """Everything in which the settings would lose data that the last update declared.

    Args:
        settings: of the update that comes, before images are replaced by others.
        before: what `declared` returned for the last one, perhaps with 3.0 for 3, as the engine
            has it; empty if there was none.
    """
    systems = {DataSystem(name): was for name, was in before.get("systems", {}).items()}
    kept = [system for system, was in systems.items() if was["protect"]]
    if kept:
        yield from _moved(settings, before)
    yield from _removed(settings, kept)
    for system, was in systems.items():
        if system in settings.systems:
            yield from _shrunk(settings, system, was)
            if system not in settings.unprotect:
                yield from _downgraded(settings, system, was)
    if DataSystem.POSTGRES in systems and DataSystem.POSTGRES in settings.systems:
        yield from _other_archive(settings, systems[DataSystem.POSTGRES])
    if DataSystem.NEO4J in systems and DataSystem.NEO4J in settings.systems:
        yield from _fewer_servers(settings, systems[DataSystem.NEO4J])
    if DataSystem.KAFKA in systems and DataSystem.KAFKA in settings.systems:
        yield from _kafka(settings, systems[DataSystem.KAFKA])


def _moved(settings: Settings, before: Declared) -> Iterator[Contradiction]:
    for key in ("prefix", "region"):
        was, value = before[key], getattr(settings, key)
        if value != was:
            yield Contradiction(
                (key,),
                value,
                f"should stay {was}: every data system would be deleted, and made anew without "
                "its data; for another one, deploy a stack of another name",
            )


def _removed(settings: Settings, kept: list[DataSystem]) -> Iterator[Contradiction]:
    gone = [system.value for system in kept if system not in settings.systems]
    if gone:
        names = " and ".join(gone)
        yield Contradiction(
            ("systems",),
            [system.value for system in settings.systems],
            f"should name {names}, whose data is protected; to delete it, "
            f"{_UNPROTECT.format(names)}, then leave it out of both",
        )


def _shrunk(settings: Settings, system: DataSystem, was: Declared) -> Iterator[Contradiction]:
    for key in _VOLUMES[system]:
        value = getattr(getattr(settings, system), key)
        if size_in_bytes(value) < size_in_bytes(was[key]):
            yield Contradiction(
                (system.value, key),
                value,
                f"should be at least {was[key]}, as the last update declared: a volume can grow, "
                "but not shrink",
            )


def _downgraded(settings: Settings, system: DataSystem, was: Declared) -> Iterator[Contradiction]:
    key, value, now = versions.declared(settings, system)
    before: str = was["version"]
    kind = versions.kind(system, before)
    if versions.kind(system, value) != kind and kind != "Neo4j Community":
        yield Contradiction(
            key,
            value,
            f"should be of {kind}, as the last update declared ({before}): "
            f"{versions.kind(system, value)} may not read its files; if they may be lost, name "
            f"{system} in unprotect",
        )
        return
    then = versions.of(system, before)
    parts = _SERIES[system]
    if now and then and now[:parts] < then[:parts]:
        least = ".".join(str(part) for part in then[:parts])
        yield Contradiction(
            key,
            value,
            f"should be of {kind} {least} or later, as the last update declared ({before}): "
            "older servers may not read the files of newer ones; if none has written yet, or the "
            f"data may be lost, name {system} in unprotect",
        )


def _other_archive(settings: Settings, was: Declared) -> Iterator[Contradiction]:
    """A cluster that goes on has no base backup in a new archive, so nothing could be restored.

    One that is made anew needs a new one: from the old archive, or as a standby, whose data is the
    other region's. Updates before this was declared say nothing of it.
    """
    own = settings.postgres
    before = was.get("archive", own.archive)
    recovered = own.recovery is not None and own.recovery.server == before
    anew = recovered or settings.role == "standby"
    if own.archive != before and not anew and settings.seen_by(DataSystem.POSTGRES).protect:
        yield Contradiction(
            ("postgres", "archive"),
            own.archive,
            f"should stay {before}, as the last update declared: nothing can be restored from "
            "another archive until it has a base backup; for a cluster that is made anew, name "
            f"{before} in postgres.recovery.server, or postgres in unprotect",
            (("postgres", "recovery", "server"),),
        )


def _fewer_servers(settings: Settings, was: Declared) -> Iterator[Contradiction]:
    value, before = settings.neo4j.servers, int(was["servers"])
    least = majority(before)
    if value < before and was["protect"]:
        yield Contradiction(
            ("neo4j", "servers"),
            value,
            f"should stay {before}: a server that goes takes its copies of the databases along; "
            f"once they are moved to others, {_UNPROTECT.format('neo4j')}",
        )
    elif value < least:
        yield Contradiction(
            ("neo4j", "servers"),
            value,
            f"should be at least {least}: fewer of the {before} that the last update declared are "
            "no majority, so the databases would stop for good",
        )


def _other_controllers(settings: Settings, was: Declared) -> Iterator[Contradiction]:
    """Strimzi's quorum is static; updates before this was declared say nothing of it."""
    value = settings.kafka.controllers
    before = int(was.get("controllers", value))
    if value != before:
        yield Contradiction(
            ("kafka", "controllers"),
            value,
            f"should stay {before}: Strimzi can neither add controllers to a cluster that runs, "
            "nor take any away",
        )


def _kafka(settings: Settings, was: Declared) -> Iterator[Contradiction]:
    copies, before = settings.kafka.replication_factor, int(was["replication_factor"])
    if copies != before:
        yield Contradiction(
            ("kafka", "replication_factor"),
            copies,
            f"should stay {before}: Kafka's own topics (__consumer_offsets, __transaction_state) "
            "would keep theirs",
        )
    yield from _other_controllers(settings, was)
    for name, partitions in was["topics"].items():
        if name not in settings.topics:
            if was["protect"]:
                yield Contradiction(
                    ("topics", name),
                    None,
                    "should stay, whose records are protected; to delete them, "
                    f"{_UNPROTECT.format('kafka')}",
                )
        elif settings.topics[name].partitions < partitions:
            yield Contradiction(
                ("topics", name, "partitions"),
                settings.topics[name].partitions,
                f"should be at least {partitions:g}, as the last update declared: Kafka cannot "
                "take away partitions, with the records in them",
            )
