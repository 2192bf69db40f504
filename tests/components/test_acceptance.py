"""What a real API server, scheduler and controllers make of the declared objects.

Simulated nodes run no containers, so this shows admission, defaulting, quotas and scheduling.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import parts
from components.foundation import Foundation, FoundationArgs
from components.service import Service, ServiceArgs
from stacks.settings import Settings
from tests.components.conftest import Registry, registered_by
from tests.kubectl import Kubectl
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

PREFIX = "accepted"
CORE, BEST_EFFORT = f"{PREFIX}-core", f"{PREFIX}-best-effort"
FIXED, SCALED = "engine", "leaderboard"


def _program(settings: Settings) -> None:
    foundation = Foundation(PREFIX, FoundationArgs(settings))
    for name in (FIXED, SCALED):
        entry = settings.services[name].model_copy(update={"uses": ()})
        args = ServiceArgs(
            entry,
            parts.namespace(PREFIX, entry.tier),
            parts.priority_class(PREFIX, entry.tier),
        )
        Service(name, args, pulumi.ResourceOptions(depends_on=[foundation]))


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tools: dict[str, Path]) -> Kubectl:
    return Kubectl(tools["kubectl"], kubeconfig)


@pytest.fixture(scope="module")
def declared(catalogue: Settings) -> Registry:
    settings = catalogue.model_copy(update={"prefix": PREFIX})
    return registered_by(lambda: _program(settings))


@pytest.fixture(scope="module")
def applied(declared: Registry, kubectl: Kubectl) -> Iterator[Kubectl]:
    """The cluster with everything applied; the namespaces go afterwards."""
    manifests = list(declared.manifests())
    kubectl.apply([m for m in manifests if m["kind"] == "Namespace"])
    kubectl.apply([m for m in manifests if m["kind"] != "Namespace"])
    yield kubectl
    names = [r.inputs["metadata"]["name"] for r in declared.of("Namespace")]
    kubectl("delete", "namespace", "--wait=false", *names)


def test_server_stores_what_was_declared(declared: Registry, applied: Kubectl) -> None:
    """Anything it spells differently would look like drift for ever after."""
    wanted = list(declared.manifests())
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    stored = json.loads(applied("get", "-f", "-", "-ojson", stdin=body))["items"]
    assert list(_differences(wanted, stored, "items")) == []


def _differences(wanted: Any, stored: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(stored, dict):
        for key, value in wanted.items():
            yield from _differences(value, stored.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        for number, (one, other) in enumerate(zip(wanted, stored, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif wanted != stored:
        yield f"{path}: declared {wanted!r}, stored {stored!r}"


def test_replicas_stand_in_three_zones(applied: Kubectl) -> None:
    eventually("three are ready", lambda: len(applied.ready_pods(CORE, FIXED)) == 3)
    nodes = json.loads(applied("get", "nodes", "-ojson"))["items"]
    zone_of = {n["metadata"]["name"]: n["metadata"]["labels"][parts.ZONE] for n in nodes}
    zones = Counter(zone_of[p["spec"]["nodeName"]] for p in applied.ready_pods(CORE, FIXED))
    assert sorted(zones.values()) == [1, 1, 1]


def test_autoscaler_sets_the_size_without_metrics(applied: Kubectl) -> None:
    eventually("three are ready", lambda: len(applied.ready_pods(BEST_EFFORT, SCALED)) == 3)


def test_pods_have_the_value_of_their_priority(applied: Kubectl) -> None:
    found = eventually("one is ready", lambda: applied.ready_pods(CORE, FIXED))
    assert {pod["spec"]["priority"] for pod in found} == {100_000}


def test_a_privileged_pod_is_refused(applied: Kubectl) -> None:
    refused = applied.run(
        "run", "intruder", f"--namespace={CORE}", "--image=example.com/x:1", "--privileged"
    )
    assert "violates PodSecurity" in refused.stderr


@pytest.mark.parametrize("priority", [f"{PREFIX}-core", f"{PREFIX}-data", "system-node-critical"])
def test_best_effort_cannot_take_a_higher_priority(applied: Kubectl, priority: str) -> None:
    refused = applied.run("create", "-f", "-", stdin=json.dumps(_pod(BEST_EFFORT, priority)))
    assert "exceeded quota: priority-ceiling" in refused.stderr


def test_best_effort_cannot_take_more_than_its_share(applied: Kubectl) -> None:
    greedy = _pod(BEST_EFFORT, BEST_EFFORT)
    greedy["spec"]["containers"][0]["resources"] = parts.container_resources("64", "1Gi")
    refused = applied.run("create", "-f", "-", stdin=json.dumps(greedy))
    assert "exceeded quota: capacity" in refused.stderr


def _pod(namespace: str, priority: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "intruder", "namespace": namespace},
        "spec": {
            "priorityClassName": priority,
            "securityContext": parts.pod_security(),
            "containers": [
                {
                    "name": "intruder",
                    "image": "example.com/x:1",
                    "securityContext": parts.container_security(),
                }
            ],
        },
    }
