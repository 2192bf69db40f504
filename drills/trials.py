"""Trials: what strikes all data systems at once, while a client loads each of them.

A zone is lost, every node is drained in turn, everything is restarted. Each store has its own
account and its own report, named `<trial>-<store>`; beside it, of every data system, how many of
its members were missing at the same moment: more than one would be a broken promise.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx

from drills import client, run
from drills.account import account
from drills.client import Client, Place
from drills.faults import Node, Nodes
from drills.kube import Kube, is_ready
from drills.report import Row, Run, brief
from drills.run import AFTER_FAILOVER_SECONDS, FAILOVER_SECONDS, Load, Recorder
from drills.stores import Store
from local.api import RefusedError
from local.errors import LocalError
from stacks.values import Objective

STUCK_SECONDS = 60.0
"""Without an eviction: a primary is switched over before it may go, which took up to 38 s while
everything restarted."""
BLIND_SECONDS = 60.0
"""Between two looks at the members, at most; a look takes a second, on a busy machine some."""
TRIAL_SECONDS = 2400.0
"""The longest that a load outlasts, four times what a drain of three nodes took."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Scene:
    """Where a trial takes place."""

    kube: Kube
    nodes: Nodes
    stores: Mapping[str, Store]
    places: Mapping[str, Place]
    """Of each store: where its client runs."""
    namespace: str
    """Of the data systems."""
    load: Load
    """Of each store's client."""
    say: Callable[[str], None]

    def zone(self, number: int) -> str:
        """One zone after the other, as repetitions go by."""
        zones = sorted({self.nodes.node(name).zone for name in self.nodes.names()})
        return zones[number % len(zones)]

    def inside(self, zone: str) -> list[Node]:
        """Its nodes."""
        nodes = (self.nodes.node(name) for name in sorted(self.nodes.names()))
        return [node for node in nodes if node.zone == zone]


@dataclass(frozen=True)
class Trial:
    """One row of the table below."""

    name: str
    text: str
    goals: Mapping[str, float | None]
    """Of each store: seconds without writes, at most, beside its RTO, as the stack declares it."""
    strike: Callable[[Scene, str], bool]
    """Do it, and undo it; the zone is whose turn it is. Returns whether every lead moved on, where
    that is waited for."""
    may_lose: frozenset[str] = frozenset()
    """Stores that promise no more than their RPO."""


def rows(trial: Trial, objectives: Mapping[str, Objective]) -> dict[str, Row]:
    """The reports of a trial, by store; so are the objectives."""
    return {
        store: Row(
            name=f"{trial.name}-{store}",
            store=store,
            text=trial.text,
            goal=min(objectives[store].rto, math.inf if goal is None else goal),
            may_lose=objectives[store].rpo if store in trial.may_lose else 0.0,
        )
        for store, goal in trial.goals.items()
    }


@dataclass
class Census:
    """Watches how many members of each data system are Ready."""

    kube: Kube
    namespace: str
    whole: Counter[str] = field(default_factory=Counter)
    most_missing: Counter[str] = field(default_factory=Counter)

    def look(self) -> None:
        """Count once.

        A system has the members that are there at the first look, Ready or not. One of which none
        is Ready then does not run here.
        """
        pods = self.kube.api.items(f"/api/v1/namespaces/{self.namespace}/pods")
        members = _count(pods)
        ready = _count(pod for pod in pods if is_ready(pod))
        if not self.whole:
            self.whole.update({name: members[name] for name in ready})
        for name, number in self.whole.items():
            self.most_missing[name] = max(self.most_missing[name], number - ready[name])

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count all the while, beside what else is done.

        Raises:
            LocalError: if nobody could count for longer than `BLIND_SECONDS`: what was missing
                meanwhile is not known.
        """
        self.look()
        over, looks = threading.Event(), [time.monotonic()]

        def watch() -> None:
            while not over.wait(_POLL_SECONDS):
                # A busy API server does not answer, or not in whole: the next look comes soon.
                with suppress(LocalError, ValueError):
                    self.look()
                    looks.append(time.monotonic())

        watcher = threading.Thread(target=watch, name="census", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        blind = max(b - a for a, b in pairwise([*looks, time.monotonic()]))
        if blind > BLIND_SECONDS:
            raise LocalError(f"nobody could count the members for {blind:.0f} s")


def _count(pods: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(name for pod in pods if (name := system_of(pod)) is not None)


_MEMBERS_OF = ("StatefulSet", "Cluster")
"""Kinds whose Pods are members of a data system. Others there are helpers, which stand alone."""


def system_of(pod: Mapping[str, Any]) -> str | None:
    """The set of servers that a Pod is a member of."""
    for owner in pod["metadata"].get("ownerReferences", ()):
        if owner["kind"] in _MEMBERS_OF and "cnpg.io/jobRole" not in pod["metadata"]["labels"]:
            return str(owner["name"])
    return None


def lose_zone(scene: Scene, zone: str) -> bool:
    """Kill every node of a zone; power on once all stores are led from elsewhere."""
    lost = scene.inside(zone)
    with ExitStack() as mending:
        for node in lost:
            mending.callback(node.start)
            node.kill()
        names = {node.name for node in lost}
        moved = run.await_that(lambda: _all_led_outside(scene, names), FAILOVER_SECONDS)
        time.sleep(AFTER_FAILOVER_SECONDS)
    return moved


def _all_led_outside(scene: Scene, names: set[str]) -> bool:
    return all(store.leader().node not in names for store in scene.stores.values())


def drain_nodes(scene: Scene, _: str) -> bool:
    """Empty one node after the other, each only once all stores are whole again."""
    for name in sorted(scene.nodes.names()):
        scene.say(f"draining {name}")
        drain(scene, name)
    return True


def drain(scene: Scene, node: str) -> None:
    """Evict every Pod that a node has now, as `kubectl drain` does.

    A zone has one node here, where its volumes are, so what was evicted cannot start elsewhere. A
    budget that waits for it holds others back: then the node takes Pods again until all stores are
    whole, and the rest is evicted in another round.

    Raises:
        LocalError: if a round evicts nothing, or a store does not get whole after one.
    """
    path = f"/api/v1/nodes/{node}"
    left = _evictable(scene.kube, node)
    while left:
        scene.kube.api.merge(path, {"spec": {"unschedulable": True}})
        try:
            evicted = evict(scene.kube, node, left)
        finally:
            scene.kube.api.merge(path, {"spec": {"unschedulable": None}})
        if not evicted:
            raise LocalError(f"{node} cannot be drained: {', '.join(sorted(left.values()))}")
        whole = run.whole_each(scene.stores, run.WHOLE_SECONDS)
        if missing := [store for store, since in whole.items() if since is None]:
            raise LocalError(f"not whole after draining {node}: {', '.join(missing)}")
        left = {uid: name for uid, name in left.items() if uid not in evicted}


def evict(kube: Kube, node: str, pods: Mapping[str, str]) -> set[str]:
    """Evict these Pods of a node until none is left, or none more goes for `STUCK_SECONDS`.

    Args:
        kube: the cluster.
        node: where they are.
        pods: `namespace/name` by uid.

    Returns:
        The uids of those that are gone.
    """
    left, deadline = set(pods), time.monotonic() + STUCK_SECONDS
    while left and time.monotonic() < deadline:
        for uid in sorted(left):
            _evict(kube, *pods[uid].split("/"))
        time.sleep(_POLL_SECONDS)
        still = left & _evictable(kube, node).keys()
        if still < left:
            left, deadline = still, time.monotonic() + STUCK_SECONDS
    return pods.keys() - left


def _evictable(kube: Kube, node: str) -> dict[str, str]:
    """`namespace/name` by uid of all but the node's own, and those that nobody would make anew."""
    pods = kube.api.items(f"/api/v1/pods?fieldSelector=spec.nodeName={node}")
    return {
        pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if {owner["kind"] for owner in pod["metadata"].get("ownerReferences", ())} - {"DaemonSet"}
        and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
    }


def _evict(kube: Kube, namespace: str, name: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    try:
        kube.api.create(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
    except RefusedError as error:
        if error.status not in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.NOT_FOUND}:
            raise


def restart_all(scene: Scene, _: str) -> bool:
    """Ask every store at once for a rolling restart."""
    for store in scene.stores.values():
        store.restart()
    return True


TRIALS = (
    Trial(
        "zone",
        "every node of a zone killed, one zone after the other",
        # PostgreSQL's operator may lead from the same zone: the goal of `postgres-operator-node`.
        {"postgres": 60, "redis": 6, "kafka": 15},
        lose_zone,
        frozenset({"redis"}),
    ),
    Trial(
        "drain",
        "every node drained, one after the other",
        dict.fromkeys(("postgres", "redis", "kafka")),
        drain_nodes,
    ),
    Trial(
        "rolling",
        "rolling restart of every server of every store at once",
        dict.fromkeys(("postgres", "redis", "kafka")),
        restart_all,
    ),
)
"""Every trial."""


def hold(scene: Scene, trial: Trial, times: int, record: Recorder) -> dict[str, list[Run]]:
    """Repeat a trial; each repetition starts from stores that are whole.

    Args:
        scene: where it takes place.
        trial: what is done.
        times: how often.
        record: told after each.

    Raises:
        LocalError: if a store is not whole within `WHOLE_SECONDS` before a repetition, or what one
            did cannot be told.
    """
    runs: dict[str, list[Run]] = {store: [] for store in scene.stores}
    for number in range(times):
        for store, since in run.whole_each(scene.stores, run.WHOLE_SECONDS).items():
            if since is None:
                raise LocalError(f"{trial.name} {number + 1}: {store} is not whole: nothing done")
        try:
            repetition = _repetition(scene, trial, scene.zone(number))
        except LocalError as error:
            for store, before in runs.items():
                record(store, before, run.no_account(number + 1, error))
            raise
        for store, done in repetition.items():
            runs[store].append(done)
            record(store, runs[store], None)
            scene.say(f"{trial.name}-{store} {number + 1} of {times}: {brief(done)}")
    return runs


def _repetition(scene: Scene, trial: Trial, zone: str) -> dict[str, Run]:
    elsewhere = next(
        name for name in sorted(scene.nodes.names()) if scene.nodes.node(name).zone != zone
    )
    census = Census(scene.kube, scene.namespace)
    with _loads(scene, elsewhere) as loads, census.watching():
        time.sleep(scene.load.warm_up)
        where = {name: _where(scene, store, zone) for name, store in scene.stores.items()}
        moment = time.time()
        noticed = trial.strike(scene, zone)
        whole = run.whole_each(scene.stores, run.WHOLE_SECONDS)
        done = {}
        for store, load in loads.items():
            load.stop()
            bill = account(load.attempts(), load.stored(), moment)
            since = whole[store]
            redundant, missing = since and since - moment, dict(census.most_missing)
            done[store] = Run(bill, redundant, missing, noticed, where[store], load.said())
    return done


def _where(scene: Scene, store: Store, zone: str) -> str:
    leader = store.leader()
    led = "led there" if scene.nodes.node(leader.node).zone == zone else "led elsewhere"
    return f"{zone}; {leader.name} {led}"


@contextmanager
def _loads(scene: Scene, node: str) -> Iterator[dict[str, Client]]:
    """A client of each store, all on one node; removed in the end, whatever happens."""
    with ExitStack() as removing:
        loads = {}
        for name, store in scene.stores.items():
            load = client.start(scene.kube, scene.places[name], node, store, scene.load.options)
            removing.callback(load.remove)
            loads[name] = load
        yield loads
