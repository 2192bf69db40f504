"""Settings of MongoDB."""

from __future__ import annotations

from collections.abc import Iterator

from stacks.contradictions import Contradiction
from stacks.values import Count, Image, Memory, Model, Objective, Resources


class MongodbSettings(Model):
    """A MongoDB replica set run by Percona's operator."""

    members: Count = 3
    """Voting members, the primary included."""
    image: Image = "percona/percona-server-mongodb:8.0.12-4"
    """Image of the servers."""
    backup_image: Image = "percona/percona-backup-mongodb:2.11.0"
    """Image of the backup agent beside each server."""
    storage: Memory = "100Gi"
    """Volume of each member."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each member asks for."""


def against(settings: MongodbSettings, objective: Objective) -> Iterator[Contradiction]:  # noqa: ARG001
    """Judge the settings against the objective; keys are those of the whole stack."""
    yield from ()
