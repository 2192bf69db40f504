"""What the rules of Kafka say where its resources share a template."""

from __future__ import annotations

from typing import Any

import pytest

from policies import manifests
from tests.policies.analyzer_session import Session

pytestmark = pytest.mark.unit

SPREAD: dict[str, Any] = {
    "topologySpreadConstraints": [
        {
            "topologyKey": "topology.kubernetes.io/zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"strimzi.io/cluster": "kafka"}},
        }
    ]
}
CONTAINER: dict[str, Any] = {"env": [{"name": "TZ", "value": "UTC"}]}

RULE = "kafka-zone-spread"


def _kafka(template: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Kafka",
        "metadata": {"name": "kafka"},
        "spec": {"kafka": {"template": template}},
    }


def _brokers(template: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "kind": "KafkaNodePool",
        "metadata": {"name": "brokers"},
        "spec": {"template": template},
    }


KEPT: dict[str, tuple[dict[str, Any], ...]] = {
    "the cluster's Pods, beside a container of the pool's": (
        _kafka({"pod": SPREAD}),
        _brokers({"pod": None, "kafkaContainer": CONTAINER}),
    ),
    "the cluster's Pods, without a template of the pool's": (
        _kafka({"pod": SPREAD}),
        _brokers(None),
    ),
    "the pool's Pods, whatever the cluster's are": (
        _kafka({"pod": {"topologySpreadConstraints": []}}),
    ),
}
BROKEN: dict[str, tuple[dict[str, Any], ...]] = {
    "the pool's Pods, of which the cluster's spread is no part": (
        _kafka({"pod": SPREAD}),
        _brokers({"pod": {"topologySpreadConstraints": []}}),
    ),
    "no Pods anywhere": (
        _kafka({"kafkaContainer": CONTAINER}),
        _brokers({"pod": None, "kafkaContainer": CONTAINER}),
    ),
}


def _found(analyzer: Session, changes: tuple[dict[str, Any], ...]) -> list[str]:
    declared = manifests.changed(manifests.baseline(), changes)
    return [each.urn for each in analyzer.judge(declared) if each.rule == RULE]


@pytest.mark.parametrize("case", KEPT)
def test_a_spread_counts_where_strimzi_takes_it_from(analyzer: Session, case: str) -> None:
    assert _found(analyzer, KEPT[case]) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_spread_that_strimzi_does_not_take_counts_for_nothing(
    analyzer: Session, case: str
) -> None:
    [urn] = _found(analyzer, BROKEN[case])
    assert urn.endswith("brokers")
