"""One local world: a cluster, an AWS endpoint and the engine's state, under one folder per stack.

    <root>/<stack>/cluster   the control plane, its keys, data, logs and pids
    <root>/<stack>/aws       the AWS endpoint
    <root>/<stack>/engine    the engine's state, its home, and the copy of the project it works on
    <root>/<stack>/logs      what the engine printed

Only one run at a time works on a world; it holds the world's lock.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from local import aws, cluster
from local.cluster import Cluster
from local.errors import LocalError
from local.nodes import Topology
from local.toolchain import build
from local.toolchain.build import Say

PROJECT = Path(__file__).parent.parent


def root() -> Path:
    """The folder of all local worlds: `$WORLD`, else `.world` in the checkout."""
    return Path(os.environ.get("WORLD") or PROJECT / ".world").resolve()


@dataclass(frozen=True)
class World:
    """One stack's local world."""

    stack: str
    folder: Path

    @property
    def cluster(self) -> Cluster:
        """Its Kubernetes."""
        return Cluster(self.stack, self.folder / "cluster")

    @property
    def aws(self) -> Path:
        """The folder of its AWS endpoint."""
        return self.folder / "aws"

    @property
    def engine(self) -> Path:
        """The folder of the engine's state."""
        return self.folder / "engine"

    @property
    def logs(self) -> Path:
        """The folder of what the engine printed."""
        return self.folder / "logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Work on this world alone.

        Raises:
            LocalError: if another run is at work on it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        holder = self.folder / "lock.pid"
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LocalError(
                f"another run (pid {holder.read_text()}) is at work on stack {self.stack}: "
                "wait for it to end, or end it with Ctrl-C"
            ) from None
        holder.write_text(str(os.getpid()))
        try:
            yield
        finally:
            lock.release()

    def start(self, topology: Topology, say: Say) -> dict[str, str]:
        """Bring cluster and AWS endpoint up, or mend them; return what clients must be told."""
        tools = build.ensure(cluster.PLANE_TOOLS, say)
        definitions = build.definition_files(say, every=os.environ.get("CRDS") == "all")
        stages = build.stage_files(say)
        aws.start(self.aws)  # gets ready while the cluster does
        cluster.ensure(self.cluster, topology, tools, definitions, stages)
        endpoint = aws.ensure(self.aws)
        return {**endpoint.environment(), "KUBECONFIG": str(self.cluster.kubeconfig)}

    def stop(self) -> None:
        """End its processes; its data stays."""
        cluster.stop(self.cluster)
        aws.stop(self.aws)

    def remove(self) -> None:
        """End its processes and forget all it held."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def passphrase(self) -> str:
        """What the engine encrypts this world's secrets with: the user's own, or one made once."""
        own = os.environ.get("PULUMI_CONFIG_PASSPHRASE")
        if own:
            return own
        path = self.engine / "passphrase"
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32))
        return path.read_text()


def named(stack: str) -> World:
    """The world of a stack."""
    return World(stack, root() / stack)


def existing() -> list[World]:
    """Every world of this checkout, running or not."""
    return [World(path.name, path) for path in sorted(root().glob("*")) if path.is_dir()]
