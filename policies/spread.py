"""Where the servers of one set may come to lie, at worst, by what the scheduler must keep.

A preference is no promise: without a rule that the scheduler must keep, all of them may lie on one
host. The same reading serves the Pods that are declared and those that an operator makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from policies.model import mapping, mappings, number, text
from policies.world import ZONE_LABEL, World, matches

ZONE = ZONE_LABEL
HOST = "kubernetes.io/hostname"

ASSUMED_ZONES = 3
"""Where no StorageClass names the zones: as many as a majority needs to lose one."""

Picks = Callable[[Mapping[str, object]], bool]
"""Whether the label selector of a term picks the servers themselves."""


@dataclass(frozen=True)
class Placement:
    """How many servers there are, and how many of them one failure takes at most."""

    servers: int
    """That find a place: no more than there are zones where each needs one of its own."""
    per_zone: int
    per_host: int


def zones(world: World) -> int:
    """How many zones the volumes may lie in, by the StorageClasses; else `ASSUMED_ZONES`."""
    return len(world.zones) or ASSUMED_ZONES


def placed(count: int, pod: Mapping[str, object], zones: int, picks: Picks) -> Placement:
    """Place `count` servers whose Pods have the scheduling rules of `pod`, as badly as allowed."""
    if _apart(pod, ZONE, picks):
        return Placement(min(count, zones), min(count, 1), min(count, 1))
    skew = _skew(pod, ZONE, picks)
    per_zone = count if skew is None else min(count, (count + (zones - 1) * skew) // zones)
    per_host = 1 if _apart(pod, HOST, picks) else per_zone
    return Placement(count, per_zone, min(count, per_host))


def is_strict(
    pod: Mapping[str, object], key: str, labels: Mapping[str, object] | None = None
) -> bool:
    """Whether the scheduler must keep Pods with these labels apart over a topology.

    Without labels, they are Pods of an operator.
    """
    picks = any_selector if labels is None else own_labels(labels)
    return _apart(pod, key, picks) or _skew(pod, key, picks) is not None


def any_selector(_: Mapping[str, object]) -> bool:
    """For Pods that an operator labels: its terms are about them."""
    return True


def own_labels(labels: Mapping[str, object]) -> Picks:
    """For declared Pods: a term without a selector, or for other Pods, keeps nothing apart."""

    def picks(term: Mapping[str, object]) -> bool:
        selector = mapping(term, "labelSelector")
        return bool(selector) and matches(selector, labels)

    return picks


def _apart(pod: Mapping[str, object], key: str, picks: Picks) -> bool:
    terms = mappings(
        pod, "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return any(text(each, "topologyKey") == key and picks(each) for each in terms)


def _skew(pod: Mapping[str, object], key: str, picks: Picks) -> int | None:
    """The smallest skew that the scheduler must keep; None where it need not keep any."""
    return min(
        (
            int(number(each, "maxSkew") or 1)
            for each in mappings(pod, "topologySpreadConstraints")
            if text(each, "topologyKey") == key
            and text(each, "whenUnsatisfiable") != "ScheduleAnyway"
            and picks(each)
        ),
        default=None,
    )
