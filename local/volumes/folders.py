"""The folders behind volumes and snapshots: each is there in full or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.nodes import real

_ATTEMPTS = 5
_VANISHED = "No such file or directory"
_REPLACED = "as it was replaced while being copied"


@dataclass(frozen=True)
class Folders:
    """Where a cluster's volumes and snapshots are; only one process may change them at a time."""

    root: Path

    def volume(self, node: str, name: str) -> Path:
        """A volume's folder, as its node sees it."""
        return self._inside(self.root / "nodes" / node / "volumes" / name)

    def snapshot(self, handle: str) -> Path:
        """A snapshot's folder."""
        return self._inside(self.root / "snapshots" / handle)

    def make(self, target: Path, source: Path | None = None) -> None:
        """Make a folder that any user may write to, or a copy of another; one that is there stays.

        Raises:
            LocalError: when the source is missing or cannot be copied, or a node of either is down.
        """
        target = self._reached(target)
        if target.exists():
            return
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a copy that was interrupted
        target.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            partial.mkdir()
            partial.chmod(0o777)
        else:
            _copy(self._reached(source), partial)
        partial.rename(target)

    def remove(self, target: Path) -> None:
        """Remove a folder; one that is gone already is fine."""
        target = self._reached(self._inside(target))
        if target.exists():
            shutil.rmtree(target)

    def _reached(self, path: Path) -> Path:
        """Where this machine finds a folder: a node's volumes may be on a disk of the node's own.

        Raises:
            LocalError: if that node is down.
        """
        for node in real.members(self.root):
            own = node.folder / "volumes"
            if path.is_relative_to(own):
                return node.volumes / path.relative_to(own)
        return path

    def _inside(self, path: Path) -> Path:
        if ".." in path.parts or not path.is_relative_to(self.root):
            raise LocalError(f"{path} is outside of this cluster's folder")
        return path


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its owners and modes; files that vanish meanwhile are left out.

    cp skips a file that is replaced just as it is opened. A writer that replaces files does so
    again, and a copy without them would be no copy, so all of it is copied anew.
    """
    if not source.is_dir():
        raise LocalError(f"there is nothing to copy: {source} is missing")
    failures: list[str] = []
    for _ in range(_ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        done = subprocess.run(
            ["cp", "--archive", "--reflink=auto", "--no-target-directory", source, target],
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stderr.splitlines()
        failures = [line for line in lines if not line.endswith(_VANISHED)]
        if target.is_dir() and (done.returncode == 0 or (lines and not failures)):
            return
        if not failures or not all(line.endswith(_REPLACED) for line in failures):
            break
    raise LocalError(f"copying {source} failed: {'; '.join(failures[:3]) or done.stderr}")
