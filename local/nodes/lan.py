"""The network that joins control plane and real nodes: a network namespace with a bridge.

It has no name and no route to this machine or beyond. A process holds it open, so it vanishes with
that process and with whoever works in it; nothing of the host's own network is changed. Addresses
are from the range for benchmarks (RFC 2544), which no real network uses.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.process import Process

GATEWAY = "198.18.0.1"
"""The control plane's address: the API server, and what this machine offers to Pods."""
API_PORT = 6443
AWS_PORT = 443
"""Where Pods find the local AWS endpoint (plain HTTP; network policies allow this port out)."""
PODS = "198.19.0.0/16"

START_SECONDS = 20.0


@dataclass(frozen=True)
class Address:
    """Where a node is: its number in the network says it all."""

    number: int

    @property
    def host(self) -> str:
        """The node's own address."""
        return f"198.18.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """The addresses of its Pods."""
        return f"198.19.{self.number}.0/24"

    @property
    def link(self) -> str:
        """The name of its link at the bridge."""
        return f"node{self.number}"


@dataclass(frozen=True)
class Lan:
    """The network of one cluster."""

    folder: Path

    @property
    def holder(self) -> Process:
        """The process that holds the namespace open."""
        return Process("lan", self.folder)

    @property
    def enter(self) -> tuple[str, ...]:
        """What a command starts with, to run inside this network.

        Raises:
            LocalError: if the network is not up.
        """
        return _enter(self.holder.pid())

    def is_lost(self) -> bool:
        """Whether its holder died. Who worked in it still does, and a new one is not the same."""
        return self.holder.was_started() and self.holder.pid() is None

    def is_up(self) -> bool:
        """Whether it is there in full: a run that was killed may have left half of it."""
        pid = self.holder.pid()
        if pid is None:
            return False
        return ": lan: " in _run(_enter(pid), "ip -o link show up")

    def start(self) -> None:
        """Bring the network up; a no-op when it is."""
        if self.is_up():
            return
        self.holder.stop(0)
        self.holder.start(["unshare", "--net", "--", "sleep", "infinity"], {"PATH": _PATH})
        try:
            self.holder.wait_until(lambda: has_left(self.holder.pid()), 10)
            _run(
                self.enter,
                "ip link set lo up",
                "ip link add lan type bridge",
                f"ip address add {GATEWAY}/24 dev lan",
                "echo 1 > /proc/sys/net/ipv4/ip_forward",
                "ip link set lan up",  # last: by this it is known that all else is done
            )
        except BaseException:
            self.holder.stop(0)  # half a network is none
            raise

    def attach(self, node: int | None, address: Address, others: Sequence[Address]) -> None:
        """Link a node's network namespace (that of process `node`) to this network.

        A link that a killed node left behind goes first.

        Raises:
            LocalError: if the node or the network is down.
        """
        inside = _enter(node)
        _run(
            self.enter,
            f"ip link delete {address.link} 2>/dev/null || true",
            f"ip link add {address.link} type veth peer name eth0 netns {node}",
            f"ip link set {address.link} master lan up",
            f"ip route replace {address.pods} via {address.host}",
        )
        _run(
            inside,
            "ip link set lo up",
            f"ip address add {address.host}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {GATEWAY}",
            *(f"ip route add {other.pods} via {other.host}" for other in others),
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        )

    def stop(self) -> None:
        """End the network."""
        self.holder.stop()


_RUN_SECONDS = 60
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _enter(pid: int | None) -> tuple[str, ...]:
    if pid is None:
        raise LocalError("a node or the nodes' network is down: `make up` mends it")
    return ("nsenter", f"--net=/proc/{pid}/ns/net", "--")


def has_left(pid: int | None) -> bool:
    """Whether a process is in a network of its own by now, and no more in that of this machine."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:
        return False


def _run(enter: Sequence[str], *commands: str) -> str:
    script = "\n".join(("set -e", *commands))
    try:
        done = subprocess.run(
            [*enter, "sh", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_SECONDS,
            start_new_session=True,  # see Node.run
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"the nodes' network was not set up within {_RUN_SECONDS} s: is this machine "
            "overloaded?"
        ) from None
    if done.returncode != 0:
        raise LocalError(f"could not set up the nodes' network: {done.stderr.strip()}")
    return done.stdout
