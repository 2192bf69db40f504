"""The Redis client against three real servers with their Sentinels."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.account import Account, account, parse, parse_stored
from drills.load.attempts import OK, WRITE
from drills.load.redis import Access
from local.toolchain.packages import ensure_redis
from tests.components.redis_servers import (
    CLIENT_PASSWORD,
    HOST,
    MASTER_NAME,
    Servers,
    connections,
    running,
)
from tests.components.test_redis_servers import rendered_files
from tests.waiting import eventually

pytestmark = pytest.mark.dataplane

ENOUGH = 100
"""Acknowledged writes that make a load."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("redis")
    with running(folder, rendered_files(), ensure_redis(print)) as made:
        yield made


@pytest.fixture
def cache(started: Servers) -> Servers:
    started.whole()
    command("prepare", started).wait(timeout=30)
    return started


def command(name: str, cache: Servers, *options: str) -> subprocess.Popen[str]:
    environment = {
        "REDIS_SENTINELS": ",".join(f"{HOST}:{sentinel.port}" for sentinel in cache.sentinels),
        "REDIS_MASTER_NAME": MASTER_NAME,
        "REDIS_USERNAME": "client",
        "REDIS_PASSWORD": CLIENT_PASSWORD,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "drills.load.redis", name, *options],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(folder: Path, since: float = 0) -> int:
    """How many writes that began after a moment were acknowledged so far."""
    log = folder / "attempts.log"
    made = parse(log.read_text()) if log.exists() else []
    return sum(each.kind == WRITE and each.outcome == OK and each.start > since for each in made)


def killed_under_load(cache: Servers, folder: Path, *options: str) -> tuple[Account, float]:
    """Kill the master under a load that goes on before and after; account for it.

    How long that takes is the machine's matter: a busy one starts the load late, and elects late.

    Returns:
        The account, and the seconds from the kill to when the load was seen to go on.
    """
    load = command(
        "run", cache, "--folder", str(folder), "--seconds", "300", "--rate", "100", *options
    )
    try:
        eventually("writes are acknowledged", lambda: acknowledged(folder) > ENOUGH)
        old, fault = cache.master, time.time()
        old.kill()
        cache.await_other_master(old)
        elected = time.time()
        eventually("they are again", lambda: acknowledged(folder, elected) > ENOUGH)
        seen = time.time()
        (folder / "stop").touch()
        assert load.wait(timeout=60) == 0
    finally:
        load.kill()
    stored, _ = command("stored", cache).communicate(timeout=30)
    log = (folder / "attempts.log").read_text()
    return account(parse(log), parse_stored(stored), fault), seen - fault


@pytest.fixture(params=[(), ("--wait", "1")], ids=["reply", "confirmed"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    given: tuple[str, ...] = request.param
    return given


def test_a_killed_master_is_out_of_use_for_a_while_and_what_is_stored_was_tried(
    cache: Servers, tmp_path: Path, options: tuple[str, ...]
) -> None:
    bill, seconds = killed_under_load(cache, tmp_path, *options)
    assert bill.writes.outage is not None
    assert 1 < bill.writes.outage < seconds
    assert bill.durability.acknowledged > 2 * ENOUGH
    assert bill.durability.contradicted == ()
    assert bill.durability.duplicates == 0
    assert bill.durability.lost == () or not options


def test_a_silent_sentinel_is_asked_once_before_the_next(cache: Servers) -> None:
    with socket.create_server((HOST, 0)) as silent:
        ports = (silent.getsockname()[1], *(each.port for each in cache.sentinels))
        sentinels = tuple((HOST, port) for port in ports)
        Access(sentinels, MASTER_NAME, "client", CLIENT_PASSWORD).master().disconnect()
        assert connections(silent) == 1


def test_the_names_of_the_sentinels_are_looked_up_before_anything_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_SENTINELS", "localhost:26379,localhost:26380")
    monkeypatch.setenv("REDIS_MASTER_NAME", MASTER_NAME)
    assert Access.of_environment().sentinels == (("127.0.0.1", 26379), ("127.0.0.1", 26380))
