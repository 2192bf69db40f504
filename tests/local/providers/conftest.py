"""A control plane and the real engine, for tests of providers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import automation

from tests.conftest import tool
from tests.kubectl import Kubectl

PROVIDERS = Path(__file__).parents[3] / "local" / "providers" / "bin"

Program = Callable[[], None]


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    return Kubectl(tool("kubectl"), kubeconfig)


@pytest.fixture(scope="session")
def namespace(kubectl: Kubectl) -> str:
    """A namespace that is there from the start."""
    kubectl("create", "namespace", "tests")
    return "tests"


@dataclass
class Stack:
    """One stack in the real engine, with its state in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    _known: automation.Stack | None = None

    @classmethod
    def empty(cls, folder: Path, **environment: str) -> Stack:
        """A stack that has nothing yet, with the engine and all it keeps in a folder."""
        (folder / "state").mkdir()
        (folder / "engine" / "bin").mkdir(parents=True)
        (folder / "engine" / "bin" / "pulumi").symlink_to(tool("pulumi"))
        own = {
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PATH": f"{PROVIDERS}:{os.environ['PATH']}",
            "FT_PYTHON": sys.executable,
        }
        return cls(folder, {**own, **environment})

    def preview(self, program: Program, **options: Any) -> automation.PreviewResult:
        """Run `pulumi preview`."""
        return self.of(program).preview(color="never", **options)

    def up(self, program: Program, **options: Any) -> automation.UpResult:
        """Run `pulumi up`."""
        return self.of(program).up(color="never", **options)

    def refresh(self, program: Program) -> automation.RefreshResult:
        """Run `pulumi refresh`."""
        return self.of(program).refresh(color="never")

    def destroy(self, program: Program | None = None) -> automation.DestroyResult:
        """Run `pulumi destroy`."""
        return self.of(program or _nothing).destroy(color="never")

    def resources(self) -> dict[str, dict[str, Any]]:
        """The stack's resources as saved, by name."""
        state = json.loads(self.state_file().read_text())
        found = state["checkpoint"]["latest"].get("resources") or []
        return {r["urn"].rpartition("::")[2]: r for r in found if r.get("custom")}

    def state_file(self) -> Path:
        """Where the file backend keeps the stack."""
        return next(self.folder.glob("state/.pulumi/stacks/*/test.json"))

    def of(self, program: Program) -> automation.Stack:
        """The stack as the Automation API knows it, with this as its program."""
        if self._known is None:
            self._known = self._created()
        self._known.workspace.program = program
        return self._known

    def _created(self) -> automation.Stack:
        """Made once: each time, the engine would be started three times more."""
        settings = automation.ProjectSettings("providers", runtime="python")
        options = automation.LocalWorkspaceOptions(
            work_dir=str(self.folder),
            project_settings=settings,
            env_vars=self.environment,
            pulumi_command=automation.PulumiCommand(str(self.folder / "engine")),
        )
        return automation.create_or_select_stack(
            "test", project_name="providers", program=_nothing, opts=options
        )

    def end(self) -> None:
        """Destroy what is left, if anything is."""
        if self._known is not None and self.resources():
            self.destroy()


def _nothing() -> None:
    """Declare nothing."""


@pytest.fixture
def stack(tmp_path: Path, kubeconfig: Path) -> Iterator[Stack]:
    """An empty stack; what is left in it is destroyed afterwards."""
    it = Stack.empty(tmp_path, KUBECONFIG=str(kubeconfig))
    yield it
    it.end()


def declare(
    token: str, name: str, properties: dict[str, Any], **options: Any
) -> pulumi.CustomResource:
    """Declare any object, right or wrong, without the SDK's types."""
    return pulumi.CustomResource(
        f"kubernetes:{token}",
        name,
        {"metadata": None, "spec": None, "status": None, **properties},
        pulumi.ResourceOptions(version="4.34.2", **options),
    )
