"""The forwarder between this machine and another network namespace, with real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.nodes.lan import Lan
from local.process import free_port, is_listening
from local.world import PROJECT
from tests.waiting import eventually

pytestmark = pytest.mark.dataplane

ECHO = """import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = listener.accept()
    with client:
        while data := client.recv(65536):
            client.sendall(data)
        client.sendall(b"end")
"""
ASK = """import socket
client = socket.create_connection(("198.18.0.1", 443), 5)
client.sendall(b"from inside")
client.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: client.recv(65536), b"")).decode())
"""


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    network = Lan(tmp_path)
    network.start()
    try:
        yield network
    finally:
        network.stop()


@pytest.fixture
def gateway(tmp_path: Path, lan: Lan) -> Iterator[int]:
    """A running gateway: an echo server inside stands for the API server, one here for AWS."""
    port, api_port, aws_port = free_port(), free_port(), free_port()
    config = {
        "lan": lan.holder.pid(),
        "port": port,
        "api": ["127.0.0.1", api_port],
        "aws": ["198.18.0.1", 443],
        "aws_port_file": str(tmp_path / "aws.port"),
    }
    (tmp_path / "gateway.json").write_text(json.dumps(config))
    (tmp_path / "aws.port").write_text(str(aws_port))
    command = [sys.executable, "-m", "local.nodes.gateway", str(tmp_path)]
    echo = [sys.executable, "-c", ECHO]
    with (
        _running([*lan.enter, *echo, str(api_port)]),
        _running([*echo, str(aws_port)]),
        _running(command),
    ):
        eventually("both listen", lambda: is_listening(port) and is_listening(aws_port))
        yield port


def test_what_is_sent_comes_back_whole(gateway: int) -> None:
    payload = os.urandom(3 * 2**20)
    with socket.create_connection(("127.0.0.1", gateway), 5) as client:
        client.settimeout(20)
        assert _exchange(client, payload) == payload + b"end"


def test_a_network_that_is_up_is_not_made_anew(lan: Lan) -> None:
    before = lan.holder.pid()
    lan.start()
    assert (lan.is_up(), lan.holder.pid()) == (True, before)


def test_half_a_network_is_made_anew(tmp_path: Path) -> None:
    """As a run leaves it that is killed between the holder's start and the bridge."""
    network = Lan(tmp_path)
    network.holder.start(["unshare", "--net", "--", "sleep", "infinity"], os.environ)
    try:
        assert not network.is_up()
        network.start()
        assert network.is_up()
    finally:
        network.stop()


def test_a_network_is_lost_once_its_holder_died(lan: Lan) -> None:
    assert not lan.is_lost()
    pid = lan.holder.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually("it is lost", lan.is_lost)
    lan.stop()
    assert not lan.is_lost()


def test_pods_reach_what_this_machine_offers(gateway: int, lan: Lan) -> None:
    asked = subprocess.run(
        [*lan.enter, sys.executable, "-c", ASK],
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert asked.stdout.strip() == "from insideend"


def test_nothing_else_of_this_machine_can_be_reached_from_inside(gateway: int, lan: Lan) -> None:
    tried = subprocess.run(
        [*lan.enter, "ip", "route", "get", "192.0.2.1"], check=False, capture_output=True, text=True
    )
    assert "unreachable" in tried.stderr


def _exchange(client: socket.socket, payload: bytes) -> bytes:
    """Send all and read all at the same time: neither side can hold 3 MiB back."""
    child = os.fork()
    if child == 0:
        client.sendall(payload)
        client.shutdown(socket.SHUT_WR)
        os._exit(0)
    received = b"".join(iter(lambda: client.recv(65536), b""))
    os.waitpid(child, 0)
    return received


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=PROJECT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
