"""Ten thousand resources that nobody would write: no crash, no secret, no false alarm."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import manifests, sources
from policies.check import check
from policies.configuration import Configuration
from policies.formats import FORMATS
from policies.model import SECRET, UNKNOWN, Opaque, Undecided
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


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), odd_values), min_size=1, max_size=4))
def test_odd_values_crash_nothing(
    changes: list[tuple[tuple[int, tuple[Any, ...]], object]],
) -> None:
    """250 times the 43 objects of the baseline, up to four values replaced in each set."""
    for each in judge(broken(changes)):
        assert each.message


@pytest.mark.parametrize("what", OPAQUE)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(place=st.sampled_from(PLACES))
def test_what_cannot_be_read_alarms_no_rule(what: str, place: tuple[int, Any]) -> None:
    found = judge(broken([(place, OPAQUE[what])]))
    allowed = {"container-no-secret-env"} if what == "secret" else set()
    assert {each.rule.name for each in found if not each.undecided} <= allowed


# `check`, from the file to the report ------------------------------------------------------------

CANARY = "hunter2-never-shown"


SECRETIVE = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "login", "namespace": "games"},
    "data": {"password": CANARY},
    "stringData": {"redis.conf": CANARY},
}


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES), odd_values.filter(lambda each: not isinstance(each, Opaque))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_check_of_odd_manifests_reports_or_refuses_and_shows_no_secret(
    changes: list[tuple[tuple[int, tuple[Any, ...]], object]],
) -> None:
    """Files of the baseline and a Secret with odd values: every format is written, all the time."""
    written = yaml.dump_all(
        [SECRETIVE, *broken(changes)], Dumper=yaml.SafeDumper, allow_unicode=True
    )
    try:
        found = sources.from_text(written.encode(), "odd.yaml")
    except sources.UnreadableError as refused:
        assert CANARY not in str(refused)
        return
    report = check(found, RULES.values(), Configuration(), date(2026, 1, 1))
    for form in FORMATS.values():
        assert CANARY not in form(report)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        sources.from_text(content, "odd.yaml")
    except sources.UnreadableError as refused:
        assert "\n" not in str(refused)
