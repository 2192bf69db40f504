"""What every test may use, and the closing account of which tiers ran on what."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from local import cluster as clusters
from local.cluster import Cluster
from local.nodes import Topology
from local.toolchain import build, definitions

TIERS = {
    "unit": "on nothing but Python",
    "engine": "on the real deployment engine",
    "cluster": "on a real Kubernetes API server",
    "dataplane": "on real servers with real traffic",
    "e2e": "on whole environments, from stack file to running cluster",
}
_DEALT = ("e2e", "engine", "dataplane", "cluster", "unit")
"""The tiers by how long their longest file takes."""
# What a shell starts in the background ignores Ctrl-C, and so would all that it starts: some tests
# press it, and would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says how busy the machine is, not whether it is right.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

TOPOLOGY = Topology("us-east-1", ("us-east-1a", "us-east-1b", "us-east-1c"))


def tool(name: str) -> Path:
    """One of the pinned programs."""
    return build.ensure([name], print)[name]


@pytest.fixture(scope="session")
def tools() -> dict[str, Path]:
    """The pinned programs, built if need be."""
    return build.ensure(list(build.TOOLS), print)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, tools: dict[str, Path]) -> Iterator[Cluster]:
    """A control plane with six simulated nodes in three zones, for all tests of one worker."""
    shared = Cluster("tests", tmp_path_factory.mktemp("cluster"))
    found = definitions.files(print, every=False)
    try:
        stages = build.stage_files(print)
        clusters.ensure(shared, clusters.simulated(shared, TOPOLOGY, tools, stages), tools, found)
        yield shared
    finally:
        clusters.stop(shared)


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster) -> Path:
    """The administrator's kubeconfig of the shared control plane."""
    return cluster.kubeconfig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: at the end, short ones keep all workers busy."""
    rank = {tier: number for number, tier in enumerate(_DEALT)}
    rank_of: dict[Path, int] = {}
    for item in items:
        ranks = [rank_of.get(item.path, len(rank)), *(rank[t] for t in TIERS if t in item.keywords)]
        rank_of[item.path] = min(ranks)
    items.sort(key=lambda item: rank_of[item.path])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran in each tier, and which did not and why."""
    ran: Counter[str] = Counter()
    not_run: list[str] = []
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in terminalreporter.stats.get(outcome, []):
            tiers = [tier for tier in TIERS if tier in getattr(report, "keywords", ())] or ["unit"]
            if outcome == "skipped":
                not_run.append(f"{report.nodeid}: {report.longrepr[2]}")
            elif getattr(report, "when", "call") == "call":
                ran.update(tiers)
    terminalreporter.section("what ran on what")
    for tier, meaning in TIERS.items():
        terminalreporter.line(f"{ran[tier]:5d} {tier:10s} {meaning}")
    terminalreporter.line(f"{len(not_run):5d} not run" + "".join(f"\n      {x}" for x in not_run))
