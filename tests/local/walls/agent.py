"""What runs in the network namespace of a Pod: servers that echo, and a client told what to do.

Reads one JSON request a line on standard input, answers with one JSON line; ends with its input.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TCP_PORTS = (8080, 8081, 8090)
UDP_PORT = 53
DROPPED_SECONDS = 1.0
"""A dropped packet shows by nothing coming back for so long."""
ANSWER_SECONDS = 15.0
"""For what is expected to be answered: a busy machine may take its time."""

_kept: list[socket.socket] = []


def _serve_tcp(port: int) -> None:
    listener = socket.create_server(("0.0.0.0", port))  # noqa: S104, a namespace of its own

    def serve() -> None:
        while True:
            threading.Thread(target=_echo, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(100):
        connection.sendall(data)


def _serve_udp() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", UDP_PORT))  # noqa: S104

    def serve() -> None:
        while True:
            data, sender = server.recvfrom(100)
            server.sendto(data, sender)

    threading.Thread(target=serve, daemon=True).start()


def _reaches(seconds: float, protocol: str, address: str, port: int) -> bool:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(seconds)
        try:
            client.connect((address, port))
            return _answers(client)
        except OSError:
            return False


def _answers(client: socket.socket) -> bool:
    client.sendall(b"hello")
    return client.recv(100) == b"hello"


def _is_refused(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def _keep(address: str, port: int) -> bool:
    client = socket.create_connection((address, port), timeout=ANSWER_SECONDS)
    _kept.append(client)
    return _answers(client)


def _answer(request: dict[str, Any]) -> list[bool]:
    if request["do"] == "keep":
        return [_keep(*request["to"])]
    if request["do"] == "be refused":
        return [_is_refused(*request["to"])]
    if request["do"] == "use kept":
        return [_answers(_kept[-1])]
    seconds, attempts = request["to"]
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda attempt: _reaches(seconds, *attempt), attempts))


def main() -> None:
    """Serve, and answer requests until there are no more."""
    for port in TCP_PORTS:
        _serve_tcp(port)
    _serve_udp()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
