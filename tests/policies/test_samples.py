"""The operators' own sample resources: no rule falls over them, and what they lack is told.

They come with the Go modules that the toolchain builds from, or takes definitions from. Which ones
are on a machine depends on what it built before; CloudNativePG's are always among them after
`make test`, which builds its operator.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from policies import manifests
from policies.model import Resource
from policies.rule import Ruleset, Violation
from policies.rules import RULES
from policies.world import World

pytestmark = pytest.mark.unit

SAMPLES = {
    "github.com/cloudnative-pg/cloudnative-pg@v1.30.0": "docs/src/samples",
    "github.com/cloudnative-pg/plugin-barman-cloud@v0.14.0": "hack/examples",
    "github.com/percona/percona-server-mongodb-operator@v1.22.0": "deploy",
    "github.com/prometheus-operator/prometheus-operator@v0.93.0": "example",
}
_DEFINITIONS = "CustomResourceDefinition"


@cache
def modules() -> Path:
    """Where Go keeps the modules that it fetched."""
    told = os.environ.get("GOMODCACHE")
    if not told:
        asked = subprocess.run(
            ["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        )
        told = asked.stdout.strip()
    return Path(told)


def files(module: str) -> list[Path]:
    return sorted((modules() / module / SAMPLES[module]).rglob("*.yaml"))


def declared(file: Path) -> list[Resource]:
    """The objects of a file; a template of another tool is none."""
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except yaml.YAMLError:
        return []
    objects = [each for each in documents if isinstance(each, dict) and "kind" in each]
    return [manifests.resource(each) for each in objects if each["kind"] != _DEFINITIONS]


def violations(file: Path) -> list[Violation]:
    return list(Ruleset(RULES.values()).judge(World(declared(file)), {}))


@pytest.mark.parametrize("module", SAMPLES)
def test_no_rule_falls_over_a_sample(module: str) -> None:
    if not files(module):
        pytest.skip(f"{module} was not fetched on this machine")
    for file in files(module):
        assert [each for each in violations(file) if each.undecided] == [], file


CNPG = "github.com/cloudnative-pg/cloudnative-pg@v1.30.0"
PERCONA = "github.com/percona/percona-server-mongodb-operator@v1.22.0"


def sample(module: str, name: str) -> set[str]:
    """The rules that a sample breaks, its own weaknesses alone."""
    file = modules() / module / SAMPLES[module] / name
    if not file.exists():
        pytest.skip(f"{module} was not fetched on this machine")
    return {each.rule.name for each in violations(file)}


def test_smallest_cluster_has_neither_copies_in_sync_nor_backups() -> None:
    assert sample(CNPG, "cluster-example.yaml") >= {
        "postgres-synchronous",
        "postgres-zone-affinity",
        "postgres-delays",
        "postgres-wal-archive",
        "postgres-scheduled-backup",
    }


def test_sample_with_a_quorum_is_not_told_to_have_one() -> None:
    found = sample(CNPG, "cluster-example-syncreplicas-quorum.yaml")
    assert found.isdisjoint({"postgres-synchronous", "postgres-failover-quorum"})
    assert "postgres-failover-quorum" in sample(CNPG, "cluster-example-syncreplicas-explicit.yaml")


def test_smallest_mongodb_is_one_member_under_unsafe_flags() -> None:
    assert sample(PERCONA, "cr-minimal.yaml") >= {
        "mongodb-members",
        "mongodb-unsafe-flags",
        "mongodb-tls",
        "mongodb-backup",
        "survival-zone",
    }


def test_full_mongodb_has_members_but_no_point_in_time() -> None:
    found = sample(PERCONA, "cr.yaml")
    assert "mongodb-point-in-time" in found
    assert "mongodb-members" not in found


# What upstream taught: shapes that no stack here has, and that are no weakness. -----------------


def said(*objects: str) -> set[str]:
    """The rules that a few objects break, alone."""
    declared = [manifests.resource(yaml.safe_load(each)) for each in objects]
    return {each.rule.name for each in Ruleset(RULES.values()).judge(World(declared), {})}


def test_log_archived_by_the_operator_itself_is_archived_if_in_the_deprecated_way() -> None:
    found = said(
        "{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, metadata: {name: a, namespace: games},"
        " spec: {instances: 3, backup: {barmanObjectStore: {destinationPath: s3://backups/}}}}"
    )
    assert "postgres-wal-archive" not in found
    assert "postgres-backup-method" in found


def test_template_for_rebalances_belongs_to_no_cluster() -> None:
    found = said(
        "{apiVersion: kafka.strimzi.io/v1, kind: KafkaRebalance, metadata: {name: a, namespace: b,"
        " annotations: {strimzi.io/rebalance-template: 'true'}}}"
    )
    assert "kafka-cluster-declared" not in found


@pytest.mark.parametrize("declared", [True, False])
def test_service_may_select_what_the_prometheus_operator_makes(declared: bool) -> None:
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: games},"
        " spec: {selector: {alertmanager: main}, ports: [{port: 9093}]}}"
    )
    owner = (
        "{apiVersion: monitoring.coreos.com/v1, kind: Alertmanager,"
        " metadata: {name: main, namespace: games}}"
    )
    found = said(service, owner) if declared else said(service)
    assert ("service-selects" in found) is not declared
