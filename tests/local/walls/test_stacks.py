"""The policies of our own stacks become rulesets that nftables takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.platform import Platform, PlatformArgs
from local.walls.rules import rulesets
from stacks.loader import from_file, stacks
from tests.components.conftest import registered_by
from tests.local.walls.lab import Lab, find_nft, lab
from tests.local.walls.objects import NODE, NODES, Object

pytestmark = pytest.mark.dataplane


@pytest.fixture(scope="module")
def node() -> Iterator[Lab]:
    with lab(find_nft()) as built:
        yield built


def rendered(stack: str) -> list[Object]:
    settings = from_file(stack)
    platform = PlatformArgs(settings=settings, stack=stack)
    return list(registered_by(lambda: Platform("sim", platform)).manifests())


def of_kind(manifests: list[Object], *kinds: str) -> list[Object]:
    return [each for each in manifests if each["kind"] in kinds]


def running(workload: Object, number: int) -> Object:
    """A Pod of a workload's template."""
    template: dict[str, Any] = workload["spec"]["template"]
    metadata = {**workload["metadata"], "labels": template["metadata"]["labels"]}
    status = {"phase": "Running", "podIP": f"198.19.1.{number}"}
    return {
        "metadata": metadata,
        "spec": {**template["spec"], "nodeName": NODE},
        "status": status,
    }


@pytest.mark.parametrize("stack", stacks())
def test_every_policy_of_a_stack_is_enforced(node: Lab, stack: str) -> None:
    manifests = rendered(stack)
    policies = of_kind(manifests, "NetworkPolicy")
    workloads = of_kind(manifests, "Deployment", "StatefulSet")
    pods = [running(each, number) for number, each in enumerate(workloads, start=10)]
    assert policies
    assert pods
    text = rulesets(pods, of_kind(manifests, "Namespace"), policies, NODES)[NODE]
    node.run_nft(text)
    for pod in pods:
        chains = [f"{way}-pod/{pod['metadata']['namespace']}/" for way in ("ingress", "egress")]
        assert all(f"{pod['status']['podIP']} : goto {chain}" in text for chain in chains)
