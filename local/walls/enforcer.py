"""Keeps every node's ruleset in step with the API.

What was loaded stays in force when this process ends: walls do not fall with their builder.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local.api import Api
from local.process import Process
from local.walls import rules
from local.watch import Watched

Enter = Callable[[str], Sequence[str] | None]
"""From a node's name to the command that loads its standard input there; None: it is down."""

PATHS = (
    "/api/v1/pods",
    "/api/v1/namespaces",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/api/v1/nodes",
)
LOOK_SECONDS = 1.0
"""How soon a node that restarted is seen, and a load that failed is tried again."""
LOAD_SECONDS = 10.0
"""Limit for one load; it takes some 20 ms on an idle machine."""

_log = logging.getLogger(__name__)


class Loader:
    """Loads each node's ruleset when it, or the node, is another than before."""

    def __init__(self, enter: Enter) -> None:
        self._enter = enter
        self._loaded: dict[str, tuple[tuple[str, ...], str]] = {}
        self._complaints: dict[str, str] = {}

    def load(self, rulesets: Mapping[str, str]) -> None:
        """Load what changed; what fails is logged once, and tried again by the next call."""
        for node, text in rulesets.items():
            command = self._enter(node)
            if command is None:
                self._loaded.pop(node, None)
            elif self._loaded.get(node) != (tuple(command), text):
                self._load(node, tuple(command), text)

    def _load(self, node: str, command: tuple[str, ...], text: str) -> None:
        complaint = _complaint(command, text)
        if complaint is None:
            self._loaded[node] = (command, text)
            self._complaints.pop(node, None)
            _log.info("%s: loaded %d lines", node, text.count("\n"))
        elif self._complaints.get(node) != complaint:
            self._complaints[node] = complaint
            _log.error("%s: not loaded, what was there stays in force: %s", node, complaint)


def enforce(api_factory: Callable[[], Api], enter: Enter) -> None:
    """Follow the API, and load what it says into the nodes, until interrupted."""
    _log.info("following the API server's Pods and policies")
    loader = Loader(enter)
    seen, rulesets = None, {}
    with Watched(api_factory, PATHS) as watched:
        for _ in watched.changes(LOOK_SECONDS):
            present = [watched.objects(path) for path in PATHS]
            if present != seen:
                seen = present
                rulesets = rules.rulesets(*(each.values() for each in present))
            loader.load(rulesets)


def into_nodes(cluster: Path) -> Enter:
    """Enter the nodes of a cluster's folder.

    A pid alone may be somebody else's by now, and its network this machine's own: only a child of
    the process that is the node counts.
    """

    def enter(node: str) -> Sequence[str] | None:
        folder = cluster / "nodes" / node
        outer = Process("node", folder).pid()
        try:
            pid = int((folder / "init.pid").read_text())
        except (OSError, ValueError):
            return None
        if outer is None or _parent(pid) != outer:
            return None
        namespaces = f"/proc/{pid}/ns"
        return ["nsenter", f"--net={namespaces}/net", f"--mount={namespaces}/mnt", *_NFT]

    return enter


_NFT = ("/usr/sbin/nft", "-f", "-")


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return None


def _complaint(command: Sequence[str], text: str) -> str | None:
    """Load a ruleset; why it could not be, with the line in question, or None."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=LOAD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()
