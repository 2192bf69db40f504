"""The little that drills need of Kubernetes: objects through the API, commands in containers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.faults import Pod
from local.api import Api
from local.errors import LocalError

EXEC_SECONDS = 15.0
"""For a short command. One on a node that was cut off would hang until its connection breaks."""


@dataclass(frozen=True)
class Kube:
    """One cluster."""

    api: Api
    kubectl: Path
    kubeconfig: Path

    def pod(self, namespace: str, name: str) -> Pod:
        """A running Pod."""
        return _pod(self.api.get(_path(namespace, name)))

    def ready_pods(self, namespace: str, labels: str) -> list[Pod]:
        """The Pods with these labels that are Ready, by name."""
        listed = self.api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector={labels}")
        ready = [pod for pod in listed if is_ready(pod)]
        return sorted(map(_pod, ready), key=lambda pod: pod.name)

    def has_crashed(self, pod: Pod) -> bool:
        """Whether any of its containers was ever started again."""
        found = self.api.get(_path(pod.namespace, pod.name))
        containers = found.get("status", {}).get("containerStatuses", ())
        return any(each["restartCount"] for each in containers)

    def remove(self, pod: Pod, grace: int | None = None) -> None:
        """Delete it, and let whoever made it make another.

        Args:
            pod: which.
            grace: seconds that its processes have to end, by default as many as it declares; with
                0 it is forgotten at once, and its kubelet ends them once it hears of it.
        """
        options = "" if grace is None else f"?gracePeriodSeconds={grace}"
        self.api.delete(f"{_path(pod.namespace, pod.name)}{options}")

    def execute(
        self, pod: Pod, container: str, command: Sequence[str], limit: float = EXEC_SECONDS
    ) -> str:
        """Run a command in a container; return what it printed.

        Raises:
            LocalError: if it failed, or did not end in time.
        """
        line = [
            *(str(self.kubectl), f"--kubeconfig={self.kubeconfig}", f"--namespace={pod.namespace}"),
            *("exec", pod.name, f"--container={container}", "--", *command),
        ]
        try:
            done = subprocess.run(
                line,
                capture_output=True,
                text=True,
                errors="replace",  # threads of a driver that log at once cut characters in two
                timeout=limit,
                check=False,
                # A Ctrl-C does not end what mends. No session of its own: on a busy machine Linux
                # gives each session as much as a whole node has.
                process_group=0,
            )
        except subprocess.TimeoutExpired:
            raise LocalError(
                f"{command[0]} in {pod.namespace}/{pod.name} took more than {limit:.0f} s"
            ) from None
        if done.returncode:
            raise LocalError(
                f"{command[0]} in {pod.namespace}/{pod.name} failed: {done.stderr.strip()[-500:]}"
            )
        return done.stdout


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a Pod object is Ready and is not being deleted."""
    conditions = pod.get("status", {}).get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def _pod(found: dict[str, Any]) -> Pod:
    metadata = found["metadata"]
    return Pod(
        metadata["namespace"], metadata["name"], metadata["uid"], found["spec"].get("nodeName", "")
    )
