"""Any number of databases of each kind stand side by side."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import databases
from stacks import loader
from tests.components.conftest import Registry, registered_by

pytestmark = pytest.mark.unit

KINDS = ("Postgres", "Mongodb", "Neo4j", "Redis", "Kafka")


def _declared(count: int) -> Registry:
    settings = loader.from_file(databases.STACK)
    return registered_by(lambda: databases.declare(count, settings))


@pytest.fixture(scope="module")
def two() -> Registry:
    return _declared(2)


def _names(registry: Registry) -> Counter[tuple[str, str, str]]:
    return Counter(
        (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"])
        for m in registry.manifests()
    )


def test_each_kind_is_there_as_often_as_it_is_asked_for(two: Registry) -> None:
    components = [each.kind for each in two.resources if not each.custom]
    assert {kind: components.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 2)


def test_the_second_brings_as_many_objects_as_the_first(two: Registry) -> None:
    none, one = (len(_declared(count).resources) for count in (0, 1))
    assert len(two.resources) - none == 2 * (one - none)


def test_no_two_objects_have_one_name(two: Registry) -> None:
    assert {name: count for name, count in _names(two).items() if count > 1} == {}


def test_but_for_kafka_databases_share_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strimzi's pools and topics are known by their names within a namespace."""
    monkeypatch.setattr(databases, "namespace", lambda _: "games")
    twice = {name for name, count in _names(_declared(2)).items() if count > 1}
    assert {kind for kind, _, _ in twice} == {"KafkaNodePool", "KafkaTopic", "KafkaUser"}
