"""Ten thousand resources that nobody would write: no crash, no secret, no false alarm."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import manifests
from policies.model import SECRET, UNKNOWN, Undecided
from policies.rule import Ruleset, Violation
from policies.rules import RULES
from policies.world import World

pytestmark = pytest.mark.unit

EVERYTHING = Ruleset(RULES.values())
OPAQUE = {"unknown": UNKNOWN, "secret": SECRET}

odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.just("9%"),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none()), max_size=2),
    st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.none()), max_size=2),
    st.sampled_from(sorted(OPAQUE)).map(OPAQUE.__getitem__),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything within a value."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def put(value: Any, path: tuple[Any, ...], what: object) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = what


OBJECTS = manifests.baseline()
PLACES = [
    (number, path)
    for number, each in enumerate(OBJECTS)
    for path in places(each)
    if path not in {("kind",), ("apiVersion",), ("type",), ("name",), ("properties",)}
]


def judge(objects: list[manifests.Manifest]) -> list[Violation]:
    """Judge the objects under the types and names that they had before they were broken."""
    world = World(
        replace(manifests.resource(before), props=after.get("properties", after))
        for before, after in zip(OBJECTS, objects, strict=True)
    )
    return list(EVERYTHING.judge(world, {}))


def broken(changes: list[tuple[tuple[int, tuple[Any, ...]], object]]) -> list[manifests.Manifest]:
    objects = copy.deepcopy(OBJECTS)
    for (number, path), what in changes:
        try:
            put(objects[number], path, what)
        except (KeyError, IndexError, TypeError, Undecided):
            continue
    return objects


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), odd_values), min_size=1, max_size=4))
def test_odd_values_crash_nothing(
    changes: list[tuple[tuple[int, tuple[Any, ...]], object]],
) -> None:
    """250 times the 43 objects of the baseline, up to four values replaced in each set."""
    for each in judge(broken(changes)):
        assert each.message


@pytest.mark.parametrize("what", OPAQUE)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES))
def test_what_cannot_be_read_alarms_no_rule(what: str, place: tuple[int, Any]) -> None:
    found = judge(broken([(place, OPAQUE[what])]))
    allowed = {"container-no-secret-env"} if what == "secret" else set()
    assert {each.rule.name for each in found if not each.undecided} <= allowed
