"""What the inventory says of Pods that are not Ready."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from local.api import Api
from local.inventory import Inventory, Workload, take


def workload(ready: int, *images: str) -> Workload:
    return Workload("data", "StatefulSet", "graph", ready, 3, ("a",), ("a-1",), images)


def unready(*workloads: Workload) -> tuple[Workload, ...]:
    return Inventory(workloads, {"real": 3}).unready({"graph:enterprise"})


def test_a_workload_that_misses_a_pod_is_not_ready() -> None:
    assert unready(workload(2, "graph:community")) == (workload(2, "graph:community"),)


def test_a_whole_workload_is_ready() -> None:
    assert unready(workload(3, "graph:community")) == ()


def test_nobody_waits_for_what_needs_an_image_that_is_not_there() -> None:
    assert unready(workload(0, "exporter:1", "graph:enterprise")) == ()


def pod(name: str, phase: str, owner: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "data",
            "labels": {"pod-template-hash": "1"},
            "ownerReferences": [{"kind": owner, "name": "shop-1"}],
        },
        "spec": {"containers": [{"image": "shop:1"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(phase == "Running")}],
        },
    }


@pytest.mark.parametrize(("owner", "total"), [("ReplicaSet", 1), ("Job", 2)])
def test_a_pod_that_was_evicted_and_replaced_does_not_count(owner: str, total: int) -> None:
    api = Mock(spec=Api)
    listed = [pod("shop-old", "Failed", owner), pod("shop-new", "Running", owner)]
    api.items.side_effect = lambda path: listed if path == "/api/v1/pods" else []
    (found,) = take(api).workloads
    assert (found.ready, found.total) == (1, total)
