"""The name server itself, with our configuration: names of the cluster, and no others, at once."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from local import addons
from local.cluster import Cluster
from local.process import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.dataplane]

COREFILE = Path(addons.__file__).parent / "coredns.yaml"
NO_ERROR, NAME_ERROR, REFUSED = 0, 3, 5
START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A running name server, and where it answers."""

    port: int
    process: subprocess.Popen[bytes]

    def ask(self, name: str, kind: int = 1) -> tuple[int, bytes]:
        """The response code and the whole answer for a name (1 = A, 12 = PTR), within 5 s."""
        labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
        query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
            talk.settimeout(5)
            talk.sendto(query, ("127.0.0.1", self.port))
            answer = talk.recv(4096)
        return answer[3] & 0x0F, answer


@pytest.fixture(scope="module")
def server(
    cluster: Cluster, tools: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """CoreDNS with the ConfigMap's Corefile; only ports and the way to the API server differ."""
    folder = tmp_path_factory.mktemp("coredns")
    port, health, ready = free_port(), free_port(), free_port()
    documents = yaml.safe_load_all(COREFILE.read_text())
    text = next(body["data"]["Corefile"] for body in documents if body["kind"] == "ConfigMap")
    text = text.replace(":53 ", f":{port} ").replace(":8080", f"127.0.0.1:{health}")
    text = text.replace(":8181", f"127.0.0.1:{ready}")
    text = re.sub(r"(ttl \d+)", rf"\1\n kubeconfig {cluster.kubeconfig}", text)
    (folder / "Corefile").write_text(text)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [tools["coredns"], "-conf", folder / "Corefile"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        # It says that it is ready a moment before it listens for names.
        while not (answers(f"http://127.0.0.1:{ready}/ready") and listens(port)):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield Server(port, process)
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def listens(port: int) -> bool:
    """Whether names are answered on a port: it takes TCP as well as UDP."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_service_is_found_by_its_name(server: Server) -> None:
    code, answer = server.ask("kubernetes.default.svc.cluster.local")
    assert code == NO_ERROR
    assert socket.inet_aton("10.96.0.1") in answer


def test_an_address_is_found_back(server: Server) -> None:
    code, answer = server.ask("1.0.96.10.in-addr.arpa", kind=12)
    assert code == NO_ERROR
    assert b"kubernetes" in answer


def test_a_service_that_is_not_there_has_no_name(server: Server) -> None:
    assert server.ask("nothing.default.svc.cluster.local")[0] == NAME_ERROR


def test_a_name_outside_the_cluster_is_refused_at_once(server: Server) -> None:
    start = time.monotonic()
    assert server.ask("backups.example.com")[0] == REFUSED
    assert time.monotonic() - start < 2


def test_answers_are_kept_for_seconds_only(server: Server) -> None:
    """A client must not hold on to a dead Pod; the answer ends with TTL, length and address."""
    _, answer = server.ask("kubernetes.default.svc.cluster.local")
    seconds = struct.unpack(">I", answer[-10:-6])[0]
    assert 0 < seconds <= 5


def test_a_server_that_is_told_to_end_goes_on_answering_for_a_while(server: Server) -> None:
    """Last, because it ends the server: whoever has not heard of it still gets an answer."""
    server.process.terminate()
    time.sleep(2)
    assert server.ask("kubernetes.default.svc.cluster.local")[0] == NO_ERROR
    server.process.wait(10)
