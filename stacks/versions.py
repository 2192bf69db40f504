"""Which version an image holds, and which versions can run here.

A version is read from the image's tag, as operators do: nothing else tells it before the image
runs. An image that takes the place of another (`images`) is known by the one that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stacks.contradictions import Contradiction, Key
from stacks.systems import DataSystem
from stacks.systems.neo4j import Edition

if TYPE_CHECKING:
    from stacks import settings as model

Number = tuple[int, ...]
"""A version's number, such as ``(8, 0, 19)``: they compare as versions do."""

_TAG: Final = re.compile(r"v?([0-9]{1,6}(?:\.[0-9]{1,6})*)(?![^-+_])")
_KAFKA_TAG: Final = re.compile(r"(?:.*-kafka-)?([0-9]+\.[0-9]+\.[0-9]+)(?![^-+_])")


@dataclass(frozen=True)
class Support:
    """Which versions of a system can run here."""

    words: str
    series: frozenset[Number]
    """Beginnings of the numbers that can."""

    def includes(self, number: Number) -> bool:
        """Whether a version can run."""
        return any(number[: len(each)] == each for each in self.series)


SUPPORT: Final = {
    DataSystem.POSTGRES: Support(
        "of PostgreSQL 14 to 18, which CloudNativePG 1.30 runs",
        frozenset((major,) for major in range(14, 19)),
    ),
    DataSystem.REDIS: Support(
        "of Redis 7 or 8, or of Valkey 7 or 8, whose settings are declared",
        frozenset({(7,), (8,)}),
    ),
    DataSystem.MONGODB: Support(
        "of MongoDB 6.0, 7.0 or 8.0, which Percona's operator 1.22 runs",
        frozenset({(6, 0), (7, 0), (8, 0)}),
    ),
    DataSystem.NEO4J: Support(
        "of Neo4j 5.26, whose settings are declared: those of other versions have other names",
        frozenset({(5, 26)}),
    ),
    DataSystem.KAFKA: Support(
        "4.2.0, 4.2.1, 4.3.0 or 4.3.1, which Strimzi 1.2 runs",
        frozenset({(4, 2, 0), (4, 2, 1), (4, 3, 0), (4, 3, 1)}),
    ),
}
"""Sources: docs/decisions/guards.md."""


def number(image: str) -> Number | None:
    """The version that an image's tag begins with; None if it begins with none."""
    found = _TAG.match(_tag(image))
    return _number(found[1]) if found else None


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[2]


def _number(text: str) -> Number:
    return tuple(int(part) for part in text.split("."))


def declared(settings: model.Settings, system: DataSystem) -> tuple[Key, str, Number | None]:
    """The setting that says a system's version, what it says, and the version that it means."""
    setting = "version" if system is DataSystem.KAFKA else "image"
    value: str = getattr(getattr(settings, system), setting)
    return (system.value, setting), value, of(system, value)


def of(system: DataSystem, value: str) -> Number | None:
    """The version that such a setting means; None if it cannot be read."""
    return _number(value) if system is DataSystem.KAFKA else number(value)


def kind(system: DataSystem, value: str) -> str:
    """Which of the kinds of a system that do not read each other's files an image holds."""
    repository = value.partition("@")[0].rpartition(":")[0].rpartition("/")[2]
    if system is DataSystem.REDIS:
        return "Valkey" if "valkey" in repository else "Redis"
    if system is DataSystem.NEO4J:
        enterprise = _tag(value).endswith(f"-{Edition.ENTERPRISE}")
        return f"Neo4j {'Enterprise' if enterprise else 'Community'}"
    names = {DataSystem.POSTGRES: "PostgreSQL", DataSystem.MONGODB: "MongoDB"}
    return names.get(system, "Kafka")


def unknown(settings: model.Settings) -> Iterator[Contradiction]:
    """Judge the version of each system that the stack has."""
    stand_ins = set(settings.images.values())
    for system in settings.systems:
        key, value, found = declared(settings, system)
        if value in stand_ins:
            continue
        if found is None:
            yield Contradiction(
                key,
                value,
                f"should have a tag that begins with its version, {SUPPORT[system].words}",
            )
        elif not SUPPORT[system].includes(found):
            yield Contradiction(key, value, f"should be {SUPPORT[system].words}")
    image = settings.kafka.image
    if DataSystem.KAFKA in settings.systems and image not in stand_ins:
        yield from _kafka_image(image, settings.kafka.version)


def _kafka_image(image: str, version: str) -> Iterator[Contradiction]:
    found = _KAFKA_TAG.match(_tag(image))
    if found is None or found[1] != version:
        yield Contradiction(
            ("kafka", "image"),
            image,
            f"should be of kafka.version, with a tag such as 1.2.0-kafka-{version}",
            (("kafka", "version"),),
        )
