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


def web(kind: str = "Deployment", replicas: int = 3, pod: str = "", name: str = "web") -> str:
    """A workload of three Pods labelled `app: web`, whose spec has what is given."""
    return (
        f"{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: {name}, namespace: games}},"
        f" spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: web}}}},"
        f" template: {{metadata: {{labels: {{app: web}}}}, spec: {{{pod}}}}}}}}}"
    )


def budget(spec: str) -> str:
    """A disruption budget."""
    return (
        "{apiVersion: policy/v1, kind: PodDisruptionBudget,"
        f" metadata: {{name: web, namespace: games}}, spec: {{{spec}}}}}"
    )


WEB = "selector: {matchLabels: {app: web}}"


def test_a_budget_without_a_selector_guards_nobody() -> None:
    """An empty one guards all: `policy/v1` says so."""
    nobody, everybody = (
        said(web(), budget(f"maxUnavailable: 1{selector}")) for selector in ("", ", selector: {}")
    )
    alone = {"disruption-budget-selects", "workload-disruption-budget"}
    assert (nobody & alone, everybody & alone) == (alone, set())


def test_a_budget_counts_all_that_it_selects_together() -> None:
    canary = web(replicas=1, name="canary")
    enough, too_much = (
        said(web(), canary, budget(f"minAvailable: {least}, {WEB}")) for least in (2, 4)
    )
    every = {"disruption-budget-within-replicas", "disruption-budget-allows-eviction"}
    assert enough & every == set()
    assert too_much & every == {"disruption-budget-allows-eviction"}


def test_helpers_of_a_stateful_set_make_it_no_system_of_several() -> None:
    helper = (
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: backup, namespace: games}, spec:"
        " {schedule: '0 3 * * *', jobTemplate: {spec: {template: {metadata: {labels: {app: web}},"
        " spec: {}}}}}}"
    )
    found = said(web("StatefulSet"), helper, budget(f"maxUnavailable: 1, {WEB}"))
    assert "workload-rolling-update" not in found


def test_of_windows_nothing_is_asked_that_the_api_server_refuses() -> None:
    containers = "containers: [{name: web, image: 'registry.example/web:1'}]"
    linux, windows = (
        said(web(pod=f"{system}{containers}")) for system in ("", "os: {name: windows}, ")
    )
    assert linux - windows == {
        "container-capabilities",
        "container-no-privilege-escalation",
        "container-read-only-root",
        "container-seccomp",
    }


@pytest.mark.parametrize(
    ("version", "kind", "gone"),
    [
        ("networking.istio.io/v1alpha3", "EnvoyFilter", False),
        ("networking.istio.io/v1alpha3", "VirtualService", True),
        ("certificates.k8s.io/v1beta1", "ClusterTrustBundle", False),
        ("policy/v1beta1", "PodSecurityPolicy", True),
    ],
)
def test_a_version_is_gone_only_if_its_kind_came_further(
    version: str, kind: str, gone: bool
) -> None:
    found = said(
        f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: a, namespace: games}}}}"
    )
    assert ("resource-api-version" in found) is gone


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("PGPASSWORD", "hunter2", True),
        ("API_TOKEN", "abc", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/credentials/cloud", False),
        ("ALLOW_EMPTY_PASSWORD", "no", False),
    ],
)
def test_neither_a_path_nor_a_switch_is_a_secret(name: str, value: str, secret: bool) -> None:
    variable = f"env: [{{name: {name}, value: '{value}'}}]"
    found = said(web(pod=f"containers: [{{name: web, image: 'a:1', {variable}}}]"))
    assert ("container-no-secret-env" in found) is secret


@pytest.mark.parametrize(
    ("spec", "apart"),
    [
        ("affinity: {podAntiAffinityType: required, topologyKey: topology.kubernetes.io/zone}", 1),
        (
            "affinity: {enablePodAntiAffinity: false, podAntiAffinityType: required,"
            " topologyKey: topology.kubernetes.io/zone}",
            0,
        ),
        (
            "affinity: {podAntiAffinityType: required, topologyKey: kubernetes.io/hostname},"
            " topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 1,"
            " whenUnsatisfiable: DoNotSchedule}]",
            1,
        ),
    ],
)
def test_instances_are_apart_by_whatever_keeps_them_so(spec: str, apart: int) -> None:
    found = said(
        "{apiVersion: postgresql.cnpg.io/v1, kind: Cluster, metadata: {name: a, namespace: games},"
        f" spec: {{instances: 5, {spec}}}}}"
    )
    assert ("postgres-zone-affinity" in found) is not bool(apart)
