"""The operators of the data systems: what a stack declares of them, and what becomes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import parts, releases
from components.mongodb import OPERATOR_NAMESPACE as MONGODB_NAMESPACE
from components.operators import Operators, OperatorsArgs
from components.postgres import OPERATOR_NAMESPACE as POSTGRES_NAMESPACE
from components.strimzi import OPERATOR_NAMESPACE as KAFKA_NAMESPACE
from local.toolchain import build
from policies.cli import LEVELS
from policies.model import Resource
from policies.rules import RULES
from stacks.operators import OperatorsSettings, Source
from stacks.systems.kafka import KafkaSettings
from tests.components.conftest import Registered, Registry, registered_by
from tests.components.test_acceptance import _differences
from tests.kubectl import Kubectl
from tests.policies.analyzer_session import Session
from tests.policies.conftest import PACK
from tests.waiting import eventually

unit = pytest.mark.unit

PROGRAMS = {
    "cnpg-controller-manager": "cloudnative_pg",
    "barman-cloud": "barman_cloud",
    "percona-server-mongodb-operator": "percona_mongodb",
}
MANIFESTS = {
    "cnpg-manager": releases.CLOUDNATIVE_PG,
    "barman-manager": releases.BARMAN_CLOUD,
    "psmdb-manager": releases.PERCONA_MONGODB,
}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The releases' files as the operators' Go modules carry them."""
    folder = tmp_path_factory.mktemp("mirror")
    for tool in MANIFESTS:
        shutil.copy(build.operator_manifest(tool, print), folder)
    return folder


def _declared(**settings: Any) -> Registry:
    args = OperatorsArgs(OperatorsSettings(**settings))
    return registered_by(lambda: Operators("operators", args))


@pytest.fixture(scope="module")
def declared(mirror: Path) -> Registry:
    """Every operator, from its release."""
    keys = set(OperatorsSettings.model_fields) - {"mirror"}
    return _declared(**dict.fromkeys(keys, Source.RELEASE), mirror=str(mirror))


def _pod(declared: Registry, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = declared.one("Deployment", name).inputs["spec"]["template"]["spec"]
    return spec


every_program = pytest.mark.parametrize("name", PROGRAMS)


# Where they come from ---------------------------------------------------------------------------


@unit
def test_of_installed_operators_nothing_is_declared() -> None:
    assert [each.kind for each in _declared().resources] == ["Operators"]


@unit
@every_program
def test_each_operator_can_be_declared_alone(name: str, mirror: Path) -> None:
    declared = _declared(**{PROGRAMS[name]: Source.RELEASE}, mirror=str(mirror))
    assert [each.inputs["metadata"]["name"] for each in declared.of("Deployment")] == [name]


@unit
def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cnpg-1.30.0.yaml"
    file.write_text("kind: List\n")
    expected = rf"{file} has the SHA-256 [0-9a-f]{{64}}; it should be f8bede43fe"
    with pytest.raises(pulumi.RunError, match=expected):
        _declared(cloudnative_pg=Source.RELEASE, mirror=str(tmp_path))


@unit
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(pulumi.RunError, match=r"cannot read the manifest .*/cnpg-1.30.0.yaml"):
        _declared(cloudnative_pg=Source.RELEASE, mirror=str(tmp_path))


@unit
@pytest.mark.parametrize("tool", MANIFESTS)
def test_releases_and_the_programs_of_local_worlds_have_one_version(tool: str) -> None:
    assert MANIFESTS[tool].version == build.TOOLS[tool].version


@unit
def test_what_operators_run_is_of_their_version(declared: Registry) -> None:
    image = _pod(declared, "percona-server-mongodb-operator")["containers"][0]["image"]
    assert image.endswith(f":{releases.PERCONA_MONGODB.version}")
    assert f":{releases.STRIMZI.version}-" in KafkaSettings().image


@unit
def test_operators_stand_where_the_walls_of_the_data_systems_let_them_in() -> None:
    assert releases.CNPG_NAMESPACE == POSTGRES_NAMESPACE
    assert releases.PSMDB_NAMESPACE == MONGODB_NAMESPACE
    assert releases.STRIMZI_NAMESPACE == KAFKA_NAMESPACE


# How they survive -------------------------------------------------------------------------------


@unit
@every_program
def test_each_runs_twice_in_two_zones_and_leaves_a_lost_node_soon(
    declared: Registry, name: str
) -> None:
    assert declared.one("Deployment", name).inputs["spec"]["replicas"] == 2
    pod = _pod(declared, name)
    strict = [
        each["topologyKey"]
        for each in pod["topologySpreadConstraints"]
        if each["whenUnsatisfiable"] == "DoNotSchedule"
    ]
    assert strict == [parts.ZONE]
    assert {each["tolerationSeconds"] for each in pod["tolerations"]} == {10}
    assert pod["priorityClassName"] == "system-cluster-critical"


@unit
@every_program
def test_each_has_a_budget_and_a_wall(declared: Registry, name: str) -> None:
    labels = declared.one("Deployment", name).inputs["spec"]["template"]["metadata"]["labels"]
    budget = declared.one("PodDisruptionBudget", name).inputs["spec"]
    assert budget["maxUnavailable"] == 1
    for selector in (
        budget["selector"],
        declared.one("NetworkPolicy", f"operators-{PROGRAMS[name].replace('_', '-')}").inputs[
            "spec"
        ]["podSelector"],
    ):
        assert selector["matchLabels"].items() <= labels.items()


@unit
@every_program
def test_who_reads_backups_reaches_the_store_and_the_role_for_it(
    declared: Registry, name: str
) -> None:
    key = PROGRAMS[name]
    policy = declared.one("NetworkPolicy", f"operators-{key.replace('_', '-')}").inputs["spec"]
    lender = {
        "to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}],
        "ports": parts.ports(80),
    }
    assert (lender in policy["egress"]) is (key == "percona_mongodb")
    assert {"port": 443, "protocol": "TCP"} in policy["egress"][0]["ports"]


@unit
def test_strimzis_chart_is_pinned_and_asked_for_the_same(declared: Registry) -> None:
    """The chart cannot be had here: this is what it is asked for, not what it makes of it."""
    values = _values(declared, releases.STRIMZI)
    assert values["replicas"] == 2
    assert values["leaderElection"] == {"enable": True}
    [zones, _] = values["topologySpreadConstraints"]
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == (parts.ZONE, "DoNotSchedule")
    # The label is the chart's own.
    assert zones["labelSelector"] == {"matchLabels": {"name": "strimzi-cluster-operator"}}
    assert {each["tolerationSeconds"] for each in values["tolerations"]} == {10}
    assert values["priorityClassName"] == "system-cluster-critical"
    assert values["podDisruptionBudget"]["enabled"] is True


@unit
def test_what_strimzi_tells_of_certificates_is_read(declared: Registry) -> None:
    monitor = declared.one("PodMonitor").inputs
    assert monitor["metadata"]["namespace"] == releases.STRIMZI_NAMESPACE
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "http"


@unit
def test_drains_are_left_to_strimzi_by_a_webhook_that_survives_a_zone(declared: Registry) -> None:
    values = _values(declared, releases.DRAIN_CLEANER)
    assert values["replicaCount"] == 2
    assert values["namespace"] == {"create": False, "name": releases.STRIMZI_NAMESPACE}
    [zones, _] = values["topologySpreadConstraints"]
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == (parts.ZONE, "DoNotSchedule")
    assert {each["tolerationSeconds"] for each in values["tolerations"]} == {10}
    assert values["podDisruptionBudget"]["create"] is True
    assert values["webhook"] == {"failurePolicy": "Ignore"}


def _values(declared: Registry, chart: releases.Chart) -> dict[str, Any]:
    """What the pinned chart is asked for."""
    [asked] = [each.inputs for each in declared.of("Chart") if each.inputs["chart"] == chart.name]
    assert asked["version"] == chart.version
    values: dict[str, Any] = asked["values"]
    return values


@unit
def test_definitions_stay_when_operators_go(declared: Registry) -> None:
    """With a definition goes every object of its kind."""
    assert {each.retain_on_delete for each in declared.of("CustomResourceDefinition")} == {True}


@unit
@every_program
def test_programs_start_once_they_find_what_they_need(declared: Registry, name: str) -> None:
    program = declared.one("Deployment", name)
    key = PROGRAMS[name].replace("_", "-")
    own = {
        each.urn
        for each in declared.resources
        if each.name.startswith(f"operators-{key}-") and each.kind != "Deployment"
    }
    assert own
    assert own <= program.dependencies


@unit
def test_no_policy_objects_to_an_operator(declared: Registry) -> None:
    """Held to the levels of prod, by the real analyzer."""
    with Session(PACK) as analyzer:
        analyzer.configure(RULES.values(), json.loads((LEVELS / "prod.json").read_text()))
        run = analyzer.new_stack()
        # The Pods that Strimzi's monitor selects are the chart's, which nobody renders here.
        own = [each for each in declared.resources if each.kind != "PodMonitor"]
        found = analyzer.judge_resources([_judged(run, each) for each in own])
    assert [each for each in found if each.level == "mandatory"] == []
    assert {each.rule for each in found} == {"container-image-digest"}


def _judged(run: str, each: Registered) -> Resource:
    dependencies: dict[str, tuple[str, ...]] = dict.fromkeys(each.inputs, ())
    return Resource(each.type, each.name, f"{run}::{each.urn}", each.inputs, dependencies)


# What a cluster makes of it ---------------------------------------------------------------------


def _objects(declared: Registry) -> list[dict[str, Any]]:
    """All but definitions, which the cluster has, and what cert-manager would have to be there for.

    Webhooks are left out as well: with nobody behind them they would refuse the other tests' work.
    """
    left_out = ("CustomResourceDefinition", "Certificate", "Issuer", "Chart")
    return [
        each
        for each in declared.manifests()
        if each["kind"] not in left_out and not each["kind"].endswith("WebhookConfiguration")
    ]


@pytest.fixture(scope="module")
def applied(declared: Registry, kubeconfig: Path, tools: dict[str, Path]) -> Iterator[Kubectl]:
    """The cluster with everything applied; afterwards it is as before."""
    kubectl = Kubectl(tools["kubectl"], kubeconfig)
    objects = _objects(declared)
    namespaces = [each for each in objects if each["kind"] == "Namespace"]
    # Other tests of this cluster run an operator too, and may just have dropped its namespace.
    names = [each["metadata"]["name"] for each in namespaces]
    kubectl("delete", "--ignore-not-found", "--wait", "namespace", *names)
    kubectl.apply(namespaces)
    kubectl.apply([each for each in objects if each["kind"] != "Namespace"])
    yield kubectl
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=body)


@pytest.mark.cluster
def test_server_stores_what_was_declared(declared: Registry, applied: Kubectl) -> None:
    wanted = _objects(declared)
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    stored = json.loads(applied("get", "-f", "-", "-ojson", stdin=body))["items"]
    assert list(_differences(wanted, stored, "items")) == []


@pytest.mark.cluster
@every_program
def test_two_replicas_stand_in_two_zones(declared: Registry, applied: Kubectl, name: str) -> None:
    """Under the strictest security that the API server enforces: their namespaces demand it."""
    deployment = declared.one("Deployment", name).inputs
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    space = f"--namespace={deployment['metadata']['namespace']}"
    nodes: list[dict[str, Any]] = json.loads(applied("get", "nodes", "-ojson"))["items"]
    zone_of = {n["metadata"]["name"]: n["metadata"]["labels"][parts.ZONE] for n in nodes}

    def zones() -> set[str]:
        pods = json.loads(applied("get", "pods", space, f"-l{selector}", "-ojson"))["items"]
        return {zone_of[pod["spec"]["nodeName"]] for pod in pods if "nodeName" in pod["spec"]}

    eventually("they are in two zones", lambda: len(zones()) == 2, zones)
