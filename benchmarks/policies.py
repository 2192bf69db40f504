"""What the policies cost: ``python -m benchmarks.policies``; fills its part of build/bench.json.

- preview_prod_pack_over_without: the preview of stack prod as `make policy` does it (local world,
  components built, providers asked), with the pack and without.
- preview_registering_pack_over_without: the same for a program that only registers the Kubernetes
  objects of stack prod, so that nothing else takes time.
- growth of preview_with_pack and preview_without: that program with more and more objects.
- growth of judge: the rules alone, in seconds.
- check_over_kube_score: `python -m policies check` and kube-score over one file of 1,000 objects.
- growth of check: the command over more and more objects, from start to end.

The objects are those of stack prod, over and over, each round in namespaces of its own, in a fixed
random order, so that any number of them is the same mixture. What is compared takes turns; figures
are medians. Python keeps what it compiled, as it does unless it is told otherwise.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import pulumi
import yaml
from pulumi import automation

from benchmarks.checkers import manifest
from benchmarks.results import Curve, record
from local import world as worlds
from local.engine import LAUNCHERS, Engine, Outcome
from local.toolchain import build
from policies.model import Resource
from policies.rule import Ruleset
from policies.rules import RULES
from policies.world import World
from stacks import loader
from tests.policies.test_mutants import shipped

PACK = Path(__file__).parents[1] / "policies"
STACK = "prod"
TURNS = 5
SIZES = (100, 300, 1_000, 3_000, 10_000)
PREVIEWED = (100, 500, 2_000)
CHECKED = 1_000


def objects(count: int) -> list[Resource]:
    """So many objects, a fair share of each kind of the stack."""
    own = [each for each in shipped(STACK).resources if each.is_kubernetes]
    random.Random(0).shuffle(own)  # noqa: S311 - an order, not a secret
    return [
        _moved(each, number // len(own)) for number, each in enumerate(islice(cycle(own), count))
    ]


def _moved(resource: Resource, round_: int) -> Resource:
    metadata = dict(resource.props.get("metadata", {}))
    metadata["namespace"] = f"{metadata.get('namespace', 'default')}-{round_}"
    props = {**resource.props, "metadata": metadata}
    return replace(resource, props=props, urn=f"{resource.urn}-{round_}")


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def taking_turns(*works: Callable[[], object], turns: int = TURNS) -> list[float]:
    """Median seconds of each; one turn before the first is not counted."""
    for work in works:
        work()
    taken = [[seconds(work) for work in works] for _ in range(turns)]
    return [median(each) for each in zip(*taken, strict=True)]


# Rules ------------------------------------------------------------------------------------------


def judging() -> Curve:
    """Seconds to judge so many objects by all rules."""
    rules = Ruleset(RULES.values())
    gc.disable()  # as the pack runs
    try:
        return [
            (count, median(_judging(rules, objects(count)) for _ in range(TURNS)))
            for count in SIZES
        ]
    finally:
        gc.enable()


def _judging(rules: Ruleset, resources: list[Resource]) -> float:
    return seconds(lambda: list(rules.judge(World(resources), {})))


# The command ------------------------------------------------------------------------------------


def checking(folder: Path) -> tuple[float, Curve]:
    """The command over kube-score, and its seconds by number of objects."""
    program = build.ensure(["kube-score"], _say)["kube-score"]
    commands = {count: _check(_written(folder, count)) for count in SIZES}
    theirs = _runner([str(program), "score", str(_written(folder, CHECKED))])
    ours, other = taking_turns(commands[CHECKED], theirs, turns=2 * TURNS)
    return ours / other, list(zip(SIZES, taking_turns(*commands.values()), strict=True))


def _written(folder: Path, count: int) -> Path:
    path = folder / f"{count}.yaml"
    if not path.exists():
        listed = [manifest(each) for each in objects(count)]
        path.write_text(yaml.dump_all(listed, Dumper=yaml.CSafeDumper))
    return path


def _check(path: Path) -> Callable[[], object]:
    return _runner([sys.executable, "-m", "policies", "check", str(path)])


def _runner(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, capture_output=True, check=False)


# Previews ---------------------------------------------------------------------------------------


def preview_of_stack(folder: Path) -> float:
    """The preview of the stack with the pack, over the one without."""
    target = worlds.World(STACK, folder / "world", worlds.SIMULATED)
    with target.locked():
        try:
            engine = Engine.prepare(target, target.start(loader.from_file(STACK), _say), _mute)
            packed, bare = taking_turns(
                lambda: _passed(engine.preview(refresh=False)),
                lambda: _passed(engine.preview(refresh=False, policies=False)),
            )
        finally:
            target.stop()
    _say(f"preview of {STACK}: {packed:.2f} s with the pack, {bare:.2f} s without")
    return packed / bare


def _passed(outcome: Outcome) -> None:
    if not outcome.succeeded:
        raise RuntimeError(f"the preview failed: {outcome.errors or outcome.violations}")


def previews_of_objects(folder: Path) -> tuple[float, dict[str, Curve]]:
    """The same for programs that only register objects: the ratio for a stack, and seconds."""
    own = sum(each.is_kubernetes for each in shipped(STACK).resources)
    packed, bare = _registering(folder, own)
    growth = [(count, *_registering(folder, count)) for count in PREVIEWED]
    return packed / bare, {
        "preview_with_pack": [(count, one) for count, one, _ in growth],
        "preview_without": [(count, other) for count, _, other in growth],
    }


def _registering(parent: Path, count: int) -> tuple[float, float]:
    folder = parent / f"preview-{count}"
    linked = folder / "root" / "bin" / "pulumi"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(build.ensure(["pulumi"], _say)["pulumi"])
    listed = [(each.type, each.urn, manifest(each)) for each in objects(count)]

    def register() -> None:
        for type_, name, props in listed:
            pulumi.ComponentResource(type_, name.replace("::", "-"), props)

    stack = automation.create_or_select_stack(
        STACK,
        "bench",
        register,
        opts=automation.LocalWorkspaceOptions(
            work_dir=str(folder),
            env_vars=_environment(folder, linked),
            project_settings=automation.ProjectSettings("bench", "python"),
            pulumi_command=automation.PulumiCommand(str(folder / "root")),
        ),
    )
    levels = folder / "levels.json"
    levels.write_text('{"all": "advisory"}')
    pack: dict[str, Any] = {"policy_packs": [str(PACK)], "policy_pack_configs": [str(levels)]}
    packed, bare = taking_turns(lambda: stack.preview(**pack), stack.preview)
    _say(f"preview of {count} objects: {packed:.2f} s with the pack, {bare:.2f} s without")
    return packed, bare


def _environment(folder: Path, program: Path) -> dict[str, str]:
    """No network, no login, plugins only from the project."""
    return {
        "PATH": f"{program.parent}:{LAUNCHERS}:/usr/bin:/bin",
        "FT_PYTHON": sys.executable,
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": f"file://{folder}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE": "bench",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _mute(_: str) -> None: ...


@contextmanager
def _keeping_bytecode() -> Iterator[Path]:
    """A folder to work in; what runs keeps its bytecode there, not in the checkout."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{name}/bytecode"
        try:
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)


def main() -> None:
    """Measure, print and write."""
    judged = judging()
    with _keeping_bytecode() as folder:
        over_kube_score, checked = checking(folder)
        of_stack = preview_of_stack(folder)
        registering, previews = previews_of_objects(folder)
    ratios = {
        "preview_prod_pack_over_without": round(of_stack, 3),
        "preview_registering_pack_over_without": round(registering, 3),
        "check_over_kube_score": round(over_kube_score, 3),
    }
    growth = {
        name: [(count, round(taken, 4)) for count, taken in curve]
        for name, curve in {"judge": judged, "check": checked, **previews}.items()
    }
    path = record(ratios, growth)
    count, taken = judged[-1]
    _say(f"{1e6 * taken / count / len(RULES):.2f} µs a rule and resource, {len(RULES)} rules")
    sys.stdout.write(json.dumps({"ratios": ratios, "growth": growth}, indent=2) + "\n")
    _say(f"written to {path}")


if __name__ == "__main__":
    main()
