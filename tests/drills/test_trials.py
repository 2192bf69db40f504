"""Trials of all stores at once: who is struck, what is undone, who is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from drills import client, run, trials
from drills.account import Attempt
from drills.client import Place
from drills.faults import Node, Pod
from drills.kube import Kube
from drills.report import Run
from drills.run import Load
from drills.stores import Store
from drills.trials import TRIALS, Census, Scene, Trial, rows
from local.api import RefusedError
from local.errors import LocalError
from stacks.values import Objective

NODES = {"a-1": "a", "b-1": "b", "a-2": "a"}
READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"STEADY_WHOLE_SECONDS": 0, "_POLL_SECONDS": 0.01}.items():
        monkeypatch.setattr(run, name, seconds)
    for name, seconds in {
        "FAILOVER_SECONDS": 1,
        "AFTER_FAILOVER_SECONDS": 0,
        "STUCK_SECONDS": 0.1,
        "_POLL_SECONDS": 0.01,
    }.items():
        monkeypatch.setattr(trials, name, seconds)


def member(name: str, owner: str = "redis", kind: str = "StatefulSet") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "namespace": "data",
            "labels": {},
            "ownerReferences": [{"kind": kind, "name": owner}],
        },
        "status": {"conditions": READY, "phase": "Running"},
    }


class Api:
    """Pods that can be listed and evicted, once a budget allows it."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = list(pods)
        self.held: dict[str, Callable[[], bool]] = {}
        """Whether a Pod may go now; those not named here may."""
        self.merged: list[tuple[str, Any]] = []

    def items(self, path: str) -> list[dict[str, Any]]:
        """The Pods; of a node, if it is named and they say where they are."""
        node = path.rpartition("nodeName=")[2] if "nodeName=" in path else None
        return [pod for pod in self.pods if node is None or pod.get("node", node) == node]

    def create(self, path: str, body: dict[str, Any]) -> bool:
        """Evict a Pod."""
        assert path.endswith("/eviction")
        name = body["metadata"]["name"]
        if not self.held.get(name, lambda: True)():
            raise RefusedError("a budget does not allow it", 429)
        self.pods = [pod for pod in self.pods if pod["metadata"]["name"] != name]
        return True

    def merge(self, path: str, body: Any) -> None:
        """Change a node."""
        self.merged.append((path, body))


def kube(api: Api) -> Kube:
    return Mock(spec=Kube, api=api)


class Play:
    """Nodes that write down what is done to them, and stores that are led from elsewhere then."""

    def __init__(self) -> None:
        self.events: list[str] = []
        nodes = Mock()
        nodes.names.return_value = list(NODES)
        nodes.node.side_effect = self._node
        self.stores = {name: self._store() for name in ("postgres", "redis")}
        places = {name: Place("core", "x", "i") for name in self.stores}
        self.api = Api(member("redis-0"))
        self.scene = Scene(
            kube(self.api), nodes, self.stores, places, "data", Load(0, ()), lambda _: None
        )

    def _node(self, name: str) -> Mock:
        node = Mock(spec=Node, zone=NODES[name])
        node.name = name
        node.kill.side_effect = lambda: self.events.append(f"kill {name}")
        node.start.side_effect = lambda: self.events.append(f"start {name}")
        return node

    def _store(self) -> Mock:
        store = Mock(spec=Store)
        store.leader.side_effect = lambda: Pod("data", "p", "uid", "b-1" if self.events else "a-1")
        store.is_whole.return_value = True
        return store


@pytest.fixture
def play() -> Play:
    return Play()


def test_a_lost_zone_is_all_its_nodes_and_no_other(play: Play) -> None:
    trials.lose_zone(play.scene, "a")
    assert sorted(play.events[:2]) == ["kill a-1", "kill a-2"]
    assert sorted(play.events[2:]) == ["start a-1", "start a-2"]


@pytest.mark.parametrize(("now", "moved"), [("b-1", True), ("a-2", False)])
def test_whether_every_lead_left_the_lost_zone_is_told(play: Play, now: str, moved: bool) -> None:
    play.stores["redis"].leader.side_effect = lambda: Pod("data", "p", "uid", now)
    assert trials.lose_zone(play.scene, "a") is moved


def test_a_lost_zone_comes_back_whatever_happens(play: Play) -> None:
    play.stores["redis"].leader.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        trials.lose_zone(play.scene, "a")
    assert sorted(play.events[2:]) == ["start a-1", "start a-2"]


def test_zones_take_turns(play: Play) -> None:
    assert [play.scene.zone(number) for number in range(3)] == ["a", "b", "a"]


def test_every_node_is_drained_and_takes_pods_again(play: Play) -> None:
    play.api.pods = [member(f"on-{node}") | {"node": node} for node in NODES]
    trials.drain_nodes(play.scene, "a")
    assert [(path.rpartition("/")[2], body["spec"]) for path, body in play.api.merged] == [
        (node, {"unschedulable": state}) for node in sorted(NODES) for state in (True, None)
    ]


def test_what_a_budget_holds_back_goes_in_another_round(play: Play) -> None:
    """The budget lets the second Pod go only once the first is back, which takes a node."""
    first, second = member("broker-0"), member("controller-0")
    play.api.pods = [first, second]
    play.api.held = {"controller-0": lambda: len(play.api.merged) > 2}
    trials.drain(play.scene, "a-1")
    assert play.api.pods == []
    assert [body["spec"]["unschedulable"] for _, body in play.api.merged] == [True, None] * 2


def test_a_node_that_no_pod_leaves_cannot_be_drained(play: Play) -> None:
    play.api.held = {"redis-0": lambda: False}
    with pytest.raises(LocalError, match="a-1 cannot be drained: data/redis-0"):
        trials.drain(play.scene, "a-1")
    assert play.api.merged[-1] == ("/api/v1/nodes/a-1", {"spec": {"unschedulable": None}})


def test_a_drain_stops_where_a_store_does_not_get_whole(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "WHOLE_SECONDS", 0.1)
    play.stores["redis"].is_whole.return_value = False
    with pytest.raises(LocalError, match="not whole after draining a-1: redis"):
        trials.drain(play.scene, "a-1")


def test_an_eviction_that_a_budget_refuses_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "STUCK_SECONDS", 30)
    api = Api(member("redis-0"))
    refusals = iter([False, False])
    api.held = {"redis-0": lambda: next(refusals, True)}
    assert trials.evict(kube(api), "a-1", {"uid-of-redis-0": "data/redis-0"}) == {"uid-of-redis-0"}


def test_what_nobody_would_make_anew_is_not_evicted(play: Play) -> None:
    bare = member("drill-client-redis")
    del bare["metadata"]["ownerReferences"]
    play.api.pods = [bare]
    trials.drain(play.scene, "a-1")
    assert play.api.pods == [bare]


def test_a_nodes_own_pods_are_not_evicted(play: Play) -> None:
    """They belong to it whether it takes Pods or not, and would be made anew at once."""
    play.api.pods = [member("coredns-x", "coredns", "DaemonSet"), member("redis-0")]
    trials.drain(play.scene, "a-1")
    assert [pod["metadata"]["name"] for pod in play.api.pods] == ["coredns-x"]


def test_a_census_tells_how_many_members_were_missing_at_once() -> None:
    api = Api(
        *(member(f"redis-{n}") for n in range(3)), member("postgres-1", "postgres", "Cluster")
    )
    census = Census(kube(api), "data")
    census.look()
    api.pods = [member("redis-0"), member("postgres-1", "postgres", "Cluster")]
    census.look()
    api.pods = [member(f"redis-{n}") for n in range(3)]
    census.look()
    assert dict(census.most_missing) == {"redis": 2, "postgres": 1}


def test_a_member_that_is_not_ready_at_first_is_missing() -> None:
    late = member("redis-1")
    late["status"] = {}
    census = Census(kube(Api(member("redis-0"), late)), "data")
    census.look()
    assert census.most_missing == {"redis": 1}


def test_a_system_that_does_not_run_here_is_not_counted() -> None:
    waits = member("neo4j-0", "neo4j")
    waits["status"] = {}
    census = Census(kube(Api(member("redis-0"), waits)), "data")
    census.look()
    assert census.most_missing == {"redis": 0}


def test_what_nobody_could_count_is_not_taken_for_nothing_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "BLIND_SECONDS", 0.05)
    api = Api(member("redis-0"))
    census = Census(kube(api), "data")
    with pytest.raises(LocalError, match="nobody could count"), census.watching():
        monkeypatch.setattr(api, "items", Mock(side_effect=LocalError("busy")))
        time.sleep(0.2)


def test_helpers_are_no_members() -> None:
    assert trials.system_of(member("pooler-x", "postgres-pooler-7d", "ReplicaSet")) is None


OBJECTIVES = {
    "postgres": Objective(rpo=300, rto=180),
    "redis": Objective(rpo=10, rto=30),
    "kafka": Objective(rpo=0, rto=60),
}


def test_what_no_goal_is_set_for_is_held_to_the_objective_of_the_stack() -> None:
    zone, drain, _ = TRIALS
    declared = {name: each.rto for name, each in OBJECTIVES.items()}
    assert {row.store: row.goal for row in rows(drain, OBJECTIVES).values()} == declared
    assert rows(zone, OBJECTIVES)["redis"].goal == 6
    less = {**OBJECTIVES, "redis": Objective(rpo=10, rto=5)}
    assert rows(zone, less)["redis"].goal == 5


def test_each_store_has_a_report_of_its_own() -> None:
    zone = next(trial for trial in TRIALS if trial.name == "zone")
    named = rows(zone, OBJECTIVES)
    assert {row.name for row in named.values()} == {"zone-postgres", "zone-redis", "zone-kafka"}
    assert (named["postgres"].may_lose, named["redis"].may_lose) == (0, 10)


class Held:
    """A trial that is held with load clients that note when they begin and end."""

    def __init__(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        self.play = play
        monkeypatch.setattr(client, "start", self._start)
        self.trial = Trial("test", "", {"postgres": 1, "redis": 1}, self._strike)
        self.told: list[tuple[str, int]] = []
        self.broken_off: list[str | None] = []

    def _strike(self, _: Scene, zone: str) -> bool:
        self.play.events.append(f"strike {zone}")
        return True

    def _start(self, *arguments: Any) -> Mock:
        node = arguments[2]
        self.play.events.append(f"load on {node}")
        load = Mock()
        now = time.time()
        load.attempts.return_value = [Attempt(now, now, "w", 0, 0, "ok", "-")]
        load.stored.return_value = [(0, 0)]
        load.remove.side_effect = lambda: self.play.events.append("remove")
        return load

    def record(self, store: str, runs: Sequence[Run], broken_off: str | None) -> None:
        """Note what was told."""
        self.told.append((store, len(runs)))
        self.broken_off.append(broken_off)

    def hold(self, times: int = 1) -> dict[str, list[Run]]:
        """Hold it."""
        return trials.hold(self.play.scene, self.trial, times, self.record)


@pytest.fixture
def held(play: Play, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(play, monkeypatch)


def test_all_stores_are_loaded_from_outside_the_zone_while_it_is_struck(held: Held) -> None:
    done = held.hold()
    assert held.play.events == ["load on b-1"] * 2 + ["strike a"] + ["remove"] * 2
    assert {name: len(runs) for name, runs in done.items()} == {"postgres": 1, "redis": 1}
    assert done["redis"][0].account.durability.acknowledged == 1
    assert done["redis"][0].where == "a; p led elsewhere"


def test_a_store_that_led_in_the_zone_is_told(held: Held) -> None:
    held.play.stores["redis"].leader.side_effect = lambda: Pod("data", "r-0", "uid", "a-2")
    done = held.hold()
    assert done["redis"][0].where == "a; r-0 led there"


def test_each_repetition_of_each_store_is_told_as_soon_as_it_is_done(held: Held) -> None:
    held.hold(2)
    assert held.told == [("postgres", 1), ("redis", 1), ("postgres", 2), ("redis", 2)]


def test_a_repetition_without_an_account_is_told_of_every_store(held: Held) -> None:
    def sticks(_: Scene, zone: str) -> bool:
        if zone == "b":
            raise LocalError("b-1 cannot be drained")
        return True

    held.trial = replace(held.trial, strike=sticks)
    with pytest.raises(LocalError, match="cannot be drained"):
        held.hold(3)
    assert held.told == [("postgres", 1), ("redis", 1)] * 2
    assert held.broken_off == [None] * 2 + ["run 2 has no account: b-1 cannot be drained"] * 2


def test_clients_are_removed_whatever_happens(held: Held) -> None:
    def fails(*_: object) -> bool:
        raise KeyboardInterrupt

    held.trial = replace(held.trial, strike=fails)
    with pytest.raises(KeyboardInterrupt):
        held.hold()
    assert held.play.events[-2:] == ["remove", "remove"]


def test_a_store_that_is_not_whole_stops_a_trial_before_it_begins(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "WHOLE_SECONDS", 0.1)
    held.play.stores["postgres"].is_whole.side_effect = LocalError("nobody answers")
    with pytest.raises(LocalError, match="postgres is not whole"):
        held.hold()
    assert held.play.events == []
