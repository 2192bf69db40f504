"""Settings of the operators: which of them a stack brings along."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from stacks.values import Model, expects


class Source(StrEnum):
    """Where an operator comes from."""

    INSTALLED = "installed"
    """It is on the cluster already: nothing is declared."""
    RELEASE = "release"
    """The stack declares its pinned release. One stack of a cluster may: operators serve all."""


Mirror = Annotated[
    str,
    StringConstraints(pattern=r"^(https://\S+|/\S+)$"),
    Field(
        json_schema_extra=expects(
            "a URL or a folder that holds the releases' files under their own names, such as "
            "https://mirror.example.com/operators"
        )
    ),
]


class OperatorsSettings(Model):
    """The operators that run the data systems."""

    cloudnative_pg: Source = Source.INSTALLED
    """CloudNativePG, which runs PostgreSQL."""
    barman_cloud: Source = Source.INSTALLED
    """Its plugin for backups, which wants cert-manager on the cluster."""
    percona_mongodb: Source = Source.INSTALLED
    """Percona's operator, which runs MongoDB."""
    strimzi: Source = Source.INSTALLED
    """Strimzi, which runs Kafka, and its Drain Cleaner, which wants cert-manager on the cluster;
    both releases are Helm charts."""
    mirror: Mirror | None = None
    """Where the releases' manifests are read from; none: where upstream publishes them.

    Whatever the place, a file with another digest than the pinned one is refused."""
