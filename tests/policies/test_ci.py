"""The workflows in docs/ci.md: YAML with commands that are understood, and a levels file."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import cli, configuration
from policies.rules import RULES

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
WORKFLOWS = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def commands(value: Any) -> Iterator[str]:
    """Every shell command of a workflow."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in {"run", "script"}:
                yield from each if isinstance(each, list) else [each]
            else:
                yield from commands(each)
    elif isinstance(value, list):
        for each in value:
            yield from commands(each)


OURS = [
    each.partition("python -m policies ")[2]
    for workflow in WORKFLOWS
    for each in commands(workflow)
    if "python -m policies " in each
]


def test_there_is_one_workflow_for_each_service() -> None:
    github, gitlab = WORKFLOWS
    assert github["jobs"].keys() == {"manifests", "program"}
    assert gitlab.keys() == {"policies", "policies-state"}


@pytest.mark.parametrize("command", OURS)
def test_command_is_understood_and_finds_what_it_should(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("manifests").mkdir()
    weak = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort}\n"
    Path("manifests/a.yaml").write_text(weak)
    Path("state.json").write_text(
        '{"deployment": {"resources": [{"type": "kubernetes:core/v1:Namespace", '
        '"urn": "urn:pulumi:a::b::c::d", "inputs": {"kind": "Namespace"}}]}}'
    )
    Path("policy-levels.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["policies"])
    assert cli.main(shlex.split(command)) == 1
    written = re.search(r"--output (\S+)", command)
    assert (Path(written[1]).read_text() if written else capsys.readouterr().out).strip()


def test_manifests_are_judged_without_the_sdk(tmp_path: Path) -> None:
    """The jobs that judge manifests install PyYAML and jsonschema, and nothing else."""
    path = tmp_path / "a.yaml"
    path.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort}\n")
    program = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['pulumi', 'grpc', 'google', 'jsonschema']))\n"
        f"sys.argv = ['policies', 'check', {str(path)!r}]\n"
        "runpy.run_module('policies', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "service-no-node-port" in done.stdout


def test_there_are_three_such_commands() -> None:
    assert len(OURS) == 3


def test_levels_file_of_the_page_is_one(tmp_path: Path) -> None:
    (levels,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "levels.json"
    path.write_text(levels)
    assert [each.owner for each in configuration.read(path, RULES).exemptions] == [
        "team-matchmaking"
    ]
