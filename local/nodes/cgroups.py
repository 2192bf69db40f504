"""The control groups of real nodes: made before a node starts, removed once it has ended.

Both hierarchies are served: version 1 (one tree a controller) and version 2 (one tree). A node owns
`/<cluster>/<node>`, with its own daemons in `system` and its Pods in `kubepods` below it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuset", "memory", "pids")
"""Controllers without which a kubelet does not start."""
REMOVE_SECONDS = 10.0

_SYSTEM = "system"
_SYSTEM_WEIGHT = {"cpu.shares": "262144", "cpu.weight": "10000"}
"""Of the node's own daemons, in version 1 and 2, the most that there is. A kubelet gives its Pods
the weight of all the cores that it says it has, 16 times what anybody else gets: beside them it
would starve on a busy machine, and its node would count as lost."""
_NODE_WEIGHT = {"cpu.shares": "1024", "cpu.weight": "100"}
"""Of a whole node: as much as each other has."""
_LAST_WEIGHT = {"cpu.shares": "2", "cpu.weight": "1"}
"""Of a node that takes what the others leave."""


@dataclass(frozen=True)
class Cgroup:
    """The control groups of one node; the cluster's folder makes the name unique on a machine."""

    cluster: Path
    node: str
    root: Path = ROOT

    @property
    def path(self) -> str:
        """Its path below each hierarchy's root."""
        return f"/{self._parent}/{self.node}"

    @property
    def _parent(self) -> str:
        return f"ft-{hashlib.sha256(str(self.cluster).encode()).hexdigest()[:8]}"

    def create(self) -> None:
        """Make the groups in every hierarchy."""
        for tree in _trees(self.root):
            folder = tree / self.path.strip("/")
            if _is_unified(self.root):
                (folder / _SYSTEM).mkdir(parents=True, exist_ok=True)
                for level in (tree, tree / self._parent, folder):
                    _delegate(level)
            else:
                for level in (tree / self._parent, folder, folder / _SYSTEM):
                    level.mkdir(exist_ok=True)
                    _inherit_cpuset(level)
            _weigh(folder, _NODE_WEIGHT)
            _weigh(folder / _SYSTEM, _SYSTEM_WEIGHT)

    def adopt_files(self) -> list[Path]:
        """Where a process writes its pid to move into the node's `system` group."""
        folder = f"{self.path.strip('/')}/{_SYSTEM}"
        return [tree / folder / "cgroup.procs" for tree in _trees(self.root)]

    def freeze(self, *, frozen: bool) -> None:
        """Stop every process of the node at once, as a hanging machine does; or let them go on."""
        if _is_unified(self.root):
            file, value = self.root / self.path.strip("/") / "cgroup.freeze", str(int(frozen))
        else:
            file = self.root / "freezer" / self.path.strip("/") / "freezer.state"
            value = "FROZEN" if frozen else "THAWED"
        file.write_text(value)

    def yield_cpu(self, *, last: bool) -> None:
        """Let the node come last where processors are shared out; or as all others again."""
        for tree in _trees(self.root):
            _weigh(tree / self.path.strip("/"), _LAST_WEIGHT if last else _NODE_WEIGHT)

    def limit_memory(self, size: int | None) -> None:
        """Cap the memory of the whole node, in bytes; None lifts the cap."""
        folder = self.path.strip("/")
        if _is_unified(self.root):
            (self.root / folder / "memory.max").write_text("max" if size is None else str(size))
        else:
            file = self.root / "memory" / folder / "memory.limit_in_bytes"
            file.write_text(str(-1 if size is None else size))

    def empty(self) -> None:
        """Remove what is below the node's group: a machine that starts has no old Pods."""
        self._remove(keep_own=True)

    def remove(self) -> None:
        """Remove the node's groups, and the cluster's when no other node is left in it."""
        self._remove(keep_own=False)
        for tree in _trees(self.root):
            with contextlib.suppress(OSError):
                (tree / self._parent).rmdir()

    def _remove(self, *, keep_own: bool) -> None:
        """A group can go once its last process has, which a killed node's do within moments."""
        deadline = time.monotonic() + REMOVE_SECONDS
        for tree in _trees(self.root):
            own = tree / self.path.strip("/")
            for folder in _deepest_first(own):
                if keep_own and folder == own:
                    continue
                while not _removed(folder) and time.monotonic() < deadline:
                    time.sleep(0.05)


def lacking(root: Path = ROOT) -> list[str]:
    """The controllers that a node needs and this kernel does not offer."""
    if _is_unified(root):
        offered = (root / "cgroup.controllers").read_text().split()
    else:
        offered = [tree.name for tree in _trees(root)]
    return [name for name in NEEDED if name not in offered]


def _is_unified(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _trees(root: Path) -> list[Path]:
    """The root of each hierarchy; on version 1, names that are links to another are left out."""
    if _is_unified(root):
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def _delegate(level: Path) -> None:
    """Let groups below this one have the controllers that this one has."""
    offered = (level / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in NEEDED if name in offered)
    (level / "cgroup.subtree_control").write_text(wanted)


def _inherit_cpuset(level: Path) -> None:
    """A new group of version 1 may use no CPU at all until it is told which."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = level / name
        if file.exists() and not file.read_text().strip():
            file.write_text((level.parent / name).read_text())


def _weigh(group: Path, weight: Mapping[str, str]) -> None:
    """Set a group's share of the processors, in the hierarchy that shares them out."""
    for name, value in weight.items():
        if (group / name).exists():
            (group / name).write_text(value)


def _deepest_first(folder: Path) -> Iterator[Path]:
    if folder.exists():
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from _deepest_first(path)
        yield folder


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
