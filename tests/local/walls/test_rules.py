"""The odd parts of NetworkPolicies, and of the rulesets that they become."""

from __future__ import annotations

from typing import Any

import pytest

from local.walls.objects import Direction, population, selects
from local.walls.objects import policy as policy_of
from local.walls.rules import rulesets
from tests.local.walls.objects import NAMESPACES, NODE, PODS, Object, node, pod, policy

pytestmark = pytest.mark.unit

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["ingress"]),
        ({"egress": []}, ["ingress"]),
        ({"egress": [{}]}, ["ingress", "egress"]),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ["egress"]),
        ({"policyTypes": ["Egress", "Ingress"]}, ["ingress", "egress"]),
    ],
)
def test_directions_default_as_the_api_says(spec: Object, expected: list[str]) -> None:
    found = policy_of(policy("any", {"podSelector": {}, **spec})).rules
    assert found.keys() == {Direction(each) for each in expected}


@pytest.mark.parametrize(
    ("key", "operator", "values", "expected"),
    [
        ("app", "In", ["db", "web"], True),
        ("app", "In", ["db"], False),
        ("none", "In", ["web"], False),
        ("app", "NotIn", ["db"], True),
        ("app", "NotIn", ["web"], False),
        ("none", "NotIn", ["web"], True),
        ("app", "Exists", [], True),
        ("none", "Exists", [], False),
        ("none", "DoesNotExist", [], True),
        ("app", "DoesNotExist", [], False),
    ],
)
def test_expressions(key: str, operator: str, values: list[str], expected: bool) -> None:
    expression = {"key": key, "operator": operator, "values": values}
    assert selects({"matchExpressions": [expression]}, LABELS) is expected


def test_labels_and_expressions_must_all_hold() -> None:
    absent = {"key": "tier", "operator": "DoesNotExist"}
    assert not selects({"matchLabels": {"app": "web"}, "matchExpressions": [absent]}, LABELS)


def changed(of: str, value: Any) -> Object:
    """The Pod `web` with another field: `status.phase`, `spec.hostNetwork`."""
    part, field = of.split(".")
    return {**PODS["web"], part: {**PODS["web"][part], field: value}}


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("status.phase", "Succeeded"),
        ("status.phase", "Failed"),
        ("status.podIP", None),
        ("spec.hostNetwork", True),
    ],
)
def test_a_pod_without_an_address_of_its_own_is_ignored(of: str, value: Any) -> None:
    assert population([changed(of, value)], NAMESPACES).pods == []


def test_an_address_that_two_pods_claim_is_nobodys() -> None:
    twin = pod("ops", "twin", PODS["web"]["status"]["podIP"])
    found = population([PODS["web"], twin, PODS["db"]], NAMESPACES).pods
    assert [each.name for each in found] == ["db"]


def test_the_ports_of_a_sidecar_have_names_too() -> None:
    port = {"name": "metrics", "containerPort": 9000, "protocol": "UDP"}
    sidecar = {"restartPolicy": "Always", "ports": [port]}
    other = {"ports": [{**port, "name": "gone"}]}
    (found,) = population([changed("spec.initContainers", [sidecar, other])], NAMESPACES).pods
    assert [(each.name, each.protocol, each.number) for each in found.ports] == [
        ("http", "TCP", 8080),
        ("metrics", "UDP", 9000),
    ]


def test_a_block_of_ipv6_holds_nobody() -> None:
    peers = [{"ipBlock": {"cidr": "2001:db8::/32"}}]
    assert population(PODS.values(), NAMESPACES).addresses(peers, "shop") == []


def ruleset(*policies: Object, pods: str | None = "198.19.1.0/24") -> str:
    return rulesets(PODS.values(), NAMESPACES, policies, [node(NODE, pods)])[NODE]


def test_a_node_holds_only_the_policies_of_its_own_pods() -> None:
    far, near = (
        policy(name, {"podSelector": {"matchLabels": {"app": name}}}) for name in ("far", "web")
    )
    text = ruleset(far, near)
    assert "ingress/shop/web" in text
    assert "ingress/shop/far" not in text


def test_a_name_that_nftables_would_find_too_long_is_cut_and_stays_unique() -> None:
    long = "x" * 253
    text = ruleset(policy(f"{long}1", {"podSelector": {}}), policy(f"{long}2", {"podSelector": {}}))
    chains = {
        line.split()[1] for line in text.splitlines() if f"chain ingress/shop/{'x' * 9}" in line
    }
    assert len(chains) == 2
    assert max(map(len, chains)) <= 255


def test_the_same_objects_in_another_order_give_the_same_ruleset() -> None:
    policies = [policy(name, {"podSelector": {}}) for name in ("one", "two")]
    pods = list(PODS.values())
    forth = rulesets(pods, NAMESPACES, policies, [node(NODE, None)])
    assert rulesets(pods[::-1], NAMESPACES[::-1], policies[::-1], [node(NODE, None)]) == forth
