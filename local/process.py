"""Long-lived local processes: start one, know it again later, wait for it, end it.

A process is remembered by its pid *and* its start time (field 22 of /proc/<pid>/stat), so that a
pid which the kernel has since given to somebody else is never taken for ours, and never signalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError

POLL_SECONDS = 0.05
STOP_SECONDS = 10.0
FIRST = -6
"""Nice value of what comes before others: four times the processor that others get beside it."""


_MOMENT = 0.002
"""Between two looks for a file that a shell writes first of all."""
_REMEMBERED = """set -e
started() { shift 19; echo "$1"; }
read -r stat <"/proc/$$/stat"
printf '{"pid": %s, "started": "%s"}' "$$" "$(started ${stat##*) })" >"$0.new"
mv "$0.new" "$0"
exec "$@"
"""
"""Writes down who it is, and only then becomes the program: whoever started it may be killed at any
moment, and what runs is known all the same."""


@dataclass(frozen=True)
class Process:
    """A named process of a folder: `<folder>/<name>.pid` remembers it, `<name>.log` is its log."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """Where its standard output and standard error go; kept from one start to the next."""
        return self.folder / f"{self.name}.log"

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def pid(self) -> int | None:
        """Its pid if it runs now, else None."""
        try:
            saved = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return None
        pid = int(saved["pid"])
        now = started_at(pid)
        # What ended before its start time was read has none: it is not the one that has none now.
        return pid if now is not None and now == saved["started"] else None

    def was_started(self) -> bool:
        """Whether it was started, and `stop` not called since; it may have died."""
        return self._file.exists()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], *, first: bool = False
    ) -> None:
        """Start it detached from this terminal; a no-op when it runs already.

        Args:
            command: its name and arguments.
            environment: all of it.
            first: whether it comes before others where processors are shared out, if we may say so.

        Raises:
            LocalError: if there is no such program, or its pid cannot be remembered.
        """
        if self.pid() is not None:
            return
        if shutil.which(command[0], path=environment.get("PATH")) is None:
            raise LocalError(f"{self.name} cannot be started: there is no program {command[0]}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _REMEMBERED, str(self._file), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )
        if first:
            _prefer(child.pid)
        while not self._file.exists():
            if child.poll() is not None:
                raise LocalError(
                    f"{self.name} cannot be started: {self._file} was not written. "
                    f"Its log ends with:\n{self.tail()}"
                )
            time.sleep(_MOMENT)

    def stop(self, limit: float = STOP_SECONDS) -> None:
        """End it: SIGTERM, and SIGKILL once `limit` seconds have passed. A no-op if it is gone."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                os.kill(pid, signal.SIGTERM)
                if not _gone(self.pid, limit):
                    os.kill(pid, signal.SIGKILL)
                    _gone(self.pid, STOP_SECONDS)
        self._file.unlink(missing_ok=True)

    def tail(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def wait_until(self, ready: Callable[[], bool], limit: float) -> None:
        """Wait until `ready` holds, at most `limit` seconds.

        Raises:
            LocalError: when it ended or did not get ready in time; the log's tail is in the text.
        """
        deadline = time.monotonic() + limit
        while not ready():
            if self.pid() is None:
                raise LocalError(
                    f"{self.name} ended at its start. Its log ends with:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{self.name} was not ready after {limit:.0f} s. "
                    f"Its log ends with:\n{self.tail()}"
                )
            time.sleep(POLL_SECONDS)


def started_at(pid: int) -> str | None:
    """The start time of a running process in clock ticks since boot; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    state, start_time = fields[0], fields[19]
    if state == "Z":
        _reap(pid)
        return None
    return start_time


_SERVERS = range(20_000, 32_768)
"""Below the ports that Linux gives to outgoing connections, so that no client takes one of them in
the moment before its server starts."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now, chosen at random.

    Raises:
        LocalError: if none was found in a hundred attempts.
    """
    for _ in range(100):
        port = secrets.choice(_SERVERS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LocalError(f"no port from {_SERVERS.start} to {_SERVERS.stop - 1} is free")


def is_listening(port: int) -> bool:
    """Whether somebody listens on this TCP port of the loopback interface."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _prefer(session: int) -> None:
    """Prefer a session to others; only root may, and everything works without."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, session, FIRST)
        # Linux shares out processors by session, unless it is told not to: within it, by nice.
        Path(f"/proc/{session}/autogroup").write_text(str(FIRST))


def _gone(pid: Callable[[], int | None], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while pid() is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _reap(pid: int) -> None:
    """Collect a finished child, so that no zombie stays while this program runs on."""
    with contextlib.suppress(ChildProcessError):  # not our child: its own parent collects it
        os.waitpid(pid, os.WNOHANG)
