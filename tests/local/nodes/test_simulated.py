"""The objects of simulated nodes: all of a cluster, or a crowd that joins real ones."""

from __future__ import annotations

from typing import Any

import pytest

from local.nodes import Topology
from local.nodes.simulated import CROWD_TAINT, NODES_PER_ZONE, SimulatedNodes, node_objects

TOPOLOGY = Topology("us-east-1", ("us-east-1a", "us-east-1b"))


@pytest.fixture
def crowd(tmp_path: Any) -> SimulatedNodes:
    return SimulatedNodes(tmp_path, TOPOLOGY, tmp_path / "kwok", tmp_path / "kubeconfig", [], 3)


def test_each_zone_has_its_nodes() -> None:
    zones = [
        node["metadata"]["labels"]["topology.kubernetes.io/zone"]  # type: ignore[index]
        for node in node_objects(TOPOLOGY).values()
    ]
    assert zones == [zone for zone in TOPOLOGY.zones for _ in range(NODES_PER_ZONE)]


def test_a_crowd_takes_nothing_that_does_not_tolerate_it(crowd: SimulatedNodes) -> None:
    specs = [node["spec"] for node in crowd._wanted().values()]
    assert specs == [{"taints": [CROWD_TAINT]}] * 6


def test_a_crowd_has_other_names_than_the_nodes_that_it_joins(crowd: SimulatedNodes) -> None:
    assert not crowd._wanted().keys() & {f"{zone}-1" for zone in TOPOLOGY.zones}


def test_no_crowd_is_no_node(tmp_path: Any) -> None:
    paths = (tmp_path / "kwok", tmp_path / "kubeconfig")
    assert SimulatedNodes(tmp_path, TOPOLOGY, *paths, [], 0)._wanted() == {}
