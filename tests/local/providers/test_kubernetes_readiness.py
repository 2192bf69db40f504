"""When objects of each kind are ready."""

from __future__ import annotations

from typing import Any

import pytest

from local.providers.kubernetes.readiness import (
    READY,
    Failed,
    Surroundings,
    Verdict,
    Waiting,
    is_awaited,
    parse_wait_for,
    verdict,
)
from local.providers.protocol import ProviderError

pytestmark = pytest.mark.unit

ALONE = Surroundings()


def judge(api_version: str, kind: str, spec: Any, status: Any, around: Any = ALONE) -> Verdict:
    metadata = {"name": "it", "generation": 2}
    obj = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    return verdict({**obj, "spec": spec, "status": status}, around)


def deployment(spec: Any = None, **status: Any) -> Verdict:
    status = {"observedGeneration": 2, **status}
    return judge("apps/v1", "Deployment", {"replicas": 2, **(spec or {})}, status)


ROLLED_OUT = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


def test_deployment_is_ready_once_rolled_out() -> None:
    assert deployment(**ROLLED_OUT) == READY


@pytest.mark.parametrize(
    "short",
    [{"observedGeneration": 1}, {"updatedReplicas": 1}, {"availableReplicas": 1}, {"replicas": 3}],
)
def test_deployment_is_not_ready_while_anything_is_left_to_do(short: dict[str, int]) -> None:
    assert isinstance(deployment(**{**ROLLED_OUT, **short}), Waiting)


def test_deployment_that_makes_no_progress_failed() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "Late", "message": "too late"}
    assert deployment(conditions=[condition]) == Failed("Late: too late")


def test_refused_pods_are_named_while_waiting() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    found = deployment(conditions=[condition])
    assert isinstance(found, Waiting)
    assert "exceeded quota" in found.reason


def test_stateful_set_is_ready_with_its_last_replica() -> None:
    status = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}
    assert judge("apps/v1", "StatefulSet", {"replicas": 3}, status) == READY
    short = {**status, "readyReplicas": 2}
    assert isinstance(judge("apps/v1", "StatefulSet", {"replicas": 3}, short), Waiting)


def test_daemon_set_is_ready_on_every_node() -> None:
    status = {"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2}
    assert isinstance(judge("apps/v1", "DaemonSet", {}, status), Waiting)
    assert judge("apps/v1", "DaemonSet", {}, {**status, "numberAvailable": 2}) == READY


def condition(kind: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", **more}]}


def test_job_is_ready_when_complete_and_failed_when_failed() -> None:
    assert judge("batch/v1", "Job", {}, condition("Complete")) == READY
    failed = condition("Failed", reason="BackoffLimitExceeded", message="too often")
    assert judge("batch/v1", "Job", {}, failed) == Failed("BackoffLimitExceeded: too often")


def test_claim_is_ready_unless_it_waits_for_its_volume() -> None:
    pending = {"phase": "Pending"}
    first_use = Surroundings(binds_on_first_use=True)
    assert isinstance(judge("v1", "PersistentVolumeClaim", {}, pending), Waiting)
    assert judge("v1", "PersistentVolumeClaim", {}, pending, first_use) == READY
    assert judge("v1", "PersistentVolumeClaim", {}, {"phase": "Bound"}) == READY


@pytest.mark.parametrize(
    "spec", [{"type": "ExternalName"}, {"clusterIP": "None", "selector": {"a": "b"}}, {}]
)
def test_service_that_selects_or_balances_nothing_is_ready(spec: dict[str, Any]) -> None:
    assert judge("v1", "Service", spec, {}) == READY


def test_service_needs_an_endpoint() -> None:
    spec = {"selector": {"a": "b"}}
    assert isinstance(judge("v1", "Service", spec, {}), Waiting)
    assert judge("v1", "Service", spec, {}, Surroundings(ready_endpoints=1)) == READY


def test_other_kinds_are_not_awaited() -> None:
    assert judge("v1", "ConfigMap", {}, {}) == READY


def annotated(**annotations: str) -> dict[str, Any]:
    prefixed = {f"pulumi.com/{key}": value for key, value in annotations.items()}
    metadata = {"name": "it", "annotations": prefixed}
    return {"apiVersion": "a/v1", "kind": "B", "metadata": metadata}


def test_skip_await_goes_before_wait_for() -> None:
    assert not is_awaited(annotated(skipAwait="true", waitFor="condition=Ready"))


@pytest.mark.parametrize(
    "expression",
    [
        "condition=Ready",
        "condition=ready=TRUE",
        "condition=Stalled=False",
        "jsonpath={.status.phase}=Running",
        "jsonpath={.status.phase}",
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True',
        "jsonpath={.status.conditions[0].status}=True",
        "jsonpath={.metadata.labels['app.kubernetes.io/name']}=x",
        "jsonpath={.metadata.labels.app\\.kubernetes\\.io/name}=x",
        '["condition=Ready", "jsonpath={.status.phase}=Running"]',
    ],
)
def test_wait_for_is_met(expression: str) -> None:
    obj = annotated(waitFor=expression)
    obj["metadata"]["labels"] = {"app.kubernetes.io/name": "x"}
    ready, stalled = {"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}
    obj["status"] = {"phase": "Running", "conditions": [ready, stalled]}
    assert verdict(obj, ALONE) == READY


@pytest.mark.parametrize(
    "expression",
    [
        "condition=Missing",
        "condition=Stalled",
        "jsonpath={.status.phase}=Pending",
        "jsonpath={.status.nothing}",
        '["condition=Ready", "jsonpath={.status.phase}=Pending"]',
    ],
)
def test_wait_for_is_not_met(expression: str) -> None:
    obj = annotated(waitFor=expression)
    ready, stalled = {"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}
    obj["status"] = {"phase": "Running", "conditions": [ready, stalled]}
    assert isinstance(verdict(obj, ALONE), Waiting)


def test_condition_of_an_older_generation_does_not_count() -> None:
    obj = annotated(waitFor="condition=Ready")
    obj["metadata"]["generation"] = 2
    obj["status"] = condition("Ready") | {"observedGeneration": 1}
    assert isinstance(verdict(obj, ALONE), Waiting)


def test_a_path_counts_whatever_generation_it_is_of() -> None:
    """As with the real plugin: whoever awaits an update names a condition beside it."""
    obj = annotated(waitFor="jsonpath={.status.phase}=Running")
    obj["metadata"]["generation"] = 2
    obj["status"] = {"phase": "Running", "observedGeneration": 1}
    assert verdict(obj, ALONE) == READY


@pytest.mark.parametrize("expression", ["Ready", "[]", "jsonpath=status", "jsonpath={.a[}"])
def test_wrong_wait_for_is_refused(expression: str) -> None:
    with pytest.raises(ProviderError, match="pulumi.com/waitFor"):
        parse_wait_for(expression)
