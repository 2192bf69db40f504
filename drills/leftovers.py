"""What there is on this machine, so that a test can tell whether anything was left behind."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.nodes.cgroups import ROOT, Cgroup


@dataclass(frozen=True)
class Host:
    """What a local world might leave on its machine."""

    processes: frozenset[str]
    """Command lines that name the cluster's folder."""
    mounts: frozenset[str]
    """Mounts that name it."""
    disks: frozenset[str]
    """Loop devices that hold a file in it."""
    groups: frozenset[str]
    """Control groups of the watched cluster."""
    links: frozenset[str]
    """Network interfaces."""
    routes: frozenset[str]
    namespaces: frozenset[str]
    """Network namespaces that have a name."""


def look(cluster: Path) -> Host:
    """Take stock of what has to do with the cluster of this folder, and of all that is common."""
    text = str(cluster)
    group = Cgroup(cluster, "any").path.split("/")[1]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return Host(
        processes=frozenset(line for line in _command_lines() if text in line),
        mounts=frozenset(line for line in mounts if text in line),
        disks=frozenset(file for file in _looped() if text in file),
        groups=frozenset(str(path) for level in ("", "*/") for path in ROOT.glob(level + group)),
        links=frozenset(_ip("-o", "link", "show")),
        routes=frozenset(_ip("route", "show", "table", "all")),
        namespaces=frozenset(_ip("netns", "list")),
    )


def _looped() -> list[str]:
    """The files behind loop devices."""
    files = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            files.append(path.read_text().strip())
        except OSError:
            continue  # it was freed just now
    return files


def _command_lines() -> list[str]:
    own = str(os.getpid())
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != own:
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except (OSError, UnicodeDecodeError):
                continue  # it ended just now
    return lines


def _ip(*arguments: str) -> list[str]:
    asked = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return asked.stdout.splitlines()
