"""The program's first screen: settings in, one component, flat outputs out."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pulumi
import pytest
from pulumi import automation

from stacks.guards import declared
from stacks.loader import ROOT, from_file
from stacks.settings import Settings

PLAIN = ("__main__.py", "components", "stacks", "policies")
"""What runs on a cluster of one's own, without the local world."""


@dataclass(frozen=True)
class Args:
    """What the program hands to the platform."""

    settings: Settings
    stack: str


class Platform:
    """A platform of nothing but outputs."""

    def __init__(self, name: str, args: Args) -> None:
        self.outputs = {
            "name": pulumi.Output.from_input(name),
            "stack": pulumi.Output.from_input(args.stack),
            "zones": pulumi.Output.from_input(list(args.settings.zones)),
        }


@pytest.mark.engine
def test_the_outputs_of_the_platform_are_exported_flat(
    engine: Callable[[Callable[[], None], str], automation.Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("components.platform")
    vars(module).update(Platform=Platform, PlatformArgs=Args)
    monkeypatch.setitem(sys.modules, "components.platform", module)

    def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")

    outputs = engine(program, "dr").up().outputs
    assert outputs.pop("declared").value == declared(from_file("dr"))
    assert {name: output.value for name, output in outputs.items()} == {
        "name": "sim",
        "stack": "dr",
        "zones": ["us-west-2a", "us-west-2b", "us-west-2c"],
    }


def _imported(file: Path) -> set[str]:
    """Top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.unit
@pytest.mark.parametrize("part", PLAIN)
def test_the_plain_path_needs_nothing_local(part: str) -> None:
    top = ROOT / part
    files = [top] if top.is_file() else sorted(top.rglob("*.py"))
    assert files
    assert [file.name for file in files if "local" in _imported(file)] == []
