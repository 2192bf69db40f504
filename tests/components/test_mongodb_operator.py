"""What a real API server, Percona's real operator and the scheduler make of a MongoDB replica set.

The operator of release 1.22.0 runs as a process beside the API server. It makes everything that
Kubernetes runs of a replica set, meets no primary (`ReplicaSetNoPrimary`), and asks the first
member to found the replica set. There it stops: the nodes are simulated, and no MongoDB server can
be had for real ones. Elections, replication, backups and restores are not proven here.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components import parts
from components.foundation import Foundation, FoundationArgs
from components.mongodb import OPERATOR_NAMESPACE, Mongodb, MongodbArgs
from components.parts import Client
from components.platform import Platform, PlatformArgs
from local.process import Process, free_port
from stacks import loader
from stacks.settings import Settings
from tests.components.conftest import Registry, registered_by
from tests.components.operator_process import answers, running
from tests.components.test_acceptance import _differences
from tests.kubectl import Kubectl
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

PREFIX = "papers"
NAMESPACE = f"{PREFIX}-data"
CORE = f"{PREFIX}-core"
NAME, MEMBERS = "documents", "documents-rs0"

_OPERATOR_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "operator", "namespace": OPERATOR_NAMESPACE},
    "spec": {
        "containers": [{"name": "operator", "image": "percona-server-mongodb-operator:1.22.0"}]
    },
}
"""The operator looks itself up, to give its own image to the members' first container."""

_IN_A_POD = """
set -e
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
printf %s "$2" >/run/secrets/kubernetes.io/serviceaccount/namespace
shift 2
exec "$@"
"""
"""What the operator takes from the Pod that it runs in; members' names lead nowhere, at once."""

_ENTER = ("unshare", "--map-root-user", "--mount", "sh", "-ec")


def _program(settings: Settings) -> None:
    foundation = Foundation(PREFIX, FoundationArgs(settings))
    Mongodb(
        NAME,
        MongodbArgs(
            namespace=NAMESPACE,
            settings=settings.mongodb,
            objective=settings.objectives.mongodb,
            region=settings.region,
            zones=settings.zones,
            priority_class=parts.priority_class(PREFIX, parts.DATA),
            storage_class=foundation.storage_class,
            backup_bucket="papers-backups",
            clients=(Client(CORE, "engine"),),
            protect=False,
        ),
        pulumi.ResourceOptions(depends_on=[foundation]),
    )


@pytest.fixture(scope="module")
def declared(catalogue: Settings) -> Registry:
    settings = catalogue.model_copy(update={"prefix": PREFIX})
    return registered_by(lambda: _program(settings))


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tools: dict[str, Path]) -> Kubectl:
    return Kubectl(tools["kubectl"], kubeconfig)


@pytest.fixture(scope="module")
def applied(declared: Registry, kubectl: Kubectl) -> Iterator[Kubectl]:
    """The cluster with everything applied; the namespaces go afterwards."""
    manifests = list(declared.manifests())
    operators = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
    kubectl.apply([operators, *(m for m in manifests if m["kind"] == "Namespace")])
    kubectl.apply([_OPERATOR_POD, *(m for m in manifests if m["kind"] != "Namespace")])
    yield kubectl
    names = [r.inputs["metadata"]["name"] for r in declared.of("Namespace")]
    kubectl("delete", "namespace", "--wait=false", OPERATOR_NAMESPACE, *names)


@pytest.fixture(scope="module")
def operator(
    applied: Kubectl, tools: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """The running operator; it ends before what it watches goes."""
    if subprocess.run([*_ENTER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the operator needs mounts of its own, which this machine does not allow")
    folder = tmp_path_factory.mktemp("operator")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    health = f"127.0.0.1:{free_port()}"
    command = [
        *_ENTER,
        _IN_A_POD,
        *("sh", str(folder), OPERATOR_NAMESPACE),
        str(tools["psmdb-manager"]),
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
        f"--health-probe-bind-address={health}",
        "--leader-elect=false",
    ]
    environment = {
        "HOSTNAME": _OPERATOR_POD["metadata"]["name"],  # type: ignore[index]
        "KUBECONFIG": str(applied.kubeconfig),
        "WATCH_NAMESPACE": NAMESPACE,
        "DISABLE_TELEMETRY": "true",
        "RESYNC_PERIOD": "5s",
    }
    with running(
        Process("operator", folder),
        command,
        environment,
        lambda: answers(f"http://{health}/readyz"),
    ) as process:
        yield process


@pytest.fixture(scope="module")
def reconciled(applied: Kubectl, operator: Process) -> Kubectl:
    """The cluster once every member's Pod is Ready, as far as its node can tell."""
    members = partial(applied.ready_pods, NAMESPACE, "percona-server-mongodb")
    eventually("three are ready", lambda: len(members()) == 3)
    return applied


def _get(kubectl: Kubectl, kind: str, name: str) -> dict[str, Any]:
    found = json.loads(kubectl("get", kind, name, f"--namespace={NAMESPACE}", "-ojson"))
    assert isinstance(found, dict)
    return found


# The API server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", loader.stacks())
def test_the_api_server_accepts_every_stacks_replica_set(stack: str, kubectl: Kubectl) -> None:
    settings = loader.from_file(stack)
    registry = registered_by(lambda: Platform("platform", PlatformArgs(settings, stack)))
    manifest = registry.one("PerconaServerMongoDB").manifest
    done = _dry_run(kubectl, manifest)
    assert done.returncode == 0, done.stderr


def test_the_api_server_accepts_an_issuer(catalogue: Settings, kubectl: Kubectl) -> None:
    mongodb = catalogue.mongodb.model_copy(update={"issuer": "platform"})
    settings = catalogue.model_copy(update={"prefix": PREFIX, "mongodb": mongodb})
    manifest = registered_by(lambda: _program(settings)).one("PerconaServerMongoDB").manifest
    done = _dry_run(kubectl, manifest)
    assert done.returncode == 0, done.stderr


def test_a_misspelled_field_is_refused(declared: Registry, kubectl: Kubectl) -> None:
    manifest = declared.one("PerconaServerMongoDB").manifest
    pitr = manifest["spec"]["backup"]["pitr"]
    pitr["oplogSpanMins"] = pitr.pop("oplogSpanMin")
    done = _dry_run(kubectl, manifest)
    assert done.returncode != 0
    assert ".spec.backup.pitr.oplogSpanMins: field not declared in schema" in done.stderr


def _dry_run(kubectl: Kubectl, manifest: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    manifest["metadata"]["namespace"] = "default"
    command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
    return kubectl.run(*command, stdin=json.dumps(manifest))


@pytest.mark.parametrize("page", ["decisions/mongodb-dr.md", "runbooks/mongodb.md"])
def test_what_the_pages_tell_to_create_is_accepted(page: str, kubectl: Kubectl) -> None:
    [told] = re.findall(r"^apiVersion: psmdb.+?(?=^(?:```|EOF)$)", _text(page), re.M | re.S)
    manifest = yaml.safe_load(told)
    manifest["metadata"] = {"name": "told"}
    done = _dry_run(kubectl, manifest)
    assert done.returncode == 0, done.stderr


def _text(page: str) -> str:
    return (Path(__file__).parents[2] / "docs" / page).read_text()


def test_server_stores_what_was_declared(declared: Registry, applied: Kubectl) -> None:
    wanted = list(declared.manifests())
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    stored = json.loads(applied("get", "-f", "-", "-ojson", stdin=body))["items"]
    assert list(_differences(wanted, stored, "items")) == []


# The operator -----------------------------------------------------------------------------------


def test_members_stand_in_three_zones(reconciled: Kubectl) -> None:
    nodes: list[dict[str, Any]] = json.loads(reconciled("get", "nodes", "-ojson"))["items"]
    zone_of = {n["metadata"]["name"]: n["metadata"]["labels"][parts.ZONE] for n in nodes}
    pods = reconciled.ready_pods(NAMESPACE, "percona-server-mongodb")
    zones = Counter(zone_of[pod["spec"]["nodeName"]] for pod in pods)
    assert sorted(zones.values()) == [1, 1, 1]


def test_the_operator_keeps_to_the_declared_placement(
    declared: Registry, reconciled: Kubectl
) -> None:
    pod = _get(reconciled, "statefulset", MEMBERS)["spec"]["template"]["spec"]
    [members] = declared.one("PerconaServerMongoDB").inputs["spec"]["replsets"]
    assert pod["topologySpreadConstraints"] == members["topologySpreadConstraints"]
    assert pod["tolerations"] == members["tolerations"]
    assert pod["priorityClassName"] == members["priorityClassName"]
    assert "podAntiAffinity" not in pod.get("affinity", {})


def test_a_drain_takes_one_member_at_a_time(reconciled: Kubectl) -> None:
    budget = partial(_get, reconciled, "poddisruptionbudget", f"{NAME}-mongod-rs0")
    assert budget()["spec"]["maxUnavailable"] == 1
    eventually("it counts all", lambda: budget()["status"].get("expectedPods") == 3, budget)


def test_the_walls_are_around_the_members(declared: Registry, reconciled: Kubectl) -> None:
    chosen = declared.one("NetworkPolicy", NAME).inputs["spec"]["podSelector"]["matchLabels"]
    labels = ",".join(f"{key}={value}" for key, value in chosen.items())
    listed = reconciled("get", "pods", f"--namespace={NAMESPACE}", f"-l{labels}", "-oname")
    assert len(listed.split()) == 3


def test_clients_are_told_the_names_that_the_members_have(
    declared: Registry, reconciled: Kubectl
) -> None:
    data = declared.one("ConfigMap", f"{NAME}-client").inputs["data"]
    told = {host.partition(".")[0] for host in data["MONGODB_HOSTS"].split(",")}
    pods = reconciled.ready_pods(NAMESPACE, "percona-server-mongodb")
    assert told == {pod["metadata"]["name"] for pod in pods}
    assert _get(reconciled, "service", MEMBERS)["spec"]["clusterIP"] == "None"


def test_the_servers_require_tls_and_prove_themselves_with_certificates(
    reconciled: Kubectl,
) -> None:
    pod = _get(reconciled, "statefulset", MEMBERS)["spec"]["template"]["spec"]
    [server] = [each for each in pod["containers"] if each["name"] == "mongod"]
    assert {"--tlsMode=requireTLS", "--clusterAuthMode=x509"} <= set(server["args"])
    assert not {each for each in server["args"] if "AllowInvalid" in each or "Encrypt" in each}
    assert {"ca.crt", "tls.crt", "tls.key"} <= set(
        _get(reconciled, "secret", f"{NAME}-ssl")["data"]
    )


def test_agent_and_exporter_run_beside_each_server(reconciled: Kubectl) -> None:
    pod = _get(reconciled, "statefulset", MEMBERS)["spec"]["template"]["spec"]
    assert {each["name"] for each in pod["containers"]} == {"mongod", "backup-agent", "exporter"}


def test_the_operator_works_with_the_declared_passwords(
    declared: Registry, reconciled: Kubectl
) -> None:
    name = declared.one("PerconaServerMongoDB").inputs["spec"]["secrets"]["users"]
    wanted = declared.one("Secret", name).manifest["data"]
    assert _get(reconciled, "secret", name)["data"] == wanted
    used = _get(reconciled, "secret", f"internal-{NAME}-users")["data"]
    assert wanted.items() <= used.items()
    assert base64.b64decode(used["MONGODB_BACKUP_USER"]) == b"backup"


def test_the_operator_schedules_every_backup(
    declared: Registry, reconciled: Kubectl, operator: Process
) -> None:
    tasks = declared.one("PerconaServerMongoDB").inputs["spec"]["backup"]["tasks"]
    wanted = {(task["name"], task["schedule"]) for task in tasks}
    eventually("all are", lambda: _scheduled(operator) == wanted, lambda: _scheduled(operator))


def _scheduled(operator: Process) -> set[tuple[str, str]]:
    lines = re.findall(r"Creating or updating backup job\t(.+)", operator.log.read_text())
    # The job's own name comes after that of the resource, and wins.
    return {(job["name"], job["schedule"]) for job in map(json.loads, lines)}


def test_it_stops_where_the_first_member_would_found_the_replica_set(
    reconciled: Kubectl, operator: Process
) -> None:
    eventually("it tries", lambda: "initiating replset" in operator.log.read_text())
    assert _get(reconciled, "psmdb", NAME)["status"]["state"] != "ready"
