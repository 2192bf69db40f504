"""What the component's configuration and scripts do when real Redis servers run them."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from components.redis import Redis, RedisArgs
from local.toolchain.packages import ensure_redis
from stacks.systems.redis import RedisSettings
from tests.components.conftest import registered_by
from tests.components.redis_servers import (
    CLIENT_PASSWORD,
    HOST,
    MASTER_NAME,
    Member,
    Servers,
    servers,
)
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.dataplane

SETTINGS = RedisSettings(memory="256Mi", failover_timeout=3)


def rendered_files() -> dict[str, str]:
    args = RedisArgs(
        namespace="games-data",
        settings=SETTINGS,
        zones=("us-east-1a", "us-east-1b", "us-east-1c"),
        priority_class="games-data",
        storage_class="gp3",
        backup_bucket="games-backups",
        clients=(),
        protect=False,
    )
    registry = registered_by(lambda: Redis(MASTER_NAME, args))
    files: dict[str, str] = registry.one("ConfigMap", MASTER_NAME).manifest["data"]
    return files


@dataclass(frozen=True)
class Started:
    """The servers, and what their very first start came to."""

    servers: Servers
    first_master: int
    """Ordinal."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("redis")
    all_servers = servers(folder, rendered_files(), ensure_redis(print))
    try:
        all_servers.whole()
        yield Started(all_servers, all_servers.data.index(all_servers.master))
    finally:
        all_servers.kill()


@pytest.fixture
def redis(started: Started) -> Servers:
    """All of them running and ready, whatever the test before did to them."""
    started.servers.whole()
    return started.servers


def test_the_first_start_makes_ordinal_0_the_master(started: Started) -> None:
    assert started.first_master == 0


def test_the_settings_reach_the_servers(redis: Servers) -> None:
    reply = redis.master.ask("config", "get", "maxmemory", "maxmemory-policy", "appendonly").split()
    assert dict(zip(reply[::2], reply[1::2], strict=True)) == {
        "maxmemory": str(int(256 * 2**20 * 0.6)),
        "maxmemory-policy": SETTINGS.eviction,
        "appendonly": "yes",
    }


def test_clients_read_and_write_but_do_not_administer(redis: Servers) -> None:
    assert redis.master.ask("set", "key", "value", user="client", password=CLIENT_PASSWORD) == "OK"
    assert redis.master.ask("flushall", user="client", password=CLIENT_PASSWORD).startswith(
        "NOPERM"
    )
    assert redis.master.ask(
        "replicaof", "no", "one", user="client", password=CLIENT_PASSWORD
    ).startswith("NOPERM")


def test_clients_find_the_master_but_do_not_move_it(redis: Servers) -> None:
    sentinel = redis.sentinels[0]
    found = sentinel.ask(
        "sentinel", "get-master-addr-by-name", MASTER_NAME, user="client", password=CLIENT_PASSWORD
    )
    assert found.split() == ["127.0.0.1", str(redis.master.port)]
    assert sentinel.ask(
        "sentinel", "failover", MASTER_NAME, user="client", password=CLIENT_PASSWORD
    ).startswith("NOPERM")


def test_servers_go_by_addresses_not_by_names(redis: Servers) -> None:
    """The environment names them all `localhost`."""
    answers = [
        redis.sentinels[0].ask("sentinel", "replicas", MASTER_NAME),
        redis.sentinels[0].ask("sentinel", "sentinels", MASTER_NAME),
        redis.master.ask("info", "replication"),
        redis.replicas[0].ask("info", "replication"),
    ]
    assert all("127.0.0.1" in answer and HOST not in answer for answer in answers)


def test_a_server_waits_until_the_names_of_all_are_known(redis: Servers) -> None:
    replica = redis.replicas[0]
    replica.kill()
    usual = replica.environment
    replica.environment = {**usual, "REDIS_SENTINELS": "nobody.invalid:1"}
    try:
        replica.start()
        eventually("it says so", lambda: replica.logged("the name of a server is not known"))
        assert replica.script("live.sh")
        assert not replica.ready
    finally:
        replica.kill()
        replica.environment = usual


def test_a_sentinel_forgets_a_master_that_the_stack_has_under_another_address(
    redis: Servers,
) -> None:
    sentinel = redis.sentinels[0]
    sentinel.kill()
    state = sentinel.data / "sentinel.conf"
    known = f"sentinel monitor {MASTER_NAME} 127.0.0.1 {redis.master.port}"
    assert known in state.read_text()
    state.write_text(state.read_text().replace(known, f"sentinel monitor {MASTER_NAME} 10.9.9.9 1"))
    sentinel.start()
    eventually("it has learned the master", lambda: sentinel.ready)
    assert set(redis.named()) == {str(redis.master.port)}


def test_nobody_enters_without_a_password(redis: Servers) -> None:
    for member in redis.members:
        assert member.ask("ping", password="a-guess").startswith("NOAUTH")


def test_a_killed_master_is_replaced_and_comes_back_as_replica(redis: Servers) -> None:
    old = redis.master
    assert old.ask("set", "kept", "yes") == "OK"
    eventually("both replicas have it", lambda: all(r.ask("get", "kept") for r in redis.replicas))
    old.kill()
    new = redis.await_other_master(old)
    eventually("it takes writes", lambda: new.ask("set", "again", "yes") == "OK")
    old.start()
    eventually("the old one follows", lambda: old.ready)
    assert old.replication["master_port"] == str(new.port)
    assert new.ask("get", "kept") == "yes"


def test_a_master_that_restarts_among_a_minority_of_sentinels_waits(redis: Servers) -> None:
    lone = redis.master
    for member in (lone, *redis.sentinels[:2], *redis.replicas):
        member.kill()
    before = lone.logged("waiting:")
    lone.start()
    eventually("it has asked again and again", lambda: lone.logged("waiting:") >= before + 3)
    assert lone.ask("ping") == ""
    assert lone.script("live.sh")
    assert not lone.ready


def test_a_server_does_not_feed_a_master_that_was_cut_off(redis: Servers) -> None:
    """One replica more would let it take writes again."""
    lone, follower = redis.master, redis.replicas[0]
    for member in (*redis.sentinels, *redis.replicas):
        member.kill()
    before = follower.logged("waiting:")
    follower.start()
    eventually("it has asked again", lambda: follower.logged("waiting:") >= before + 2)
    assert follower.ask("ping") == ""
    eventually("no more writes", lambda: lone.ask("set", "k", "v").startswith("NOREPLICAS"))


def test_without_sentinels_a_replica_rejoins_what_most_servers_follow(redis: Servers) -> None:
    master, replica = redis.master, redis.replicas[0]
    for sentinel in redis.sentinels:
        sentinel.kill()
    replica.kill()
    replica.start()
    eventually("it is in sync", lambda: replica.ready)
    assert replica.replication["master_port"] == str(master.port)


def test_a_master_that_lost_its_volume_leaves_the_role_to_a_replica(redis: Servers) -> None:
    old = redis.master
    assert old.ask("set", "precious", "yes") == "OK"
    eventually("both have it", lambda: all(r.ask("get", "precious") for r in redis.replicas))
    old.kill()
    old.wipe()
    old.start()
    new = redis.await_other_master(old)
    eventually("the old one copies", lambda: old.ask("get", "precious") == "yes")
    assert new.ask("get", "precious") == "yes"


def test_after_a_total_outage_the_last_master_is_master_with_its_data(redis: Servers) -> None:
    last = redis.master
    assert last.ask("set", "persistent", "yes") == "OK"
    # Sentinels first: while the others end one by one, none may name another master.
    for member in (*redis.sentinels, *redis.data):
        member.kill(signal.SIGTERM)
    redis.whole()
    assert redis.master is last
    assert last.ask("get", "persistent") == "yes"


def test_sentinels_that_all_lost_their_volumes_find_the_acting_master(redis: Servers) -> None:
    if redis.master is redis.data[0]:
        redis.data[0].kill()
        redis.await_other_master(redis.data[0])
        redis.whole()
    acting = redis.master
    for sentinel in redis.sentinels:
        sentinel.kill()
        sentinel.wipe()
    redis.whole()
    assert redis.master is acting
    assert set(redis.named()) == {str(acting.port)}


def test_a_sentinel_keeps_its_identity_over_a_restart(redis: Servers) -> None:
    sentinel = redis.sentinels[0]
    identity = sentinel.ask("sentinel", "myid")
    sentinel.kill()
    sentinel.start()
    eventually("it is ready", lambda: sentinel.ready)
    assert sentinel.ask("sentinel", "myid") == identity


def _only_one_sentinel_acts(redis: Servers) -> None:
    """As where a node is drained: one is stopped too, and one could not run for a while.

    The latter distrusts its clock then: it begins what it is asked for, and goes no further for
    half a minute; nor does it agree that a master is down.
    """
    first, _, last = redis.sentinels
    last.kill()
    with first.frozen():
        time.sleep(3)
    eventually("it is tilted", lambda: "sentinel_tilt:1" in first.ask("info", "sentinel"))


@pytest.mark.parametrize("arrange", [lambda _: None, _only_one_sentinel_acts], ids=["", "one acts"])
def test_a_planned_stop_hands_over_without_losing_an_acknowledged_write(
    redis: Servers, arrange: Callable[[Servers], None]
) -> None:
    old = redis.master
    arrange(redis)
    acknowledged = []
    stop, number = None, 0
    while stop is None or stop.poll() is None:
        number += 1
        if old.ask("rpush", "journal", str(number)).isdigit():
            acknowledged.append(str(number))
        # Once there are writes to lose: on a busy machine, none may get in before they are paused.
        stop = stop or old.begin("stop-redis.sh")
    assert any(name != str(old.port) for name in redis.named())
    new = redis.await_other_master(old)
    old.kill(signal.SIGTERM)
    kept = new.ask("lrange", "journal", "0", "-1").split()
    assert acknowledged
    assert [entry for entry in acknowledged if entry not in kept] == []


AS_CONTAINER = """#!/bin/sh
# In place of the server that is a container's first process; a script runs beside it.
(exec sh "$REDIS_CONFIG/stop-redis.sh" 2>/dev/null)
"""


def test_a_planned_stop_tells_what_it_does_in_the_log_of_the_container(
    redis: Servers, tmp_path: Path
) -> None:
    """Of a preStop hook nothing is kept but its failure."""
    old, first = redis.master, tmp_path / "redis-server"
    first.write_text(AS_CONTAINER)
    first.chmod(0o755)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--mount-proc", "--fork", first],
        env=old.environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    new = redis.await_other_master(old)
    assert f"the master is 127.0.0.1:{new.port}" in done.stderr
    old.kill(signal.SIGTERM)


ALL_TILTED = """#!/bin/sh
# In place of Sentinels that distrust their clocks while a file is there.
case " $* " in
    *" info sentinel "*) if [ -e "$TILT" ]; then exec echo sentinel_tilt:1; fi ;;
esac
exec "$REAL" "$@"
"""


def _with_client(member: Member, folder: Path, script: str, **told: str) -> Member:
    """The same server to which scripts talk through another program."""
    (folder / "redis-cli").write_text(script)
    (folder / "redis-cli").chmod(0o755)
    path = member.environment["PATH"]
    real = shutil.which("redis-cli", path=path) or ""
    changed = {"PATH": f"{folder}:{path}", "REAL": real, **told}
    return replace(member, environment={**member.environment, **changed})


def test_a_master_goes_on_until_some_sentinel_can_hand_over(redis: Servers, tmp_path: Path) -> None:
    """Two that distrust their clocks, and one that is stopped, would be half a minute's outage."""
    old, tilt = redis.master, tmp_path / "tilt"
    tilt.touch()
    stop = _with_client(old, tmp_path, ALL_TILTED, TILT=str(tilt)).begin("stop-redis.sh")
    time.sleep(3)
    assert old.ask("set", "meanwhile", "yes") == "OK"
    tilt.unlink()
    assert stop.wait(LIMIT_SECONDS) == 0
    assert any(name != str(old.port) for name in redis.named())
    old.kill(signal.SIGTERM)
    assert redis.await_other_master(old).ask("get", "meanwhile") == "yes"


TILTED_ONCE_HELD = """#!/bin/sh
# In place of Sentinels that come to distrust their clocks once writes wait, while a file is there.
case " $* " in
    *" client pause "*) : >"$HELD" ;;
    *" info sentinel "*) if [ -e "$TILT" ] && [ -e "$HELD" ]; then exec echo sentinel_tilt:1; fi ;;
esac
exec "$REAL" "$@"
"""


def test_writes_go_on_where_no_sentinel_begins_after_all(redis: Servers, tmp_path: Path) -> None:
    """What stops a server keeps its machine busy: all Sentinels may distrust their clocks then."""
    old, tilt, held = redis.master, tmp_path / "tilt", tmp_path / "held"
    tilt.touch()
    told = {"TILT": str(tilt), "HELD": str(held)}
    stop = _with_client(old, tmp_path, TILTED_ONCE_HELD, **told).begin("stop-redis.sh")
    eventually("writes wait", held.exists)
    eventually("they go on", lambda: old.ask("set", "again", "yes") == "OK")
    assert stop.poll() is None
    tilt.unlink()
    assert stop.wait(timeout=60) == 0
    old.kill(signal.SIGTERM)
    assert redis.await_other_master(old).ask("get", "again") == "yes"


RECORDS = """#!/bin/sh
# Each look at the replicas since writes wait, and what they have when the Sentinels are asked to
# choose one of them.
case " $* " in
    *" client pause "*) : >"$LOOKS" ;;
    *" info replication "*)
        if [ -e "$LOOKS" ]; then
            "$REAL" "$@"
            echo >>"$LOOKS"
            exit
        fi ;;
    *" sentinel failover "*)
        "$REAL" -h 127.0.0.1 -p "$REDIS_PORT" info replication >"$TOLD" ;;
esac
exec "$REAL" "$@"
"""


def test_a_planned_stop_waits_for_a_replica_that_is_behind(redis: Servers, tmp_path: Path) -> None:
    """Sentinels may choose any: what they know of the replicas is up to ten seconds old."""
    old, late = redis.master, redis.replicas[0]
    told, looks = tmp_path / "told", tmp_path / "looks"
    recorded = _with_client(old, tmp_path, RECORDS, TOLD=str(told), LOOKS=str(looks))
    # On a busy machine, a replica that thaws takes longer than the script has patience.
    (tmp_path / "date").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "date").chmod(0o755)
    with late.frozen():
        for number in range(20):
            old.ask("set", f"late-{number}", secrets.token_hex(256))
        stop = recorded.begin("stop-redis.sh")
        # The first tells what all have to have.
        eventually("it found one behind", lambda: looks.exists() and looks.stat().st_size > 1)
    assert stop.wait(LIMIT_SECONDS) == 0
    old.kill(signal.SIGTERM)
    info = told.read_text()
    offsets = [
        int(each) for each in re.findall(r"(?:online,offset=|master_repl_offset:)(\d+)", info)
    ]
    assert len(offsets) == 3
    assert max(offsets) - min(offsets) < 512


KNOWS_LITTLE = """#!/bin/sh
# In place of Sentinels that last heard of a replica long ago, while a file is there.
case " $* " in
    *" sentinel replicas "*)
        [ ! -e "$LITTLE" ] ||
            exec printf '%s\\n' flags slave master-link-status ok slave-repl-offset 1 ;;
    *" sentinel failover "*) : >"$TOLD" ;;
esac
exec "$REAL" "$@"
"""


def test_with_a_replica_away_the_next_master_is_one_that_is_known_to_have_all(
    redis: Servers, tmp_path: Path
) -> None:
    """A Sentinel chooses by what it knows, and may take one that lost its link just now."""
    old, gone, little, told = (
        redis.master,
        redis.replicas[0],
        tmp_path / "little",
        tmp_path / "told",
    )
    gone.kill()
    little.touch()
    slow = _with_client(old, tmp_path, KNOWS_LITTLE, LITTLE=str(little), TOLD=str(told))
    stop = slow.begin("stop-redis.sh")
    eventually("writes wait", lambda: old.ask("set", "a", "b") == "")
    time.sleep(5)
    assert not told.exists()
    little.unlink()
    assert stop.wait(LIMIT_SECONDS) == 0
    assert any(name != str(old.port) for name in redis.named())
    old.kill(signal.SIGTERM)


def test_a_master_that_was_replaced_behind_its_back_leaves_its_successor_alone(
    redis: Servers,
) -> None:
    """As on a node that comes back from a cut, with its Pods to be deleted."""
    old = redis.master
    with old.frozen():
        new = redis.await_other_master(old)
        eventually("all say so", lambda: set(redis.named()) == {str(new.port)})
    assert old.script("stop-redis.sh")
    time.sleep(5)  # a failover would be done by then
    assert set(redis.named()) == {str(new.port)}
    assert new.replication["role"] == "master"


STANDS_STILL = """#!/bin/sh
# In place of Sentinels that promote a replica, name it, and have no other follow it.
case " $* " in
    *" sentinel failover "*) exec "$REAL" -h "$NEW_HOST" -p "$NEW_PORT" replicaof no one ;;
    *" sentinel get-master-addr-by-name "*) printf '%s\\n' "$NEW_HOST" "$NEW_PORT" ;;
    *" sentinel replicas "*)
        printf '%s\\n' flags slave master-link-status ok slave-repl-offset 999999999999 ;;
    *" info sentinel "*)
        echo sentinel_tilt:0
        echo "master0:name=$REDIS_MASTER_NAME,status=ok,address=$REDIS_HOST:$REDIS_PORT,slaves=2" ;;
    *) exec "$REAL" "$@" ;;
esac
"""


def test_the_others_follow_the_new_master_though_its_sentinel_stands_still(
    redis: Servers, tmp_path: Path
) -> None:
    old, (new, other) = redis.master, redis.replicas
    promoted = {"NEW_HOST": "127.0.0.1", "NEW_PORT": str(new.port)}
    for sentinel in redis.sentinels:
        sentinel.kill()  # else they would take the promotion back
    try:
        assert _with_client(old, tmp_path, STANDS_STILL, **promoted).script("stop-redis.sh")
        assert other.replication["master_port"] == str(new.port)
    finally:
        old.kill()  # which comes back as what the others follow says


HURRIED = """#!/bin/sh
# A clock that is ten times as fast.
if [ "$*" = +%s ]; then set -- +%s%1N; fi
exec "$DATE" "$@"
"""


def test_a_master_that_nobody_replaces_acknowledges_nothing_more_once_it_stops(
    redis: Servers, tmp_path: Path
) -> None:
    """If it went on until its end, a failover just then would lose what it acknowledged."""
    old = redis.master
    for sentinel in redis.sentinels:
        sentinel.kill()
    (tmp_path / "date").write_text(HURRIED)
    (tmp_path / "date").chmod(0o755)
    hurried = {"DATE": shutil.which("date") or "", "PATH": f"{tmp_path}:{old.environment['PATH']}"}
    assert replace(old, environment={**old.environment, **hurried}).script("stop-redis.sh")
    assert old.ask("set", "late", "1") == ""
    old.kill()


def test_a_server_that_loads_its_dataset_is_alive_but_not_ready(redis: Servers) -> None:
    replica = redis.replicas[0]
    for number in range(50):
        redis.master.ask("set", f"slow-{number}", secrets.token_hex(256))
    eventually("it has the keys", lambda: len(replica.ask("get", "slow-49")) == 512)
    replica.ask("bgrewriteaof")
    eventually("rewritten", lambda: "aof_rewrite_in_progress:0" in replica.ask("info"))
    replica.kill(signal.SIGTERM)
    with replica.slow_loading():
        replica.start()
        eventually("it loads", lambda: replica.ask("ping").startswith("LOADING"))
        assert replica.script("live.sh")
        assert not replica.ready
        replica.kill()
