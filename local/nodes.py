"""The nodes of a local cluster, behind one small interface.

`Nodes` is all that the cluster knows of them. Simulated nodes (KWOK) take part in everything the
control plane does (admission, scheduling, eviction, preemption, volumes) but run no containers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local.api import Api
from local.process import Process

NODES_PER_ZONE = 2
POD_ADDRESSES = "198.18.0.0/15"
"""Set aside for benchmarks (RFC 2544), so that no simulated address meets a real network."""
LEASE_SECONDS = 40
VOLUME_STAGES = Path(__file__).parent / "kwok" / "volumes.yaml"

_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "500Gi"}
_READY = "Ready"


@dataclass(frozen=True)
class Topology:
    """Where the nodes stand: one region and its zones."""

    region: str
    zones: tuple[str, ...]


class Nodes(Protocol):
    """What a kind of node must be able to do."""

    @property
    def kind(self) -> str:
        """`simulated` or `real`."""

    def start(self, api: Api, topology: Topology) -> None:
        """Bring the nodes up, or mend them; returns at once."""

    def ready(self, api: Api, topology: Topology) -> bool:
        """Whether every node of the topology is Ready."""

    def stop(self) -> None:
        """End what `start` began."""


@dataclass(frozen=True)
class SimulatedNodes:
    """Nodes that KWOK plays."""

    folder: Path
    kwok: Path
    kubeconfig: Path
    stages: Sequence[Path]
    kind: str = "simulated"

    @property
    def process(self) -> Process:
        """The one process that plays all nodes."""
        return Process("kwok", self.folder)

    def start(self, api: Api, topology: Topology) -> None:
        """Register the nodes of the topology, remove others, and start playing them."""
        wanted = node_objects(topology)
        for node in api.items("/api/v1/nodes"):
            name = node["metadata"]["name"]
            if name not in wanted:
                api.delete(f"/api/v1/nodes/{name}")
        for node in wanted.values():
            api.create("/api/v1/nodes", node)
        config = self.folder / "kwok.yaml"
        config.write_text("\n---\n".join(p.read_text() for p in [*self.stages, VOLUME_STAGES]))
        self.process.start(
            [
                str(self.kwok),
                f"--kubeconfig={self.kubeconfig}",
                f"--config={config}",
                "--manage-all-nodes=true",
                f"--cidr={POD_ADDRESSES}",
                f"--node-lease-duration-seconds={LEASE_SECONDS}",
            ],
            {"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )

    def ready(self, api: Api, topology: Topology) -> bool:
        """Whether every node of the topology is Ready."""
        states = {
            node["metadata"]["name"]: condition["status"]
            for node in api.items("/api/v1/nodes")
            for condition in node.get("status", {}).get("conditions", [])
            if condition["type"] == _READY
        }
        return all(states.get(name) == "True" for name in node_objects(topology))

    def stop(self) -> None:
        """End the playing; the nodes turn NotReady as dead ones would."""
        self.process.stop()


def node_objects(topology: Topology) -> Mapping[str, dict[str, object]]:
    """The Node objects of a topology by name (`<zone>-<number>`), labelled as in a cloud."""
    return {
        name: {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "node.kubernetes.io/kind": "simulated",
                    "topology.kubernetes.io/region": topology.region,
                    "topology.kubernetes.io/zone": zone,
                },
            },
            "status": {"allocatable": _CAPACITY, "capacity": _CAPACITY},
        }
        for zone in topology.zones
        for number in range(1, NODES_PER_ZONE + 1)
        for name in [f"{zone}-{number}"]
    }
