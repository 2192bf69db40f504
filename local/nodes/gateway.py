"""The only way between this machine and the network of real nodes: a forwarder of connections.

    python -m local.nodes.gateway FOLDER     with FOLDER/gateway.json

It listens on this machine for the API server, and in the nodes' network for what this machine
offers to Pods (the AWS endpoint). A socket belongs for life to the network namespace in which it
was made, so one process can hold both ends; no interface, route or rule of the host is involved.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CONNECT_SECONDS = 10.0
CHUNK_BYTES = 1 << 18

_CLONE_NEWNET = 0x40000000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """A network namespace, held open by a file of /proc."""

    descriptor: int

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Make sockets of this side; the thread is back where it was afterwards."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(self.descriptor)
            yield
        finally:
            _enter(before)
            os.close(before)

    def listener(self, host: str, port: int) -> socket.socket:
        """A listening socket of this side."""
        with self.entered():
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
        return listener

    async def connection(self, host: str, port: int) -> socket.socket:
        """A connected socket of this side."""
        with self.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(client, (host, port)), CONNECT_SECONDS)
        except (OSError, TimeoutError):
            client.close()
            raise
        return client


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter a network namespace: {os.strerror(code)}")


async def forward(listener: socket.socket, connect: Callable[[], Awaitable[socket.socket]]) -> None:
    """Serve a listener for ever: each connection is joined to a new one from `connect`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                sock=await connect(), limit=CHUNK_BYTES
            )
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("nobody answers behind %s: %s", listener.getsockname(), error)
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        for end in (writer, far_writer):
            end.close()

    server = await asyncio.start_server(serve, sock=listener, limit=CHUNK_BYTES)
    await server.serve_forever()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, and tell the other side that it has ended."""
    try:
        while chunk := await source.read(CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        target.close()


async def main(folder: Path) -> None:
    """Forward until told to stop."""
    config = json.loads((folder / "gateway.json").read_text())
    here = Side(os.open("/proc/self/ns/net", os.O_RDONLY))
    lan = Side(os.open(f"/proc/{config['lan']}/ns/net", os.O_RDONLY))
    api_host, api_port = config["api"]
    aws_host, aws_port = config["aws"]
    port_file = Path(config["aws_port_file"])

    async def to_aws() -> socket.socket:
        # Asked anew each time: the endpoint may have been started again on another port.
        return await here.connection("127.0.0.1", int(port_file.read_text()))

    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(
            forward(
                here.listener("127.0.0.1", config["port"]),
                lambda: lan.connection(api_host, api_port),
            )
        ),
        loop.create_task(forward(lan.listener(aws_host, aws_port), to_aws)),
    ]
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    ended = loop.create_task(stopped.wait())
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
