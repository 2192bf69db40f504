"""Settings of Neo4j."""

from __future__ import annotations

from collections.abc import Iterator

from stacks.contradictions import Contradiction
from stacks.values import Count, Image, Memory, Model, Objective, Resources


class Neo4jSettings(Model):
    """A Neo4j graph database: a cluster of primaries, or one server."""

    servers: Count = 3
    """Servers, each a primary of every database."""
    image: Image = "neo4j:2025.09.0-enterprise"
    """Image of the servers."""
    storage: Memory = "50Gi"
    """Volume of each server."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each server asks for."""


def against(settings: Neo4jSettings, objective: Objective) -> Iterator[Contradiction]:  # noqa: ARG001
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from ()
