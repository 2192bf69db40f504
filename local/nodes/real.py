"""Real nodes: kubelet, containerd and kube-proxy, one node per zone, all on this machine.

Each node is one tree of processes in namespaces of its own, with a root file system of its own.
Its outermost process is all that holds it: killing that is pulling the node's plug, and nothing of
it is left but files in its folder and empty control groups.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local import nodes
from local.api import Api, kubeconfig
from local.errors import LocalError
from local.files import write_whole
from local.nodes import Surroundings, Topology, lan
from local.nodes.cgroups import Cgroup
from local.nodes.lan import API_PORT, AWS_PORT, GATEWAY, Address, Lan
from local.pki import Pki
from local.process import Process

TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2", "kubelet", "kube-proxy")
"""The programs of a node."""
CLUSTER_DNS = "10.96.0.10"
CORES = 16
"""That each node says it has, whatever this machine has: what stacks declare for a cloud's nodes is
scheduled. Beyond the real cores Pods share, each by its request."""
CONTROLLERS = {"volumes": "local.volumes", "walls": "local.walls", "strimzi": "local.strimzi"}
"""What a cloud's control plane does for its nodes: disks, and the walls between Pods; and a
stand-in for an operator whose image cannot be had."""

DISK_GIB = 32
"""Of each node, for its volumes. The file is sparse: it takes the space of what is written."""

_INIT = Path(__file__).parent / "init.sh"
_PROJECT = Path(__file__).parent.parent.parent
_NODES = "nodes"


@dataclass(frozen=True)
class Software:
    """What a node is made of."""

    tools: Mapping[str, Path]
    image: Path
    """The unpacked root file system."""
    store: Path
    """A containerd folder that holds every image already."""
    pause: str
    """The image that holds a Pod's namespaces."""


@dataclass(frozen=True)
class Node:
    """One real node, and everything that can be done to it."""

    name: str
    zone: str
    address: Address
    cluster: Path

    @property
    def folder(self) -> Path:
        """Holds all it keeps: images, volumes, logs, keys."""
        return self.cluster / _NODES / self.name

    @property
    def volumes(self) -> Path:
        """The folder of its volumes, as this machine reaches it.

        Raises:
            LocalError: if they are on a disk of its own, and the node is down.
        """
        own = self.folder / "volumes"
        if not self._disk.exists():
            return own
        inside = Path(f"/proc/{self.init_pid}/root{own}")
        if self.init_pid is None or not (inside / _MOUNTED).is_dir():
            raise LocalError(f"node {self.name} is down, and the disk with its volumes with it")
        return inside

    @property
    def _disk(self) -> Path:
        return self.folder / "disk"

    @property
    def process(self) -> Process:
        """Its outermost process."""
        return Process("node", self.folder)

    @property
    def cgroup(self) -> Cgroup:
        """Its control groups."""
        return Cgroup(self.cluster, self.name)

    @property
    def init_pid(self) -> int | None:
        """Its first process, as seen from this machine; None while it is down.

        Until the outermost process has left this machine's namespaces, all at once, its children
        are helpers of its start, and what is done to a node would be done to this machine.
        """
        outer = self.process.pid()
        if outer is None or not lan.has_left(outer):
            return None
        try:
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    @property
    def _linked(self) -> Path:
        """Is there once it is in the network, which its daemons wait for."""
        return self.folder / "linked"

    def is_on(self) -> bool:
        """Whether it runs; a run that was killed may have left half of a node, which does not."""
        return self.process.pid() is not None and self._linked.exists()

    def start(self) -> None:
        """Power on; a no-op while it runs. It is configured already (`RealNodes.start`)."""
        if self.is_on():
            return
        self.process.stop(0)
        self.cgroup.empty()
        self.cgroup.create()
        self._linked.unlink(missing_ok=True)
        self.process.start(isolated(self.folder), {"PATH": os.environ["PATH"]})
        try:
            self.process.wait_until(lambda: self.init_pid is not None, 10)
            others = [other.address for other in members(self.cluster) if other != self]
            Lan(self.cluster).attach(self.process.pid(), self.address, others)
            (self.folder / "init.pid").write_text(str(self.init_pid))
            self._linked.touch()
        except BaseException:
            self.process.stop(0)  # half a node is none
            raise

    def kill(self) -> None:
        """Pull the plug: every process of the node ends at once, by SIGKILL."""
        self.thaw()
        self.process.stop(0)
        self.cgroup.empty()

    def freeze(self) -> None:
        """Let it hang: it answers nothing, but its connections stay open."""
        self.cgroup.freeze(frozen=True)

    def thaw(self) -> None:
        """Let a hanging node go on; a no-op otherwise."""
        if self.process.pid() is not None:
            self.cgroup.freeze(frozen=False)

    def cut(self, others: Sequence[Node] | None = None) -> None:
        """Drop, in silence, every packet between it and the world, or only those other nodes.

        Cut off from the world, it also comes last where this machine's processors are shared out: a
        machine of its own would take nothing from those that go on, and what is isolated may spin,
        as Kafka's brokers do (docs/decisions/kafka.md).
        """
        arriving, leaving = _drop(None if others is None else [other.address for other in others])
        self._load(_FAULTS.format(arriving=arriving, leaving=leaving))
        self.cgroup.yield_cpu(last=others is None)

    def slow(self, kilobytes: int) -> None:
        """Let no more than so many kilobytes a second out of the node; the rest is dropped."""
        leaving = f"oifname eth0 limit rate over {kilobytes} kbytes/second drop"
        self._load(_FAULTS.format(arriving="", leaving=leaving))

    def heal(self) -> None:
        """Undo `cut` and `slow`; a no-op on a node that is down, whose rules went with it."""
        if self.process.pid() is not None:
            self._load("")
            self.cgroup.yield_cpu(last=False)

    def mend(self) -> None:
        """Undo every fault but those that it does not outlive; a no-op on a node that is down."""
        self.thaw()
        self.heal()
        self.empty_disk()

    def limit_memory(self, size: int | None) -> None:
        """Cap the memory of the whole node, in bytes; None lifts the cap."""
        self.cgroup.limit_memory(size)

    def fill_disk(self, leave: int = 0) -> None:
        """Leave only so many bytes on the disk of its volumes.

        Raises:
            LocalError: if it has no disk of its own, or is down.
        """
        if not self._disk.exists():
            raise LocalError(f"node {self.name} has no disk of its own that could be filled")
        self.run(["bash", "-c", _FILL, str(self.folder / "volumes"), str(leave)])

    def empty_disk(self) -> None:
        """Undo `fill_disk`; a no-op on a node that is down, until it is asked again."""
        if self.process.pid() is not None:
            self.run(["sh", "-c", 'rm -f "$0"/.filler*', str(self.folder / "volumes")])

    def run(
        self, command: Sequence[str], *, check: bool = True, stdin: IO[bytes] | None = None
    ) -> str:
        """Run a command as the node's root would; return what it printed.

        Args:
            command: its name and arguments.
            check: whether it must succeed.
            stdin: a file that it reads.

        Raises:
            LocalError: if the node is down, or the command fails.
        """
        try:
            done = subprocess.run(
                self.command(command),
                stdin=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=_RUN_SECONDS,
                # A Ctrl-C that ends a drill does not end what mends the node after it.
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise LocalError(f"{self.name}: {command[0]} took more than {_RUN_SECONDS} s") from None
        if check and done.returncode != 0:
            raise LocalError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def command(self, inside: Sequence[str]) -> list[str]:
        """The command line, on this machine, of a command in the node's namespaces.

        Raises:
            LocalError: if the node is down.
        """
        pid = self.init_pid
        if pid is None:
            raise LocalError(f"node {self.name} is down")
        flags = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        return ["nsenter", f"--target={pid}", *flags, "--", "env", "-i", f"PATH={_PATH}", *inside]

    def _load(self, rules: str) -> None:
        """Put these packet rules in the place of those before, in one transaction."""
        script = f"table inet faults\ndelete table inet faults\n{rules}"
        self.run(["sh", "-c", f"nft -f - <<'END'\n{script}\nEND"])


@dataclass(frozen=True)
class RealNodes:
    """The real nodes of a cluster, with the network that joins them."""

    folder: Path
    topology: Topology
    pki: Pki
    software: Software
    port: int
    """Of this machine, where its clients find the API server."""
    aws_port_file: Path
    """Holds the port of this machine's AWS endpoint."""
    disks: bool = True
    """Whether a new node gets a disk of its own for its volumes."""

    def surroundings(self) -> Surroundings:
        """Bring up the network in which the control plane runs, and the way into it."""
        network = Lan(self.folder)
        network.start()
        config = {
            "lan": network.holder.pid(),
            "port": self.port,
            "api": [GATEWAY, API_PORT],
            "aws": [GATEWAY, AWS_PORT],
            "aws_port_file": str(self.aws_port_file),
        }
        write_whole(self.folder / "gateway.json", json.dumps(config))
        _module("gateway", "local.nodes.gateway", self.folder)
        return Surroundings(network.enter, GATEWAY, API_PORT)

    def start(self, api: Api) -> None:
        """Configure and power on every node that is down, and the controllers that serve them.

        What a drill that was ended by force left broken of a running one is mended.

        Raises:
            LocalError: if they are not in the zones that the running ones are in.
        """
        own = _planned(self.folder, self.topology)
        if moved := [node.name for node in members(self.folder) if node not in own]:
            raise LocalError(
                f"the nodes of a local world stay in their zones: {', '.join(moved)} would go, or "
                "have another place; end this world first, with `make down`"
            )
        for node in own:  # before its kubelet does: only then are its Pods walled in from the start
            api.create("/api/v1/nodes", _object(node))
        (self.folder / _NODES).mkdir(exist_ok=True)
        write_whole(
            self.folder / _NODES / "members.json",
            json.dumps([[node.name, node.zone, node.address.number] for node in own]),
        )
        down = [node for node in own if not node.is_on()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.mend, (node for node in own if node not in down)))
            list(pool.map(self._power_on, down))
        for name, module in CONTROLLERS.items():
            _module(name, module, self.folder)

    def await_ready(self, api: Api, limit: float) -> None:
        """Wait until every node is Ready, at most `limit` seconds."""
        deadline = time.monotonic() + limit
        own = members(self.folder)
        while missing := {node.name for node in own} - nodes.ready(api):
            node = next(node for node in own if node.name in missing)
            if time.monotonic() > deadline or node.process.pid() is None:
                log = Process("kubelet", node.folder / "logs")
                raise LocalError(
                    f"node {node.name} is not Ready. Its start says:\n{node.process.tail(5)}\n"
                    f"and its kubelet:\n{log.tail()}"
                )
            time.sleep(0.1)

    def _power_on(self, node: Node) -> None:
        self._configure(node)
        node.start()

    def _configure(self, node: Node) -> None:
        """Write all that a node reads; give it the images, as links to those of the store."""
        node.folder.mkdir(parents=True, exist_ok=True)
        # Once its volumes are in its folder, they stay there.
        if self.disks and not (node._disk.exists() or (node.folder / "volumes").exists()):
            make_disk(node._disk)
        own = node.folder / "pki"
        own.mkdir(mode=0o700, exist_ok=True)
        self.pki.ensure_node(node.name, node.address.host)
        copied = (node.name, f"{node.name}-serving", "proxy")
        for path in [self.pki.authority, *map(self.pki.certificate, copied)]:
            shutil.copy(path, own)
        for name in copied:
            shutil.copy(self.pki.key(name), own)
        server = f"https://{GATEWAY}:{API_PORT}"
        for file, identity in (("kubelet", node.name), ("kube-proxy", "proxy")):
            kubeconfig(node.folder / f"{file}.kubeconfig", server, Pki(own), identity, "local")
        (node.folder / "kubelet.json").write_text(json.dumps(_kubelet(node), indent=2))
        (node.folder / "kube-proxy.json").write_text(json.dumps(_kube_proxy(node), indent=2))
        (node.folder / "resolv.conf").write_text("")  # no name outside the cluster can be resolved
        write_runtime(node.folder, node.address.pods, self.software.pause)
        labels = {
            "topology.kubernetes.io/region": self.topology.region,
            "topology.kubernetes.io/zone": node.zone,
        }
        write_environment(
            node.folder,
            NAME=node.name,
            FOLDER=str(node.folder),
            IMAGE=str(self.software.image),
            TOOLS=" ".join(str(self.software.tools[name]) for name in TOOLS),
            CORES=str(CORES),
            CGROUPS=" ".join(map(str, node.cgroup.adopt_files())),
            DISK=str(node._disk) if node._disk.exists() else "",
            ADDRESS=node.address.host,
            LABELS=",".join(f"{key}={value}" for key, value in labels.items()),
        )
        if not (node.folder / "containerd").exists():
            link_tree(self.software.store, node.folder / "containerd")


def isolated(folder: Path) -> list[str]:
    """The command that runs `init.sh` on a node's folder, in namespaces that end with it."""
    namespaces = ("--net", "--mount", "--uts", "--ipc", "--pid")
    return [
        *("unshare", *namespaces, "--fork", "--kill-child=SIGKILL", "--"),
        *("sh", str(_INIT), str(folder)),
    ]


def members(cluster: Path) -> list[Node]:
    """The real nodes that a cluster has, running or not.

    Where the list of them cannot be read, their folders tell, so that they can be ended.
    """
    try:
        listed = json.loads((cluster / _NODES / "members.json").read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        folders = sorted(path.name for path in (cluster / _NODES).glob("*-1"))
        listed = [(name, name.removesuffix("-1"), number) for number, name in enumerate(folders, 1)]
    return [Node(name, zone, Address(number), cluster) for name, zone, number in listed]


def running(cluster: Path) -> dict[str, int | None]:
    """The pid of each process that makes up a cluster's real nodes; empty if it has none."""
    own = members(cluster)
    if not own:
        return {}
    parts = {name: Process(name, cluster).pid() for name in ("lan", "gateway", *CONTROLLERS)}
    return parts | {node.name: node.process.pid() for node in own}


def network_is_lost(cluster: Path) -> bool:
    """Whether nodes and control plane may work in a network that nobody new can enter."""
    return Lan(cluster).is_lost()


def stop_nodes(cluster: Path) -> None:
    """Pull the plug of every real node, and end what serves them."""
    for name in CONTROLLERS:
        Process(name, cluster).stop()
    own = members(cluster)
    with ThreadPoolExecutor() as pool:
        list(pool.map(Node.kill, own))
        list(pool.map(lambda node: node.cgroup.remove(), own))


def stop_network(cluster: Path) -> None:
    """End the network of the real nodes, once nobody works in it any more."""
    Process("gateway", cluster).stop()
    Lan(cluster).stop()


def write_environment(folder: Path, **values: str) -> None:
    """Write what `init.sh` reads."""
    lines = (f"{key}={_quoted(value)}\n" for key, value in values.items())
    (folder / "node.env").write_text("".join(lines))


def write_runtime(folder: Path, pods: str, pause: str) -> None:
    """Write the configuration of containerd and of the Pods' network."""
    network = folder / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-pods.conflist").write_text(json.dumps(_pod_network(pods)))
    (folder / "containerd.toml").write_text(_CONTAINERD.format(pause=pause, network=network))


def make_disk(path: Path) -> None:
    """Make a file that holds an empty file system; it is there in full or not at all.

    It has no journal: the kernel of this machine outlives the node, and writes all of it back.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.truncate(DISK_GIB * 2**30)
    made = subprocess.run(
        ["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(partial)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise LocalError(f"could not make a disk for {path.parent.name}: {made.stderr.strip()}")
    partial.rename(path)


def link_tree(source: Path, target: Path) -> None:
    """Copy a containerd folder in a second and without space: unpacked layers become hard links.

    Nobody writes to a layer, a container's changes go to a layer of its own; databases are copied.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # Linked, or where that is another file system, copied.
    same = source.stat().st_dev == target.parent.stat().st_dev
    copied = subprocess.run(
        ["cp", "-al" if same else "-a", str(source), str(partial)],
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise LocalError(
            f"could not give {target.parent.name} its images: {copied.stderr.strip()[-500:]}"
        )
    for database in partial.rglob("*.db"):
        if not database.is_relative_to(
            partial / "io.containerd.snapshotter.v1.overlayfs/snapshots"
        ):
            copy = database.with_suffix(".copy")
            shutil.copy2(database, copy)
            copy.rename(database)
    partial.rename(target)


def _planned(cluster: Path, topology: Topology) -> list[Node]:
    return [
        Node(f"{zone}-1", zone, Address(number), cluster)
        for number, zone in enumerate(topology.zones, start=1)
    ]


def _module(name: str, module: str, folder: Path) -> None:
    """Start one of our own programs beside the cluster, which is no part of its nodes either."""
    Process(name, folder).start(
        [sys.executable, "-m", module, str(folder)],
        {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(_PROJECT)},
        first=True,
    )


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _drop(others: Sequence[Address] | None) -> tuple[str, str]:
    """Rules that drop what comes from and goes to these nodes and their Pods; None: or anybody."""
    if others is None:
        return "iifname eth0 drop", "oifname eth0 drop"
    addresses = ", ".join(text for other in others for text in (other.host, other.pods))
    return f"ip saddr {{ {addresses} }} drop", f"ip daddr {{ {addresses} }} drop"


_RUN_SECONDS = 600

_MOUNTED = "lost+found"
"""Is there once the file system is."""

_FILL = """set -e
free=$(($(stat -f -c '%a * %S' "$0") - $1))
[ "$free" -le 0 ] || fallocate -l "$free" "$0/.filler" 2>/dev/null || true
[ "$1" -gt 0 ] || dd if=/dev/zero of="$0/.filler-rest" bs=4k 2>/dev/null || true
"""
"""What is set aside at one go takes some blocks itself; the last are filled one by one."""

_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"

_FAULTS = """table inet faults {{
  chain arriving {{ type filter hook prerouting priority raw; {arriving}; }}
  chain leaving {{ type filter hook postrouting priority 300; {leaving}; }}
}}"""

_CONTAINERD = """version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.tracing.processor.v1.otlp',
]
[grpc]
  address = '/run/containerd/containerd.sock'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.runtime']
  enable_unprivileged_ports = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '{network}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '/usr/sbin/runc'
  SystemdCgroup = false
"""


def _pod_network(pods: str) -> dict[str, Any]:
    """Give each Pod a link to the node, which routes: every packet of a Pod passes its rules."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1500,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def _object(node: Node) -> dict[str, Any]:
    """What only a cloud knows of a node. Its kubelet adds the rest."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
        "spec": {"podCIDR": node.address.pods, "podCIDRs": [node.address.pods]},
    }


def _kubelet(node: Node) -> dict[str, Any]:
    own = node.folder / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address.host,
        # The PostgreSQL operator wants its dead connections to end within seconds.
        "allowedUnsafeSysctls": ["net.ipv4.tcp_retries2"],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(own / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup.path,
        "clusterDNS": [CLUSTER_DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # All nodes share this machine's disk: only a disk that is all but full is an emergency,
        # and of a large one some percent are still much.
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "500Mi",
            "nodefs.inodesFree": "2%",
            "imagefs.available": "500Mi",
        },
        "failCgroupV1": False,
        "failSwapOn": False,
        # Images come from no registry, so one that was removed would be gone for good.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        # A sign of life every 2 s, so that a node may count as lost after 8 s (see cluster.py).
        "nodeLeaseDurationSeconds": 8,
        "nodeStatusUpdateFrequency": "2s",
        "resolvConf": str(node.folder / "resolv.conf"),
        "serializeImagePulls": False,
        "tlsCertFile": str(own / f"{node.name}-serving.crt"),
        "tlsPrivateKeyFile": str(own / f"{node.name}-serving.key"),
        "volumePluginDir": "/var/lib/kubelet/plugins/exec",
    }


def _kube_proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(node.folder / "kube-proxy.kubeconfig")},
        "clusterCIDR": lan.PODS,
        # The host's own limits stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "detectLocalMode": "ClusterCIDR",
        "hostnameOverride": node.name,
        "mode": "nftables",
        "nodePortAddresses": ["primary"],
    }
