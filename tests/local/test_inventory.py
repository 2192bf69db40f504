"""What the inventory says of Pods that are not Ready."""

from __future__ import annotations

from local.inventory import Inventory, Workload


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
