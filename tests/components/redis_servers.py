"""Real Redis servers and Sentinels on loopback, started by the scripts of the component.

What differs from a Pod is the environment alone: folders, ports, and one name for all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from local.process import free_port
from tests.waiting import LIMIT_SECONDS, eventually

PASSWORD, CLIENT_PASSWORD = "of-the-servers", "of-the-clients"
MASTER_NAME = "cache"
HOST = "localhost"
_SLOW = "key-load-delay 200000\nloading-process-events-interval-bytes 1024"


def connections(listener: socket.socket) -> int:
    """How many clients connected to one that never accepted any."""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


@dataclass
class Member:
    """One data server or Sentinel."""

    port: int
    role: str
    """`redis` or `sentinel`, as in the names of the scripts."""
    folder: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Its volume."""
        return self.folder / "data"

    @property
    def running(self) -> bool:
        """Whether its process lives; it may still be deciding."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Begin the start script; it becomes the server once it has decided."""
        if self.running:
            return
        for path in (self.data, self.folder / "run"):
            path.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", self._script(f"start-{self.role}.sh")],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process and its children, and wait for its end."""
        if self.process is None or not self.running:
            return
        os.killpg(self.process.pid, with_signal)
        self.process.wait(LIMIT_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the process from running meanwhile."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def begin(self, name: str) -> subprocess.Popen[bytes]:
        """Run a script beside the server."""
        return subprocess.Popen(["sh", self._script(name)], env=self.environment)

    def script(self, name: str) -> bool:
        """Whether a script such as a probe succeeds."""
        return self.begin(name).wait(LIMIT_SECONDS) == 0

    @contextmanager
    def slow_loading(self) -> Iterator[None]:
        """Let whatever starts meanwhile take a fifth of a second for each key that it loads.

        A loading server answers requests each time it has read so many bytes, 2 MiB by default.
        """
        configuration = Path(self._script("redis.conf"))
        usual = configuration.read_text()
        configuration.write_text(f"{usual}\n{_SLOW}\n")
        try:
            yield
        finally:
            configuration.write_text(usual)

    @property
    def ready(self) -> bool:
        """Whether its readiness probe succeeds."""
        return self.running and self.script(f"ready-{self.role}.sh")

    def ask(self, *command: str, user: str = "default", password: str = PASSWORD) -> str:
        """Return the reply to a command; empty if there is none."""
        try:
            done = subprocess.run(
                ["redis-cli", "-h", HOST, "-p", str(self.port), "--user", user, *command],
                env={**self.environment, "REDISCLI_AUTH": password},
                capture_output=True,
                text=True,
                timeout=5,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    @property
    def replication(self) -> dict[str, str]:
        """What it says of its role and its link."""
        lines = self.ask("info", "replication").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def logged(self, text: str) -> int:
        """How often the log has that text."""
        return (self.folder / "log").read_text(errors="replace").count(text)

    def wipe(self) -> None:
        """Lose the volume."""
        for path in sorted(self.data.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def _script(self, name: str) -> str:
        return f"{self.environment['REDIS_CONFIG']}/{name}"


@dataclass
class Servers:
    """Three data servers and three Sentinels."""

    data: list[Member] = field(default_factory=list)
    sentinels: list[Member] = field(default_factory=list)

    @property
    def members(self) -> list[Member]:
        """All six."""
        return [*self.data, *self.sentinels]

    def whole(self) -> None:
        """Start what does not run; wait until all are ready, agree on one master, know the rest.

        A Sentinel learns of the replicas from the master, which it asks every 10 s: a master that
        dies before it was asked has no known successor. Here it is told to ask every second.
        """
        for member in self.members:
            member.start()
        eventually("all are ready", lambda: all(member.ready for member in self.members))
        for sentinel in self.sentinels:
            sentinel.ask("sentinel", "debug", "info-period", "1000")
        eventually("all agree", self._agree)
        eventually("all Sentinels know the replicas", self._replicas_are_known)

    def _replicas_are_known(self) -> bool:
        answers = [s.ask("sentinel", "replicas", MASTER_NAME).split() for s in self.sentinels]
        known = [answer.count("runid") for answer in answers]
        return all(count >= len(self.data) - 1 for count in known)

    def named(self) -> list[str]:
        """The port of the master, as each Sentinel that answers names it."""
        answers = [
            s.ask("sentinel", "get-master-addr-by-name", MASTER_NAME) for s in self.sentinels
        ]
        return [answer.split()[1] for answer in answers if len(answer.split()) == 2]

    def masters(self) -> list[Member]:
        """Data servers that take themselves for the master."""
        return [member for member in self.data if member.replication.get("role") == "master"]

    def _agree(self) -> bool:
        """Whether the only one that acts as master is the one that every Sentinel names."""
        named = set(self.named())
        return len(named) == 1 and {str(each.port) for each in self.masters()} == named

    @property
    def master(self) -> Member:
        """The only master; an error if there is none, or a second one."""
        [master] = self.masters()
        return master

    @property
    def replicas(self) -> list[Member]:
        """The other data servers."""
        master = self.master
        return [member for member in self.data if member is not master]

    def await_other_master(self, old: Member) -> Member:
        """Wait until the Sentinels agree on another master than `old`."""

        def elected() -> bool:
            named = set(self.named())
            return len(named) == 1 and str(old.port) not in named

        eventually("another master is elected", elected)
        [port] = set(self.named())
        return next(member for member in self.data if str(member.port) == port)

    def kill(self) -> None:
        """End them all."""
        for member in self.members:
            member.kill()


def servers(
    folder: Path,
    files: Mapping[str, str],
    programs: Path,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Servers:
    """Lay out configuration, secrets and volumes for three servers and three Sentinels.

    Args:
        folder: where all of it goes.
        files: the data of the component's ConfigMap.
        programs: where Redis' programs are.
        more: environment of all.
    """
    config, secrets = folder / "config", folder / "secrets"
    _write(config, files.items())
    _write(secrets, [("password", PASSWORD), ("client-password", CLIENT_PASSWORD)])
    ports = free_ports(6)
    data, sentinels = ports[:3], ports[3:]
    common = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "REDIS_HOST": HOST,
        "REDIS_SERVERS": " ".join(f"{HOST}:{port}" for port in data),
        "REDIS_SENTINELS": " ".join(f"{HOST}:{port}" for port in sentinels),
        "REDIS_MASTER_NAME": MASTER_NAME,
        "REDIS_QUORUM": "2",
        "REDIS_CONFIG": str(config),
        "REDIS_SECRETS": str(secrets),
    }

    def member(port: int, role: str) -> Member:
        own = folder / f"{role}-{port}"
        paths = {"REDIS_DATA": str(own / "data"), "REDIS_RUN": str(own / "run")}
        return Member(port, role, own, {**common, **paths, "REDIS_PORT": str(port), **more})

    return Servers([member(p, "redis") for p in data], [member(p, "sentinel") for p in sentinels])


@contextmanager
def running(folder: Path, files: Mapping[str, str], programs: Path) -> Iterator[Servers]:
    """The same, whole; ended in the end, whatever happens."""
    made = servers(folder, files, programs)
    try:
        made.whole()
        yield made
    finally:
        made.kill()


def _write(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    folder.mkdir(parents=True)
    for name, text in files:
        (folder / name).write_text(text)
