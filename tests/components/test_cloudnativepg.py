"""What CloudNativePG's real operator makes of the PostgreSQL of every stack.

The operator of release 1.30.0 and its Barman Cloud plugin 0.14.0 run as processes beside the API
server. The operator's webhooks judge all that the stacks declare; the operator makes Services,
disruption budgets, Secrets, poolers and the first instance's volumes and Pod. Then it asks that
instance for its status, and there it stops: the nodes are simulated, and nobody answers. What
follows (clones, synchronous replication, failover, backups) runs on real nodes: `make drill`.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components import parts, releases
from components.manifest import container, find, parse
from components.platform import Platform, PlatformArgs
from components.postgres import OPERATOR_NAMESPACE, Postgres, PostgresArgs
from drills import restore
from local.cluster import Cluster
from local.pki import Pki
from local.process import Process, free_port
from local.toolchain import build
from stacks import loader
from stacks.systems.postgres import PostgresSettings
from stacks.values import Objective
from tests.components.conftest import Registry, registered_by
from tests.components.operator_process import LOOPBACK, answers, network, reached_at, running
from tests.components.test_acceptance import _differences
from tests.components.test_postgres import TOKEN
from tests.kubectl import Kubectl
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.cluster

NAME = "postgres"
HERE = [stack for stack in loader.stacks() if stack != "dr"]
"""The stacks in whose region the simulated nodes are; the others' Pods find no node."""

_PLUGIN = "barman-cloud.cloudnative-pg.io"
_ARCHITECTURES = ("amd64", "arm64")


def _prefix(stack: str) -> str:
    """Stacks that share a prefix, as prod and dr do, get one each: they share this cluster."""
    return f"pg-{stack}"


def _namespace(stack: str) -> str:
    return parts.namespace(_prefix(stack), parts.DATA)


NAMESPACES = [_namespace(stack) for stack in loader.stacks()]


def _registry(stack: str) -> Registry:
    settings = loader.from_file(stack).model_copy(update={"prefix": _prefix(stack)})
    return registered_by(lambda: Platform("platform", PlatformArgs(settings, stack)))


def _objects(registry: Registry, component: str) -> list[dict[str, Any]]:
    """The Kubernetes objects of one component of the platform."""
    owner = registry.one(component).urn
    return [
        each.manifest
        for each in registry.resources
        if each.parent == owner and each.type.startswith("kubernetes:")
    ]


def _listed(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


# Its surroundings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def declared() -> dict[str, Registry]:
    return {stack: _registry(stack) for stack in loader.stacks()}


@pytest.fixture(scope="module")
def kubectl(
    declared: dict[str, Registry], kubeconfig: Path, tools: dict[str, Path]
) -> Iterator[Kubectl]:
    """The cluster with each stack's namespaces and classes; the namespaces go afterwards."""
    kubectl = Kubectl(tools["kubectl"], kubeconfig)
    objects = [each for registry in declared.values() for each in _objects(registry, "Foundation")]
    own = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
    spaces = [own, *(each for each in objects if each["kind"] == "Namespace")]
    kubectl.apply(spaces)
    kubectl.apply([each for each in objects if each["kind"] != "Namespace"])
    yield kubectl
    names = [each["metadata"]["name"] for each in spaces]
    kubectl("delete", "namespace", "--wait=false", *names)
    # Other tests have operators of their own there.
    kubectl(
        "wait", "--for=delete", f"namespace/{OPERATOR_NAMESPACE}", f"--timeout={LIMIT_SECONDS:g}s"
    )


@pytest.fixture(scope="module")
def release() -> list[dict[str, Any]]:
    return parse(build.operator_manifest("cnpg-manager", print).read_text())


@pytest.fixture(scope="module")
def plugin(cluster: Cluster, kubectl: Kubectl, tools: dict[str, Path]) -> Iterator[Path]:
    """The running plugin; yields the folder of its socket, whose path must be short."""
    health = f"{LOOPBACK}:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(tools["barman-manager"]),
            "operator",
            f"--plugin-path={folder}",
            f"--health-probe-bind-address={health}",
        ]
        environment = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "SIDECAR_IMAGE": "ghcr.io/cloudnative-pg/plugin-barman-cloud-sidecar:v0.14.0",
        }
        logs = Path(tempfile.mkdtemp())
        try:
            with running(
                Process("plugin", logs),
                command,
                environment,
                lambda: (Path(folder) / _PLUGIN).exists() and answers(f"http://{health}/readyz"),
            ):
                yield Path(folder)
        finally:
            shutil.rmtree(logs)


@pytest.fixture(scope="module")
def port() -> int:
    """Where the webhooks are served."""
    return free_port()


@pytest.fixture(scope="module")
def enter(
    cluster: Cluster, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ...]]:
    """What a command starts with, to run in the operator's network."""
    folder = tmp_path_factory.mktemp("network")
    with network(folder, inwards=cluster.port, outwards=port) as enter:
        yield enter


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster,
    enter: tuple[str, ...],
    port: int,
    kubectl: Kubectl,
    plugin: Path,
    release: list[dict[str, Any]],
    tools: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Process]:
    """The running operator, and its webhooks as the release configures them."""
    folder = tmp_path_factory.mktemp("cloudnative-pg")
    pki = _webhook_certificate(folder)
    image = find(release, "Deployment", "cnpg-controller-manager")
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "WEBHOOK_CERT_DIR": str(pki.folder),
        "OPERATOR_NAMESPACE": OPERATOR_NAMESPACE,
        "OPERATOR_IMAGE_NAME": container(image, "manager")["image"],
        "PLUGIN_SOCKET_DIR": str(plugin),
        "WATCH_NAMESPACE": ",".join(NAMESPACES),
    }
    # It looks for the programs that it gives to instances below the folder that it runs in.
    (folder / "operator").mkdir()
    for architecture in _ARCHITECTURES:
        (folder / f"operator/manager_{architecture}").symlink_to(tools["cnpg-manager"])
    trusted = ssl.create_default_context(cafile=str(pki.authority))
    hooks = [
        reached_at(each, port, pki.authority, NAMESPACES)
        for each in release
        if each["kind"].endswith("WebhookConfiguration")
    ]
    with ExitStack() as until_the_end:
        command = [
            *enter,
            "env",
            f"--chdir={folder}",
            str(tools["cnpg-manager"]),
            "controller",
            f"--webhook-port={port}",
        ]
        process = until_the_end.enter_context(
            running(
                Process("operator", folder),
                command,
                environment,
                lambda: answers(f"https://{LOOPBACK}:{port}/readyz", verify=trusted),
            )
        )
        kubectl.apply(hooks)
        until_the_end.callback(kubectl, "delete", "-f", "-", stdin=_listed(hooks))
        yield process


def _webhook_certificate(folder: Path) -> Pki:
    """What the webhooks show, under the names that the operator expects."""
    pki = Pki(folder / "pki")
    pki.ensure_authority()
    pki.ensure_node("webhook", LOOPBACK)
    shutil.copy(pki.certificate("webhook-serving"), pki.certificate("apiserver"))
    shutil.copy(pki.key("webhook-serving"), pki.key("apiserver"))
    return pki


@pytest.fixture(scope="module")
def applied(
    operator: Process, declared: dict[str, Registry], kubectl: Kubectl
) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the API server answered to each stack's PostgreSQL."""
    command = ("apply", "--server-side", "--validate=strict", "-f", "-")
    return {
        stack: kubectl.run(*command, stdin=_listed(_objects(registry, "Postgres")))
        for stack, registry in declared.items()
    }


def _names(kubectl: Kubectl, kind: str, stack: str) -> set[str]:
    listed = kubectl("get", kind, f"--namespace={_namespace(stack)}", "-oname")
    return {line.partition("/")[2] for line in listed.splitlines()}


def _get(kubectl: Kubectl, kind: str, name: str, stack: str) -> dict[str, Any]:
    found = kubectl.run("get", kind, name, f"--namespace={_namespace(stack)}", "-ojson")
    body: dict[str, Any] = json.loads(found.stdout or "{}")
    return body


# What its webhooks say --------------------------------------------------------------------------

every_stack = pytest.mark.parametrize("stack", loader.stacks())
stacks_here = pytest.mark.parametrize("stack", HERE)


@every_stack
def test_the_webhooks_accept_all_of_a_stack_without_a_warning(
    stack: str, applied: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    """`kubectl` writes each Warning header of an answer to its standard error."""
    done = applied[stack]
    assert (done.returncode, done.stderr) == (0, "")
    for kind in ("cluster", "pooler", "scheduledbackup"):
        assert f"{kind}.postgresql.cnpg.io/" in done.stdout


@every_stack
def test_the_webhooks_leave_what_was_declared_as_it_is(
    stack: str,
    applied: dict[str, subprocess.CompletedProcess[str]],
    declared: dict[str, Registry],
    kubectl: Kubectl,
) -> None:
    """What they spell differently would look like drift for ever after."""
    wanted = _objects(declared[stack], "Postgres")
    stored = json.loads(kubectl("get", "-f", "-", "-ojson", stdin=_listed(wanted)))["items"]
    assert list(_differences(wanted, stored, "items")) == []


def _tried(kubectl: Kubectl, manifest: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
    return kubectl.run(*command, stdin=json.dumps(manifest))


def test_a_warning_of_the_webhooks_is_seen(
    operator: Process, declared: dict[str, Registry], kubectl: Kubectl
) -> None:
    manifest = declared["prod"].one("ScheduledBackup", f"{NAME}-base").manifest
    manifest["spec"]["schedule"] = manifest["spec"]["schedule"].removeprefix("0 ")
    done = _tried(kubectl, manifest)
    assert done.returncode == 0
    assert "Warning: Schedule parameter may not have the right number of arguments" in done.stderr


def test_as_many_synchronous_copies_as_instances_are_refused(
    operator: Process, declared: dict[str, Registry], kubectl: Kubectl
) -> None:
    manifest = declared["prod"].one("Cluster").manifest
    manifest["spec"]["postgresql"]["synchronous"]["number"] = manifest["spec"]["instances"]
    done = _tried(kubectl, manifest)
    assert done.returncode != 0
    assert "must be less than the total number of instances" in done.stderr


def _settings(**given: Any) -> PostgresSettings:
    return PostgresSettings.model_validate(given)


THERE = {"bucket": "games-copy"}
MOMENT = {"server": "postgres", "target_time": "2026-03-01T12:00:00.123456+01:00"}
WAYS: dict[str, tuple[PostgresSettings, bool]] = {
    "recovered": (_settings(archive="two", recovery=MOMENT), False),
    "recovered from a copy": (_settings(recovery=THERE), False),
    "standby": (_settings(source=THERE), True),
    "promoted at once": (_settings(source=THERE), False),
    "promoted by plan": (_settings(source={**THERE, "promotion_token": TOKEN}), False),
    "further databases": (
        _settings(databases={"cards": {"extensions": ["pg_trgm"]}, "scores": {"owner": "cards"}}),
        False,
    ),
}
"""What no stack says from the start, and whether it stands by."""


def _alone(settings: PostgresSettings, *, standby: bool, name: str) -> Registry:
    """A PostgreSQL beside that of prod."""
    args = PostgresArgs(
        namespace=_namespace("prod"),
        settings=settings,
        objective=Objective(rpo=300, rto=180),
        zones=("us-east-1a", "us-east-1b", "us-east-1c"),
        priority_class=parts.priority_class(_prefix("prod"), parts.DATA),
        storage_class="gp3",
        snapshot_class="snapshots",
        backup_bucket="games-backups",
        clients=(),
        protect=True,
        standby=standby,
    )
    return registered_by(lambda: Postgres(name, args))


@pytest.mark.parametrize("way", WAYS)
def test_the_webhooks_accept_every_way_to_begin_and_to_take_over(
    way: str, operator: Process, kubectl: Kubectl
) -> None:
    settings, standby = WAYS[way]
    manifests = list(_alone(settings, standby=standby, name="another").manifests())
    command = ("apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-")
    done = kubectl.run(*command, stdin=_listed(manifests))
    assert (done.returncode, done.stderr) == (0, "")
    assert "cluster.postgresql.cnpg.io/another" in done.stdout


def test_the_webhooks_accept_what_the_restore_drill_makes_of_a_live_cluster(
    applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    assert applied["prod"].returncode == 0
    live = _get(kubectl, "cluster", NAME, "prod")
    store = _get(kubectl, "objectstore", f"{NAME}-backups", "prod")
    moment = "2026-03-01T12:00:00.123456+00:00"
    args = restore.arguments(live, store, loader.from_file("prod"), "moment-1", moment)
    for manifest in (
        restore.restored_cluster("restored", NAME, args),
        restore.base_backup(_namespace("prod"), "restore-1", NAME),
        restore.network_policy_for("restored", _get(kubectl, "networkpolicy", NAME, "prod")),
    ):
        done = _tried(kubectl, manifest)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_standby_may_be_promoted_and_a_primary_demoted(
    applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    """As updates of what is there: in `prod` a primary, which has initdb behind it."""
    assert applied["prod"].returncode == 0
    for standby in (True, False):
        cluster = _alone(_settings(source=THERE), standby=standby, name=NAME).one("Cluster")
        done = _tried(kubectl, cluster.manifest)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("replica", "promotionToken"), "bm90IGpzb24=", "Invalid promotionToken format"),
        (("replica", "source"), "nobody", "External cluster nobody not found"),
        (("bootstrap", "recovery", "source"), "nobody", "External cluster nobody not found"),
        (
            ("bootstrap", "recovery", "recoveryTarget"),
            {"targetTime": "yesterday"},
            "The format of TargetTime is invalid",
        ),
    ],
)
def test_the_webhooks_refuse_what_the_settings_refuse(
    path: tuple[str, ...], value: object, says: str, operator: Process, kubectl: Kubectl
) -> None:
    promoted = path[-1] == "promotionToken"
    registry = _alone(_settings(source=THERE), standby=not promoted, name="another")
    manifest = registry.one("Cluster").manifest
    *way, last = path
    inside = manifest["spec"]
    for key in way:
        inside = inside[key]
    inside[last] = value
    done = _tried(kubectl, manifest)
    assert done.returncode != 0
    assert says in done.stderr


def test_it_answers_the_liveness_probe_that_the_component_declares(
    operator: Process, enter: tuple[str, ...], release: list[dict[str, Any]]
) -> None:
    manager = container(
        find(releases.cloudnative_pg(release), "Deployment", "cnpg-controller-manager"), "manager"
    )
    probe = manager["livenessProbe"]["httpGet"]
    ports = {each["name"]: each["containerPort"] for each in manager["ports"]}
    url = f"http://{LOOPBACK}:{ports[probe['port']]}{probe['path']}"
    ask = f"import urllib.request as r; assert r.urlopen({url!r}).status == 200"
    done = subprocess.run([*enter, sys.executable, "-c", ask], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# What it makes ----------------------------------------------------------------------------------


@every_stack
def test_it_makes_the_services_that_clients_are_told(
    stack: str,
    applied: dict[str, subprocess.CompletedProcess[str]],
    declared: dict[str, Registry],
    kubectl: Kubectl,
) -> None:
    hosts = {each.inputs["data"]["PGHOST"] for each in _published(declared[stack])}
    told = {host.partition(".")[0] for host in hosts}
    assert told == {f"{NAME}-pooler"}
    wanted = told | {f"{NAME}-{role}" for role in ("rw", "ro", "r")}
    eventually("it made them", lambda: wanted <= _names(kubectl, "service", stack))


def _published(registry: Registry) -> list[Any]:
    return [
        each
        for each in registry.of("ConfigMap")
        if each.inputs["metadata"]["name"] == f"{NAME}-client"
    ]


@every_stack
def test_it_makes_the_certificates_that_servers_and_poolers_show(
    stack: str, applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    wanted = {f"{NAME}-{use}" for use in ("ca", "server", "replication", "pooler")}
    eventually("it made them", lambda: wanted <= _names(kubectl, "secret", stack))


@every_stack
def test_a_drain_never_takes_the_primary_nor_two_standbys(
    stack: str,
    applied: dict[str, subprocess.CompletedProcess[str]],
    declared: dict[str, Registry],
    kubectl: Kubectl,
) -> None:
    """It lets a standby go only while the others run, and the primary only after a switchover."""
    standbys = declared[stack].one("Cluster").inputs["spec"]["instances"] - 1
    for name, least in ((NAME, standbys - 1), (f"{NAME}-primary", 1)):
        find = partial(_get, kubectl, "poddisruptionbudget", name, stack)
        assert eventually(f"it made {name}", find)["spec"]["minAvailable"] == least


@every_stack
def test_poolers_stand_in_three_zones(
    stack: str, applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    nodes: list[dict[str, Any]] = json.loads(kubectl("get", "nodes", "-ojson"))["items"]
    zone_of = {n["metadata"]["name"]: n["metadata"]["labels"][parts.ZONE] for n in nodes}

    def zones() -> set[str]:
        selector = f"--selector=cnpg.io/poolerName={NAME}-pooler"
        space = f"--namespace={_namespace(stack)}"
        pods = json.loads(kubectl("get", "pods", space, selector, "-ojson"))["items"]
        return {zone_of[pod["spec"]["nodeName"]] for pod in pods if "nodeName" in pod["spec"]}

    eventually("one is in each zone", lambda: zones() == set(zone_of.values()), zones)


@stacks_here
def test_the_first_instance_keeps_to_the_declared_placement(
    stack: str,
    applied: dict[str, subprocess.CompletedProcess[str]],
    declared: dict[str, Registry],
    kubectl: Kubectl,
) -> None:
    wanted = declared[stack].one("Cluster").inputs["spec"]
    pod = _first(kubectl, stack)["spec"]
    [apart] = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == parts.ZONE
    assert pod["priorityClassName"] == wanted["priorityClassName"]
    assert [
        each for each in wanted["affinity"]["tolerations"] if each not in pod["tolerations"]
    ] == []
    [server] = [each for each in pod["containers"] if each["name"] == "postgres"]
    assert server["resources"] == wanted["resources"]


@stacks_here
def test_the_plugin_archives_beside_the_first_instance(
    stack: str, applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    pod = _first(kubectl, stack)["spec"]
    assert "plugin-barman-cloud" in {each["name"] for each in pod["initContainers"]}


def _first(kubectl: Kubectl, stack: str) -> dict[str, Any]:
    return eventually("it made the first", lambda: _get(kubectl, "pod", f"{NAME}-1", stack))


@stacks_here
def test_it_stops_where_the_first_instance_should_tell_its_status(
    stack: str, applied: dict[str, subprocess.CompletedProcess[str]], kubectl: Kubectl
) -> None:
    unanswered = "Instance Status Extraction Error: HTTP communication issue"

    def phase() -> object:
        return _get(kubectl, "cluster", NAME, stack)["status"].get("phase")

    eventually("it says so", lambda: phase() == unanswered, phase)
    assert _names(kubectl, "pod", stack) >= {f"{NAME}-1"}
    assert f"{NAME}-2" not in _names(kubectl, "pod", stack)
