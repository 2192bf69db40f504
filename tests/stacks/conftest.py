"""A project of its own for each test: stack files to break, and the engine to run them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi import automation

from local.toolchain import build
from stacks.loader import ROOT, from_file
from stacks.problems import SettingsError
from stacks.settings import Settings

VALID: dict[str, Any] = {
    "aws:region": "us-east-1",
    "fault-tolerance:zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "fault-tolerance:neo4j": {"accept_license": True, "issuer": "platform"},
}
"""The least that a stack file must say."""


@dataclass(frozen=True)
class Project:
    """A copy of the stacks in a folder of the test's own."""

    root: Path

    def write(self, text: str, stack: str = "test") -> None:
        """Put a stack file there, letter by letter."""
        (self.root / "stacks" / f"Pulumi.{stack}.yaml").write_text(text, encoding="utf-8")

    def configure(self, **sections: object) -> None:
        """Put a stack file there that is valid but for the given sections."""
        own = {f"fault-tolerance:{name}": value for name, value in sections.items()}
        self.write(yaml.safe_dump({"config": {**VALID, **own}}))

    def settings(self, stack: str = "test") -> Settings:
        """Read the stack's file."""
        return from_file(stack, self.root)

    def errors(self, stack: str = "test") -> list[str]:
        """Every problem of the stack's file, as a person reads it; an error if there is none."""
        with pytest.raises(SettingsError) as caught:
            self.settings(stack)
        return [str(problem) for problem in caught.value.problems]

    def keys(self) -> list[str]:
        """The key of every problem."""
        with pytest.raises(SettingsError) as caught:
            self.settings()
        return [problem.key for problem in caught.value.problems]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project's own stacks and catalogue, free to be broken."""
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks", ignore=shutil.ignore_patterns("*.py*"))
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    return Project(tmp_path)


@pytest.fixture(scope="session")
def pulumi_command(tmp_path_factory: pytest.TempPathFactory) -> automation.PulumiCommand:
    """The pinned engine, built if need be."""
    program = build.ensure(["pulumi"], print)["pulumi"]
    root = tmp_path_factory.mktemp("engine")
    (root / "bin").mkdir()
    (root / "bin" / "pulumi").symlink_to(program)
    return automation.PulumiCommand(str(root))


@pytest.fixture
def engine(
    project: Project, pulumi_command: automation.PulumiCommand
) -> Callable[[Callable[[], None], str], automation.Stack]:
    """Make a stack of the project that runs a given program."""
    state = project.root / "state"
    state.mkdir()
    variables = {
        "PULUMI_BACKEND_URL": f"file://{state}?metadata=skip",
        "PULUMI_HOME": str(project.root / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "of the test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }

    def make(program: Callable[[], None], stack: str) -> automation.Stack:
        options = automation.LocalWorkspaceOptions(
            work_dir=str(project.root),
            env_vars=variables,
            pulumi_command=pulumi_command,
        )
        return automation.create_or_select_stack(
            stack, "fault-tolerance", program, opts=options, work_dir=str(project.root)
        )

    return make
