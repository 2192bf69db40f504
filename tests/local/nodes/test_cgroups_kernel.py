"""Control groups of this machine's own kernel, whichever version it has."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.nodes import cgroups, host
from local.nodes.cgroups import Cgroup
from tests.waiting import eventually

LACKS = host.lacks(Path("/tmp"))  # noqa: S108, a folder to try in
pytestmark = [
    pytest.mark.dataplane,
    pytest.mark.skipif(bool(LACKS), reason=f"real nodes need {'; '.join(LACKS)}"),
]

GREEDY = "held = [bytes([1]) * 2**20 for _ in range(200)]"
COUNTING = """
import itertools, sys, time
for number in itertools.count():
    print(number, flush=True)
    time.sleep(0.01)
"""

BUSY = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
while True:
    pass
"""
PODS_WEIGHT = {"cpu.shares": str(16 * 1024), "cpu.weight": "625"}
"""What a kubelet of sixteen cores gives all of its Pods together, in version 1 and 2."""


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Cgroup]:
    made = Cgroup(tmp_path, "a-1")
    made.create()
    yield made
    made.remove()


def inside(
    group: Cgroup, program: str, output: Path, name: str = "system"
) -> subprocess.Popen[bytes]:
    """Run Python as a process of the node: of its own, or of another of its groups."""
    files = (file.parents[1] / name / file.name for file in group.adopt_files())
    join = "; ".join(f"echo 0 > {file}" for file in files)
    with output.open("wb") as file:
        return subprocess.Popen(
            ["sh", "-c", f'{join}; exec "$0" -c "$1"', sys.executable, program], stdout=file
        )


def test_a_process_of_a_capped_node_gets_no_more_memory(group: Cgroup, tmp_path: Path) -> None:
    group.limit_memory(100 * 2**20)
    assert inside(group, GREEDY, tmp_path / "out").wait(60) == -signal.SIGKILL


def test_a_lifted_cap_is_none(group: Cgroup, tmp_path: Path) -> None:
    group.limit_memory(100 * 2**20)
    group.limit_memory(None)
    assert inside(group, GREEDY, tmp_path / "out").wait(60) == 0


def test_a_frozen_process_does_nothing_until_it_thaws(group: Cgroup, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = inside(group, COUNTING, output)
    try:
        eventually("it counts", lambda: output.stat().st_size)
        group.freeze(frozen=True)
        eventually("it stands still", lambda: _is_still(output))
        group.freeze(frozen=False)
        still = output.stat().st_size
        eventually("it goes on", lambda: output.stat().st_size > still)
    finally:
        process.kill()
        process.wait(10)


def test_the_daemons_of_a_node_come_before_its_pods(group: Cgroup, tmp_path: Path) -> None:
    for file in group.adopt_files():
        pods = file.parents[1] / "kubepods"
        pods.mkdir()
        for name, weight in (*PODS_WEIGHT.items(), ("cpuset.cpus", None), ("cpuset.mems", None)):
            if (pods / name).exists():
                (pods / name).write_text(weight or (file.parent / name).read_text())
    with busy((group, "system"), (group, "kubepods"), folder=tmp_path) as (daemon, pod):
        eventually("both had 2 s", lambda: _ticks(daemon) + _ticks(pod) > 200)
        assert _ticks(daemon) > 4 * _ticks(pod)


def test_a_node_that_comes_last_leaves_the_cpu_to_the_others(group: Cgroup, tmp_path: Path) -> None:
    other = Cgroup(tmp_path, "b-1")
    other.create()
    group.yield_cpu(last=True)
    try:
        with busy((group, "system"), (other, "system"), folder=tmp_path) as (last, first):
            eventually("both had 2 s", lambda: _ticks(last) + _ticks(first) > 200)
            assert _ticks(first) > 4 * _ticks(last)
    finally:
        other.remove()


@contextmanager
def busy(*groups: tuple[Cgroup, str], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that want all of one CPU, one in each group."""
    running = [
        inside(group, BUSY, folder / f"{number}", name)
        for number, (group, name) in enumerate(groups)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def _ticks(process: subprocess.Popen[bytes]) -> int:
    """Hundredths of seconds of a CPU that a process had."""
    words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def _is_still(output: Path) -> bool:
    """Whether nothing came for as long as a running process would write a hundred times."""
    before = output.stat().st_size
    time.sleep(1)
    return output.stat().st_size == before


def test_nothing_is_left_of_a_group(tmp_path: Path) -> None:
    group = Cgroup(tmp_path, "a-1")
    group.create()
    group.remove()
    left = cgroups.ROOT.glob(f"*/{group.path.split('/')[1]}")
    assert list(left) == []
