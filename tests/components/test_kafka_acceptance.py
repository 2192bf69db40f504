"""What a real API server, with Strimzi's own definitions, makes of what every stack declares."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.platform import Platform, PlatformArgs
from stacks.loader import from_file, stacks
from tests.components.conftest import registered_by
from tests.components.test_acceptance import _differences
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

GROUP = "kafka.strimzi.io/v1"
NAMESPACE = "strimzi-acceptance"

Objects = list[dict[str, Any]]


def _declared(stack: str) -> Objects:
    settings = from_file(stack)
    registry = registered_by(lambda: Platform("sim", PlatformArgs(settings, stack)))
    found = [copy.deepcopy(m) for m in registry.manifests() if m["apiVersion"] == GROUP]
    for manifest in found:
        manifest["metadata"]["namespace"] = NAMESPACE
    return found


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tools: dict[str, Path]) -> Iterator[Kubectl]:
    """The cluster, with a namespace of its own."""
    own = Kubectl(tools["kubectl"], kubeconfig)
    own("create", "namespace", NAMESPACE)
    yield own
    own("delete", "namespace", "--wait=false", NAMESPACE)


def _apply(kubectl: Kubectl, objects: Objects, *options: str) -> Objects:
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    command = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-ojson"]
    stored = json.loads(kubectl(*command, *options, "-f", "-", stdin=body))
    items: Objects = stored["items"]
    return items


@pytest.mark.parametrize("stack", stacks())
def test_everything_is_stored_as_it_was_declared(kubectl: Kubectl, stack: str) -> None:
    wanted = _declared(stack)
    assert {m["kind"] for m in wanted} >= {"Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"}
    assert list(_differences(wanted, _apply(kubectl, wanted), "items")) == []


def test_a_mirror_is_among_what_is_accepted() -> None:
    assert "KafkaMirrorMaker2" in {m["kind"] for m in _declared("dr")}


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("Kafka", ("spec", "kafka")),
        ("KafkaNodePool", ("spec", "template", "pod")),
        ("KafkaMirrorMaker2", ("spec", "target")),
        ("KafkaRebalance", ("spec",)),
        ("KafkaTopic", ("spec",)),
        ("KafkaUser", ("spec", "authorization")),
    ],
)
def test_a_misspelled_field_is_refused(kubectl: Kubectl, kind: str, way: tuple[str, ...]) -> None:
    wrong = next(m for m in _declared("dr") if m["kind"] == kind)
    part: Any = wrong
    for key in way:
        part = part[key]
    part["mispelled"] = True
    refused = kubectl.run(
        "apply", "--server-side", "--validate=strict", "-f", "-", stdin=json.dumps(wrong)
    )
    assert refused.returncode != 0
    assert "mispelled" in refused.stderr
