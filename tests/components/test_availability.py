"""What survives the loss of a zone: twice, apart, and moved soon."""

from __future__ import annotations

import pytest

from components.availability import survive_zone_loss
from components.manifest import Document

pytestmark = pytest.mark.unit

LABELS = {"matchLabels": {"app": "worker"}}


@pytest.fixture
def deployment() -> Document:
    return {
        "kind": "Deployment",
        "metadata": {"name": "worker", "namespace": "here"},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": LABELS,
            "template": {"spec": {"serviceAccountName": "worker"}},
        },
    }


def test_it_runs_twice(deployment: Document) -> None:
    survive_zone_loss(deployment)
    assert deployment["spec"]["replicas"] == 2


def test_its_replicas_are_never_in_one_zone(deployment: Document) -> None:
    survive_zone_loss(deployment)
    spread, *_ = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["maxSkew"] == 1
    assert spread["labelSelector"] == LABELS


def test_an_update_does_not_count_the_former_revision(deployment: Document) -> None:
    survive_zone_loss(deployment)
    spread, *_ = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["matchLabelKeys"] == ["pod-template-hash"]


def test_an_update_takes_no_working_replica_away(deployment: Document) -> None:
    survive_zone_loss(deployment)
    assert deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }


def test_it_gives_a_silent_name_server_up_soon(deployment: Document) -> None:
    survive_zone_loss(deployment)
    options = deployment["spec"]["template"]["spec"]["dnsConfig"]["options"]
    assert {each["name"]: each["value"] for each in options} == {"timeout": "1", "attempts": "2"}


@pytest.mark.parametrize("condition", ["not-ready", "unreachable"])
def test_it_leaves_a_lost_node_soon(deployment: Document, condition: str) -> None:
    survive_zone_loss(deployment)
    tolerations = deployment["spec"]["template"]["spec"]["tolerations"]
    (found,) = (t for t in tolerations if t["key"] == f"node.kubernetes.io/{condition}")
    assert (found["effect"], found["tolerationSeconds"]) == ("NoExecute", 10)


def test_it_is_not_evicted_for_workloads(deployment: Document) -> None:
    survive_zone_loss(deployment)
    priority = deployment["spec"]["template"]["spec"]["priorityClassName"]
    assert priority == "system-cluster-critical"


def test_the_rest_of_its_pods_stays(deployment: Document) -> None:
    survive_zone_loss(deployment)
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "worker"


def test_its_budget_lets_one_replica_go_at_a_time(deployment: Document) -> None:
    budget = survive_zone_loss(deployment)
    assert budget["metadata"] == {"name": "worker", "namespace": "here"}
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == LABELS
