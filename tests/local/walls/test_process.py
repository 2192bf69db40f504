"""The whole way: a policy is created in the API, and a node's ruleset holds it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.cluster import Cluster
from tests.local.walls.objects import policy
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.cluster

POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
PODS = "/api/v1/namespaces/default/pods"
NODE = "us-east-1a-1"
INTO_FILES = """
import sys
from pathlib import Path
from local.cluster import Cluster
from local.walls.enforcer import enforce
folder, out = map(Path, sys.argv[1:])
enforce(Cluster("tests", folder).api, lambda node: ["sh", "-c", 'cat > "$0"', str(out / node)])
"""


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_policy_reaches_the_node_of_its_pods(cluster: Cluster, tmp_path: Path) -> None:
    ruleset = tmp_path / NODE
    pod = {
        "metadata": {"name": "walled"},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "example.com/any"}]},
    }
    isolating = policy("isolating", {"podSelector": {}}, of="default")
    with cluster.api() as api, running("-c", INTO_FILES, str(cluster.folder), str(tmp_path)):
        api.create(PODS, pod)
        try:
            eventually(
                "it is open", lambda: ruleset.exists() and " : accept" in ruleset.read_text()
            )
            api.create(POLICIES, isolating)
            walled = " : goto ingress-pod/default/walled"
            eventually("it is walled in", lambda: walled in ruleset.read_text())
            api.delete(f"{POLICIES}/isolating")
            eventually("it is open again", lambda: "goto" not in ruleset.read_text())
        finally:
            api.delete(f"{POLICIES}/isolating")
            api.delete(f"{PODS}/walled")


def test_ends_when_told_to(cluster: Cluster) -> None:
    with running("-m", "local.walls", str(cluster.folder)) as process:
        assert process.stderr is not None
        assert b"following" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_SECONDS) == 0
