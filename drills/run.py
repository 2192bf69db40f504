"""Run a drill, repetition by repetition: load, fault, recovery, account.

whole -> client loads -> warm-up -> FAULT -> another leads -> mend -> whole -> settle -> account
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from drills import client
from drills.account import account
from drills.client import Place
from drills.faults import Fault, Nodes, Pod, Site
from drills.kube import Kube
from drills.report import Row, Run, brief
from drills.stores import Store
from local.errors import LocalError

WARM_UP_SECONDS = 8.0
FAILOVER_SECONDS = 150.0
"""How long another leader is waited for before the fault is mended all the same."""
AFTER_FAILOVER_SECONDS = 10.0
"""Between the failover and the mending, so that both are seen apart."""
WHOLE_SECONDS = 600.0
STEADY_WHOLE_SECONDS = 10.0
"""It counts as whole again from the first moment after which it stayed so for this long."""
_POLL_SECONDS = 1.0
"""Asking a store starts programs beside it: asked more often, they would be what is measured."""
DRILL_SECONDS = FAILOVER_SECONDS + AFTER_FAILOVER_SECONDS + WHOLE_SECONDS + 60.0
"""From the fault until the load is told to stop, at most; its last part: for cause and mending."""
_RATE = 60.0
"""Attempts a second, enough to see a gap of 0.1 s, and little beside what two cores carry."""
_BEYOND_RPO = 1.5
_MOST_CRASHED = 10
"""Leaders that are made anew before a crash: more than any store here has members."""


Recorder = Callable[[str, Sequence[Run], str | None], None]
"""Told of a store and of all its repetitions so far, after each: what was measured outlives
whatever ends a drill early. Last comes why a repetition has no account, which ends the drill."""


@dataclass(frozen=True)
class Load:
    """What a client does in each repetition."""

    warm_up: float
    """Seconds before the fault."""
    options: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[Row], longest: float) -> Load:
        """The load of a drill, or of each store in a trial.

        Args:
            rows: what is reported. Where a store may lose what its RPO allows, the load begins
                longer before the fault: else the loss of everything would look like one within it.
            longest: seconds from the fault until the load is told to stop, at most.
        """
        rpo = max((row.may_lose or 0.0 for row in rows), default=0.0)
        warm_up = max(WARM_UP_SECONDS, _BEYOND_RPO * rpo)
        return cls(warm_up, ("--rate", f"{_RATE:.0f}", "--seconds", f"{warm_up + longest:.0f}"))


@dataclass(frozen=True)
class Stage:
    """Where drills take place."""

    kube: Kube
    nodes: Nodes
    store: Store
    place: Place
    load: Load
    say: Callable[[str], None]


def drill(stage: Stage, fault: Fault, times: int, record: Recorder) -> list[Run]:
    """Repeat a fault; each repetition starts from a store that is whole.

    Args:
        stage: where it takes place.
        fault: what is done.
        times: how often.
        record: told after each.

    Raises:
        LocalError: if the store is not whole within `WHOLE_SECONDS` before a repetition, or what
            one did cannot be told.
        LookupError: if the fault finds nothing to strike.
    """
    runs: list[Run] = []
    with stage.store.weakened() if fault.weakened else nullcontext():
        for number in range(1, times + 1):
            if fault.with_operator:
                stage.store.lead_beside_operator()
            if whole_since(stage.store, WHOLE_SECONDS) is None:
                raise LocalError(f"{fault.name} {number}: the store is not whole, nothing was done")
            if fault.crashes:
                _lead_from_fresh_pod(stage)
            try:
                run = _repetition(stage, fault)
            except (LocalError, LookupError) as error:
                record(fault.store, runs, no_account(number, error))
                raise
            runs.append(run)
            record(fault.store, runs, None)
            stage.say(f"{fault.name} {number} of {times}: {brief(run)}")
    return runs


def no_account(number: int, error: Exception) -> str:
    """Words for a repetition of which nothing can be told."""
    return f"run {number} has no account: {error}"


def _lead_from_fresh_pod(stage: Stage) -> None:
    """Make leading Pods anew until one leads that never crashed; see `Fault.crashes`."""
    for _ in range(_MOST_CRASHED):
        if not stage.kube.has_crashed(leader := stage.store.leader()):
            return
        stage.kube.remove(leader)
        if whole_since(stage.store, WHOLE_SECONDS) is None:
            raise LocalError(f"{leader.name} was made anew, and the store is not whole since")
    raise LocalError(f"{_MOST_CRASHED} leaders were made anew, and the next had crashed too")


def _repetition(stage: Stage, fault: Fault) -> Run:
    leader = stage.store.leader()
    site = Site(stage.nodes, leader, stage.kube.remove)
    node = leader.node if fault.inside else node_elsewhere(stage.nodes, leader)
    load = client.start(stage.kube, stage.place, node, stage.store, stage.load.options)
    try:
        time.sleep(stage.load.warm_up)
        _still_leads(stage.store, leader, beside_operator=fault.with_operator)
        moment, noticed = time.time(), True
        with mended(fault, site):
            fault.cause(site)
            if fault.lasts is not None:
                time.sleep(fault.lasts)
            elif fault.mend:
                noticed = _await_other_leader(stage.store, leader)
        whole = whole_since(stage.store, WHOLE_SECONDS)
        load.stop()
        bill = account(load.attempts(), load.stored(), moment)
        said = load.said()
    finally:
        load.remove()
    where = f"{leader.name} on {leader.node}"
    return Run(bill, whole and whole - moment, noticed=noticed, where=where, said=said)


def _still_leads(store: Store, leader: Pod, *, beside_operator: bool) -> None:
    """Make sure that the fault hits whom it is meant for: another would be missed by nobody.

    Raises:
        LocalError: if the lead moved on since it was asked for.
    """
    if store.leader() != leader:
        raise LocalError(f"{leader.name} leads no more: nothing was done")
    if beside_operator and not store.leads_beside_operator():
        raise LocalError(f"the operator leads beside {leader.name} no more: nothing was done")


@contextmanager
def mended(fault: Fault, site: Site) -> Iterator[None]:
    """Mend the fault at the end, whatever happens in between: Ctrl-C leaves no node cut off."""
    try:
        yield
    finally:
        if fault.mend:
            fault.mend(site)


def node_elsewhere(nodes: Nodes, leader: Pod) -> str:
    """A node in another zone than the leader's, so that the client outlives every fault."""
    zone = nodes.node(leader.node).zone
    return next(name for name in sorted(nodes.names()) if nodes.node(name).zone != zone)


def _await_other_leader(store: Store, old: Pod) -> bool:
    if not await_that(lambda: store.leader().name != old.name, FAILOVER_SECONDS):
        return False
    time.sleep(AFTER_FAILOVER_SECONDS)
    return True


def await_that(holds: Callable[[], bool], limit: float) -> bool:
    """Wait until something holds, and return whether it did in time; nobody may be there to ask."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except LocalError:
            pass
        time.sleep(_POLL_SECONDS)
    return False


def whole_since(store: Store, limit: float) -> float | None:
    """Wait until the store is whole and stays so; return since when, None if it did not in time."""
    return whole_each({"": store}, limit)[""]


def whole_each(stores: Mapping[str, Store], limit: float) -> dict[str, float | None]:
    """The same of several stores: each is asked until all of them are whole for long enough."""
    deadline = time.monotonic() + limit
    since: dict[str, float | None] = dict.fromkeys(stores)
    while time.monotonic() < deadline:
        for name, store in stores.items():
            since[name] = (since[name] or time.time()) if _is_whole(store) else None
        if all(moment and _is_steady(moment) for moment in since.values()):
            break
        time.sleep(_POLL_SECONDS)
    return {
        name: moment if moment and _is_steady(moment) else None for name, moment in since.items()
    }


def _is_steady(moment: float) -> bool:
    return time.time() - moment >= STEADY_WHOLE_SECONDS


def _is_whole(store: Store) -> bool:
    try:
        return store.is_whole()
    except LocalError:
        return False
