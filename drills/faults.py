"""The faults: what each does, to whom, and how soon the store must be back.

A fault is caused on the node where the store's leading Pod runs when the drill starts. What it
needs of a cluster's nodes is the small `Node` protocol; it changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Node(Protocol):
    """One machine of the cluster."""

    @property
    def name(self) -> str:
        """As Kubernetes knows it."""

    @property
    def zone(self) -> str:
        """Where it stands."""

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""

    def start(self) -> None:
        """Start it again with the disk it had."""

    def freeze(self) -> None:
        """Stop all its processes where they are."""

    def thaw(self) -> None:
        """Let them go on."""

    def cut(self, others: Sequence[str] | None = None) -> None:
        """Drop all packets from and to the LAN, or only those from and to the named nodes."""

    def heal(self) -> None:
        """Undo `cut`."""

    def run(self, command: Sequence[str]) -> str:
        """Run a command as root in its namespaces; return what it printed."""


class Nodes(Protocol):
    """All machines of the cluster."""

    def names(self) -> list[str]:
        """Of every node."""

    def node(self, name: str) -> Node:
        """One of them."""


@dataclass(frozen=True)
class Pod:
    """A running Pod."""

    namespace: str
    name: str
    uid: str
    node: str


@dataclass(frozen=True)
class Site:
    """Where a fault strikes: the leader of the store, and the nodes around it."""

    nodes: Nodes
    leader: Pod

    @property
    def node(self) -> Node:
        """The leader's node."""
        return self.nodes.node(self.leader.node)

    @property
    def zone(self) -> list[Node]:
        """Every node of the leader's zone."""
        nodes = [self.nodes.node(name) for name in self.nodes.names()]
        return [node for node in nodes if node.zone == self.node.zone]


@dataclass(frozen=True)
class Fault:
    """One row of the table below."""

    name: str
    store: str
    """`postgres` or `redis`."""
    text: str
    goal: float
    """Seconds without writes, at most, in every repetition."""
    cause: Callable[[Site], None]
    heal: Callable[[Site], None]
    settings: Mapping[str, str]
    """Of the store, where it is drilled with settings that are known to be dangerous: what is
    expected then is that the drill notices."""
    may_lose: bool = False
    """Whether acknowledged writes may be missing afterwards: the store never promised more."""


_LIST_PROCESSES = r"""
for folder in /proc/[0-9]*; do
    cgroup=$(tr '\n' ' ' < "$folder/cgroup") && command=$(tr '\0' ' ' < "$folder/cmdline") &&
        printf '%s\t%s\t%s\n' "${folder#/proc/}" "$cgroup" "$command"
done 2>/dev/null
true
"""


def kill_process(node: Node, pod_uid: str, match: str, signal: str = "KILL") -> list[int]:
    """Signal the processes of a Pod whose command line matches, and return their pids.

    A Pod's processes are known by their cgroup, whose path holds its uid. A container runtime is
    not asked: it would stop them in its own, gentler way.

    Args:
        node: where the Pod runs.
        pod_uid: its `metadata.uid`.
        match: a regular expression for the command line, arguments separated by spaces.
        signal: its name.

    Raises:
        LookupError: if there is none: a drill that hits nothing would look like a success.
    """
    found = matching(node.run(["sh", "-c", _LIST_PROCESSES]), pod_uid, match)
    if not found:
        raise LookupError(f"no process of Pod {pod_uid} on {node.name} matches {match!r}")
    node.run(["kill", f"-{signal}", *map(str, found)])
    return found


def matching(listed: str, pod_uid: str, match: str) -> list[int]:
    """The pids among listed processes that belong to the Pod and match.

    Args:
        listed: a process a line: pid, cgroups and command line, separated by tabs.
        pod_uid: as Kubernetes writes it; systemd's cgroup names hold `_` in the place of `-`.
        match: a regular expression, searched for in the command line.
    """
    pod, wanted = re.compile(re.escape(pod_uid).replace(r"\-", "[-_]")), re.compile(match)
    rows = (line.split("\t") for line in listed.splitlines())
    return [
        int(pid) for pid, cgroup, command in rows if pod.search(cgroup) and wanted.search(command)
    ]


_POSTMASTER = r"^(\S*/)?postgres -D"
"""The parent of all server processes; theirs are titled `postgres: …`."""

_INSTANCE_MANAGER = r"^\S*manager instance run"
"""Process 1 of the container; the kernel kills the rest of the container with it."""

_REDIS = r"^(\S*/)?redis-server"


def _kill(match: str) -> Callable[[Site], None]:
    def cause(site: Site) -> None:
        kill_process(site.node, site.leader.uid, match)

    return cause


def _kill_node(site: Site) -> None:
    site.node.kill()


def _start_node(site: Site) -> None:
    site.node.start()


def _cut_node(site: Site) -> None:
    site.node.cut()


def _heal_node(site: Site) -> None:
    site.node.heal()


def _kill_zone(site: Site) -> None:
    for node in site.zone:
        node.kill()


def _start_zone(site: Site) -> None:
    for node in site.zone:
        node.start()


def _nothing(_: Site) -> None:
    """The cluster mends it by itself."""


_AS_DECLARED: Mapping[str, str] = {}
_ASYNCHRONOUS = {"synchronous": "0"}
_NO_REPLICA_NEEDED = {"min_replicas_to_write": "0"}

FAULTS = (
    Fault(
        "postgres-process",
        "postgres",
        "SIGKILL of the primary's postmaster",
        10,
        _kill(_POSTMASTER),
        _nothing,
        _AS_DECLARED,
    ),
    Fault(
        "postgres-pod",
        "postgres",
        "SIGKILL of process 1 of the primary's container",
        10,
        _kill(_INSTANCE_MANAGER),
        _nothing,
        _AS_DECLARED,
    ),
    Fault(
        "postgres-node",
        "postgres",
        "all processes of the primary's node killed",
        30,
        _kill_node,
        _start_node,
        _AS_DECLARED,
    ),
    Fault(
        "postgres-cut",
        "postgres",
        "the primary's node cut off, but alive",
        30,
        _cut_node,
        _heal_node,
        _AS_DECLARED,
    ),
    Fault(
        "postgres-zone",
        "postgres",
        "every node of the primary's zone killed",
        30,
        _kill_zone,
        _start_zone,
        _AS_DECLARED,
    ),
    Fault(
        "redis-process",
        "redis",
        "SIGKILL of the master's server",
        6,
        _kill(_REDIS),
        _nothing,
        _AS_DECLARED,
        may_lose=True,
    ),
    Fault(
        "redis-cut",
        "redis",
        "the master's node cut off, but alive",
        6,
        _cut_node,
        _heal_node,
        _AS_DECLARED,
        may_lose=True,
    ),
    Fault(
        "postgres-node-asynchronous",
        "postgres",
        "as postgres-node, with no synchronous standby: dangerous",
        30,
        _kill_node,
        _start_node,
        _ASYNCHRONOUS,
        may_lose=True,
    ),
    Fault(
        "postgres-cut-asynchronous",
        "postgres",
        "as postgres-cut, with no synchronous standby: dangerous",
        30,
        _cut_node,
        _heal_node,
        _ASYNCHRONOUS,
        may_lose=True,
    ),
    Fault(
        "redis-cut-alone",
        "redis",
        "as redis-cut, with a master that needs no replica to write: dangerous",
        6,
        _cut_node,
        _heal_node,
        _NO_REPLICA_NEEDED,
        may_lose=True,
    ),
)
"""Every drill. Rolling restarts need no node: see `drills.stores`."""


def named(name: str) -> Fault:
    """Look up a fault.

    Raises:
        LookupError: naming all there are.
    """
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise LookupError(f"no drill {name!r}; there are: {', '.join(f.name for f in FAULTS)}")
