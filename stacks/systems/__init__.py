"""The data systems of a stack: settings of each, and what must hold within and against objectives.

One file a system. Each has a model, whose `contradictions` judge its settings against each other,
and a function `against`, which judges them against the system's objective.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class DataSystem(StrEnum):
    """A data system that a service can use."""

    POSTGRES = "postgres"
    REDIS = "redis"
    MONGODB = "mongodb"
    NEO4J = "neo4j"
    KAFKA = "kafka"


AwaitedSystem = Literal[DataSystem.POSTGRES, DataSystem.MONGODB, DataSystem.NEO4J, DataSystem.KAFKA]
"""A data system that an update can wait for, or go on without."""
