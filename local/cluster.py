"""A Kubernetes control plane on this machine: start, readiness, mend, stop, status.

Each cluster has a folder of its own (keys, data, logs, pids) and free ports of the loopback
interface, so any number run side by side. `ensure` is idempotent: it starts what does not run and
leaves alone what does, so a part that was killed is mended by calling it again, and nothing is
lost, because every object is in etcd's folder.

etcd runs without fsync: a killed process loses nothing (the kernel holds the written pages); only
a crash of the whole machine may, and a local world is made anew then. Secrets are encrypted in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.api import Api, kubeconfig
from local.errors import LocalError
from local.files import write_whole
from local.nodes import Nodes, Surroundings, Topology, real
from local.nodes.simulated import SimulatedNodes
from local.pki import Pki
from local.process import Process, free_port, is_listening
from local.toolchain.definitions import documents

START_SECONDS = 180.0
"""Limit for each part to get ready: 60 times what it takes on an idle machine, where on a busy one
20 times were once too few. A part that ends is told of at once."""
SERVICE_ADDRESSES = "10.96.0.0/16"
RUN_SPACE_MIB = 2000
"""Free disk that a running world needs: etcd's write-ahead log and snapshots, logs, state, what
databases write. That of dev takes 1 GiB, and real nodes evict Pods with less than 500 MiB left."""
_DEFINITION = "fault-tolerance/definition"
_PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_PORTS = ("etcd", "etcd-peer", "kube-apiserver")
_DEFINITIONS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

PLANE_TOOLS = (*_PARTS, "kwok")
"""The programs of a cluster with simulated nodes."""


@dataclass(frozen=True)
class Cluster:
    """One local cluster: its folder says everything about it."""

    name: str
    folder: Path

    @property
    def pki(self) -> Pki:
        """Its certificate authority."""
        return Pki(self.folder / "pki")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it verifies the server."""
        return self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        """The API server's address, for whoever is on this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The API server's port on this machine; known once the cluster is prepared."""
        try:
            return self._ports()["kube-apiserver"]
        except KeyError:
            raise LocalError(
                f"the ports of stack {self.name} cannot be read: `make up STACK={self.name}` "
                "chooses others"
            ) from None

    def api(self) -> Api:
        """A client with the administrator's rights."""
        return Api(self.server, self.pki)

    def part(self, name: str) -> Process:
        """One of its processes."""
        return Process(name, self.folder)

    def running(self) -> dict[str, int | None]:
        """The pid of each process of control plane and nodes, None where it does not run."""
        parts = [*_PARTS]
        nodes = real.running(self.folder)
        if not nodes or (self.folder / "kwok.yaml").exists():
            parts.append("kwok")
        return {name: self.part(name).pid() for name in parts} | nodes

    def _ports(self) -> dict[str, int]:
        """The port of each part; none where none was chosen, or a full disk cut that short."""
        try:
            ports: dict[str, int] = json.loads((self.folder / "ports.json").read_text())
        except (OSError, ValueError):
            return {}
        return ports


def simulated(
    cluster: Cluster,
    topology: Topology,
    tools: Mapping[str, Path],
    stages: Sequence[Path],
    crowd: int | None = None,
) -> SimulatedNodes:
    """The simulated nodes of a cluster: all that it has, or a crowd beside real ones."""
    kubeconfig = cluster.folder / "kwok.kubeconfig"
    return SimulatedNodes(cluster.folder, topology, tools["kwok"], kubeconfig, stages, crowd)


def ensure(
    cluster: Cluster, nodes: Nodes, tools: Mapping[str, Path], definitions: Sequence[Path]
) -> None:
    """Bring a cluster up, or mend it, and wait until all its nodes are Ready.

    Raises:
        LocalError: when a part does not get ready in time, with the tail of its log.
    """
    prepare(cluster)
    if real.network_is_lost(cluster.folder):
        stop(cluster)
    around = nodes.surroundings()
    _write_kubeconfigs(cluster, around)
    environment = {"PATH": os.environ["PATH"], "HOME": str(cluster.folder)}

    def start(part: str) -> None:
        command = [*around.enter, str(tools[part]), *_arguments(cluster, around, part)]
        # On a cluster it has machines of its own; here the nodes would take its processor.
        cluster.part(part).start(command, environment, first=True)

    start("etcd")
    start("kube-apiserver")
    with cluster.api() as api:
        cluster.part("kube-apiserver").wait_until(api.answers, START_SECONDS)
        start("kube-controller-manager")
        start("kube-scheduler")
        nodes.start(api)
        _ensure_definitions(api, definitions)
        nodes.await_ready(api, START_SECONDS)


def prepare(cluster: Cluster) -> None:
    """Make its folder with keys and ports: what is known before anything runs.

    Raises:
        LocalError: if the disk is too full to run a cluster on.
    """
    cluster.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_space(cluster.folder)
    cluster.pki.ensure()
    _ensure_encryption(cluster)
    _settle_ports(cluster)


def stop(cluster: Cluster) -> None:
    """End every process of a cluster, nodes first; its data stays for the next start."""
    real.stop_nodes(cluster.folder)
    for part in reversed(PLANE_TOOLS):
        cluster.part(part).stop()
    real.stop_network(cluster.folder)


def _arguments(cluster: Cluster, around: Surroundings, part: str) -> list[str]:
    build: dict[str, Callable[[Cluster, Surroundings], list[str]]] = {
        "etcd": _etcd,
        "kube-apiserver": _api_server,
        "kube-controller-manager": _controller_manager,
        "kube-scheduler": _scheduler,
    }
    return build[part](cluster, around)


def _etcd(cluster: Cluster, _: Surroundings) -> list[str]:
    ports, pki = cluster._ports(), cluster.pki
    client, peer = (f"https://127.0.0.1:{ports[name]}" for name in ("etcd", "etcd-peer"))
    return [
        "--name=local",
        f"--data-dir={cluster.folder / 'etcd-data'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        f"--cert-file={pki.certificate('etcd')}",
        f"--key-file={pki.key('etcd')}",
        f"--trusted-ca-file={pki.authority}",
        "--client-cert-auth",
        f"--peer-cert-file={pki.certificate('etcd')}",
        f"--peer-key-file={pki.key('etcd')}",
        f"--peer-trusted-ca-file={pki.authority}",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(cluster: Cluster, around: Surroundings) -> list[str]:
    ports, pki = cluster._ports(), cluster.pki
    reached = [
        f"--bind-address={around.address}",
        f"--secure-port={around.port or ports['kube-apiserver']}",
    ]
    if around.port is None:
        reached += ["--endpoint-reconciler-type=none"]
    else:
        reached += [f"--advertise-address={around.address}", *_TALKS_TO_NODES, *_to_nodes(pki)]
    return [
        f"--etcd-servers=https://127.0.0.1:{ports['etcd']}",
        f"--etcd-cafile={pki.authority}",
        f"--etcd-certfile={pki.certificate('etcd-client')}",
        f"--etcd-keyfile={pki.key('etcd-client')}",
        *reached,
        f"--tls-cert-file={pki.certificate('server')}",
        f"--tls-private-key-file={pki.key('server')}",
        f"--client-ca-file={pki.authority}",
        "--anonymous-auth=false",
        f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.key('service-account')}",
        f"--service-account-signing-key-file={pki.key('service-account')}",
        f"--encryption-provider-config={cluster.folder / 'encryption.yaml'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]


_TALKS_TO_NODES = (
    "--kubelet-preferred-address-types=InternalIP",
    # Webhooks and added APIs are called at a ready Pod's own address, not through a node.
    "--enable-aggregator-routing=true",
    "--requestheader-allowed-names=front-proxy",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
)


def _to_nodes(pki: Pki) -> list[str]:
    """What the API server shows to kubelets and to added APIs, and trusts of theirs."""
    return [
        f"--kubelet-certificate-authority={pki.authority}",
        f"--kubelet-client-certificate={pki.certificate('kubelet-client')}",
        f"--kubelet-client-key={pki.key('kubelet-client')}",
        f"--requestheader-client-ca-file={pki.authority}",
        f"--proxy-client-cert-file={pki.certificate('front-proxy')}",
        f"--proxy-client-key-file={pki.key('front-proxy')}",
    ]


def _controller_manager(cluster: Cluster, around: Surroundings) -> list[str]:
    pki = cluster.pki
    # Simulated nodes give a sign of life every 10 s, real ones every 2 s.
    quick = ["--node-monitor-grace-period=8s", "--node-monitor-period=1s"] if around.port else []
    return [
        *quick,
        *_client_of_api(cluster, "controller-manager"),
        f"--root-ca-file={pki.authority}",
        f"--service-account-private-key-file={pki.key('service-account')}",
        "--use-service-account-credentials=true",
        "--horizontal-pod-autoscaler-sync-period=2s",
    ]


def _scheduler(cluster: Cluster, _: Surroundings) -> list[str]:
    return _client_of_api(cluster, "scheduler")


def _client_of_api(cluster: Cluster, identity: str) -> list[str]:
    return [
        f"--kubeconfig={cluster.folder / f'{identity}.kubeconfig'}",
        "--leader-elect=false",
        "--secure-port=0",
        # The defaults, 20 requests a second, spare a shared server; this one is ours alone.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--profiling=false",
    ]


def _write_kubeconfigs(cluster: Cluster, around: Surroundings) -> None:
    """The administrator and KWOK are on this machine; the parts are where the API server is."""
    inside = f"https://{around.address}:{around.port}" if around.port else cluster.server
    servers = {"admin": cluster.server, "kwok": cluster.server}
    for identity in ("admin", "kwok", "controller-manager", "scheduler", "proxy"):
        name = "kubeconfig" if identity == "admin" else f"{identity}.kubeconfig"
        server = servers.get(identity, inside)
        kubeconfig(cluster.folder / name, server, cluster.pki, identity, f"local-{cluster.name}")


def _settle_ports(cluster: Cluster) -> None:
    """Choose the ports once and keep them; a port that somebody else has taken is chosen anew.

    Whoever was told the old port must learn the new one, so all parts stop first in that case.
    """
    ports = cluster._ports()
    listener = {"etcd": "etcd", "etcd-peer": "etcd", "kube-apiserver": "kube-apiserver"}
    if real.running(cluster.folder):
        listener = {"kube-apiserver": "gateway"}  # the others are in a network of their own
    lost = [
        name
        for name in _PORTS
        if name not in ports
        or (
            name in listener
            and cluster.part(listener[name]).pid() is None
            and is_listening(ports[name])
        )
    ]
    if not lost:
        return
    stop(cluster)
    for name in lost:
        ports[name] = free_port()
    write_whole(cluster.folder / "ports.json", json.dumps(ports))


def _ensure_encryption(cluster: Cluster) -> None:
    """Encrypt Secrets at rest, so that no password lies in clear in etcd's files."""
    path = cluster.folder / "encryption.yaml"
    if path.exists():
        return
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    configuration = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [
                    {"secretbox": {"keys": [{"name": "local", "secret": key}]}},
                    {"identity": {}},
                ],
            }
        ],
    }
    write_whole(path, json.dumps(configuration), mode=0o600)


def _ensure_definitions(api: Api, files: Sequence[Path]) -> None:
    """Create the custom resource definitions, replace those whose pin changed, await these."""
    wanted = {body["metadata"]["name"]: body for path in files for body in _marked(path)}
    present = {item["name"]: item for item in api.metadata(_DEFINITIONS_PATH)}
    changed = [
        name
        for name, body in wanted.items()
        if _digest_of(present.get(name)) != _digest_of(body["metadata"])
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda name: _put_definition(api, wanted[name]), changed))
    deadline = time.monotonic() + START_SECONDS
    while changed := [name for name in changed if not _established(api, name)]:
        if time.monotonic() > deadline:
            raise LocalError(f"not established after {START_SECONDS:.0f} s: {', '.join(changed)}")
        time.sleep(0.2)


def _put_definition(api: Api, body: dict[str, Any]) -> None:
    if not api.create(_DEFINITIONS_PATH, body):
        api.replace_spec(f"{_DEFINITIONS_PATH}/{body['metadata']['name']}", body)


def _established(api: Api, name: str) -> bool:
    conditions = api.get(f"{_DEFINITIONS_PATH}/{name}").get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _digest_of(metadata: Mapping[str, Any] | None) -> str | None:
    digest: str | None = (metadata or {}).get("annotations", {}).get(_DEFINITION)
    return digest


def _marked(path: Path) -> list[dict[str, Any]]:
    """The definitions of a file, each with a digest of itself by which a change of it is seen."""
    found = [body for body in documents(path) if body.get("kind") == "CustomResourceDefinition"]
    for body in found:
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]
        body["metadata"].setdefault("annotations", {})[_DEFINITION] = digest
        body.pop("status", None)
    return found


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free / 2**20
    if free < RUN_SPACE_MIB:
        raise LocalError(
            f"a local cluster needs {RUN_SPACE_MIB} MiB of disk, but {folder} has {free:.0f} MiB "
            "free: make room, or set WORLD to a folder on a larger disk"
        )
