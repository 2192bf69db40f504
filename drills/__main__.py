"""Command line: `python -m drills postgres-node --times 10 --stack dev`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import parts
from drills import faults, report, run
from drills.client import Place
from drills.faults import FAULTS, Fault, Node
from drills.kube import Kube
from drills.report import Run
from drills.run import LOAD, Stage
from drills.stores import Kafka, Postgres, Redis, Store
from local import world
from local.errors import LocalError
from local.nodes import real
from local.run import build_folder, load, say
from local.toolchain import build
from stacks.problems import SettingsError
from stacks.settings import Settings


@dataclass(frozen=True)
class LocalNodes:
    """The real nodes of a local cluster."""

    cluster: Path

    def names(self) -> list[str]:
        """Of every node."""
        return [node.name for node in real.members(self.cluster)]

    def node(self, name: str) -> Node:
        """One of them."""
        return next(node for node in real.members(self.cluster) if node.name == name)


def drill(fault: Fault, stack: str, times: int) -> int:
    """Run a drill on a stack's local world, and report it; 1 if a promise was broken.

    Raises:
        LocalError: if the world has no real nodes.
    """
    wanted = load(stack)
    target = world.named(stack)
    nodes = LocalNodes(target.cluster.folder)
    if not nodes.names():
        raise LocalError(
            f"stack {stack} has no real nodes to break: start it with `make up STACK={stack}`, "
            "which says why if this machine cannot run them"
        )
    kubectl = build.ensure(["kubectl"], say)["kubectl"]
    with target.locked(), target.cluster.api() as api:
        kube = Kube(api, kubectl, target.cluster.kubeconfig)
        store = _store(kube, fault, wanted)
        place = place_of(kube, fault.store, wanted)
        if isinstance(store, Kafka):
            store.admit(place.namespace, place.workload)
        declared = {"store": store.settings(), "load": list(LOAD)}

        def record(runs: Sequence[Run]) -> None:
            report.write(build_folder() / "drills", fault, runs, declared)

        runs = run.drill(Stage(kube, nodes, store, place, say), fault, times, record)
    problems = report.verdict(fault, runs)
    for problem in problems:
        say(problem)
    say(f"{fault.name}: seconds without writes {report.spreads(runs)['seconds_without_writes']}")
    return 1 if problems else 0


def _store(kube: Kube, fault: Fault, wanted: Settings) -> Store:
    kinds: dict[str, type[Postgres] | type[Redis] | type[Kafka]] = {
        "postgres": Postgres,
        "redis": Redis,
        "kafka": Kafka,
    }
    return kinds[fault.store](kube, parts.namespace(wanted.prefix, parts.DATA), fault.store)


def place_of(kube: Kube, store: str, wanted: Settings) -> Place:
    """Load from where a service that uses the store runs, with its image."""
    service, entry = next(
        (name, entry) for name, entry in wanted.services.items() if store in entry.uses
    )
    namespace = parts.namespace(wanted.prefix, entry.tier)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{service}"
    containers: list[dict[str, Any]] = kube.api.get(path)["spec"]["template"]["spec"]["containers"]
    return Place(namespace, service, containers[0]["image"])


def main(arguments: list[str]) -> int:
    """Run one drill, several one after the other, or list all."""
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("name", help="of a drill, or how several begin; `all`; `list`")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--stack", default="dev")
    given = parser.parse_args(arguments)
    if given.name == "list":
        for fault in FAULTS:
            say(f"{fault.name:40s} {fault.text}")
        return 0
    try:
        wanted = faults.named(given.name)
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return max([_attempt(fault, given.stack, given.times) for fault in wanted])


def _attempt(fault: Fault, stack: str, times: int) -> int:
    """Run a drill; one that cannot be run fails, and does not keep the next from its turn."""
    try:
        return drill(fault, stack, times)
    except (LocalError, LookupError, SettingsError) as error:
        print(f"error: {fault.name}: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
