"""What the policies cost.

Run as ``python -m benchmarks.policies``; writes build/bench-policies.json.

- preview_prod_pack_over_without: the engine previews a program that registers the Kubernetes
  objects of stack prod, with the pack (all rules advisory) and without, taking turns. Nothing else
  runs in that program, so a real preview, which builds components and asks providers, has a smaller
  ratio.
- milliseconds_per_rule_and_resource, growth: rules alone, over copies of the Kubernetes objects of
  stack prod, each in a namespace of its own.
- check_over_kube_score: `python -m policies check` and kube-score over one file of 1,000 objects,
  taking turns.

Every ratio is of medians.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import pulumi
import yaml
from pulumi import automation

from benchmarks.checkers import manifest
from local.engine import LAUNCHERS
from local.toolchain import build
from policies.model import Resource
from policies.rule import Ruleset
from policies.rules import RULES
from policies.world import World
from tests.policies.test_mutants import shipped

TARGET = Path("build/bench-policies.json")
PACK = Path(__file__).parents[1] / "policies"
TIMES = 5
SIZES = (100, 300, 1_000, 2_000, 5_000, 10_000)
OBJECTS = 1_000


def objects(count: int) -> list[Resource]:
    """Objects of stack prod, over and over, each round in namespaces of its own."""
    own = [each for each in shipped("prod").resources if each.is_kubernetes]
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


def growth() -> list[tuple[int, float]]:
    """Seconds to judge so many objects by all rules."""
    return [(count, _judging(objects(count))) for count in SIZES]


def _judging(resources: list[Resource]) -> float:
    rules = Ruleset(RULES.values())
    return median(seconds(lambda: list(rules.judge(World(resources), {}))) for _ in range(3))


def check_and_kube_score() -> tuple[float, float]:
    """Seconds of either, median of turns."""
    program = build.ensure(["kube-score"], _say)["kube-score"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "objects.yaml"
        listed = [manifest(each) for each in objects(OBJECTS)]
        path.write_text(yaml.dump_all(listed, Dumper=yaml.CSafeDumper))
        ours = [sys.executable, "-m", "policies", "check", str(path)]
        theirs = [str(program), "score", str(path)]
        turns = [(_run(ours), _run(theirs)) for _ in range(TIMES)]
    return median(one for one, _ in turns), median(other for _, other in turns)


def _run(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, capture_output=True, check=False))


def previews() -> tuple[float, float]:
    """Seconds of a preview with and without the pack, median of turns."""
    program = build.ensure(["pulumi"], _say)["pulumi"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        linked = folder / "root" / "bin" / "pulumi"
        linked.parent.mkdir(parents=True)
        linked.symlink_to(program)
        stack = automation.create_or_select_stack(
            "prod",
            "bench",
            _register,
            opts=automation.LocalWorkspaceOptions(
                work_dir=name,
                env_vars=_environment(folder, linked),
                project_settings=automation.ProjectSettings("bench", "python"),
                pulumi_command=automation.PulumiCommand(str(folder / "root")),
            ),
        )
        levels = folder / "levels.json"
        levels.write_text('{"all": "advisory"}')
        packed: dict[str, Any] = {
            "policy_packs": [str(PACK)],
            "policy_pack_configs": [str(levels)],
        }
        turns = [
            (seconds(lambda: stack.preview(**packed)), seconds(stack.preview)) for _ in range(TIMES)
        ]
    return median(one for one, _ in turns), median(other for _, other in turns)


def _environment(folder: Path, program: Path) -> dict[str, str]:
    """No network, no login, plugins only from the project."""
    return {
        "PATH": f"{program.parent}:{LAUNCHERS}:/usr/bin:/bin",
        "FT_PYTHON": sys.executable,
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": f"file://{folder}",
        "PULUMI_CONFIG_PASSPHRASE": "bench",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _register() -> None:
    for each in shipped("prod").resources:
        if each.is_kubernetes:
            pulumi.ComponentResource(each.type, each.name, manifest(each))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Measure, print and write."""
    curve = growth()
    by_size = dict(curve)
    ours, theirs = check_and_kube_score()
    packed, bare = previews()
    result = {
        "ratios": {
            "preview_prod_pack_over_without": round(packed / bare, 2),
            "check_over_kube_score": round(ours / theirs, 2),
            "ten_thousand_over_ten_times_one_thousand": round(
                by_size[10_000] / (10 * by_size[1_000]), 2
            ),
        },
        "seconds": {
            "preview_with_pack": packed,
            "preview_without": bare,
            f"check_{OBJECTS}": ours,
            f"kube_score_{OBJECTS}": theirs,
            "judge_2000": by_size[2_000],
        },
        "rules": len(RULES),
        "milliseconds_per_rule_and_resource": 1000 * by_size[2_000] / 2_000 / len(RULES),
        "growth": {"judge": curve},
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
