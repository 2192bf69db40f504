"""On a cluster of one's own nothing of the local world is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from local.world import PROJECT

pytestmark = pytest.mark.unit

_WITHOUT_LOCAL = "import sys; sys.modules['local'] = None; "


@pytest.mark.parametrize(
    "modules",
    ["components.platform, stacks.program", "policies.rules, policies.analyzer, policies.cli"],
)
def test_program_and_policies_load_without_the_local_world(modules: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"{_WITHOUT_LOCAL}import {modules}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr


def test_no_file_of_the_plain_path_imports_the_local_world() -> None:
    files = [PROJECT / "__main__.py"]
    for folder in ("components", "stacks", "policies"):
        files += (PROJECT / folder).rglob("*.py")
    guilty = [
        path.name
        for path in files
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import local", "from local"))
    ]
    assert len(files) > 20
    assert guilty == []
