"""What this machine must offer for real nodes, tried out rather than looked up."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from local.errors import LocalError
from local.nodes import cgroups

COMMANDS = ("unshare", "nsenter", "ip", "pivot_root", "mount", "cp", "apt-get", "dpkg-deb")

_TRIAL_SECONDS = 60
_TRIAL = """set -e
mkdir "$0/lower" "$0/upper" "$0/work" "$0/merged"
{command}
"""
_DISK = (
    'truncate -s 16M "$0/disk"; mkfs.ext4 -q "$0/disk"; mount -o loop,discard "$0/disk" "$0/merged"'
)
_TRIALS = {
    "links between network namespaces (veth, bridge)": (
        "ip link add left type veth peer name right; ip link add lan type bridge"
    ),
    "overlay file systems in the world's folder": (
        'mount -t overlay overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" '
        '"$0/merged"'
    ),
}


def lacks(folder: Path) -> list[str]:
    """Everything that keeps real nodes from running here, in words; empty if they can.

    Args:
        folder: where the nodes' files would be; made if need be.
    """
    if platform.system() != "Linux":
        return [f"Linux (this is {platform.system()})"]
    if os.geteuid() != 0:
        return ["root (it makes namespaces and mounts)"]
    missing = [f"the command {name}" for name in COMMANDS if shutil.which(name) is None]
    missing += [f"the control group {name}" for name in cgroups.lacking()]
    if not _has_nftables():
        missing.append("nftables in the kernel")
    if not missing:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing += [what for what, command in _TRIALS.items() if not _works(command, folder)]
    return missing


def lacks_disks(folder: Path) -> list[str]:
    """What keeps each node from having a disk of its own for its volumes; empty if it can.

    Args:
        folder: as for `lacks`; it is there already.
    """
    if shutil.which("mkfs.ext4") is None:
        return ["the command mkfs.ext4"]
    return [] if _works(_DISK, folder) else ["loop devices with ext4"]


def _works(command: str, folder: Path) -> bool:
    """Try a command in namespaces that end with it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        script = _TRIAL.format(command=command)
        try:
            tried = subprocess.run(
                ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", script, scratch],
                capture_output=True,
                check=False,
                timeout=_TRIAL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise LocalError(
                f"what this machine offers to nodes was not found out within {_TRIAL_SECONDS} s: "
                "is it overloaded?"
            ) from None
    return tried.returncode == 0


_GET_GENERATION = (10 << 8) | 16
"""Of nftables' netlink protocol: asks for the ruleset's generation, and changes nothing."""
_ERROR = 2


def _has_nftables() -> bool:
    request = struct.pack("=IHHIIBBH", 20, _GET_GENERATION, 1, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
            netfilter.settimeout(2)
            netfilter.send(request)
            answer = netfilter.recv(4096)
    except OSError:
        return False
    kind = struct.unpack_from("=H", answer, 4)[0]
    return bool(kind != _ERROR)
