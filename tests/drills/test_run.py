"""The order of a drill: never without mending, never on a store that is not whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import Mock

import pytest

from drills import client, run
from drills.account import Attempt
from drills.client import Place
from drills.faults import Fault, Node, Pod, Site
from drills.report import Row
from drills.run import Load, Stage
from drills.stores import Store
from local.errors import LocalError

STEADY = 0.1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "FAILOVER_SECONDS": 1,
        "AFTER_FAILOVER_SECONDS": 0,
        "WHOLE_SECONDS": 2,
        "STEADY_WHOLE_SECONDS": STEADY,
        "_POLL_SECONDS": 0.01,
    }.items():
        monkeypatch.setattr(run, name, seconds)


class Scene:
    """Three nodes, a store whose leader moves away from a killed node, and what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.nodes = Mock()
        self.nodes.names.return_value = ["a-1", "a-2", "b-1"]
        self.nodes.node.side_effect = self._node
        self.store = Mock(spec=Store)
        self.store.leader.side_effect = self._leader
        self.store.is_whole.side_effect = lambda: (
            "kill" not in self.events or ("start" in self.events)
        )
        self.store.weakened = self._weakened
        self.store.lead_beside_operator.side_effect = lambda: self.events.append("move")
        self.started_on = ""
        monkeypatch.setattr(client, "start", self._start)
        self.kube = Mock()
        self.stage = Stage(
            self.kube, self.nodes, self.store, Place("core", "x", "i"), Load(0, ()), lambda _: None
        )

    def _node(self, name: str) -> Mock:
        node = Mock(spec=Node, zone=name[0])
        node.kill.side_effect = lambda: self.events.append("kill")
        node.start.side_effect = lambda: self.events.append("start")
        return node

    def _leader(self) -> Pod:
        return Pod("data", "p-2" if "kill" in self.events else "p-1", "uid", "a-1")

    @contextmanager
    def _weakened(self) -> Iterator[None]:
        self.events.append("weakened")
        yield
        self.events.append("restored")

    def _start(self, *arguments: object) -> Mock:
        self.started_on = str(arguments[2])
        self.events.append("load")
        return self.start_load()

    def start_load(self) -> Mock:
        """A client whose one write is stored."""
        load = Mock()
        now = time.time()
        load.attempts.return_value = [Attempt(now, now, "w", 0, 0, "ok", "-")]
        load.stored.return_value = [(0, 0)]
        load.stop.side_effect = lambda: self.events.append("stop")
        load.remove.side_effect = lambda: self.events.append("remove")
        return load


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def fault(
    *,
    inside: bool = False,
    weakened: bool = False,
    with_operator: bool = False,
    crashes: bool = False,
) -> Fault:
    return Fault(
        "test",
        "postgres",
        "a node killed",
        None,
        lambda site: site.node.kill(),
        lambda site: site.node.start(),
        inside=inside,
        weakened=weakened,
        with_operator=with_operator,
        crashes=crashes,
    )


def test_the_load_spans_the_fault_and_its_mending(scene: Scene) -> None:
    (done,) = run.drill(scene.stage, fault(), 1, Mock())
    assert scene.events == ["load", "kill", "start", "stop", "remove"]
    assert done.account.durability.acknowledged == 1
    assert done.redundant is not None
    assert 0 <= done.redundant < 2


def test_a_fault_that_lasts_for_a_time_is_mended_whoever_leads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_await_other_leader", lambda *_: scene.events.append("await"))
    run.drill(scene.stage, fault(), 1, Mock())
    run.drill(scene.stage, replace(fault(), lasts=0), 1, Mock())
    assert scene.events == [
        *("load", "kill", "await", "start", "stop", "remove"),
        *("load", "kill", "start", "stop", "remove"),
    ]


def test_a_fault_does_not_strike_who_leads_no_more(scene: Scene) -> None:
    """Another would be missed by nobody, and the drill would look like a success."""
    pods = iter([Pod("data", "p-1", "uid", "a-1"), Pod("data", "p-2", "uid", "a-2")])
    scene.store.leader.side_effect = lambda: next(pods)
    with pytest.raises(LocalError, match="p-1 leads no more: nothing was done"):
        run.drill(scene.stage, fault(), 1, Mock())
    assert scene.events == ["load", "remove"]


def test_with_the_operator_is_with_the_operator(scene: Scene) -> None:
    scene.store.leads_beside_operator.return_value = False
    with pytest.raises(LocalError, match="beside p-1 no more: nothing was done"):
        run.drill(scene.stage, fault(with_operator=True), 1, Mock())
    assert scene.events == ["move", "load", "remove"]


def test_whether_the_lead_moved_on_and_from_whom_is_told(scene: Scene) -> None:
    (done,) = run.drill(scene.stage, fault(), 1, Mock())
    assert (done.noticed, done.where) == (True, "p-1 on a-1")


def test_a_lead_that_does_not_move_on_is_told(scene: Scene) -> None:
    scene.store.leader.side_effect = lambda: Pod("data", "p-1", "uid", "a-1")
    (done,) = run.drill(scene.stage, fault(), 1, Mock())
    assert not done.noticed


def test_a_pod_that_crashed_before_does_not_lead_into_a_crash(scene: Scene) -> None:
    scene.kube.has_crashed.side_effect = [True, True, False]
    scene.kube.remove.side_effect = lambda pod: scene.events.append(f"remove {pod.name}")
    run.drill(scene.stage, fault(crashes=True), 1, Mock())
    assert scene.events[:3] == ["remove p-1", "remove p-1", "load"]


def test_leaders_are_not_made_anew_for_ever(scene: Scene) -> None:
    scene.kube.has_crashed.return_value = True
    with pytest.raises(LocalError, match="leaders were made anew"):
        run.drill(scene.stage, fault(crashes=True), 1, Mock())
    assert "load" not in scene.events


def test_each_repetition_is_told_as_soon_as_it_is_done(scene: Scene) -> None:
    told: list[int] = []
    scene.store.leader.side_effect = lambda: Pod("data", "p-1", "uid", "a-1")
    harmless = Fault("test", "postgres", "nothing", None, lambda _: None)
    run.drill(scene.stage, harmless, 3, lambda _, runs, __: told.append(len(runs)))
    assert told == [1, 2, 3]


def test_a_repetition_without_an_account_is_told_with_the_reason(scene: Scene) -> None:
    told: list[tuple[int, str | None]] = []
    good, unread = scene.start_load(), scene.start_load()
    unread.stored.side_effect = LocalError("nobody leads")
    loads = iter([good, unread])
    scene.start_load = lambda: next(loads)  # type: ignore[method-assign]
    scene.store.leader.side_effect = lambda: Pod("data", "p-1", "uid", "a-1")
    harmless = Fault("test", "postgres", "nothing", None, lambda _: None)
    with pytest.raises(LocalError, match="nobody leads"):
        run.drill(scene.stage, harmless, 3, lambda _, runs, why: told.append((len(runs), why)))
    assert told == [(1, None), (1, "run 2 has no account: nobody leads")]


def test_the_load_begins_longer_before_the_fault_than_what_may_be_lost() -> None:
    rows = [Row("zone-x", "x", "", None, each) for each in (0, 60, None)]
    assert Load.of(rows, 100) == Load(90, ("--rate", "60", "--seconds", "190"))
    assert Load.of(rows[:1], 100).warm_up == run.WARM_UP_SECONDS


def test_the_client_is_in_another_zone(scene: Scene) -> None:
    run.drill(scene.stage, fault(), 1, Mock())
    assert scene.started_on == "b-1"


def test_a_client_inside_is_on_the_leaders_node(scene: Scene) -> None:
    run.drill(scene.stage, fault(inside=True), 1, Mock())
    assert scene.started_on == "a-1"


def test_the_leader_moves_to_its_operator_first(scene: Scene) -> None:
    run.drill(scene.stage, fault(with_operator=True), 1, Mock())
    assert scene.events[:2] == ["move", "load"]


def test_dangerous_settings_are_taken_back(scene: Scene) -> None:
    run.drill(scene.stage, fault(weakened=True), 1, Mock())
    assert (scene.events[0], scene.events[-1]) == ("weakened", "restored")


def test_a_store_that_is_not_whole_is_left_alone(scene: Scene) -> None:
    scene.store.is_whole.side_effect = LocalError("nobody answers")
    with pytest.raises(LocalError, match="not whole"):
        run.drill(scene.stage, fault(), 1, Mock())
    assert scene.events == []


def test_a_store_that_never_gets_whole_is_reported_so(scene: Scene) -> None:
    scene.store.is_whole.side_effect = lambda: "kill" not in scene.events
    (done,) = run.drill(scene.stage, fault(), 1, Mock())
    assert done.redundant is None


def test_a_drill_that_is_interrupted_is_mended() -> None:
    done: list[str] = []
    hurts = Fault("t", "redis", "", None, lambda _: None, lambda _: done.append("mended"))
    with pytest.raises(KeyboardInterrupt), run.mended(hurts, Mock(spec=Site)):
        raise KeyboardInterrupt
    assert done == ["mended"]


def test_whole_means_to_stay_so_for_a_while(scene: Scene) -> None:
    answers = iter([True, False, True])
    scene.store.is_whole.side_effect = lambda: next(answers, True)
    started = time.time()
    since = run.whole_since(scene.store, 2)
    assert since is not None
    assert since >= started + 0.02 - 0.005
    assert time.time() - since >= STEADY
