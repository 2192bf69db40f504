"""A node with Pods, as far as the network goes: namespaces joined by veth pairs, as ptp does.

Each namespace is held by one process (`agent.py`) and vanishes with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from local.toolchain.build import cache_folder
from local.walls.rules import rulesets
from tests.local.walls import agent
from tests.local.walls.objects import NAMESPACES, NODE, NODES, OUTSIDER, PODS, Object

GATEWAY = "169.254.1.1"
SERVICE = "10.96.0.20"
"""A Service of two ports: 80 leads to `web`, port 8080; 53 to `dns`."""
END_SECONDS = 10.0
_SBIN = "/usr/sbin:/sbin"
_NFT_PACKAGES = (
    *("nftables", "libnftables1", "libnftnl11", "libjansson4", "libedit2", "libbsd0"),
    *("libmd0", "libmnl0", "libxtables12", "libgmp10", "libtinfo6"),
)

Attempt = tuple[str, str, int]
"""Protocol, address, port."""


@dataclass(frozen=True)
class Namespace:
    """A network namespace, and the agent in it."""

    process: subprocess.Popen[str]

    @property
    def enter(self) -> list[str]:
        """Command prefix."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def run(self, script: str) -> None:
        """Run shell commands in it."""
        path = f"{os.environ['PATH']}:{_SBIN}"
        subprocess.run([*self.enter, "sh", "-ec", script], check=True, env={"PATH": path})

    def ask(self, what: str, to: Any = None) -> list[bool]:
        """Have the agent do something."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, "to": to}) + "\n")
        self.process.stdin.flush()
        answer: list[bool] = json.loads(self.process.stdout.readline())
        return answer

    def reaches(self, *attempts: Attempt, seconds: float = agent.ANSWER_SECONDS) -> list[bool]:
        """Which attempts to connect and be answered succeed in time."""
        return self.ask("reach", (seconds, attempts))


@dataclass(frozen=True)
class Lab:
    """The node, whatever has an address, and nft."""

    node: Namespace
    hosts: Mapping[str, Namespace]
    nft: Sequence[str]

    def load(self, *policies: Object, pods: Sequence[Object] = tuple(PODS.values())) -> None:
        """Enforce these policies and no others."""
        texts = rulesets(pods, NAMESPACES, policies, NODES)
        self.run_nft(texts[NODE])

    def run_nft(self, script: str) -> None:
        """Load a script into the node."""
        command = [*self.node.enter, *self.nft, "-f", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextmanager
def lab(nft: Sequence[str]) -> Iterator[Lab]:
    """Build it; nothing is left afterwards."""
    with ExitStack() as stack:
        node = stack.enter_context(_namespace())
        node.run("echo 1 > /proc/sys/net/ipv4/ip_forward; ip link set lo up")
        addresses = {name: str(pod["status"]["podIP"]) for name, pod in PODS.items()}
        hosts = {}
        for number, (name, address) in enumerate({**addresses, "outsider": OUTSIDER}.items()):
            hosts[name] = stack.enter_context(_namespace())
            _join(node, hosts[name], f"veth{number}", address)
        built = Lab(node, hosts, nft)
        built.run_nft(_services(addresses["web"], addresses["dns"]))
        yield built


def find_nft() -> list[str]:
    """The command for nft: the system's, or Debian's packages unpacked into the cache."""
    if found := shutil.which("nft", path=f"{os.environ['PATH']}:{_SBIN}"):
        return [found]
    if shutil.which("apt-get") is None:
        pytest.skip("nft is not on PATH, and there is no apt-get to fetch it with")
    folder = cache_folder() / "nft"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        root = folder / "root"
        if not root.exists():
            _unpack(folder / "archives", root)
    (libraries,) = (root / "usr" / "lib").glob("*-linux-gnu")
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(root / "usr" / "sbin" / "nft")]


def _unpack(archives: Path, root: Path) -> None:
    archives.mkdir(exist_ok=True)
    options = ["-q", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User="]
    command = ["apt-get", *options, "download", *_NFT_PACKAGES]
    done = subprocess.run(command, cwd=archives, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nft is not on PATH and cannot be fetched: {done.stderr[-300:]}")
    partial = root.with_suffix(".partial")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(partial)], check=True)
    partial.rename(root)


@contextmanager
def _namespace() -> Iterator[Namespace]:
    process = subprocess.Popen(
        ["unshare", "--net", sys.executable, agent.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            pytest.skip("a network namespace cannot be made here: it takes root")
        yield Namespace(process)
    finally:
        process.kill()
        process.wait(END_SECONDS)
        process.stdin.close()
        process.stdout.close()


def _join(node: Namespace, host: Namespace, link: str, address: str) -> None:
    node.run(
        f"ip link add {link} type veth peer name eth0 netns {host.process.pid};"
        f"ip address add {GATEWAY}/32 dev {link};"
        f"ip link set {link} up; ip route add {address}/32 dev {link}"
    )
    host.run(
        f"ip link set lo up; ip address add {address}/32 dev eth0; ip link set eth0 up;"
        f"ip route add {GATEWAY}/32 dev eth0; ip route add default via {GATEWAY}"
    )


def _services(web: str, dns: str) -> str:
    """What kube-proxy would load, hairpins included."""
    return f"""
        table ip services {{
          chain prerouting {{
            type nat hook prerouting priority dstnat;
            ip daddr {SERVICE} tcp dport 80 dnat to {web}:8080
            ip daddr {SERVICE} udp dport 53 dnat to {dns}:53
          }}
          chain postrouting {{
            type nat hook postrouting priority srcnat;
            ip saddr {web} ip daddr {web} masquerade
          }}
        }}
    """
