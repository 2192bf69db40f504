"""What a real API server and scheduler make of the data systems' objects.

No operator runs there, so its resources are judged by their schemas; Redis' Pods are scheduled.
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
from components.parts import Client
from components.postgres import Postgres, PostgresArgs
from components.redis import Redis, RedisArgs
from stacks.settings import Settings
from tests.components.conftest import Registry, registered_by
from tests.components.test_acceptance import _differences
from tests.kubectl import Kubectl
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

PREFIX = "kept"
NAMESPACE = f"{PREFIX}-data"


def _program(settings: Settings) -> None:
    foundation = Foundation(PREFIX, FoundationArgs(settings))
    after = pulumi.ResourceOptions(depends_on=[foundation])
    surroundings: dict[str, Any] = {
        "namespace": NAMESPACE,
        "zones": settings.zones,
        "priority_class": parts.priority_class(PREFIX, parts.DATA),
        "storage_class": foundation.storage_class,
        "backup_bucket": "games-backups",
        "clients": (Client(f"{PREFIX}-core", "engine"),),
        "protect": False,
    }
    Redis("cache", RedisArgs(settings=settings.redis, **surroundings), after)
    Postgres(
        "database",
        PostgresArgs(
            settings=settings.postgres,
            objective=settings.objectives.postgres,
            snapshot_class=foundation.snapshot_class,
            **surroundings,
        ),
        after,
    )


@pytest.fixture(scope="module")
def declared(catalogue: Settings) -> Registry:
    settings = catalogue.model_copy(update={"prefix": PREFIX})
    return registered_by(lambda: _program(settings))


@pytest.fixture(scope="module")
def applied(declared: Registry, kubeconfig: Path, tools: dict[str, Path]) -> Iterator[Kubectl]:
    """The cluster with everything applied; the namespaces go afterwards."""
    kubectl = Kubectl(tools["kubectl"], kubeconfig)
    manifests = list(declared.manifests())
    kubectl.apply([m for m in manifests if m["kind"] == "Namespace"])
    kubectl.apply([m for m in manifests if m["kind"] != "Namespace"])
    yield kubectl
    names = [r.inputs["metadata"]["name"] for r in declared.of("Namespace")]
    kubectl("delete", "namespace", "--wait=false", *names)


def test_server_stores_what_was_declared(declared: Registry, applied: Kubectl) -> None:
    wanted = list(declared.manifests())
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    stored = json.loads(applied("get", "-f", "-", "-ojson", stdin=body))["items"]
    assert list(_differences(wanted, stored, "items")) == []


@pytest.mark.parametrize("workload", ["cache", "cache-sentinel"])
def test_redis_stands_in_three_zones(applied: Kubectl, workload: str) -> None:
    eventually("three are ready", lambda: len(applied.ready_pods(NAMESPACE, workload)) == 3)
    nodes: list[dict[str, Any]] = json.loads(applied("get", "nodes", "-ojson"))["items"]
    zone_of = {n["metadata"]["name"]: n["metadata"]["labels"][parts.ZONE] for n in nodes}
    pods = applied.ready_pods(NAMESPACE, workload)
    zones = Counter(zone_of[pod["spec"]["nodeName"]] for pod in pods)
    assert sorted(zones.values()) == [1, 1, 1]
