"""A whole environment on real nodes: containers run, answer, come back, and leave no trace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drills import leftovers as machine
from drills.faults import processes
from drills.kube import Kube, is_ready
from local.api import Api
from local.images import build as images
from local.nodes import host, ready, real, store
from local.nodes.cgroups import ROOT
from local.nodes.real import Node
from local.pki import Pki
from local.process import started_at
from local.toolchain import build
from local.toolchain.definitions import files as definition_files
from tests.e2e import zone
from tests.e2e.checkout import Checkout
from tests.e2e.zone import Rest
from tests.waiting import eventually

LACKS = host.lacks(Path("/tmp"))  # noqa: S108, a folder to try in
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,
    pytest.mark.skipif(bool(LACKS), reason=f"real nodes need {'; '.join(LACKS)}"),
]

CLUSTER = "/apis/postgresql.cnpg.io/v1/namespaces/sim-dev-data/clusters/postgres"
BACKUPS = "/apis/postgresql.cnpg.io/v1/namespaces/sim-dev-data/backups"
ASK = """
import urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://localhost:8080/")
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())
"""

LOOK_UP = """
import os, socket
os.environ["RES_OPTIONS"] = "timeout:3 attempts:1"
names = ["kubernetes.default.svc.cluster.local."] * 20
print(sum(bool(socket.getaddrinfo(name, 443)) for name in names))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout.of_this_project(tmp_path_factory.mktemp("real"))
    made = Checkout(made.source, made.folder, "real")
    try:
        yield made
    finally:
        made.run("down")


@pytest.fixture(scope="module")
def before(checkout: Checkout) -> machine.Host:
    return machine.look(checkout.world("dev").cluster.folder)


@pytest.fixture(scope="module")
def up(checkout: Checkout, before: machine.Host) -> str:
    done = checkout.run("up", "dev")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def report(checkout: Checkout, up: str) -> dict[str, Any]:
    found: dict[str, Any] = checkout.result("up-dev.json")
    return found


def nodes(checkout: Checkout) -> list[Node]:
    return real.members(checkout.world("dev").cluster.folder)


def tcp(source: Node, target: Node) -> bool:
    """Whether a node can open a connection to another's kubelet."""
    words = f"timeout 2 bash -c '</dev/tcp/{target.address.host}/10250' && echo open || true"
    return "open" in source.run(["bash", "-c", words], check=False)


def test_containers_run_on_three_nodes_in_three_zones(report: dict[str, Any]) -> None:
    assert report["nodes"] == {"real": 3, "simulated": 0}
    assert len(report["zones"]) == 3
    assert report["pods"]["ready"] == report["pods"]["total"] >= 35


def test_postgres_runs_three_instances(checkout: Checkout, up: str) -> None:
    with checkout.api("dev") as api:
        assert api.get(CLUSTER)["status"]["readyInstances"] == 3


def test_psql_asks_the_primary(checkout: Checkout, up: str) -> None:
    asked = checkout.run("psql", "dev", "select pg_is_in_recovery()")
    assert asked.stdout.split()[2] == "f", asked.stdout + asked.stderr


def test_redis_cli_asks_the_master(checkout: Checkout, up: str) -> None:
    asked = checkout.run("redis-cli", "dev", "role")
    assert asked.stdout.startswith("master"), asked.stdout + asked.stderr


def test_a_service_answers_through_its_service_and_all_it_needs(
    checkout: Checkout, up: str
) -> None:
    """From a Pod that may call it: through DNS, Service, network policies, pooler and Sentinel.

    The first question opens all connections, which on busy cores can take longer than it may.
    """
    node = nodes(checkout)[0]
    uid = _gateway_on(checkout, node)
    deadline = time.monotonic() + 20
    while "failed" in (answer := json.loads(_in_pod(node, uid, ASK))):
        assert time.monotonic() < deadline, answer
    assert set(answer["ms"]) >= {"simulation-engine", "deck-analytics", "redis"}


def test_logs_show_every_pod_of_a_service(checkout: Checkout, up: str) -> None:
    shown = checkout.run("logs", "dev", "postgres").stdout
    assert {f"[pod/postgres-{number}/postgres]" in shown for number in (1, 2, 3)} == {True}


def test_a_second_up_changes_nothing_but_gives_a_node_the_image_that_it_lacks(
    checkout: Checkout, up: str
) -> None:
    """And a crowd of simulated nodes joins, which takes no Pod from the real ones."""
    node = nodes(checkout)[0]
    images = ["ctr", "--namespace", "k8s.io", "images"]
    missing = next(i for i in node.run([*images, "list", "-q"]).split() if "metrics-server" in i)
    node.run([*images, "remove", missing])
    again = replace(checkout, crowd=20).run("up", "dev")
    assert again.returncode == 0, again.stdout + again.stderr
    report = checkout.result("up-dev.json")
    assert report["nodes"] == {"real": 3, "simulated": 60}
    assert not any("crowd" in node for each in report["workloads"] for node in each["nodes"])
    assert report["changes"]["same"] == report["resources"] > 100
    assert missing in node.run([*images, "list", "-q"])


def test_the_first_backups_are_complete(checkout: Checkout, up: str) -> None:
    def phases() -> set[str]:
        with checkout.api("dev") as api:
            return {item.get("status", {}).get("phase", "") for item in api.items(BACKUPS)}

    eventually("all are completed", lambda: phases() == {"completed"}, phases)


def test_a_cut_between_two_nodes_is_a_cut_between_those_two(checkout: Checkout, up: str) -> None:
    first, second, third = nodes(checkout)
    try:
        first.cut([second])
        assert (tcp(first, second), tcp(first, third)) == (False, True)
    finally:
        first.heal()
    assert tcp(first, second)


def test_a_node_that_is_cut_off_reaches_nobody(checkout: Checkout, up: str) -> None:
    first, second, third = nodes(checkout)
    try:
        first.cut()
        assert (tcp(first, second), tcp(third, first), tcp(third, second)) == (False, False, True)
    finally:
        first.heal()
    assert tcp(first, second)


def test_a_node_that_is_cut_off_takes_no_cpu_from_the_others(checkout: Checkout, up: str) -> None:
    first, second, _ = nodes(checkout)
    try:
        first.cut()
        assert _weight(first) < _weight(second) / 50
    finally:
        first.heal()
    assert _weight(first) == _weight(second)


def test_a_kubelet_comes_before_what_else_its_node_runs(checkout: Checkout, up: str) -> None:
    """One that is not heard of for 8 s, since its node starts and stops so much, is a lost node."""
    mine = "for each in /proc/[0-9]*; do grep -qx kubelet $each/comm && cat $each/stat; done; true"
    for node in nodes(checkout):
        (kubelet,) = node.run(["sh", "-c", mine]).splitlines()
        nice = kubelet.rpartition(")")[2].split()[16]
        assert nice == "-10"


def test_a_node_that_is_cut_off_takes_no_others_name_server(checkout: Checkout, up: str) -> None:
    """Each asks its own: of so many questions, shared servers would have left some unanswered."""
    first, second, _ = nodes(checkout)
    uid = _gateway_on(checkout, second)
    try:
        first.cut()
        assert _in_pod(second, uid, LOOK_UP) == "20\n"
    finally:
        first.heal()


def _gateway_on(checkout: Checkout, node: Node) -> str:
    """The uid of the gateway's Pod on a node."""
    with checkout.api("dev") as api:
        pods = api.items("/api/v1/pods?labelSelector=app.kubernetes.io/name=gateway")
    (uid,) = (p["metadata"]["uid"] for p in pods if p["spec"]["nodeName"] == node.name)
    return str(uid)


def _weight(node: Node) -> int:
    """Its share of the processors."""
    own = node.cgroup.path.strip("/")
    files = (ROOT / "cpu" / own / "cpu.shares", ROOT / own / "cpu.weight")
    return next(int(file.read_text()) for file in files if file.exists())


def test_a_slowed_node_sends_no_more_than_it_may(checkout: Checkout, up: str) -> None:
    """In three seconds: at 100 kB/s not a megabyte, and unhindered far more."""
    first, second, _ = nodes(checkout)
    first.slow(100)
    try:
        assert _sent(first, second) < 1_000_000
    finally:
        first.heal()
    assert _sent(first, second) > 2_000_000


def test_a_disk_that_is_full_takes_no_more_until_it_is_emptied(checkout: Checkout, up: str) -> None:
    """But for the room that is left, in which what runs there goes on meanwhile."""
    node = nodes(checkout)[0]
    file = f"{node.folder}/volumes/more"
    write = f"dd if=/dev/zero of={file} bs=1M count=400 2>&1; rm -f {file}"
    try:
        node.fill_disk(leave=300 * 2**20)
        assert "No space left on device" in node.run(["sh", "-c", write])
    finally:
        node.empty_disk()
    assert "No space left on device" not in node.run(["sh", "-c", write])


def test_a_frozen_node_is_lost_and_returns_once_it_thaws(checkout: Checkout, up: str) -> None:
    victim = nodes(checkout)[1]
    with checkout.api("dev") as api:
        victim.freeze()
        try:
            eventually("it is lost", lambda: victim.name not in ready(api))
        finally:
            victim.thaw()
        eventually("it is back", lambda: victim.name in ready(api))
        eventually("PostgreSQL is whole", lambda: postgres_is_whole(api))


def postgres_is_whole(api: Api) -> bool:
    return bool(api.get(CLUSTER)["status"].get("readyInstances") == 3)


DATA = "sim-dev-data"
NOT_RUN = {"mongodb"}
"""In the matrix, but no server of it runs here."""


def test_a_lost_zone_takes_what_the_matrix_says_and_comes_back(checkout: Checkout, up: str) -> None:
    """The zone is the one of Neo4j's only server, so that not all is expected to go on."""
    rows = checkout.result("survival-dev.json")["verdicts"]
    verdicts = [each for each in rows if each["domain"] == "zone"]
    expected = {
        each["name"]: (each["quorum"], each["writes"])
        for each in verdicts
        if each["system"] not in NOT_RUN
    }
    asked = [each for each in verdicts if each["name"] in expected]
    assert {each["system"] for each in asked} == {
        "postgres",
        "redis",
        "kafka",
        "neo4j",
        "service",
    }
    whole = dict.fromkeys(expected, (True, True))
    with checkout.api("dev") as api:
        kubectl = build.ensure(["kubectl"], print)["kubectl"]
        kube = Kube(api, kubectl, checkout.world("dev").cluster.kubeconfig)
        zone.prepare(kube, DATA)
        assert zone.truth(Rest(kube, DATA), asked, time.monotonic()) == whole
        at = Rest(kube, DATA).one(DATA, "app.kubernetes.io/name=neo4j").node
        victim = next(each for each in nodes(checkout) if each.name == at)
        own = {pid: start for pid in processes_of(victim) if (start := started_at(pid))}
        assert len(own) > 20
        victim.kill()
        killed = time.monotonic()
        assert [pid for pid, start in own.items() if started_at(pid) == start] == []
        assert zone.truth(Rest(kube, DATA, victim.name), asked, killed) == expected
        again = checkout.run("up", "dev")
        assert again.returncode == 0, again.stdout + again.stderr
        assert checkout.result("up-dev.json")["nodes"] == {"real": 3, "simulated": 0}
        assert zone.truth(Rest(kube, DATA), asked, time.monotonic() + 60) == whole
        eventually("PostgreSQL is whole", lambda: postgres_is_whole(api))


GUESTS = Path(__file__).with_name("guests.yaml")
GUEST_IMAGES = (
    "alertmanager",
    "envoy",
    "istiod",
    "keda",
    "keda-admission-webhooks",
    "keda-metrics-apiserver",
    "kube-state-metrics",
    "prometheus",
    "prometheus-config-reloader",
    "prometheus-operator",
)
GUEST_DEFINITIONS = ("github.com/kedacore/", "github.com/prometheus-operator/", "istio.io/")
KEDA_NAMES = [f"{name}.guests.svc.cluster.local" for name in ("keda-operator", "keda-admission")]


def test_images_that_no_stack_names_run_once_a_node_has_them(
    checkout: Checkout, up: str, tmp_path: Path
) -> None:
    """Each until it is ready; then Prometheus, as its operator made it, finds and asks itself."""
    node = nodes(checkout)[0]
    built = images.ensure(GUEST_IMAGES, print)
    store.deliver([node], list(built.values()), print)
    text = GUESTS.read_text().replace("the-node", node.name)
    for image in built.values():
        text = text.replace(f"node.local/{image.name}:tag", image.reference)
    (tmp_path / "guests.yaml").write_text(text)
    definitions = [
        f"--filename={path}"
        for path in definition_files(print, every=True)
        if any(module in str(path) for module in GUEST_DEFINITIONS)
    ]
    kubectl(checkout, "apply", "--server-side", "--force-conflicts", *definitions)
    kubectl(checkout, "wait", "--for=condition=Established", "--timeout=60s", *definitions)
    kubectl(checkout, "apply", "--server-side", f"--filename={tmp_path / 'guests.yaml'}")
    with checkout.api("dev") as api:
        api.create("/api/v1/namespaces/guests/secrets", keda_certificates(tmp_path))
        wanted = {
            *("envoy", "istiod", "kube-state-metrics", "prometheus-operator"),
            *("keda-operator", "keda-metrics-apiserver", "keda-admission-webhooks"),
            *("prometheus-guest-0", "alertmanager-guest-0"),
        }
        eventually(
            "all guests are ready",
            lambda: wanted == ready_pods(api, "guests"),
            lambda: states(api, "guests"),
        )
        query = "/api/v1/namespaces/guests/pods/prometheus-guest-0:9090/proxy/api/v1/query?query=up"
        eventually("Prometheus finds itself", lambda: values(api.get(query)) == ["1"])


def keda_certificates(folder: Path) -> dict[str, Any]:
    """The Secret with which the parts of KEDA know each other; its operator would take a minute."""
    pki = Pki(folder)
    pki.ensure_authority()
    pki.ensure_member("keda", "keda", KEDA_NAMES)
    return {
        "metadata": {"name": "kedaorg-certs"},
        "stringData": {
            "ca.crt": pki.authority.read_text(),
            "tls.crt": pki.certificate("keda").read_text(),
            "tls.key": pki.key("keda").read_text(),
        },
    }


def kubectl(checkout: Checkout, *arguments: str) -> None:
    program = build.ensure(["kubectl"], print)["kubectl"]
    kubeconfig = checkout.world("dev").cluster.kubeconfig
    done = subprocess.run(
        [program, f"--kubeconfig={kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def ready_pods(api: Api, namespace: str) -> set[str]:
    pods = api.items(f"/api/v1/namespaces/{namespace}/pods")
    return {pod["metadata"]["name"] for pod in pods if is_ready(pod)}


def states(api: Api, namespace: str) -> dict[str, Any]:
    """What each Pod is and why: for whoever reads that one is not ready."""
    pods = api.items(f"/api/v1/namespaces/{namespace}/pods")
    return {
        pod["metadata"]["name"]: (
            [each for each in pod["status"].get("conditions", ()) if each["status"] != "True"],
            [each["state"] for each in pod["status"].get("containerStatuses", ())],
        )
        for pod in pods
    }


def values(answer: dict[str, Any]) -> list[str]:
    """Of each series that Prometheus found, the last value."""
    return [series["value"][1] for series in answer["data"]["result"]]


def test_down_leaves_nothing_behind(checkout: Checkout, before: machine.Host, up: str) -> None:
    assert checkout.run("down").returncode == 0
    assert machine.look(checkout.world("dev").cluster.folder) == before


def processes_of(node: Node) -> list[int]:
    """The pids, on this machine, of all that runs on a node, containers included."""
    groups = (ROOT / "pids" if (ROOT / "pids").exists() else ROOT) / node.cgroup.path.strip("/")
    found = []
    for file in groups.rglob("cgroup.procs"):
        with suppress(OSError):  # the container has ended meanwhile, and its group with it
            found += [int(pid) for pid in file.read_text().split()]
    return found


SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 7007), timeout=10) as connection:
    try:
        while True:
            connection.sendall(bytes(65536))
    except OSError:
        pass
"""
RECEIVE = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 7007))
print("listening", flush=True)
server.settimeout(20)
connection, _ = server.accept()
connection.settimeout(1)
end, total = time.monotonic() + 3, 0
while time.monotonic() < end:
    try:
        total += len(connection.recv(1 << 16))
    except TimeoutError:
        pass
print(total)
"""


def _sent(source: Node, target: Node) -> int:
    """The bytes that get from one node's network to another's in three seconds."""
    receiver = subprocess.Popen(
        _in_network(target, RECEIVE, target.address.host), stdout=subprocess.PIPE, text=True
    )
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "listening\n"
    sender = _in_network(source, SEND, target.address.host)
    subprocess.run(sender, timeout=60, check=True)
    return int(receiver.communicate(timeout=60)[0])


def _in_network(node: Node, program: str, address: str) -> list[str]:
    """This machine's Python, in a node's network."""
    net = f"--net=/proc/{node.init_pid}/ns/net"
    return ["nsenter", net, "--", sys.executable, "-c", program, address]


def _in_pod(node: Node, uid: str, program: str) -> str:
    """Run Python in a Pod's own network, with its files."""
    app, *_ = processes(node, uid, r"service\.app")
    flags = [f"--target={app}", "--mount", "--net", "--root", "--wd"]
    return node.run(["nsenter", *flags, "--", "python3", "-c", program])
