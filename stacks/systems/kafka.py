"""Settings of Kafka."""

from __future__ import annotations

from collections.abc import Iterator

from stacks.contradictions import Contradiction
from stacks.values import Count, Memory, Model, Objective, Resources


class KafkaSettings(Model):
    """A Kafka cluster run by Strimzi."""

    brokers: Count = 3
    """Servers that hold the topics."""
    controllers: Count = 3
    """Servers that vote on the cluster's metadata."""
    storage: Memory = "100Gi"
    """Volume of each broker."""
    resources: Resources = Resources(cpu="2", memory="4Gi")
    """What each broker asks for."""


def against(settings: KafkaSettings, objective: Objective) -> Iterator[Contradiction]:  # noqa: ARG001
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from ()
