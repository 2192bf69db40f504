"""A checkout that a person works in: its commands, its world, its results."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.api import Api
from local.cluster import Cluster
from local.world import PROJECT, World

COMMAND_SECONDS = 900
_IGNORED = shutil.ignore_patterns(".git", ".venv", ".world", "build", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Checkout:
    """The project in `source`, with local worlds and results in folders of their own."""

    source: Path
    folder: Path
    nodes: str = "simulated"
    """Real ones cost minutes and a quiet machine: only tests of what runs on them have these."""
    crowd: int = 0
    """Simulated nodes of each zone that join real ones."""

    @classmethod
    def of_this_project(cls, folder: Path) -> Checkout:
        """This very checkout."""
        return cls(PROJECT, folder)

    @classmethod
    def copied(cls, folder: Path) -> Checkout:
        """A copy that a test may change."""
        shutil.copytree(PROJECT, folder / "source", ignore=_IGNORED)
        return cls(folder / "source", folder)

    @property
    def worlds(self) -> Path:
        """Where its local worlds are."""
        return self.folder / "worlds"

    @property
    def results(self) -> Path:
        """Where its results go."""
        return self.folder / "build"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "local", *arguments],
            cwd=self.source,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one command, and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "local", *arguments],
            cwd=self.source,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def world(self, stack: str) -> World:
        """The local world of a stack."""
        return World(stack, self.worlds / stack)

    def api(self, stack: str) -> Api:
        """A client of a stack's API server."""
        return Cluster(stack, self.worlds / stack / "cluster").api()

    def result(self, name: str) -> Any:
        """A result file, read."""
        return json.loads((self.results / name).read_text())

    def change(self, path: str, old: str, new: str) -> None:
        """Change a file of a copy."""
        file = self.source / path
        text = file.read_text()
        assert self.source != PROJECT
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "NODES": self.nodes,
            "CROWD": str(self.crowd),
            "WORLD": str(self.worlds),
            "BUILD": str(self.results),
            "PYTHONPATH": str(self.source),
        }


def assert_whole(report: dict[str, Any]) -> None:
    """Of what `up` reports: every Pod is ready, and what is replicated spans three zones."""
    assert report["pods"]["ready"] == report["pods"]["total"] > 0
    assert [w["name"] for w in report["workloads"] if w["total"] > 1 and len(w["zones"]) < 3] == []


def read_until(command: subprocess.Popen[str], words: str, limit: float = 300) -> str:
    """Read what a command prints until a line holds `words`; return all that was read."""
    assert command.stdout is not None
    lines = []
    too_long = threading.Timer(limit, command.kill)  # which ends the reading too
    too_long.start()
    try:
        for line in command.stdout:
            lines.append(line)
            if words in line:
                return "".join(lines)
    finally:
        too_long.cancel()
    raise AssertionError(f"it ended without {words!r}, or took {limit:g} s:\n{''.join(lines)}")


def processes_with(*words: str) -> list[int]:
    """The pids of the processes whose command line or environment holds all of the words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if all(word.encode() in text for word in words) and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    """End processes as a crash would."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
