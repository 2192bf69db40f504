"""Simulated nodes (KWOK): all that a control plane sees of a node, but no container runs.

They take part in admission, scheduling, eviction, preemption and volumes, and cost next to nothing.
They are all nodes of a cluster, or a crowd that joins real ones, to try what only scheduling is
about at scale. Nothing is put onto a crowd that does not tolerate its taint.
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
LEASE_SECONDS, CROWD_LEASE_SECONDS = 40, 8
"""A quarter of it passes between two signs of life: nodes beside real ones count as lost sooner."""
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
    crowd: int | None = None
    """How many join the real nodes in each zone; None: these are all the nodes there are."""

    @property
    def process(self) -> Process:
        """The one process that plays all nodes."""
        return Process("kwok", self.folder)

    def surroundings(self) -> Surroundings:
        """The control plane shares this machine's network; nobody else needs to reach it."""
        return Surroundings()

    def start(self, api: Api) -> None:
        """Register the nodes of the topology, remove others, and start playing them."""
        wanted = self._wanted()
        for node in api.items(f"/api/v1/nodes?labelSelector={KIND_LABEL}=simulated"):
            name = node["metadata"]["name"]
            if name not in wanted:
                api.delete(f"/api/v1/nodes/{name}")
        for node in wanted.values():
            api.create("/api/v1/nodes", node)
        config = self.folder / "kwok.yaml"
        if not wanted:
            self.process.stop()
            config.unlink(missing_ok=True)
            return
        # A crowd has no volumes: those of real nodes are made by somebody else.
        stages = [*self.stages, *([] if self.crowd else [VOLUME_STAGES])]
        config.write_text("\n---\n".join(path.read_text() for path in stages))
        seconds = CROWD_LEASE_SECONDS if self.crowd else LEASE_SECONDS
        self.process.start(
            [
                str(self.kwok),
                f"--kubeconfig={self.kubeconfig}",
                f"--config={config}",
                "--manage-all-nodes=false",
                f"--manage-nodes-with-label-selector={KIND_LABEL}=simulated",
                f"--cidr={POD_ADDRESSES}",
                f"--node-lease-duration-seconds={seconds}",
            ],
            {"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )

    def await_ready(self, api: Api, limit: float) -> None:
        """Wait until every node of the topology is Ready, at most `limit` seconds."""
        if wanted := self._wanted().keys():
            self.process.wait_until(lambda: nodes.ready(api) >= wanted, limit)

    def _wanted(self) -> Mapping[str, dict[str, object]]:
        if self.crowd is None:
            return node_objects(self.topology)
        return node_objects(self.topology, self.crowd, "-crowd", {"taints": [CROWD_TAINT]})


CROWD_TAINT = {"key": KIND_LABEL, "value": "simulated", "effect": "NoSchedule"}


def node_objects(
    topology: Topology,
    per_zone: int = NODES_PER_ZONE,
    suffix: str = "",
    spec: Mapping[str, object] | None = None,
) -> Mapping[str, dict[str, object]]:
    """The Node objects of a topology by name, labelled as in a cloud.

    Args:
        topology: region and zones.
        per_zone: how many stand in each zone.
        suffix: of the zone, in names: `<zone><suffix>-<number>`.
        spec: of every node.
    """
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
            "spec": dict(spec or {}),
            "status": {"allocatable": _CAPACITY, "capacity": _CAPACITY},
        }
        for zone in topology.zones
        for number in range(1, per_zone + 1)
        for name in [f"{zone}{suffix}-{number}"]
    }
