"""The faults of one store: what each does, to whom, and how soon the store must be back.

A fault is caused on the node where the store's leading Pod runs when the drill starts. What it
needs of a cluster's nodes is the small `Node` protocol; it changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from drills.report import Row
from stacks.values import Objective


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

    def cut(self) -> None:
        """Drop all packets from and to the world, in silence."""

    def heal(self) -> None:
        """Undo `cut`."""

    def fill_disk(self) -> None:
        """Leave no room on the disk of its volumes."""

    def empty_disk(self) -> None:
        """Undo `fill_disk`."""

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
    remove: Callable[[Pod, int], None]
    """Deletes a Pod whose processes have so many seconds to end; 0: it is forgotten at once."""

    @property
    def node(self) -> Node:
        """The leader's node."""
        return self.nodes.node(self.leader.node)


Step = Callable[[Site], None]


@dataclass(frozen=True)
class Fault:
    """One row of the table below."""

    name: str
    store: str
    """`postgres`, `redis` or `kafka`."""
    text: str
    goal: float | None
    """Seconds without writes, at most, in every repetition; None: not what this drill is about."""
    cause: Step
    mend: Step | None = None
    """What somebody must do once the store has moved on; None if the cluster does it all."""
    lasts: float | None = None
    """Seconds after which it is mended, whatever the store did by then; None: it moves on first."""
    may_lose: bool = False
    """Whether acknowledged writes may be missing afterwards: the store promises only an RPO."""
    inside: bool = False
    """Whether the client is on the leader's node, and so on its side of a cut: the place from
    which a leader that does not know that it is one no more would still be believed."""
    with_operator: bool = False
    """Whether the leader stands beside the leader of its operator, so that one fault takes both."""
    crashes: bool = False
    """Whether it ends a container, or has it ended. The first time, its kubelet starts it again at
    once; after another crash within ten minutes it waits for 10 s, then for twice as long, and so
    on."""
    weakened: bool = False
    """Whether the store runs with settings that are known to be dangerous. What is expected then
    is that the drill can tell."""


def row(fault: Fault, objective: Objective) -> Row:
    """The report of a fault, which is held to its goal and to the objective of its store."""
    may_lose = None if fault.weakened else objective.rpo if fault.may_lose else 0.0
    goal = None if fault.goal is None else min(fault.goal, objective.rto)
    return Row(fault.name, fault.store, fault.text, goal, may_lose)


_LIST_PROCESSES = r"""
for folder in /proc/[0-9]*; do
    cgroup=$(tr '\n' ' ' < "$folder/cgroup") && command=$(tr '\0\n\t' '   ' < "$folder/cmdline") &&
        printf '%s\t%s\t%s\n' "${folder#/proc/}" "$cgroup" "$command"
done 2>/dev/null
true
"""


def processes(node: Node, pod_uid: str, match: str) -> list[int]:
    """The pids, on its node, of a Pod's processes whose command line matches.

    A Pod's processes are known by their cgroup, whose path holds its uid. A container runtime is
    not asked: it would stop them in its own, gentler way.

    Args:
        node: where the Pod runs.
        pod_uid: its `metadata.uid`.
        match: a regular expression for the command line, arguments separated by spaces.

    Raises:
        LookupError: if there is none: a drill that hits nothing would look like a success.
    """
    found = matching(node.run(["sh", "-c", _LIST_PROCESSES]), pod_uid, match)
    if not found:
        raise LookupError(f"no process of Pod {pod_uid} on {node.name} matches {match!r}")
    return found


def kill_process(node: Node, pod_uid: str, match: str, signal: str = "KILL") -> list[int]:
    """Signal, by its name, what `processes` finds, and return the pids."""
    found = processes(node, pod_uid, match)
    node.run(["sh", "-c", f"kill -{signal} {' '.join(map(str, found))}"])
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

_POSTGRES = rf"({_POSTMASTER}|^postgres: )"

_INSTANCE_MANAGER = r"^\S*manager instance run"
"""Process 1 of the container; the kernel kills the rest of the container with it."""

_REDIS = r"^(\S*/)?redis-server"

_KAFKA = r"^(\S*/)?java .* kafka\.Kafka "


def _kill(match: str) -> Step:
    def cause(site: Site) -> None:
        kill_process(site.node, site.leader.uid, match)

    return cause


def _stop(match: str) -> Step:
    """Stop a server as a disk that answers nothing does: alive, connected, and silent."""

    def cause(site: Site) -> None:
        kill_process(site.node, site.leader.uid, match, "STOP")

    return cause


def _kill_node(site: Site) -> None:
    site.node.kill()


def _start_node(site: Site) -> None:
    site.node.start()


def _cut_node(site: Site) -> None:
    site.node.cut()


def _heal_node(site: Site) -> None:
    site.node.heal()


def _fill_disk(site: Site) -> None:
    site.node.fill_disk()


def _empty_disk(site: Site) -> None:
    site.node.empty_disk()


def _delete(site: Site) -> None:
    site.remove(site.leader, 0)


def _end(site: Site) -> None:
    site.remove(site.leader, 1)


_POSTGRES_DELETE = Fault(
    "postgres-delete",
    "postgres",
    "the primary's Pod deleted by force",
    20,
    _delete,
)
_POSTGRES_PROCESS = Fault(
    "postgres-process",
    "postgres",
    "SIGKILL of the primary's postmaster",
    10,
    _kill(_POSTMASTER),
    crashes=True,
)
_POSTGRES_CONTAINER = Fault(
    "postgres-container",
    "postgres",
    "SIGKILL of process 1 of the primary's container",
    10,
    _kill(_INSTANCE_MANAGER),
    crashes=True,
)
_POSTGRES_NODE = Fault(
    "postgres-node",
    "postgres",
    "all processes of the primary's node killed",
    30,
    _kill_node,
    _start_node,
)
_POSTGRES_OPERATOR = Fault(
    "postgres-operator-node",
    "postgres",
    "all processes of the node killed on which both the primary and the operator lead",
    60,
    _kill_node,
    _start_node,
    with_operator=True,
)
_POSTGRES_CUT = Fault(
    "postgres-cut",
    "postgres",
    "the primary's node cut off, but alive",
    30,
    _cut_node,
    _heal_node,
)
_POSTGRES_BLINK = Fault(
    "postgres-blink",
    "postgres",
    "the primary's node cut off, and back while another is promoted",
    30,
    _cut_node,
    _heal_node,
    lasts=16,
)
_POSTGRES_CUT_INSIDE = Fault(
    "postgres-cut-inside",
    "postgres",
    "the primary's node cut off, with the client on it",
    None,
    _cut_node,
    _heal_node,
    inside=True,
)
# Nothing else ends it (docs/decisions/hanging-primary.md); after 60 s the alert calls a person.
_POSTGRES_HANG = Fault(
    "postgres-hang",
    "postgres",
    "SIGSTOP of all the primary's server processes, and a person who deletes its Pod 60 s later",
    None,
    _stop(_POSTGRES),
    _end,
    lasts=60,
)
_REDIS_DELETE = Fault(
    "redis-delete",
    "redis",
    "the master's Pod deleted by force",
    6,
    _delete,
    may_lose=True,
)
_REDIS_PROCESS = Fault(
    "redis-process",
    "redis",
    "SIGKILL of the master's server",
    6,
    _kill(_REDIS),
    crashes=True,
    may_lose=True,
)
_REDIS_HANG = Fault(
    "redis-hang",
    "redis",
    "SIGSTOP of the master's server",
    None,
    _stop(_REDIS),
    crashes=True,
    may_lose=True,
)
_REDIS_CUT = Fault(
    "redis-cut",
    "redis",
    "the master's node cut off, but alive",
    6,
    _cut_node,
    _heal_node,
    may_lose=True,
)
_REDIS_CUT_INSIDE = Fault(
    "redis-cut-inside",
    "redis",
    "the master's node cut off, with the client on it",
    None,
    _cut_node,
    _heal_node,
    may_lose=True,
    inside=True,
)
_KAFKA_PROCESS = Fault(
    "kafka-process",
    "kafka",
    "SIGKILL of the leading broker's JVM",
    8,
    _kill(_KAFKA),
    crashes=True,
)
_KAFKA_HANG = Fault(
    "kafka-hang",
    "kafka",
    "SIGSTOP of the leading broker's JVM, and a person who deletes its Pod",
    None,
    _stop(_KAFKA),
    _end,
)
_KAFKA_NODE = Fault(
    "kafka-node",
    "kafka",
    "all processes of the leading broker's node killed",
    15,
    _kill_node,
    _start_node,
)
_KAFKA_CUT = Fault(
    "kafka-cut",
    "kafka",
    "the leading broker's node cut off, but alive",
    15,
    _cut_node,
    _heal_node,
)


_POSTGRES_DISK = Fault(
    "postgres-disk",
    "postgres",
    "the disk of the primary's node full",
    None,
    _fill_disk,
    _empty_disk,
)


_REDIS_DISK = Fault(
    "redis-disk",
    "redis",
    "the disk of the master's node full",
    None,
    _fill_disk,
    _empty_disk,
)


_KAFKA_DISK = Fault(
    "kafka-disk",
    "kafka",
    "the disk of the leading broker's node full",
    None,
    _fill_disk,
    _empty_disk,
)


def _weakened(fault: Fault, suffix: str, text: str) -> Fault:
    """The same fault where the store runs with dangerous settings."""
    return replace(
        fault,
        name=f"{fault.name}-{suffix}",
        text=f"{fault.text}, {text}",
        goal=None,
        weakened=True,
    )


_ASYNCHRONOUS = ("asynchronous", "no synchronous standby (dangerous)")
_ALONE = ("alone", "the master may write without replicas (dangerous)")

FAULTS = (
    _POSTGRES_PROCESS,
    _POSTGRES_CONTAINER,
    _POSTGRES_DELETE,
    _POSTGRES_HANG,
    _POSTGRES_NODE,
    _POSTGRES_OPERATOR,
    _POSTGRES_CUT,
    _POSTGRES_BLINK,
    _POSTGRES_DISK,
    _POSTGRES_CUT_INSIDE,
    _REDIS_PROCESS,
    _REDIS_DELETE,
    _REDIS_HANG,
    _REDIS_CUT,
    _REDIS_DISK,
    _REDIS_CUT_INSIDE,
    _KAFKA_PROCESS,
    _KAFKA_HANG,
    _KAFKA_NODE,
    _KAFKA_CUT,
    _KAFKA_DISK,
    _weakened(_POSTGRES_CONTAINER, *_ASYNCHRONOUS),
    _weakened(_POSTGRES_NODE, *_ASYNCHRONOUS),
    _weakened(_POSTGRES_CUT_INSIDE, *_ASYNCHRONOUS),
    _weakened(_REDIS_CUT_INSIDE, *_ALONE),
)
"""Every drill."""
