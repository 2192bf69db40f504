"""What our policies find, and what other checkers do: ``python -m benchmarks.checkers``.

Every weakness of tests/policies/mutations that concerns a plain Kubernetes kind is put into stack
prod, one at a time. A checker has found it if it says something about the weak stack that it does
not say about the stack as it ships. Writes build/checkers.json and prints the table that
docs/checkers.md shows.

- kube-score, built from its Go module, reads all manifests of each weak stack, with every optional
  check switched on.
- Checkov and Trivy, if their programs are given (CHECKOV=…/bin/checkov, TRIVY=… as built from
  benchmarks/trivy), read each weak object once, in a file of its own: they take seconds to
  start, and judge each object alone. So they are not asked about what is missing beside one
  (`without` and `removed` mutations).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from local.run import build_folder
from local.toolchain import build
from policies.model import Opaque, Resource
from policies.rules import RULES, SUBJECTS
from policies.world import World
from tests.policies.test_mutants import mutants, said, shipped

STACK = "prod"
TARGET = build_folder() / "checkers.json"
_PLAIN = (
    "apps/",
    "batch/",
    "core/",
    "policy/",
    "autoscaling/",
    "networking.k8s.io/",
    "rbac.authorization.k8s.io/",
)
_FAILING_GRADE = 5
"""kube-score: 1 is critical, 5 a warning, 7 almost and 10 quite as it should be."""
_OPTIONAL = (
    "container-resource-requests-equal-limits",
    "container-cpu-requests-equal-limits",
    "container-memory-requests-equal-limits",
    "container-ephemeral-storage-request-equals-limit",
    "container-ports-check",
    "container-seccomp-profile",
)


@dataclass
class Case:
    """One weak stack, and who found it."""

    rule: str
    place: str
    resources: tuple[Resource, ...]
    changed: list[Resource]
    found: dict[str, bool] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """Weak variants of the stack whose weakness is in a plain Kubernetes object."""
    before = {id(each) for each in shipped(STACK).resources}
    plain = {each.urn for each in shipped(STACK).resources if _is_plain(each)}
    for rule in RULES.values():
        for _, mutant in mutants(rule, STACK):
            changed = [each for each in mutant.resources if id(each) not in before]
            gone = plain - {each.urn for each in mutant.resources}
            if (changed or gone) and all(_is_plain(each) for each in changed):
                yield Case(rule.name, mutant.place, mutant.resources, changed)


def _is_plain(resource: Resource) -> bool:
    return resource.is_kubernetes and resource.kind.startswith(_PLAIN)


def manifest(resource: Resource) -> dict[str, Any]:
    """The object as YAML can hold it; what is not known in a preview is some text."""
    version = resource.api_version.removeprefix("core/")
    written: dict[str, Any] = _written(resource.props)
    return written | {"apiVersion": version, "kind": resource.kind.rpartition("/")[2]}


def _written(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _written(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_written(each) for each in value]
    return "unknown" if isinstance(value, Opaque) else value


def manifests_of(resources: tuple[Resource, ...]) -> str:
    """Every plain object, as one file."""
    objects = [manifest(each) for each in resources if _is_plain(each)]
    return yaml.dump_all(objects, Dumper=yaml.CSafeDumper)


# The checkers -----------------------------------------------------------------------------------


def kube_score(program: Path, text: str) -> set[tuple[str, str, str]]:
    """What kube-score objects to: object, check and comment."""
    optional = [word for name in _OPTIONAL for word in ("--enable-optional-test", name)]
    done = subprocess.run(
        [program, "score", "--output-format", "json", *optional, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        (judged["object_name"], check["check"]["id"], json.dumps(comment))
        for judged in json.loads(done.stdout or "[]")
        for check in judged["checks"]
        if check["grade"] <= _FAILING_GRADE and not check["skipped"]
        for comment in check["comments"] or [None]
    }


def checkov(program: str, folder: Path) -> dict[str, set[str]]:
    """What Checkov objects to: checks by file."""
    done = subprocess.run(
        [program, "-d", folder, "--framework", "kubernetes", "-o", "json", "--quiet", "--compact"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])
    failed: dict[str, set[str]] = {}
    for each in report["results"]["failed_checks"]:
        failed.setdefault(Path(each["file_path"]).name, set()).add(each["check_id"])
    return failed


def trivy(program: str, folder: Path) -> dict[str, set[str]]:
    """What Trivy's checks of Kubernetes object to: checks by file."""
    done = subprocess.run([program, folder], capture_output=True, text=True, check=True)
    failed: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        each = json.loads(line)
        failed.setdefault(Path(each["file"]).name, set()).add(each["check"])
    return failed


BY_OBJECT: dict[str, Callable[[str, Path], dict[str, set[str]]]] = {
    "checkov": checkov,
    "trivy": trivy,
}
"""Checkers that take long to start, so that they read each weak object once, in its own file."""


def _ask_by_object(name: str, program: str, listed: list[Case]) -> set[str]:
    """Ask a checker about the objects that were changed; return the checks that found something."""
    originals = {each.urn: each for each in shipped(STACK).resources}
    with tempfile.TemporaryDirectory() as written:
        folder = Path(written)
        for number, case in enumerate(listed):
            for place, each in enumerate(case.changed):
                before = originals.get(each.urn)
                for when, one in (("after", each), ("before", before)):
                    if one is not None:
                        path = folder / f"{number}-{place}-{when}.yaml"
                        path.write_text(yaml.safe_dump(manifest(one)))
        failed = BY_OBJECT[name](program, folder)
    spoke = set()
    for number, case in enumerate(listed):
        if case.changed and len(case.resources) >= len(originals):
            new = {
                check
                for place in range(len(case.changed))
                for check in failed.get(f"{number}-{place}-after.yaml", set())
                - failed.get(f"{number}-{place}-before.yaml", set())
            }
            case.found[name] = bool(new)
            spoke |= new
    return spoke


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Ask every checker about every weak stack."""
    program = build.ensure(["kube-score"], _say)["kube-score"]
    listed = list(cases())
    before = kube_score(program, manifests_of(shipped(STACK).resources))
    ours = {name: said(RULES[name], shipped(STACK), STACK) for name in RULES}
    spoke: dict[str, set[str]] = {"kube-score": set()}
    for case in listed:
        now = said(RULES[case.rule], World(case.resources), STACK)
        case.found["ours"] = bool(now - ours[case.rule])
        new = kube_score(program, manifests_of(case.resources)) - before
        case.found["kube-score"] = bool(new)
        spoke["kube-score"] |= {check for _, check, _ in new}
    for name in BY_OBJECT:
        if other := os.environ.get(name.upper()):
            spoke[name] = _ask_by_object(name, other, listed)
    _tell(listed, spoke)


def _tell(listed: list[Case], spoke: dict[str, set[str]]) -> None:
    checkers = sorted({name for case in listed for name in case.found})
    table = []
    for subject, rules in SUBJECTS.items():
        for rule in rules:
            own = [case for case in listed if case.rule == rule.name]
            if own:
                shares = {name: _share(own, name) for name in checkers}
                table.append({"subject": subject, "rule": rule.name, **shares})
    missed = [
        f"{case.rule} at {case.place}"
        for case in listed
        if not case.found["ours"] and any(case.found.values())
    ]
    result = {
        "stack": STACK,
        "weak_stacks": len(listed),
        "found": {name: _share(listed, name) for name in checkers},
        "found_by_others_and_not_by_ours": missed,
        "checks_that_spoke": {name: sorted(checks) for name, checks in spoke.items()},
        "rules": table,
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [f"| weaknesses | {' | '.join(checkers)} |", "|---" * (1 + len(checkers)) + "|"]
    for row in [*table, {"rule": "all", **result["found"]}]:  # type: ignore[dict-item]
        lines.append(f"| {row['rule']} | {' | '.join(str(row[name]) for name in checkers)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(f"found by another and not by ours: {len(missed)}\n")


def _share(listed: list[Case], checker: str) -> str:
    asked = [case.found[checker] for case in listed if checker in case.found]
    return f"{sum(asked)} of {len(asked)}" if asked else "not asked"


if __name__ == "__main__":
    main()
