"""Run an operator's real program beside the API server of the tests.

A program that would listen on every address, as webhooks do, gets a network of its own. Two ports
join it to this machine's loopback: the API server's inwards, the webhooks' outwards.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.nodes.gateway import Side, forward
from local.nodes.lan import Lan
from local.process import Process

START_SECONDS = 180.0
LOOPBACK = "127.0.0.1"


@contextmanager
def running(
    process: Process,
    command: Sequence[str],
    environment: Mapping[str, str],
    ready: Callable[[], bool],
) -> Iterator[Process]:
    """Start a program, wait until it is ready, and end it afterwards.

    Args:
        process: its name and folder, which is its home too.
        command: the program and its arguments.
        environment: what it gets beside `PATH` and `HOME`.
        ready: whether it is.

    Raises:
        LocalError: if it ends or is not ready in time, with the end of its log.
    """
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(process.folder), **environment}
    try:
        process.start(command, surroundings)
        process.wait_until(ready, START_SECONDS)
        yield process
    finally:
        process.stop()


def answers(url: str, **options: Any) -> bool:
    """Whether a health check succeeds; options are those of httpx."""
    try:
        return httpx.get(url, trust_env=False, **options).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def network(folder: Path, *, inwards: int, outwards: int) -> Iterator[tuple[str, ...]]:
    """A network that has only its own loopback, and one port each way.

    Skips the test where this machine allows no network of one's own.

    Args:
        folder: remembers the process that holds the network open.
        inwards: a port of this machine's loopback, under the same number inside.
        outwards: a port of the loopback inside, under the same number on this machine's.

    Yields:
        What a command starts with, to run inside.
    """
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("the operator needs a network of its own, which this machine does not allow")
    lan = Lan(folder)
    try:
        lan.start()
        with _joined(lan, inwards, outwards):
            yield lan.enter
    finally:
        lan.stop()


@contextmanager
def _joined(lan: Lan, inwards: int, outwards: int) -> Iterator[None]:
    here = Side(os.open("/proc/self/ns/net", os.O_RDONLY))
    there = Side(os.open(f"/proc/{lan.holder.pid()}/ns/net", os.O_RDONLY))
    listeners = there.listener(LOOPBACK, inwards), here.listener(LOOPBACK, outwards)
    forwarders = (
        forward(listeners[0], lambda: here.connection(LOOPBACK, inwards)),
        forward(listeners[1], lambda: there.connection(LOOPBACK, outwards)),
    )
    try:
        with _in_background(*forwarders):
            yield
    finally:
        for side in (here, there):
            os.close(side.descriptor)


@contextmanager
def _in_background(*endless: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Run coroutines in a thread of their own until the block ends."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        tasks = [loop.create_task(each) for each in endless]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def reached_at(
    configuration: Mapping[str, Any], port: int, authority: Path, namespaces: Sequence[str]
) -> dict[str, Any]:
    """A release's webhook configuration, with its Service replaced by a port of this machine.

    Args:
        configuration: a Mutating- or ValidatingWebhookConfiguration.
        port: where the webhooks are served.
        authority: the certificate that they are verified with.
        namespaces: whose objects they judge; others' are left alone.
    """
    trusted = base64.b64encode(authority.read_bytes()).decode()
    chosen = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}

    def moved(webhook: Mapping[str, Any]) -> dict[str, Any]:
        path = webhook["clientConfig"]["service"]["path"]
        client = {"url": f"https://{LOOPBACK}:{port}{path}", "caBundle": trusted}
        selector = {"matchExpressions": [chosen]}
        return {**webhook, "clientConfig": client, "namespaceSelector": selector}

    return {**configuration, "webhooks": [moved(each) for each in configuration["webhooks"]]}
