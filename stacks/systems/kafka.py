"""Settings of Kafka and of its topics."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from stacks.contradictions import Contradiction
from stacks.fault_domains import ZONES, lost_with_a_zone
from stacks.values import (
    DAY,
    MINUTE,
    YEAR,
    Count,
    Host,
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
    expects,
    within,
)

_ELECTION: Final = 6
"""Seconds from the end of a dead broker's session until its partitions are led by others and every
client knows; with Kafka's session of 9 s, up to 14.7 s without acknowledgements were measured."""

_MAX_PARTITIONS: Final = 1000
"""Of one topic: each costs every replica open files and memory, and each failover time."""


class Cleanup(StrEnum):
    """What happens to old records of a topic."""

    DELETE = "delete"
    COMPACT = "compact"
    BOTH = "compact,delete"


class TopicSettings(Model):
    """One topic. Partitions can be added later, never taken away, and adding breaks the order."""

    key: Name
    """What records are keyed by: those of one key are in one partition, and stay in order."""
    partitions: Annotated[Integer, Field(ge=1, le=_MAX_PARTITIONS)] = 12
    """Partitions, each read by at most one consumer of a group: the most that share the work."""
    retention: Annotated[Seconds, Field(ge=MINUTE, le=10 * YEAR)] | None = None
    """Records are deleted after so long at the earliest, and at the latest after twice as long or,
    where that is less, a week more; none: after `kafka.retention`."""
    cleanup: Cleanup = Cleanup.DELETE
    """Old records are deleted; or all but the last of each key are (compacted); or both."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A retention only where records expire."""
        if self.cleanup is Cleanup.COMPACT and self.retention is not None:
            yield Contradiction(
                ("retention",),
                self.retention,
                "should be left out: a compacted topic keeps the last record of each key for ever",
                (("cleanup",),),
            )


class KafkaSettings(Model):
    """A Kafka cluster run by Strimzi."""

    version: Annotated[
        str,
        StringConstraints(pattern=r"^4\.[0-9]+\.[0-9]+$"),
        Field(json_schema_extra=expects("a version of Kafka that Strimzi runs, such as 4.3.1")),
    ] = "4.3.1"
    """Version of Kafka; Strimzi 1.2 runs 4.2.0, 4.2.1, 4.3.0 and 4.3.1."""
    image: Image = "quay.io/strimzi/kafka:1.2.0-kafka-4.3.1"
    """Image of servers, Cruise Control, exporter and MirrorMaker: Strimzi's, of that version."""
    brokers: Count = 3
    """Servers that hold the topics."""
    controllers: Annotated[Integer, Field(ge=1, le=9)] = 3
    """Servers that vote on the cluster's metadata; an odd number. Set it once: Strimzi can neither
    add controllers to a cluster that runs, nor take any away."""
    replication_factor: Count = 3
    """Copies of each partition, on different brokers."""
    min_in_sync: Count = 2
    """Copies that must have a record before it is acknowledged."""
    storage: Memory = "100Gi"
    """Volume of each broker; at least 1Gi."""
    controller_storage: Memory = "10Gi"
    """Volume of each controller; at least 1Gi."""
    resources: Resources = Resources(cpu="2", memory="4Gi")
    """What each broker asks for; half of the memory, which is at least 512Mi, is heap, the rest
    caches the log."""
    controller_resources: Resources = Resources(cpu="500m", memory="1Gi")
    """What each controller asks for; at least 512Mi of memory."""
    session_timeout: Annotated[Seconds, Field(ge=3, le=MINUTE)] = 5
    """A broker that fell silent for so long is dead: others lead its partitions. It tells that it
    lives five times in between. Kafka's own 9s make each crash cost 4s more; a shorter one takes
    for dead what only stood still."""
    retention: Annotated[Seconds, Field(ge=MINUTE, le=10 * YEAR)] = 7 * DAY
    """Records of a topic that says nothing else are deleted after so long, at the earliest."""
    issuer: Name | None = None
    """ClusterIssuer of cert-manager that signs the brokers' certificate for services, which then
    verify it: their images must trust that authority. None: Strimzi's own authority signs, which
    services do not know; they encrypt and do not verify."""
    host: Host | None = None
    """Name that the stack's standby in another region reaches this cluster by, on port 9094, to
    mirror it; it must lead to the load balancer that is then made. None: nobody does."""
    source: Host | None = None
    """`host` of the cluster that this one mirrors while the stack's role is standby. Its password
    and certificate are in the Secret `kafka-source`: see docs/decisions/kafka.md."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Copies that fit, servers that start, another cluster to mirror, votes that decide."""
        if self.controllers % 2 == 0:
            yield Contradiction(
                ("controllers",),
                self.controllers,
                f"should be odd: {self.controllers} survive the loss of no more than "
                f"{self.controllers - 1} do",
            )
        if self.replication_factor > self.brokers:
            yield Contradiction(
                ("replication_factor",),
                self.replication_factor,
                f"should be at most brokers ({self.brokers}): each copy is on another one",
                (("brokers",),),
            )
        if self.source is not None and self.source == self.host:
            yield Contradiction(
                ("source",),
                self.source,
                "should be the host of the other region's cluster: this one cannot mirror itself",
                (("host",),),
            )
        for key in ("storage", "controller_storage"):
            yield from enough_room(key, getattr(self, key))
        for key in ("resources", "controller_resources"):
            yield from enough_memory((key, "memory"), getattr(self, key).memory, "512Mi")
        if self.min_in_sync > max(1, self.replication_factor - 1):
            yield Contradiction(
                ("min_in_sync",),
                self.min_in_sync,
                f"should be less than replication_factor ({self.replication_factor}): "
                "one broker away would stop every write",
                (("replication_factor",),),
            )


def against(settings: KafkaSettings, objective: Objective) -> Iterator[Contradiction]:
    """Judge the settings against the objective; keys are those of the whole stack."""
    if objective.rpo == 0 and settings.min_in_sync == 1:
        yield Contradiction(
            ("objectives", "kafka", "rpo"),
            objective.rpo,
            "should be above 0s, or kafka.min_in_sync at least 2: a record that one broker alone "
            "has acknowledged is lost with it",
            (("kafka", "min_in_sync"),),
        )
    yield from within(
        settings.session_timeout + _ELECTION,
        objective.rto,
        ("objectives", "kafka", "rto"),
        (("kafka", "session_timeout"),),
        "a dead broker's partitions are led by another one only once its session has run out",
    )


def following(settings: KafkaSettings) -> Iterator[Contradiction]:
    """Judge the settings of a stack that stands by; keys are those of the whole stack."""
    if settings.source is None:
        yield Contradiction(
            ("kafka", "source"),
            None,
            "should name the other region's cluster where role is standby: topics that mirror "
            "nothing could not take over",
            (("role",),),
        )


def protected(settings: KafkaSettings) -> Iterator[Contradiction]:
    """Judge what must hold where data is protected: one zone gone, nothing lost or stopped."""
    few = {"brokers": settings.brokers, "controllers": settings.controllers}
    for key, servers in few.items():
        if servers < ZONES:
            yield Contradiction(
                ("kafka", key),
                servers,
                f"should be at least {ZONES}, one for each zone, where protect is true",
                (("protect",),),
            )
    copies, needed = settings.replication_factor, settings.min_in_sync
    if settings.brokers < ZONES:
        return
    if copies < ZONES:
        yield Contradiction(
            ("kafka", "replication_factor"),
            copies,
            f"should be at least {ZONES}, one copy for each zone, where protect is true",
            (("protect",),),
        )
        return
    most = copies - lost_with_a_zone(copies)
    if not 2 <= needed <= most:  # noqa: PLR2004, the leader and one that takes over
        right = "2" if most == 2 else f"from 2 to {most}"  # noqa: PLR2004
        yield Contradiction(
            ("kafka", "min_in_sync"),
            needed,
            f"should be {right} with {copies} copies, where protect is true: "
            "fewer lose acknowledged records, more stop writes when one zone is gone",
            (("kafka", "replication_factor"), ("protect",)),
        )
