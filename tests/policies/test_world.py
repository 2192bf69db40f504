"""What selects what, and what scales what."""

from __future__ import annotations

from typing import Any

import pytest

from policies.model import UNKNOWN, Resource, Undecided
from policies.world import DEPLOYMENT, DISRUPTION_BUDGET, SERVICE, World, matches, resolved

pytestmark = pytest.mark.unit


def resource(kind: str, name: str, spec: object, namespace: Any = "games") -> Resource:
    group, _, plain = kind.partition("/")
    token = f"kubernetes:{group}/v1:{plain}"
    metadata = {"name": name, "namespace": namespace}
    props = {"kind": plain, "metadata": metadata, "spec": spec}
    return Resource(token, name, f"urn:{kind}:{namespace!r}:{name}", props)


def deployment(name: str, labels: Any = None, namespace: Any = "games") -> Resource:
    labels = {"app": name} if labels is None else labels
    return resource(DEPLOYMENT, name, {"template": {"metadata": {"labels": labels}}}, namespace)


def kafka(name: str) -> Resource:
    return resource("kafka.strimzi.io/Kafka", name, {})


def names(found: list[Any]) -> list[str]:
    return sorted(each.resource.name for each in found)


@pytest.mark.parametrize(
    ("selector", "picks"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]}, False),
    ],
)
def test_selector(selector: dict[str, Any], *, picks: bool) -> None:
    assert matches(selector, {"app": "web"}) is picks


def test_selects_within_the_namespace_only() -> None:
    world = World([deployment("web"), deployment("web", namespace="other")])
    assert len(world.selected("games", {"matchLabels": {"app": "web"}})) == 1


def test_empty_selector_selects_all_of_the_namespace() -> None:
    world = World([deployment("a"), deployment("b"), deployment("c", namespace="other")])
    assert names(world.selected("games", {})) == ["a", "b"]


def test_labels_that_cannot_be_read_leave_it_undecided() -> None:
    world = World([deployment("web", labels=UNKNOWN)])
    with pytest.raises(Undecided):
        world.selected("games", {"matchLabels": {"app": "web"}})


def test_namespace_that_cannot_be_read_leaves_it_undecided() -> None:
    world = World([deployment("web", namespace=UNKNOWN)])
    with pytest.raises(Undecided):
        world.selected("games", {"matchLabels": {"app": "web"}})


def test_a_sure_match_needs_no_unknown_one() -> None:
    world = World([deployment("web"), deployment("other", labels={"app": UNKNOWN})])
    assert names(world.selected("games", {"matchLabels": {"app": "web"}})) == ["web"]


def test_finds_what_selects_a_workload() -> None:
    web = deployment("web")
    budget = resource(DISRUPTION_BUDGET, "web", {"selector": {"matchLabels": {"app": "web"}}})
    stray = resource(DISRUPTION_BUDGET, "x", {"selector": {"matchLabels": {"app": "x"}}})
    world = World([web, budget, stray])
    assert world.selecting(DISRUPTION_BUDGET, world.workload(web)) == [budget]


def test_operator_pods_count_only_if_their_resource_is_declared() -> None:
    selector = {"matchLabels": {"cnpg.io/cluster": "postgres"}}
    declared = resource("postgresql.cnpg.io/Cluster", "postgres", {})
    assert World([declared]).selects_operator_pods("games", selector)
    assert not World([]).selects_operator_pods("games", selector)


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"strimzi.io/kind": "Kafka"}},
        {"matchLabels": {"app.kubernetes.io/name": "entity-operator"}},
        {"matchExpressions": [{"key": "strimzi.io/kind", "operator": "In", "values": ["Kafka"]}]},
        {"matchLabels": {"strimzi.io/kind": "Kafka", "strimzi.io/cluster": "events"}},
    ],
)
def test_operator_pods_are_known_by_their_part_as_well(selector: dict[str, Any]) -> None:
    declared = kafka("events")
    assert World([declared]).selects_operator_pods("games", selector)
    assert not World([declared]).selects_operator_pods("elsewhere", selector)


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("monitoring.coreos.com/Prometheus", "prometheus"),
        ("monitoring.coreos.com/Alertmanager", "alertmanager"),
        ("postgresql.cnpg.io/Cluster", "cnpg.io/cluster"),
    ],
)
def test_operators_label_their_pods_by_instance_as_well(kind: str, label: str) -> None:
    selector = {"matchLabels": {label: "own", "app.kubernetes.io/instance": "own"}}
    assert World([resource(kind, "own", {})]).selects_operator_pods("games", selector)


def test_operator_pods_of_another_resource_are_not_those_asked_for() -> None:
    selector = {"matchLabels": {"strimzi.io/kind": "Kafka", "strimzi.io/cluster": "other"}}
    assert not World([kafka("events")]).selects_operator_pods("games", selector)


def test_name_that_cannot_be_read_may_be_the_one() -> None:
    world = World([resource(SERVICE, "web", {}, namespace=UNKNOWN)])
    with pytest.raises(Undecided):
        world.named(SERVICE, "games", "web")


@pytest.mark.parametrize(
    ("amount", "of", "is_"),
    [(1, 3, 1), ("50%", 3, 2), ("100%", 3, 3), ("0%", 3, 0), ("half", 3, None), (None, 3, None)],
)
def test_amounts_round_up(amount: object, of: int, is_: int | None) -> None:
    assert resolved(amount, of) == is_
