"""One local world: a cluster, an AWS endpoint and the engine's state, under one folder per stack.

    <root>/<stack>/cluster   the control plane, its keys, data, logs and pids
    <root>/<stack>/aws       the AWS endpoint
    <root>/<stack>/engine    the engine's state, its home, and the copy of the project it works on
    <root>/<stack>/logs      what the engine printed

A world has real nodes where this machine can run them, else simulated ones; `NODES` chooses, and a
world keeps its kind for life. `CROWD` lets so many simulated nodes a zone join real ones.

Only one run at a time works on a world; it holds the world's lock.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from local import addons, aws, cluster, supplies
from local.cluster import Cluster
from local.errors import LocalError
from local.files import write_whole
from local.images import build as images
from local.nodes import Topology, host, real, store
from local.nodes.joined import JoinedNodes
from local.nodes.real import RealNodes, Software
from local.toolchain import build
from local.toolchain.build import Say
from local.toolchain.definitions import files as definition_files
from stacks.loader import NAMESPACE
from stacks.settings import Role, Settings
from stacks.systems import DataSystem

PROJECT = Path(__file__).parent.parent

REAL, SIMULATED = "real", "simulated"
MOST_CROWD = 1000
"""Simulated nodes in each zone that may join real ones."""

OPERATED = (DataSystem.POSTGRES, DataSystem.KAFKA)
"""Data systems whose operators run on real nodes here, and report them as ready."""


def root() -> Path:
    """The folder of all local worlds: `$WORLD`, else `.world` in the checkout."""
    return Path(os.environ.get("WORLD") or PROJECT / ".world").resolve()


@dataclass(frozen=True)
class Access:
    """What the engine must be told of a world."""

    environment: Mapping[str, str]
    """Where cluster and cloud are, as environment variables."""
    config: Mapping[str, object]
    """Settings that this machine makes different from the stack file."""


@dataclass(frozen=True)
class World:
    """One stack's local world."""

    stack: str
    folder: Path
    only: str | None = None
    """The one kind of nodes that it may have; None: as `NODES` says, or as the machine can."""

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
        guard = self.folder / "lock"
        if not guard.exists() and any(self.folder.iterdir()):
            raise LocalError(
                f"{self.folder} holds something else than a local world: set WORLD to a folder of "
                "its own"
            )
        lock = FileLock(guard)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LocalError(
                f"another run{self._holder()} is at work on stack {self.stack}: "
                "wait for it to end, or end it with Ctrl-C"
            ) from None
        self._holder_file.write_text(str(os.getpid()))
        try:
            yield
        finally:
            lock.release()

    @property
    def _holder_file(self) -> Path:
        return self.folder / "lock.pid"

    def _holder(self) -> str:
        """Who works on it, in words; nothing while that has just begun, or is all but done."""
        try:
            return f" (pid {self._holder_file.read_text()})"
        except OSError:
            return ""

    @property
    def exists(self) -> bool:
        """Whether any run ever worked on it: what else lies beside worlds is not one."""
        return self._holder_file.exists()

    @property
    def kind(self) -> str | None:
        """`real` or `simulated` nodes; None before the first start."""
        try:
            kind = self._kind_file.read_text()
        except (OSError, ValueError):
            return None
        return kind if kind in {REAL, SIMULATED} else None

    @property
    def _kind_file(self) -> Path:
        return self.folder / "nodes"

    def start(self, wanted: Settings, say: Say) -> Access:
        """Bring cluster and AWS endpoint up, or mend them; return what clients must be told.

        Raises:
            LocalError: if the kind of nodes that is asked for cannot be had.
        """
        every = switched("CRDS", "all")
        kind, crowd = self._choose_kind(say), crowd_size()
        write_whole(self._kind_file, kind)
        pods = supplies.wanted_images(wanted.named_images()) if kind == REAL else None
        supplies.ensure(say, pods=pods, definitions_of_all=every)
        programs = build.ensure(cluster.PLANE_TOOLS, say)
        definitions = definition_files(say, every=every)
        aws.start(self.aws)  # gets ready while the cluster does
        topology = Topology(wanted.region, wanted.zones)
        if pods is None:
            stages = build.stage_files(say)
            nodes = cluster.simulated(self.cluster, topology, programs, stages)
            cluster.ensure(self.cluster, nodes, programs, definitions)
            # Nobody operates here; what needs no operator is as ready as simulated Pods can be.
            config: dict[str, object] = {f"{NAMESPACE}:wait_for": [DataSystem.NEO4J.value]}
        else:
            replaced = self._start_real(
                topology, crowd, wanted, programs, definitions, pods=pods, say=say
            )
            config = {
                f"{NAMESPACE}:images": replaced,
                f"{NAMESPACE}:wait_for": _awaited(wanted, replaced),
            }
        # The add-ons bring what runs here; nothing is fetched, and no webhook is left unanswered.
        config[f"{NAMESPACE}:operators"] = {}
        endpoint = aws.ensure(self.aws)
        environment = {**endpoint.environment(), "KUBECONFIG": str(self.cluster.kubeconfig)}
        return Access(environment, config)

    def _choose_kind(self, say: Say) -> str:
        asked, kept = self.only or os.environ.get("NODES"), self.kind
        if asked not in {None, REAL, SIMULATED}:
            raise LocalError(f"NODES is {asked!r}; it should be {REAL} or {SIMULATED}")
        if kept and asked and kept != asked:
            raise LocalError(
                f"the nodes of stack {self.stack} are {kept}, and NODES asks for {asked} ones: end "
                f"this world first, with `make down STACK={self.stack}`"
            )
        if (asked or kept) == SIMULATED:
            return SIMULATED
        missing = host.lacks(self.folder)
        if not missing:
            return REAL
        if (asked or kept) == REAL:
            raise LocalError(f"real nodes need {'; '.join(missing)}, which this machine lacks")
        say(f"nodes are simulated, so no container runs: this machine lacks {'; '.join(missing)}")
        return SIMULATED

    def _start_real(
        self,
        topology: Topology,
        crowd: int,
        wanted: Settings,
        programs: Mapping[str, Path],
        definitions: Sequence[Path],
        *,
        pods: Sequence[str],
        say: Say,
    ) -> dict[str, str]:
        """Start real nodes with their images and add-ons; return the images that replace others."""
        tools = build.ensure(real.TOOLS, say)
        root = images.ensure_root(supplies.ROOT_IMAGE, say)
        built = images.ensure(pods, say)
        pause = built[supplies.PAUSE_IMAGE].reference
        unpacked = store.ensure(list(built.values()), root, tools, pause, say)
        cluster.prepare(self.cluster)
        if diskless := host.lacks_disks(self.folder):
            say(f"disks of nodes cannot be filled: this machine lacks {'; '.join(diskless)}")
        nodes = JoinedNodes(
            RealNodes(
                self.cluster.folder,
                topology,
                self.cluster.pki,
                Software(tools, root, unpacked, pause),
                self.cluster.port,
                aws.port_file(self.aws),
                disks=not diskless,
            ),
            cluster.simulated(self.cluster, topology, programs, build.stage_files(say), crowd),
        )
        cluster.ensure(self.cluster, nodes, programs, definitions)
        store.deliver(real.members(self.cluster.folder), list(built.values()), say)
        with self.cluster.api() as api:
            addons.install(api, {name: image.reference for name, image in built.items()}, say)
        replaced = images.replacements(built, wanted.named_images())
        write_whole(self._images_file, json.dumps(replaced))
        if absent := sorted(self.absent_images(wanted)):
            say(f"no image here stands for {', '.join(absent)}: what needs it does not run")
        return replaced

    def replaced_images(self) -> dict[str, str]:
        """The images of this machine that stand for those that the stack file names."""
        try:
            replaced: dict[str, str] = json.loads(self._images_file.read_text())
        except (OSError, ValueError):
            return {}
        return replaced

    def absent_images(self, wanted: Settings) -> set[str]:
        """The images of a stack that nothing stands for; none where no container runs anyhow."""
        replaced = self.replaced_images()
        return wanted.named_images() - replaced.keys() if replaced else set()

    @property
    def _images_file(self) -> Path:
        return self.folder / "images.json"

    def stop(self) -> None:
        """End its processes; its data stays."""
        cluster.stop(self.cluster)
        aws.stop(self.aws)

    def remove(self) -> None:
        """End its processes and forget all it held.

        Raises:
            LocalError: if some of it cannot be deleted.
        """
        self.stop()
        # Out of the way at one go, so that the next run on this stack finds all of a world or none.
        gone = self.folder.with_name(f".{self.folder.name}.removed")
        shutil.rmtree(gone, ignore_errors=True)  # of a run that was ended right here
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        if gone.exists():
            raise LocalError(
                f"not all of {gone} could be deleted: see what holds it, and delete it"
            )

    def passphrase(self) -> str:
        """What the engine encrypts this world's secrets with: the user's own, or one made once."""
        own = os.environ.get("PULUMI_CONFIG_PASSPHRASE")
        if own:
            return own
        path = self.engine / "passphrase"
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, secrets.token_urlsafe(32), mode=0o600)
        return path.read_text()


def switched(name: str, on: str) -> bool:
    """Whether an environment variable has the one value that it can have.

    Raises:
        LocalError: if it has another.
    """
    asked = os.environ.get(name) or None
    if asked not in {None, on}:
        raise LocalError(f"{name} is {asked!r}; it should be {on}, or be left out")
    return asked == on


def crowd_size() -> int:
    """How many simulated nodes `CROWD` asks to join the real ones of each zone.

    Raises:
        LocalError: if it is no number of nodes.
    """
    asked = os.environ.get("CROWD") or "0"
    if not (asked.isdecimal() and int(asked) <= MOST_CROWD):
        raise LocalError(
            f"CROWD is {asked!r}; it should be how many simulated nodes join the real ones of each "
            f"zone: 0 to {MOST_CROWD}"
        )
    return int(asked)


def _awaited(wanted: Settings, replaced: Mapping[str, str]) -> list[str]:
    """The data systems that can become ready on real nodes."""
    runs_neo4j = wanted.neo4j.image in replaced
    # A standby's PostgreSQL begins with another region's archive, and no other region is here.
    without = {DataSystem.POSTGRES} if wanted.role is Role.STANDBY else set()
    able = [*OPERATED, *([DataSystem.NEO4J] if runs_neo4j else [])]
    return [system.value for system in able if system not in without]


def named(stack: str) -> World:
    """The world of a stack.

    Raises:
        LocalError: if it names no folder of its own there, which `down` would delete.
    """
    if Path(stack).name != stack or stack in {"", ".."}:
        raise LocalError(f"{stack!r} is no name of a stack: it should be one such as dev")
    return World(stack, root() / stack)


def existing() -> list[World]:
    """Every world of this checkout, running or not."""
    found = [World(path.name, path) for path in sorted(root().glob("*"))]
    return [each for each in found if each.exists]
