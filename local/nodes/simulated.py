"""Simulated nodes (KWOK): all that a control plane sees of a node, but no container runs.

They take part in admission, scheduling, eviction, preemption and volumes, and cost next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local import nodes
from local.api import Api
from local.nodes import KIND_LABEL, Surroundings, Topology
from local.process import Process

NODES_PER_ZONE = 2
POD_ADDRESSES = "198.18.0.0/15"
"""Set aside for benchmarks (RFC 2544), so that no simulated address meets a real network."""
LEASE_SECONDS = 40
VOLUME_STAGES = Path(__file__).parent.parent / "kwok" / "volumes.yaml"

_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "500Gi"}


@dataclass(frozen=True)
class SimulatedNodes:
    """Nodes that KWOK plays."""

    folder: Path
    topology: Topology
    kwok: Path
    kubeconfig: Path
    stages: Sequence[Path]

    @property
    def process(self) -> Process:
        """The one process that plays all nodes."""
        return Process("kwok", self.folder)

    def surroundings(self) -> Surroundings:
        """The control plane shares this machine's network; nobody else needs to reach it."""
        return Surroundings()

    def start(self, api: Api) -> None:
        """Register the nodes of the topology, remove others, and start playing them."""
        wanted = node_objects(self.topology)
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

    def await_ready(self, api: Api, limit: float) -> None:
        """Wait until every node of the topology is Ready, at most `limit` seconds."""
        wanted = node_objects(self.topology).keys()
        self.process.wait_until(lambda: nodes.ready(api) >= wanted, limit)


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
                    KIND_LABEL: "simulated",
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
