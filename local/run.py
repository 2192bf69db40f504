"""The commands that a person types: up, preview, policy, status, down.

Each returns an exit code: 0 when all is well, 1 when something is not, said in clear words.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local import addons, inside, inventory, world
from local.engine import POLICY_PACK, Engine, Outcome, Step
from local.errors import LocalError
from local.files import write_whole
from local.inventory import Inventory, Workload
from local.world import PROJECT, World
from policies import parity, report, survival
from policies.world import World as PolicyView
from stacks import document, loader
from stacks.settings import Role, Settings

READY_SECONDS = 300.0
"""For what the update itself does not await: Pods that an operator or a mend makes."""
ADDON_SECONDS = 180.0
POLICY_WORLD = "policy-check"

_CLUSTER_KEYS = {"kubernetes:context", "kubernetes:kubeconfig", "kubernetes:cluster"}

_MARKS = {"create": "+", "update": "~", "delete": "-", "replace": "±"}
_STYLES = {"create": "green", "update": "yellow", "delete": "red", "replace": "magenta"}

MOST_SHOWN = 40
"""Longest list of new resources that is shown one by one."""

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def build_folder() -> Path:
    """Where results go: `$BUILD`, else `build` in the checkout."""
    return Path(os.environ.get("BUILD") or PROJECT / "build")


_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def explained(error: OSError) -> str:
    """What is wrong with the folders of worlds and results, and what would mend it.

    Raises:
        OSError: the same, if it is of another kind.
    """
    if error.errno in _FULL:
        return (
            f"no space left on the disk of {world.root()} or {build_folder()}: make room and run "
            "this again, it goes on where it stopped"
        )
    if error.errno in _NOT_OURS:
        return (
            f"{error.filename or 'a process'}: {error.strerror}; WORLD ({world.root()}) and BUILD "
            f"({build_folder()}) should be folders that are yours to write to"
        )
    raise error


class Phases:
    """How long each phase of a command took, and all of it, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    @property
    def total(self) -> float:
        """Since the command began, what lies between phases included."""
        return round(time.monotonic() - self._began, 2)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase and say its name."""
        start = time.monotonic()
        console.print(f"[bold]{name}[/bold] …")
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def up(stack: str) -> int:
    """Bring a whole environment up: the local world, the judged plan, then the real thing."""
    wanted = load(stack)
    phases = Phases()
    target = world.named(stack)
    with target.locked():
        engine = _start(target, wanted, phases)
        with phases.phase("preview"):
            plan = engine.preview()
        findings = _judge(stack, plan)
        if not plan.succeeded or _mandatory(findings):
            return _failed("preview", plan, "nothing was changed")
        if target.kind == world.REAL:
            with phases.phase("add-ons"):
                _await_addons(target)
        with phases.phase("up"):
            done = plan if plan.is_noop else engine.up()
        if not done.succeeded:
            return _failed("up", done, "run it again to go on where it stopped")
        with phases.phase("ready"):
            absent = target.absent_images(wanted)
            found = _until_ready(target, absent)
    _write(f"up-{stack}.json", _summary(stack, done, phases, found, findings))
    _print_workloads(found)
    _print_changes(done)
    console.print(f"[bold]{stack}[/bold]: {_counted(done)} in {phases.total:.0f} s")
    return _gave_up(target, found.unready(absent))


def preview(stack: str) -> int:
    """Show what `up` would change, drift included, and what the policies say of it."""
    wanted = load(stack)
    target = world.named(stack)
    with target.locked():
        engine = _start(target, wanted, Phases())
        plan = engine.preview()
    findings = _judge(stack, plan)
    _print_changes(plan)
    if not plan.succeeded or _mandatory(findings):
        return _failed("preview", plan, "nothing was changed")
    console.print(f"[bold]{stack}[/bold]: {_counted(plan)}")
    return 0


def policy(stack: str) -> int:
    """Judge one stack file, or all, as if deployed onto an empty world: the gate for CI.

    A standby is judged as promoted too: the day of its promotion is late for a refusal.
    """
    stacks = loader.stacks(PROJECT) if stack == "all" else [stack]
    wanted = {name: load(name) for name in stacks}
    plans: dict[str, Outcome] = {}
    shared = _policy_world(stack)
    with shared.locked():
        try:
            passed = [
                _passes(name, each, title, plans)
                for name in stacks
                for title, each in _roles(name, wanted[name]).items()
            ]
        finally:
            shared.stop()
    if _MIRRORED in plans:
        passed += [_mirrors(title, plans) for title in _MIRRORS if title in plans]
    return 0 if all(passed) else 1


_MIRRORED = "prod"
_PROMOTED = "-promoted"
_MIRRORS = {
    "dr": parity.Relation.STANDBY,
    f"dr{_PROMOTED}": parity.Relation.PROMOTED,
    "staging": parity.Relation.REHEARSAL,
}
"""What others are to `_MIRRORED`."""


def _roles(stack: str, wanted: Settings) -> dict[str, Settings]:
    """What a stack is judged as, by title: as its file says and, if it stands by, as promoted."""
    if wanted.role is Role.ACTIVE:
        return {stack: wanted}
    return {stack: wanted, f"{stack}{_PROMOTED}": wanted.model_copy(update={"role": Role.ACTIVE})}


def _mirrors(title: str, plans: Mapping[str, Outcome]) -> bool:
    """Whether a stack is to `_MIRRORED` what it should be, in what it declares and is held to."""
    stack = title.removesuffix(_PROMOTED)
    first = parity.Side.of(_MIRRORED, plans[_MIRRORED].declared)
    second = parity.Side.of(stack, plans[title].declared)
    found = parity.differences(first, second, _MIRRORS[title])
    if _MIRRORS[title] is parity.Relation.STANDBY:
        levels = POLICY_PACK / "levels"
        found += parity.weaker_levels(levels / f"{_MIRRORED}.json", levels / f"{stack}.json")
    _write(f"parity-{title}.json", [asdict(each) for each in found])
    for line in (line for each in found for line in each.lines()):
        console.print(escape(line))
    console.print(
        f"[bold]{title}[/bold] against {_MIRRORED}: {len(found) or 'no'} differences beyond those "
        f"of a {_MIRRORS[title]}"
    )
    return not found


def _passes(stack: str, wanted: Settings, title: str, plans: dict[str, Outcome]) -> bool:
    plan = _start(_policy_world(stack), wanted, Phases()).preview(refresh=False)
    plans[title] = plan
    findings = _judge(title, plan)
    if not plan.succeeded or _mandatory(findings):
        _failed("policy", plan, f"{title} does not pass")
        return False
    console.print(
        f"[bold]{title}[/bold]: {report.rule_count()} rules, {plan.resources} resources, "
        f"no mandatory violation, {len(findings)} advisory"
    )
    return True


def _policy_world(stack: str) -> World:
    """The world in which every stack is judged: the same cluster, always empty."""
    return World(stack, world.root() / POLICY_WORLD, world.SIMULATED)


def status(stack: str | None) -> int:
    """Say what runs, where, and how to reach it."""
    worlds = _worlds(stack)
    if stack and not worlds[0].exists:
        loader.require(stack, PROJECT)
    for target in worlds:
        parts = target.cluster.running()
        alive = [part for part, pid in parts.items() if pid is not None]
        dead = [part for part, pid in parts.items() if pid is None]
        console.print(f"[bold]{target.stack}[/bold] runs {', '.join(alive) or 'nothing'}")
        if dead and alive:
            console.print(
                f"  not running: {', '.join(dead)}; `make up STACK={target.stack}` mends it"
            )
        if not dead:
            console.print(f"  nodes: {target.kind}")
            console.print(f"  export KUBECONFIG={target.cluster.kubeconfig}")
            for upstream, own in sorted(target.replaced_images().items()):
                console.print(f"  {upstream} is {own}")
            with target.cluster.api() as api:
                _print_workloads(inventory.take(api))
    if not worlds:
        console.print("no local world; `make up` makes one")
    return 0


def down(stack: str | None) -> int:
    """End local worlds and forget what they held."""
    targets = _worlds(stack)
    if not targets:
        console.print("there is no local world")
    for target in targets:
        if not target.exists:
            console.print(f"[bold]{escape(target.stack)}[/bold] has no local world")
            continue
        with target.locked():
            target.remove()
        console.print(f"[bold]{target.stack}[/bold] is gone")
    return 0


def _worlds(stack: str | None) -> list[World]:
    """The world of one stack; without one, all there are.

    Raises:
        LocalError: if the name is empty, which may not come to mean all.
    """
    if stack is None:
        return world.existing()
    if not stack:
        raise LocalError("STACK is empty; it should name a stack, or be left out for all")
    return [world.named(stack)]


def psql(stack: str, command: str | None) -> int:
    """Open psql on the primary, or run one statement there."""
    return inside.psql(world.named(stack), load(stack), command)


def redis_cli(stack: str, command: str | None) -> int:
    """Open redis-cli on the master, or run one command there."""
    return inside.redis_cli(world.named(stack), load(stack), command)


def logs(stack: str, service: str) -> int:
    """Show the last lines of every Pod of a service or data system."""
    return inside.logs(world.named(stack), service)


def shell(stack: str, service: str | None, node: str | None) -> int:
    """Open a shell: in a Pod of a service, on a node, or here with kubectl at hand."""
    return inside.shell(world.named(stack), service, node)


def load(stack: str) -> Settings:
    """Read a stack's settings; refuse one that names a cluster of its own.

    Raises:
        SettingsError: naming every problem of the stack file.
        LocalError: if the stack file names a cluster, which a local run must never touch.
    """
    wanted = loader.from_file(stack, PROJECT)
    file = loader.file_name(stack)
    config = document.plain((PROJECT / file).read_text())["config"]
    named = sorted(_CLUSTER_KEYS & config.keys())
    if named:
        raise LocalError(
            f"{file} sets {named[0]}, so it is meant for a cluster of its "
            f"own: use `pulumi up -s {stack}` there; make works on local worlds only"
        )
    return wanted


def _start(target: World, wanted: Settings, phases: Phases) -> Engine:
    world.switched("PROVIDERS", "real")  # told before anything is started
    with phases.phase("cluster"):
        access = target.start(wanted, say)
    with phases.phase("engine"):
        # A standby is judged as promoted too, which its file does not say.
        config = {**access.config, f"{loader.NAMESPACE}:role": wanted.role.value}
        return Engine.prepare(target, replace(access, config=config), say)


def say(text: str) -> None:
    """Tell the person at the terminal what goes on."""
    console.print(f"  {text}")


def _until_ready(target: World, absent: Set[str]) -> Inventory:
    """Wait until every Pod that can be is Ready, for `READY_SECONDS`; return what runs then."""
    deadline = time.monotonic() + READY_SECONDS
    with target.cluster.api() as api:
        while True:
            found = inventory.take(api)
            if not found.unready(absent) or time.monotonic() > deadline:
                return found
            time.sleep(0.5)


def _gave_up(target: World, unready: Sequence[Workload]) -> int:
    """Say what is not Ready, and where to look, if anything is not."""
    if not unready:
        return 0
    missing = ", ".join(f"{w.kind} {w.namespace}/{w.name} ({w.ready}/{w.total})" for w in unready)
    look = "status" if target.kind == world.SIMULATED else "logs SERVICE=…"
    console.print(
        f"[red]error[/red] not ready after {READY_SECONDS:.0f} s: {escape(missing)}; "
        f"`make {look} STACK={target.stack}` shows more"
    )
    return 1


def _await_addons(target: World) -> None:
    """Wait until name server and operators run: an operator judges what the update declares."""
    deadline = time.monotonic() + ADDON_SECONDS
    with target.cluster.api() as api:
        while missing := addons.ready(api):
            if time.monotonic() > deadline:
                raise LocalError(
                    f"not running after {ADDON_SECONDS:.0f} s: {', '.join(missing)}; "
                    f"`make status STACK={target.stack}` shows what does"
                )
            time.sleep(0.3)


def _judge(stack: str, plan: Outcome) -> list[dict[str, str]]:
    findings = report.findings(plan.violations)
    _write(f"policy-{stack}.json", findings)
    _write(f"survival-{stack}.json", survival.written(PolicyView(plan.declared)))
    _print_findings(stack, findings)
    return findings


def _print_findings(stack: str, findings: Sequence[Mapping[str, str]]) -> None:
    """Mandatory violations in full; advisory ones as a count per rule."""
    for finding in findings:
        if finding["level"] == "mandatory":
            console.print(
                f"[red]mandatory[/red] {finding['rule']} ({finding['severity']})\n"
                f"  resource: {escape(finding['resource'])}\n"
                f"  found:    {escape(finding['found'])}\n"
                f"  remedy:   {escape(finding['remedy'])}"
            )
    advisory = Counter(f["rule"] for f in findings if f["level"] != "mandatory")
    for rule, count in sorted(advisory.items()):
        console.print(
            f"[yellow]advisory[/yellow] {rule}: {count} found (build/policy-{stack}.json)"
        )


def _mandatory(findings: Sequence[Mapping[str, str]]) -> int:
    return sum(finding["level"] == "mandatory" for finding in findings)


def _failed(command: str, outcome: Outcome, consequence: str) -> int:
    for error in outcome.errors:
        console.print(f"[red]error[/red] {escape(error)}")
    ending = "was stopped" if outcome.interrupted else "failed"
    console.print(f"[bold red]{command} {ending}[/bold red]; {consequence}")
    return 1


def _counted(outcome: Outcome) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.changes.items()))
    return f"{outcome.resources} resources ({counts})"


def _print_changes(outcome: Outcome) -> None:
    """Each change of a plan or an update; a long list of new resources is counted instead."""
    shown = [step for step in outcome.steps if step.operation != "create"]
    created = [step for step in outcome.steps if step.operation == "create"]
    if len(created) > MOST_SHOWN:
        console.print(f"[green]+ create[/] {len(created)} resources")
    else:
        shown += created
    for step in shown:
        kind = step.operation
        console.print(
            f"[{_STYLES.get(kind, 'white')}]{_MARKS.get(kind, '*')} {kind}[/] "
            f"{step.type} {step.name}{_fields(step)}"
        )


def _fields(step: Step) -> str:
    return f" [dim]({escape(', '.join(step.changed))})[/dim]" if step.changed else ""


def _print_workloads(found: Inventory) -> None:
    table = Table("namespace", "workload", "ready", "zones", "nodes", box=None, pad_edge=False)
    for workload in found.workloads:
        style = None if workload.ready == workload.total else "red"
        table.add_row(
            workload.namespace,
            f"{workload.kind} {workload.name}",
            f"{workload.ready}/{workload.total}",
            str(len(workload.zones)),
            " ".join(workload.nodes),
            style=style,
        )
    console.print(table)


def _summary(
    stack: str,
    done: Outcome,
    phases: Phases,
    found: Inventory,
    findings: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    mandatory = _mandatory(findings)
    kinds = ("create", "update", "replace", "delete", "same")
    return {
        "stack": stack,
        "resources": done.resources,
        "changes": {kind: done.changes.get(kind, 0) for kind in kinds},
        "seconds": phases.seconds,
        "total_seconds": phases.total,
        "pods": {"ready": found.ready, "total": found.total},
        "zones": list(found.zones),
        "nodes": dict(found.nodes),
        "policies": {
            "rules": report.rule_count(),
            "mandatory_violations": mandatory,
            "advisory_violations": len(findings) - mandatory,
        },
        "workloads": [asdict(workload) for workload in found.workloads],
    }


def _write(name: str, content: object) -> None:
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, json.dumps(content, indent=2) + "\n")
