"""The local control plane: what it offers, and that it mends what was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import cluster as clusters
from local.cluster import PLANE_TOOLS, Cluster
from local.errors import LocalError
from local.nodes import real
from local.process import is_listening, started_at
from local.toolchain import build
from tests.conftest import TOPOLOGY
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

Ensure = Callable[[Cluster], None]


@pytest.fixture(scope="module")
def ensure(tools: dict[str, Path]) -> Ensure:
    stages = build.stage_files(print)

    def start(own: Cluster) -> None:
        clusters.ensure(own, clusters.simulated(own, TOPOLOGY, tools, stages), tools, [])

    return start


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, ensure: Ensure) -> Iterator[Cluster]:
    """A cluster that these tests may break."""
    cluster = Cluster("breakable", tmp_path_factory.mktemp("breakable"))
    try:
        ensure(cluster)
        yield cluster
    finally:
        clusters.stop(cluster)


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "zonal",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def pod(name: str, claim_name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "main", "image": "example.com/any:1"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}],
        },
    }


def test_nodes_are_ready_over_three_zones(cluster: Cluster) -> None:
    with cluster.api() as api:
        zones = [
            node["metadata"]["labels"]["topology.kubernetes.io/zone"]
            for node in api.items("/api/v1/nodes")
            if any(
                c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
            )
        ]
    assert sorted(zones) == sorted(2 * TOPOLOGY.zones)


def test_the_kubeconfig_verifies_the_server(cluster: Cluster) -> None:
    entry = json.loads(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    assert entry["certificate-authority"] == str(cluster.pki.authority)
    assert "insecure-skip-tls-verify" not in entry


def test_kubectl_works_with_the_kubeconfig(cluster: Cluster, tools: dict[str, Path]) -> None:
    asked = subprocess.run(
        [tools["kubectl"], f"--kubeconfig={cluster.kubeconfig}", "get", "nodes", "-o", "name"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(asked.stdout.splitlines()) == 2 * len(TOPOLOGY.zones)


def test_nobody_gets_in_without_a_certificate(cluster: Cluster) -> None:
    context = ssl.create_default_context(cafile=str(cluster.pki.authority))
    with httpx.Client(verify=context, trust_env=False) as stranger:
        assert stranger.get(f"{cluster.server}/api/v1/secrets").status_code == 401


def test_secrets_do_not_lie_in_clear_on_disk(cluster: Cluster) -> None:
    secret = {
        **config_map("hidden"),
        "kind": "Secret",
        "stringData": {"password": "hunter2-in-etcd"},
    }
    with cluster.api() as api:
        api.create("/api/v1/namespaces/default/secrets", secret)
    files = [path for path in (cluster.folder / "etcd-data").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2-in-etcd" in path.read_bytes()]


def test_a_claim_gets_a_volume_that_only_its_zone_can_use(cluster: Cluster) -> None:
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "zonal"},
        "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    namespace = "/api/v1/namespaces/default"
    with cluster.api() as api:
        eventually("Pods may be made", lambda: api.items(f"{namespace}/serviceaccounts"))
        api.create("/apis/storage.k8s.io/v1/storageclasses", storage)
        api.create(f"{namespace}/persistentvolumeclaims", claim("data"))
        api.create(f"{namespace}/pods", pod("consumer", "data"))
        consumer = f"{namespace}/pods/consumer"
        eventually("the Pod runs", lambda: api.get(consumer)["status"]["phase"] == "Running")
        node = api.get(consumer)["spec"]["nodeName"]
        bound = api.get(f"{namespace}/persistentvolumeclaims/data")
        volume = api.get(f"/api/v1/persistentvolumes/{bound['spec']['volumeName']}")
    term = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert bound["status"]["phase"] == "Bound"
    assert term["values"] == [node.rsplit("-", 1)[0]]


@pytest.mark.parametrize("part", PLANE_TOOLS)
def test_a_killed_part_is_mended_and_nothing_is_lost(
    own: Cluster, ensure: Ensure, part: str
) -> None:
    with own.api() as api:
        api.create("/api/v1/namespaces/default/configmaps", config_map(f"before-{part}"))
    pid = own.part(part).pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually("it is dead", lambda: started_at(pid) is None)
    ensure(own)
    with own.api() as api:
        names = [m["name"] for m in api.metadata("/api/v1/namespaces/default/configmaps")]
    assert f"before-{part}" in names


def test_nobody_stays_in_a_network_that_is_lost(
    own: Cluster, ensure: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own.running()
    monkeypatch.setattr(real, "network_is_lost", lambda folder: folder == own.folder)
    ensure(own)
    assert all(own.running()[part] not in {None, before[part]} for part in PLANE_TOOLS)


def test_a_port_taken_by_somebody_else_is_chosen_anew(own: Cluster, ensure: Ensure) -> None:
    taken = int(own.server.rsplit(":", 1)[1])
    clusters.stop(own)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", taken))
        squatter.listen()
        ensure(own)
        with own.api() as api:
            assert api.answers()
        assert own.server != f"https://127.0.0.1:{taken}"


def test_stop_leaves_no_process_and_no_port(own: Cluster, ensure: Ensure) -> None:
    pids = [pid for pid in own.running().values() if pid is not None]
    ports = json.loads((own.folder / "ports.json").read_text())
    clusters.stop(own)
    assert len(pids) == len(PLANE_TOOLS)
    assert [pid for pid in pids if started_at(pid) is not None] == []
    assert [port for port in ports.values() if is_listening(port)] == []
    ensure(own)


@pytest.mark.unit
def test_a_full_disk_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    full = Cluster("full", tmp_path / "full")
    with pytest.raises(LocalError, match="needs 2000 MiB of disk, but .* has 100 MiB free"):
        clusters.prepare(full)
    assert not any(full.running().values())
