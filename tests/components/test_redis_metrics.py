"""The real exporter tells of real servers and Sentinels what the alerts ask for."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components import redis_alerts
from local.process import free_port
from local.toolchain import build
from local.toolchain.packages import ensure_redis
from stacks.systems.redis import RedisSettings
from tests.components.redis_servers import PASSWORD, Member, Servers, running
from tests.components.test_redis_servers import rendered_files
from tests.waiting import eventually

pytestmark = pytest.mark.dataplane

EXPRESSIONS = " ".join(each.expr for each in redis_alerts.of("cache", "data", RedisSettings()))
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("redis")
    with running(folder, rendered_files(), ensure_redis(print)) as made:
        yield made


@contextmanager
def exported(member: Member, folder: Path) -> Iterator[str]:
    """Address of an exporter beside a server, told its password as in a Pod."""
    program = build.ensure(["redis_exporter"], print)["redis_exporter"]
    address, port = f"redis://localhost:{member.port}", free_port()
    passwords = folder / f"{member.port}.json"
    passwords.write_text(json.dumps({address: PASSWORD}))
    process = subprocess.Popen(
        [
            str(program),
            f"--redis.addr={address}",
            f"--redis.password-file={passwords}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.kill()
        process.wait()


def series(address: str) -> list[str]:
    """What an exporter tells; nothing until it answers."""
    try:
        with _DIRECT.open(address, timeout=5) as answer:
            lines: list[str] = answer.read().decode().splitlines()
    except OSError:
        return []
    return [line for line in lines if not line.startswith("#")]


def told(member: Member, folder: Path, metric: str) -> list[str]:
    """The series of one metric, once there are any."""
    with exported(member, folder) as address:

        def found() -> list[str]:
            return [each for each in series(address) if re.match(rf"{metric}[ {{]", each)]

        return eventually(f"{metric} is told", found, lambda: series(address))


@pytest.mark.parametrize("metric", sorted(set(re.findall(r"\bredis_\w+", EXPRESSIONS))))
def test_every_metric_of_the_alerts_is_exported(
    cache: Servers, metric: str, tmp_path: Path
) -> None:
    member = cache.master
    if metric.startswith("redis_sentinel"):
        member = cache.sentinels[0]
    elif metric == "redis_master_link_up":
        member = cache.replicas[0]
    assert told(member, tmp_path, metric)


def test_master_and_replicas_in_sync_are_told_apart(cache: Servers, tmp_path: Path) -> None:
    [master] = told(cache.master, tmp_path, "redis_instance_info")
    [replica] = told(cache.replicas[0], tmp_path, "redis_instance_info")
    assert 'role="master"' in master
    assert 'role="slave"' in replica
    lags = told(cache.master, tmp_path, "redis_connected_slave_lag_seconds")
    assert len(lags) == 2
    assert all('slave_state="online"' in lag for lag in lags)


def test_a_sentinel_that_is_left_alone_says_so(cache: Servers, tmp_path: Path) -> None:
    alone, *others = cache.sentinels
    for other in others:
        other.kill()
    eventually("it notices", lambda: not alone.ready)
    [status] = told(alone, tmp_path, "redis_sentinel_master_ckquorum_status")
    assert status.endswith(" 0")
