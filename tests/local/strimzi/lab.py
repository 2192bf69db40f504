"""Plays kubelet for the servers of a Kafka cluster: each on a loopback address of its own.

All of it is in namespaces of this test alone, held by one process, and vanishes with it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.images import build
from tests.local.strimzi.declared import NAME, NAMESPACE, PASSWORD, USER, Object, Recorder

START_SECONDS = 120.0
_HOLD = """
ip link set lo up
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mkdir -p "$2/root/dev" "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
echo ready
exec sleep infinity
"""


@dataclass
class Lab:
    """A folder that is every server's root, and the namespaces around it."""

    folder: Path
    holder: subprocess.Popen[str]
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where the root is, in its namespace."""
        return self.folder / "root"

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the root."""
        target = self.root_from_here / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    @property
    def root_from_here(self) -> Path:
        """The root, which is mounted in its own namespace only."""
        return Path(f"/proc/{self._inner()}/root{self.root}")

    def command(self, inside: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line, on this machine, of a command in there."""
        flags = ("--mount", "--net", "--pid", f"--target={self._inner()}")
        given = [f"{key}={value}" for key, value in environment.items()]
        enter = ["chroot", str(self.root), "env", "-i", "PATH=/usr/bin", *given]
        return ["nsenter", *flags, "--", *enter, *inside]

    def run(self, inside: Sequence[str], **environment: str) -> str:
        """Run a command to its end; return what it printed."""
        command = self.command(inside, environment)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, recorder: Recorder) -> None:
        """Format and start every server of every StatefulSet, as its Pods would."""
        pods = [
            (f"{each['metadata']['name']}-{number}", each)
            for each in recorder.of("StatefulSet")
            for number in range(
                each["spec"]["ordinals"]["start"],
                each["spec"]["ordinals"]["start"] + each["spec"]["replicas"],
            )
        ]
        addresses = {name: f"127.0.1.{n}" for n, (name, _) in enumerate(pods, start=1)}
        self._write_files(recorder, addresses)
        environments = {
            name: {"NAME": name, "ZONE": f"zone-{addresses[name][-1]}"} for name, _ in pods
        }
        # A broker gives up when no majority of controllers answers within a minute: prepare all
        # volumes first, one after the other, then start everything at once.
        for name, each in pods:
            init = each["spec"]["template"]["spec"]["initContainers"][0]
            self.run(_named(init, name), **environments[name])
        for name, each in pods:
            server = each["spec"]["template"]["spec"]["containers"][0]
            self._start(name, _named(server, name), environments[name])

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.servers[name] = subprocess.Popen(
                self.command(command, environment), stdout=log, stderr=log
            )

    def logs(self) -> str:
        """The end of every server's log."""
        return "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log")))

    def administer(self, recorder: Recorder) -> str:
        """Run what the Job of topics and users would, until it succeeds."""
        (job,) = recorder.of("Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        command = self.command(container["command"], {})
        deadline = time.monotonic() + START_SECONDS
        while True:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < deadline, done.stderr + self.logs()

    def _write_files(self, recorder: Recorder, addresses: Mapping[str, str]) -> None:
        """ConfigMaps and Secrets as their volumes show them; names as the cluster's DNS would."""
        domain = f"{NAME}-kafka-brokers.{NAMESPACE}.svc"
        hosts = [f"{address} {name}.{domain}" for name, address in addresses.items()]
        bootstrap = f"{NAME}-kafka-bootstrap.{NAMESPACE}.svc"
        hosts += [f"{address} {bootstrap}" for address in addresses.values()]
        self.write("/etc/hosts", "\n".join([*hosts, ""]).encode())
        for name, text in recorder.applied["ConfigMap", f"{NAME}-kafka-config"]["data"].items():
            own = addresses.get(name.removesuffix(".properties"), "")
            self.write(f"/etc/kafka/{name}", text.replace("0.0.0.0", own).encode())  # noqa: S104
        for path, secret in _SECRETS.items():
            for key, value in recorder.applied["Secret", secret]["data"].items():
                self.write(f"{path}/{key}", base64.b64decode(value))
        self.write(f"/etc/kafka-entities/{USER}.password", PASSWORD.encode())
        for config in recorder.of("ConfigMap"):
            if "wanted.json" in config["data"]:
                for name, text in config["data"].items():
                    self.write(f"/etc/kafka-entities/{name}", text.encode())

    def _inner(self) -> int:
        outer = self.holder.pid
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])


_SECRETS = {
    "/etc/kafka-secrets": f"{NAME}-kafka-secrets",
    "/etc/kafka-entities": f"{NAME}-entity-operator-certs",
}


def _named(container: Object, name: str) -> list[str]:
    return [part.replace("$(NAME)", name) for part in container["command"]]


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """Namespaces with the image's root; nothing is left of them afterwards."""
    image = build.ensure_root("kafka", print)
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL")
    holder = subprocess.Popen(
        ["unshare", *namespaces, "sh", "-ec", _HOLD, "sh", str(image), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    built = Lab(folder, holder)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield built
    finally:
        holder.kill()
        holder.wait(10)
        for server in built.servers.values():
            server.wait(10)
