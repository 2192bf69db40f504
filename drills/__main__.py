"""Command line: `python -m drills postgres-node --times 10 --stack dev`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import parts
from drills import faults, report, run, stop, trials
from drills.arguments import repetitions
from drills.client import Place
from drills.faults import FAULTS, Fault, Node
from drills.kube import Kube
from drills.report import Row, Run
from drills.run import Load, Stage
from drills.stores import Kafka, Postgres, Redis, Store
from drills.trials import TRIALS, Scene, Trial
from local import run as commands
from local import world
from local.errors import LocalError
from local.nodes import real
from local.run import build_folder, say
from local.toolchain import build
from stacks.problems import SettingsError
from stacks.settings import Settings

KINDS: Mapping[str, type[Postgres] | type[Redis] | type[Kafka]] = {
    "postgres": Postgres,
    "redis": Redis,
    "kafka": Kafka,
}
"""The stores that are drilled, by the name of their data system."""


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


def named(name: str) -> list[Fault | Trial]:
    """Look up one drill by its name, those whose names begin so (`redis`), or `all`.

    Raises:
        LookupError: naming all there are.
    """
    every: list[Fault | Trial] = [*FAULTS, *TRIALS]
    prefix = "" if name == "all" else name
    found = [each for each in every if each.name == name] or [
        each for each in every if each.name.startswith(prefix)
    ]
    if not found:
        raise LookupError(f"no drill {name!r}; there are: {', '.join(e.name for e in every)}")
    return found


@contextmanager
def _reached(stack: str) -> Iterator[tuple[Kube, LocalNodes, Settings]]:
    """A stack's local world, which nobody else works on meanwhile.

    Raises:
        LocalError: if it has no real nodes.
    """
    wanted = commands.load(stack)
    target = world.named(stack)
    nodes = LocalNodes(target.cluster.folder)
    if not nodes.names():
        raise LocalError(
            f"stack {stack} has no real nodes to break: start it with `make up STACK={stack}`, "
            "which says why if this machine cannot run them"
        )
    kubectl = build.ensure(["kubectl"], say)["kubectl"]
    with target.locked(), target.cluster.api() as api:
        yield Kube(api, kubectl, target.cluster.kubeconfig), nodes, wanted


def drill(fault: Fault, stack: str, times: int) -> list[str]:
    """Run a drill of one store on a stack's local world; return every broken promise."""
    with _reached(stack) as (kube, nodes, wanted):
        store, place = _admitted(kube, fault.store, wanted)
        row = faults.row(fault, getattr(wanted.objectives, fault.store))
        stage = Stage(kube, nodes, store, place, Load.of([row], run.DRILL_SECONDS), say)
        record = recorder(stack, {fault.store: row}, {fault.store: store}, stage.load)
        runs = run.drill(stage, fault, times, record)
    say(f"{fault.name}: seconds without writes {report.spreads(runs)['seconds_without_writes']}")
    return report.verdict(row, runs)


def hold(trial: Trial, stack: str, times: int) -> list[str]:
    """Hold a trial of all stores on a stack's local world; return every broken promise."""
    with _reached(stack) as (kube, nodes, wanted):
        admitted = {name: _admitted(kube, name, wanted) for name in trial.goals}
        stores = {name: store for name, (store, _) in admitted.items()}
        places = {name: place for name, (_, place) in admitted.items()}
        namespace = parts.namespace(wanted.prefix, parts.DATA)
        objectives = {name: getattr(wanted.objectives, name) for name in trial.goals}
        rows = trials.rows(trial, objectives)
        load = Load.of(rows.values(), trials.TRIAL_SECONDS)
        scene = Scene(kube, nodes, stores, places, namespace, load, say)
        runs = trials.hold(scene, trial, times, recorder(stack, rows, stores, load))
    return [
        f"{name}: {problem}"
        for name, done in runs.items()
        for problem in report.verdict(rows[name], done)
    ]


def recorder(
    stack: str, rows: Mapping[str, Row], stores: Mapping[str, Store], given: Load
) -> run.Recorder:
    """What writes the report of a store after each repetition, apart from other stacks'."""
    folder = build_folder() / "drills" / stack
    load = {"warm_up": given.warm_up, "options": list(given.options)}
    declared = {
        name: {"stack": stack, "store": stores[name].settings(), "load": load} for name in rows
    }

    def record(store: str, runs: Sequence[Run], broken_off: str | None) -> None:
        report.write(folder, rows[store], runs, declared[store], broken_off)

    return record


def _admitted(kube: Kube, name: str, wanted: Settings) -> tuple[Store, Place]:
    """A store, and where a client of it runs, once it may come in."""
    store = KINDS[name](kube, parts.namespace(wanted.prefix, parts.DATA), name)
    place = place_of(kube, name, wanted)
    if isinstance(store, Kafka):
        store.admit(place.namespace, place.workload)
    return store, place


def place_of(kube: Kube, store: str, wanted: Settings) -> Place:
    """Load from where a service that uses the store runs, with its image.

    Raises:
        LocalError: if none uses it.
    """
    users = [name for name, entry in wanted.services.items() if store in entry.uses]
    if not users:
        raise LocalError(f"no service of this stack uses {store}: there is nothing to drill")
    service, entry = users[0], wanted.services[users[0]]
    namespace = parts.namespace(wanted.prefix, entry.tier)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{service}"
    containers: list[dict[str, Any]] = kube.api.get(path)["spec"]["template"]["spec"]["containers"]
    return Place(namespace, service, containers[0]["image"])


def main(arguments: list[str]) -> int:
    """Run one drill, several one after the other, or list all."""
    parser = argparse.ArgumentParser(prog="python -m drills", description=__doc__)
    parser.add_argument("name", help="of a drill, or how several begin; `all`; `list`")
    parser.add_argument("--times", type=repetitions, default=1)
    parser.add_argument("--stack", default="dev")
    given = parser.parse_args(arguments)
    if given.name == "list":
        for each in (*FAULTS, *TRIALS):
            say(f"{each.name:40s} {each.text}")
        return 0
    try:
        wanted = named(given.name)
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return max([_attempt(each, given.stack, given.times) for each in wanted])


def _attempt(each: Fault | Trial, stack: str, times: int) -> int:
    """Run a drill; one that cannot be run fails, and does not keep the next from its turn."""
    try:
        if isinstance(each, Fault):
            problems = drill(each, stack, times)
        else:
            problems = hold(each, stack, times)
    except (LocalError, LookupError, SettingsError) as error:
        print(f"error: {each.name}: {error}", file=sys.stderr)  # noqa: T201
        if stop.was_asked(error):
            raise KeyboardInterrupt from None
        return 1
    for problem in problems:
        say(f"{each.name}: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    stop.once(say)
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as problem:
        sys.exit(f"error: {commands.explained(problem)}")
    except KeyboardInterrupt:
        sys.exit("stopped: what was measured until now is in build/drills")
