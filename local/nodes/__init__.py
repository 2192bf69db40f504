"""The nodes of a local cluster, behind one small interface.

`Nodes` is all that the cluster knows of them. `simulated` nodes take part in everything the control
plane does but run no containers; `real` ones are Kubernetes nodes as anywhere, each in namespaces
of its own on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local.api import Api

KIND_LABEL = "node.kubernetes.io/kind"
_READY = "Ready"


@dataclass(frozen=True)
class Topology:
    """Where the nodes stand: one region and its zones."""

    region: str
    zones: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """Where the control plane lives, because of the nodes that it must reach."""

    enter: tuple[str, ...] = ()
    """What a command of the control plane starts with, to run inside its network."""
    address: str = "127.0.0.1"
    """Where the API server listens, as its nodes see it."""
    port: int | None = None
    """The port there; None: the one that this machine's clients use as well."""


class Nodes(Protocol):
    """What a kind of node must be able to do."""

    def surroundings(self) -> Surroundings:
        """Prepare the network of control plane and nodes, and say how to get into it."""

    def start(self, api: Api, /) -> None:
        """Bring the nodes up, or mend them; returns at once."""

    def await_ready(self, api: Api, limit: float) -> None:
        """Wait until every node is Ready.

        Raises:
            LocalError: after `limit` seconds, with the end of the log of what is not.
        """


def ready(api: Api) -> set[str]:
    """The names of the nodes that are Ready."""
    return {node["metadata"]["name"] for node in api.items("/api/v1/nodes") if is_ready(node)}


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether a Node object says that it is Ready."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(c["type"] == _READY and c["status"] == "True" for c in conditions)
