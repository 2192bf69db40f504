"""A backup of real Redis servers: taken, uploaded, fetched, and every key is there again.

The commands and scripts are those of the declared Pods; the AWS command line runs from its local
image against the local AWS endpoint.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from botocore.config import Config

from components.redis import Redis, RedisArgs
from local import aws
from local.images import build
from local.toolchain.packages import ensure_redis
from stacks.systems.redis import RedisSettings
from tests.components.conftest import Registry, registered_by
from tests.components.redis_servers import (
    HOST,
    MASTER_NAME,
    PASSWORD,
    Member,
    Servers,
    servers,
)
from tests.waiting import eventually

pytestmark = [
    pytest.mark.dataplane,
    pytest.mark.skipif(os.geteuid() != 0, reason="an image's root folder is entered by root only"),
]

BUCKET = "games-backups"
MOUNTS = "/tmp"  # noqa: S108, of the image
"""Where a folder that a container mounts is, in the image's root folder."""

_ENTER = """
root=$1; shift
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do mkdir "$root/tmp/$1"; mount --bind "$2" "$root/tmp/$1"; shift 2; done
shift
exec chroot "$root" "$@"
"""

Rows = dict[bytes, tuple[object, int]]
"""Each key's value, and when it ends (milliseconds since 1970; -1: never)."""


def _registry() -> Registry:
    args = RedisArgs(
        namespace="games-data",
        settings=RedisSettings(memory="256Mi", failover_timeout=3),
        zones=("us-east-1a", "us-east-1b", "us-east-1c"),
        priority_class="games-data",
        storage_class="gp3",
        backup_bucket=BUCKET,
        clients=(),
        protect=False,
    )
    return registered_by(lambda: Redis(MASTER_NAME, args))


def _files() -> dict[str, str]:
    files: dict[str, str] = _registry().one("ConfigMap", MASTER_NAME).manifest["data"]
    return files


def _upload_command() -> list[str]:
    job = _registry().one("CronJob", f"{MASTER_NAME}-backup").manifest["spec"]["jobTemplate"]
    command: list[str] = job["spec"]["template"]["spec"]["containers"][0]["command"]
    return command


def _client(member: Member) -> redis.Redis:
    return redis.Redis(host=HOST, port=member.port, password=PASSWORD)


_READ: dict[bytes, Callable[[redis.Redis, bytes], object]] = {
    b"string": lambda client, key: client.get(key),
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"hash": lambda client, key: client.hgetall(key),
    b"zset": lambda client, key: client.zrange(key, 0, -1, withscores=True),
    b"stream": lambda client, key: client.xrange(key),
}


def rows(member: Member) -> Rows:
    """Everything that a server holds."""
    client: Any = _client(member)
    return {
        key: (_READ[client.type(key)](client, key), client.pexpiretime(key))
        for key in client.scan_iter()
    }


def fill(member: Member) -> None:
    """Write a thousand keys of every type, a third of them with a time to live."""
    client: Any = _client(member)
    for number in range(1000):
        key, value = f"key-{number}", os.urandom(1 + number % 500)
        match number % 6:
            case 0:
                client.set(key, value)
            case 1:
                client.rpush(key, value, b"", value)
            case 2:
                client.sadd(key, value, number)
            case 3:
                client.hset(key, mapping={"value": value, "number": number})
            case 4:
                client.zadd(key, {value: number / 7, b"other": -number})
            case _:
                client.xadd(key, {"value": value})
        if number % 3 == 0:
            client.pexpire(key, 86_400_000 + number)


def take(source: Servers, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of the backup's first container."""
    scratch.mkdir(exist_ok=True)
    environment = {
        key: value
        for key, value in source.data[0].environment.items()
        if key in {"PATH", "REDIS_SERVERS", "REDIS_CONFIG", "REDIS_SECRETS"}
    }
    return subprocess.run(
        ["sh", f"{environment['REDIS_CONFIG']}/backup-redis.sh"],
        env={**environment, "REDIS_DATA": str(scratch), "REDIS_RUN": str(scratch)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def full_copies(member: Member) -> int:
    """How often others have copied a server's whole dataset."""
    lines = member.ask("info", "stats").splitlines()
    return int(next(line for line in lines if line.startswith("sync_full:")).split(":")[1])


@dataclass(frozen=True)
class Store:
    """The bucket, and the command line that reaches it, in the root folder of its image."""

    root: Path
    environment: dict[str, str]
    bucket: Any

    def run(self, command: list[str], folders: dict[str, Path], **environment: str) -> None:
        """Run a command, with folders mounted below `MOUNTS`; it must succeed."""
        mounts = [word for name, folder in folders.items() for word in (name, str(folder))]
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-ec", _ENTER, "sh"),
                *(str(self.root), *mounts, "--", *command),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def keys(self) -> list[str]:
        """What the bucket holds."""
        return [each.key for each in self.bucket.objects.all()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("aws")
    try:
        environment = {**aws.ensure(folder).environment(), "AWS_DEFAULT_REGION": "us-east-1"}
        bucket = boto3.resource(
            "s3",
            region_name="us-east-1",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(proxies={}),
        ).Bucket(BUCKET)
        bucket.create(ObjectLockEnabledForBucket=True)
        yield Store(build.ensure_root("aws-cli", print), environment, bucket)
    finally:
        aws.stop(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cache that holds something of everything."""
    cache = servers(tmp_path_factory.mktemp("source"), _files(), ensure_redis(print))
    try:
        cache.whole()
        fill(cache.master)
        eventually(
            "all replicas have it", lambda: all(len(rows(r)) == 1000 for r in cache.replicas)
        )
        yield cache
    finally:
        cache.kill()


@dataclass(frozen=True)
class Taken:
    """A backup in the bucket, and what was there when it was taken."""

    held: Rows
    key: str
    copies_of_master: int
    copies_of_replicas: int


@pytest.fixture(scope="module")
def taken(source: Servers, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    scratch = tmp_path_factory.mktemp("scratch")
    master, replicas = source.master, source.replicas
    before = full_copies(master), sum(map(full_copies, replicas))
    held = rows(master)
    done = take(source, scratch)
    assert done.returncode == 0, done.stderr
    command = [word.replace("/scratch", f"{MOUNTS}/scratch") for word in _upload_command()]
    store.run(command, {"scratch": scratch})
    [key] = store.keys()
    return Taken(
        held,
        key,
        full_copies(master) - before[0],
        sum(map(full_copies, replicas)) - before[1],
    )


@pytest.fixture(scope="module")
def recovered(
    taken: Taken, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """A new cache that begins with the backup."""
    where = f"s3://{BUCKET}/{taken.key}"
    cache = servers(
        tmp_path_factory.mktemp("recovered"),
        _files(),
        ensure_redis(print),
        {"REDIS_RECOVERY": where},
    )
    config = Path(cache.data[0].environment["REDIS_CONFIG"])
    try:
        for ordinal, member in enumerate(cache.data):
            member.data.mkdir(parents=True)
            store.run(
                ["sh", f"{MOUNTS}/config/fetch-backup.sh"],
                {"config": config, "data": member.data},
                REDIS_RECOVERY=where,
                REDIS_DATA=f"{MOUNTS}/data",
                POD_NAME=f"cache-{ordinal}",
            )
        cache.whole()
        yield cache
    finally:
        cache.kill()


def test_the_copy_has_the_time_in_its_name(taken: Taken) -> None:
    folder, _, name = taken.key.partition("/")
    assert folder == MASTER_NAME
    assert name.endswith("Z.rdb")


def test_a_replica_gives_the_copy_and_not_the_master(taken: Taken) -> None:
    assert (taken.copies_of_master, taken.copies_of_replicas) == (0, 1)


def test_every_key_is_there_again_with_its_time_to_live(recovered: Servers, taken: Taken) -> None:
    assert len(taken.held) == 1000
    for member in recovered.data:
        assert rows(member) == taken.held


def test_a_recovered_cache_keeps_what_it_has_over_a_total_outage(recovered: Servers) -> None:
    assert recovered.master.ask("set", "written-since", "yes") == "OK"
    eventually(
        "all have it", lambda: all(m.ask("get", "written-since") for m in recovered.replicas)
    )
    held = rows(recovered.master)
    for member in (*recovered.sentinels, *recovered.data):
        member.kill()
    recovered.whole()
    assert rows(recovered.master) == held
    assert recovered.master.logged("begins with s3://") <= 1


def test_without_a_replica_in_sync_there_is_no_copy(source: Servers, tmp_path: Path) -> None:
    for member in (*source.sentinels, *source.replicas):
        member.kill()
    done = take(source, tmp_path / "scratch")
    assert done.returncode == 1
    assert done.stderr.count("is no replica in sync") == 3
    assert not (tmp_path / "scratch" / "whole").exists()
    source.whole()


def test_a_damaged_backup_starts_nothing(taken: Taken, store: Store, tmp_path: Path) -> None:
    damaged = bytearray(store.bucket.Object(taken.key).get()["Body"].read())
    damaged[len(damaged) // 2] ^= 0xFF
    cache = servers(tmp_path, _files(), ensure_redis(print), {"REDIS_RECOVERY": "s3://a/b.rdb"})
    first = cache.data[0]
    first.data.mkdir(parents=True)
    (first.data / "recovery.rdb").write_bytes(damaged)
    try:
        for member in cache.members:
            member.start()
        eventually("it gave up", lambda: not first.running)
        assert first.logged("RDB ERROR DETECTED") == 1
        assert not (first.data / "appendonlydir").exists()
        assert cache.masters() == []
    finally:
        cache.kill()
