"""Every custom resource of every stack, before a real API server with the operators' definitions.

It validates strictly: an unknown field is an error. What operators and their webhooks make of the
resources is asked in `test_cloudnativepg.py` and `test_mongodb_operator.py`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from components.platform import Platform, PlatformArgs
from stacks.loader import from_file, stacks
from stacks.systems.kafka import KafkaSettings
from stacks.systems.postgres import DatabaseSettings, PostgresSettings
from tests.components import test_kafka, test_postgres
from tests.components.conftest import registered_by
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

NAMESPACE = "custom-resources"
KINDS = {
    "cert-manager.io/v1": {"Certificate"},
    "barmancloud.cnpg.io/v1": {"ObjectStore"},
    "kafka.strimzi.io/v1": {
        "Kafka",
        "KafkaMirrorMaker2",
        "KafkaNodePool",
        "KafkaRebalance",
        "KafkaTopic",
        "KafkaUser",
    },
    "monitoring.coreos.com/v1": {"PodMonitor", "PrometheusRule"},
    "postgresql.cnpg.io/v1": {"Cluster", "Pooler", "ScheduledBackup"},
    "psmdb.percona.com/v1": {"PerconaServerMongoDB", "PerconaServerMongoDBBackup"},
    "snapshot.storage.k8s.io/v1": {"VolumeSnapshotClass"},
}
"""What the stacks declare beside Kubernetes' own objects."""

Objects = list[dict[str, Any]]


@cache
def _manifests(stack: str) -> Objects:
    settings = from_file(stack)
    return list(registered_by(lambda: Platform("sim", PlatformArgs(settings, stack))).manifests())


def _custom(stack: str) -> Objects:
    return _here(_manifests(stack))


def _here(manifests: Objects) -> Objects:
    """Copies of the custom resources, in the namespace of this test."""
    found = [copy.deepcopy(m) for m in manifests if m["apiVersion"] in KINDS]
    for manifest in found:
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = NAMESPACE
    return found


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tools: dict[str, Path]) -> Iterator[Kubectl]:
    """The cluster, with a namespace of its own; nothing is stored in it."""
    own = Kubectl(tools["kubectl"], kubeconfig)
    own("create", "namespace", NAMESPACE)
    yield own
    own("delete", "namespace", "--wait=false", NAMESPACE)


def _tried(kubectl: Kubectl, objects: Objects) -> tuple[int, str]:
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    options = ["--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server"]
    done = kubectl.run("apply", *options, "-f", "-", stdin=body)
    return done.returncode, done.stderr


@pytest.mark.parametrize("stack", stacks())
def test_every_custom_resource_is_accepted(stack: str, kubectl: Kubectl) -> None:
    assert _tried(kubectl, _custom(stack)) == (0, "")


def test_what_no_stack_sets_is_accepted_too(kubectl: Kubectl) -> None:
    databases = PostgresSettings(databases={"decks": DatabaseSettings(extensions=("pg_trgm",))})
    kafka = KafkaSettings(issuer="platform")
    declared = [
        *test_postgres._registered(databases.model_dump_json()).manifests(),
        *test_kafka._kafka(settings=kafka).manifests(),
    ]
    custom = _here(declared)
    assert {"Certificate", "Database"} <= {m["kind"] for m in custom}
    assert _tried(kubectl, custom) == (0, "")


def test_the_definitions_of_all_kinds_were_asked() -> None:
    found = {(m["apiVersion"], m["kind"]) for stack in stacks() for m in _custom(stack)}
    wanted = {(group, kind) for group, kinds in KINDS.items() for kind in kinds}
    assert found == wanted


@pytest.mark.parametrize("stack", stacks())
def test_no_custom_resource_is_left_out(stack: str) -> None:
    """A group that is neither Kubernetes' own nor among `KINDS` would never be asked."""
    own = {"apps/v1", "autoscaling/v2", "batch/v1", "policy/v1", "v1"}
    groups = {m["apiVersion"] for m in _manifests(stack)} - KINDS.keys() - own
    assert {group for group in groups if ".k8s.io/" not in group} == set()


@pytest.mark.parametrize("kind", sorted(set().union(*KINDS.values()) - {"VolumeSnapshotClass"}))
def test_a_misspelled_field_is_refused(kind: str, kubectl: Kubectl) -> None:
    wrong = next(m for stack in stacks() for m in _custom(stack) if m["kind"] == kind)
    wrong["spec"]["mispelled"] = True
    code, said = _tried(kubectl, [wrong])
    assert code != 0
    assert re.search(r'unknown field "(spec\.)?mispelled"', said)
