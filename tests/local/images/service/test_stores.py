"""How a service finds Redis: whom it asks where the Sentinels are, and when it asks again."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import RedisError

from local.images.service.stores import Login, Redis
from local.images.service.work import Work
from local.toolchain.packages import ensure_redis
from tests.components.redis_servers import (
    CLIENT_PASSWORD,
    HOST,
    MASTER_NAME,
    Servers,
    running,
)
from tests.components.test_redis_servers import rendered_files
from tests.waiting import eventually

pytestmark = pytest.mark.dataplane

NOBODY = "255.255.255.255"
"""The kernel refuses to connect to it, and sends nothing."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("redis")
    with running(folder, rendered_files(), ensure_redis(print)) as made:
        yield made


class Names:
    """A name server that can be lost, or tell an address at which nobody answers."""

    def __init__(self) -> None:
        self.address: str | None = HOST

    def __call__(self, name: str) -> str:
        """Where the name leads."""
        if self.address is None:
            raise socket.gaierror(name)
        return self.address


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "gethostbyname", made)
    return made


@pytest.fixture
def store(cache: Servers, tmp_path: Path) -> Redis:
    (tmp_path / "username").write_text("client")
    (tmp_path / "password").write_text(CLIENT_PASSWORD)
    cache.whole()
    sentinels = ",".join(f"sentinel.invalid:{each.port}" for each in cache.sentinels)
    return Redis(sentinels, MASTER_NAME, Login(tmp_path), "gateway")


def succeeds(store: Redis) -> bool:
    try:
        store.use(Work(uuid.uuid4(), 0, time.monotonic() + 5))
    except RedisError:
        return False
    return True


def test_a_new_master_is_found_without_any_name_server(
    cache: Servers, store: Redis, names: Names
) -> None:
    assert succeeds(store)
    names.address = None
    old = cache.master
    old.kill()
    cache.await_other_master(old)
    eventually("the new master is used", lambda: succeeds(store))


def test_sentinels_that_moved_are_found_by_their_names(store: Redis, names: Names) -> None:
    names.address = NOBODY
    assert not succeeds(store)
    names.address = HOST
    eventually("the Sentinels are found again", lambda: succeeds(store))


def test_names_that_nobody_can_tell_are_asked_for_again(store: Redis, names: Names) -> None:
    names.address = None
    assert not succeeds(store)
    names.address = HOST
    eventually("the Sentinels are found again", lambda: succeeds(store))
