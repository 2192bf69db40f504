"""The administrator's own hand on a cluster, for all tests that have one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import parts


@dataclass(frozen=True)
class Kubectl:
    """A program and the cluster that it asks."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        """Apply objects on the server's side; unknown and misspelled fields are errors."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self("apply", "--server-side", "--validate=strict", "-f", "-", stdin=body)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Read one object."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "-ojson"))
        return found

    def ready_pods(self, namespace: str, workload: str) -> list[dict[str, Any]]:
        """Return the Pods of a workload that are Ready."""
        chosen = f"--selector={parts.NAME_LABEL}={workload}"
        listed = json.loads(self("get", "pods", f"--namespace={namespace}", chosen, "-ojson"))
        return [pod for pod in listed["items"] if _is_ready(pod)]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
