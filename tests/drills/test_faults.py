"""Which processes a fault hits, and that every fault is undone."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from unittest.mock import Mock, call

import pytest

from drills import faults
from drills.faults import FAULTS, Fault, Node, Pod, Site, kill_process, matching, row
from stacks.values import Objective

OBJECTIVE = Objective(rpo=10, rto=60)

UID = "0f0e7c3e-1111-4222-8333-944445555666"
LISTED = (
    f"71\t5:memory:/ft-x/a-1/kubepods/burstable/pod{UID}/c1 \t/controller/manager instance run \n"
    f"80\t5:memory:/ft-x/a-1/kubepods/burstable/pod{UID}/c1 \tpostgres -D /var/lib/pgdata \n"
    f"81\t5:memory:/ft-x/a-1/kubepods/burstable/pod{UID}/c1 \tpostgres: walwriter  \n"
    "90\t5:memory:/ft-x/a-1/kubepods/burstable/podother/c9 \tpostgres -D /var/lib/pgdata \n"
    "7\t5:memory:/ft-x/a-1 \tsh -c postgres -D \n"
)


LOOKING = call.run(["sh", "-c", faults._LIST_PROCESSES])


def recorded(name: str = "a-1", zone: str = "a", listed: str = LISTED) -> Mock:
    """A node that writes down what is done to it, and runs the processes that are listed."""
    node = Mock(spec=Node, zone=zone)
    node.name = name
    node.run.side_effect = lambda command: listed if command[0] == "sh" else ""
    return node


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def done(node: Mock) -> list[str]:
    """What was done to it, in order; looking around is not counted."""
    return [
        step.args[0][-1] if step[0] == "run" else step[0]
        for step in node.method_calls
        if step != LOOKING
    ]


@dataclass
class Three:
    """Three nodes, two of them in one zone."""

    nodes: dict[str, Mock]

    def names(self) -> list[str]:
        """Of every node."""
        return list(self.nodes)

    def node(self, name: str) -> Mock:
        """One of them."""
        return self.nodes[name]


def site() -> tuple[Site, Three]:
    servers = (
        "redis-server *:6379",
        "java -cp /opt/kafka/libs/* kafka.Kafka /etc/kafka/a.properties",
    )
    listed = LISTED + "".join(f"{n}\tpod{UID}\t{line} \n" for n, line in enumerate(servers, 99))
    zones = {"a-1": "a", "b-1": "b", "a-2": "a"}
    nodes = Three({name: recorded(name, zone, listed) for name, zone in zones.items()})
    return Site(nodes, Pod("data", "postgres-1", UID, "a-1"), Mock()), nodes


def test_only_the_pods_own_processes_match() -> None:
    assert matching(LISTED, UID, "^postgres -D") == [80]


def test_a_cgroup_named_by_systemd_is_the_pods_too() -> None:
    line = f"5\t0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/c \tredis-server \n"
    assert matching(line, UID, "redis-server") == [5]


def test_the_processes_of_this_machine_are_listed_with_cgroup_and_command() -> None:
    with subprocess.Popen(["sleep", "61.5"]) as child:
        try:
            listed = subprocess.run(
                ["sh", "-c", faults._LIST_PROCESSES], capture_output=True, text=True, check=True
            ).stdout
        finally:
            child.kill()
    rows = [line.split("\t") for line in listed.splitlines()]
    mine = [row for row in rows if row[0] == str(child.pid)]
    assert [row[2] for row in mine] == ["sleep 61.5 "]
    assert ":" in mine[0][1]


def test_what_matches_is_killed() -> None:
    node = recorded()
    assert kill_process(node, UID, "^postgres") == [80, 81]
    assert done(node) == ["kill -KILL 80 81"]


def test_a_fault_that_hits_nothing_is_an_error() -> None:
    with pytest.raises(LookupError, match="no process of Pod"):
        kill_process(recorded(), UID, "mysqld")


@pytest.mark.parametrize(
    ("name", "pid"), [("postgres-process", 80), ("postgres-container", 71), ("redis-process", 99)]
)
def test_each_kind_of_process_is_hit_alone(name: str, pid: int) -> None:
    where, nodes = site()
    named(name).cause(where)
    assert done(nodes.node("a-1")) == [f"kill -KILL {pid}"]


@pytest.mark.parametrize(
    ("name", "pids"), [("postgres-hang", "80 81"), ("redis-hang", "99"), ("kafka-hang", "100")]
)
def test_a_server_that_hangs_is_stopped_whole_and_its_manager_is_not(name: str, pids: str) -> None:
    where, nodes = site()
    named(name).cause(where)
    assert done(nodes.node("a-1")) == [f"kill -STOP {pids}"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.name))
def test_what_a_fault_does_to_a_node_is_undone(fault: Fault) -> None:
    where, nodes = site()
    fault.cause(where)
    if fault.mend:
        fault.mend(where)
    undone = {"kill": "start", "cut": "heal", "fill_disk": "empty_disk"}
    steps = done(nodes.node("a-1"))
    assert all(undone[what] in steps[place:] for place, what in enumerate(steps) if what in undone)


def test_weakened_drills_are_the_same_faults_and_promise_nothing() -> None:
    for weak in (fault for fault in FAULTS if fault.weakened):
        strong = named(weak.name.rpartition("-")[0])
        assert (weak.cause, weak.mend, weak.inside) == (strong.cause, strong.mend, strong.inside)
        assert row(weak, OBJECTIVE).may_lose is None


@pytest.mark.parametrize(
    ("name", "may_lose"), [("postgres-cut", 0), ("kafka-cut", 0), ("redis-cut", 10)]
)
def test_only_what_the_store_promises_may_be_lost(name: str, may_lose: float) -> None:
    assert row(named(name), OBJECTIVE).may_lose == may_lose


@pytest.mark.parametrize(("rto", "goal"), [(60, 15), (11, 11)])
def test_a_stack_that_declares_less_than_the_goal_is_held_to_that(rto: int, goal: float) -> None:
    assert row(named("kafka-cut"), Objective(rpo=0, rto=rto)).goal == goal


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("name", ["postgres-delete", "redis-delete"])
def test_a_pod_that_is_deleted_is_the_leaders(name: str) -> None:
    where, nodes = site()
    remove = Mock()
    named(name).cause(replace(where, remove=remove))
    assert remove.call_args_list == [call(where.leader, 0)]
    assert done(nodes.node("a-1")) == []


def test_what_nobody_needs_to_mend_ends_a_container_or_its_pod() -> None:
    ended = {each.name for each in FAULTS if each.mend is None}
    crashed = {each.name for each in FAULTS if each.crashes}
    assert ended == crashed | {"postgres-delete", "redis-delete"}
