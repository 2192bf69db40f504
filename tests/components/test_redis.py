"""Redis: what keeps a majority of its servers apart, up, reachable and in agreement."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from components import parts
from components.parts import Client
from components.redis import Redis, RedisArgs
from stacks.systems.redis import CacheSettings, Eviction, RedisRecovery, RedisSettings
from stacks.values import DAY, HOUR, size_in_bytes
from tests.components.conftest import Registry, Secret, registered_by

pytestmark = pytest.mark.unit

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
SETTINGS = RedisSettings()
SETS = pytest.mark.parametrize("name", ["cache", "cache-sentinel"])


def _args(**changes: Any) -> RedisArgs:
    usual: dict[str, Any] = {
        "namespace": "sim-data",
        "settings": SETTINGS,
        "zones": ZONES,
        "priority_class": "sim-data",
        "storage_class": "gp3",
        "backup_bucket": "games-backups",
        "clients": (Client("sim-core", "engine"), Client("sim-core", "gateway")),
        "protect": True,
    }
    return RedisArgs(**{**usual, **changes})


@cache
def _redis(settings: RedisSettings = SETTINGS, protect: bool = True) -> Registry:
    return registered_by(lambda: Redis("cache", _args(settings=settings, protect=protect)))


def _spec(registry: Registry, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = registry.one("StatefulSet", name).inputs["spec"]
    return spec


def _pod(registry: Registry, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = _spec(registry, name)["template"]["spec"]
    return spec


def _server(registry: Registry, name: str) -> dict[str, Any]:
    container: dict[str, Any] = _pod(registry, name)["containers"][0]
    return container


def _environment(registry: Registry, name: str) -> dict[str, str]:
    variables = _server(registry, name)["env"]
    return {item["name"]: item["value"] for item in variables if "value" in item}


def _directives(registry: Registry, file: str) -> dict[str, str]:
    text: str = registry.one("ConfigMap", "cache").inputs["data"][file]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def test_example_of_the_docstring_runs() -> None:
    def program() -> None:
        Redis(
            "cache",
            RedisArgs(
                namespace="games-data",
                settings=RedisSettings(),
                zones=ZONES,
                priority_class="games-data",
                storage_class="gp3",
                backup_bucket="games-backups",
                clients=(Client("games-core", "gateway"),),
                protect=True,
            ),
        )

    assert len(registered_by(program).of("StatefulSet")) == 2


def test_servers_and_sentinels_are_as_many_as_the_settings_say() -> None:
    redis = _redis(settings=RedisSettings(replicas=4, sentinels=5, quorum=3))
    assert _spec(redis, "cache")["replicas"] == 4
    assert _spec(redis, "cache-sentinel")["replicas"] == 5
    assert _environment(redis, "cache-sentinel")["REDIS_QUORUM"] == "3"


def test_settings_reach_the_configuration() -> None:
    settings = RedisSettings(memory="1Gi", eviction=Eviction.VOLATILE_TTL, max_lag=7, down_after=3)
    redis = _redis(settings=settings)
    servers = _directives(redis, "redis.conf")
    assert servers["maxmemory"] == str(int(2**30 * 0.6))
    assert servers["maxmemory-policy"] == "volatile-ttl"
    assert servers["min-replicas-max-lag"] == "7"
    assert _directives(redis, "sentinel.conf")["sentinel down-after-milliseconds cache"] == "3000"


def test_a_master_that_restarted_is_not_waited_for_while_it_loads() -> None:
    """Sentinel's default is to wait for ever for one that answers that it loads its dataset."""
    told = _directives(_redis(), "sentinel.conf")
    assert told["sentinel master-reboot-down-after-period cache"] == "10000"


def test_a_vote_that_elects_nobody_is_held_again_within_the_default_objective() -> None:
    """Sentinel waits for twice the time."""
    told = _directives(_redis(), "sentinel.conf")
    assert 2 * int(told["sentinel failover-timeout cache"]) < 30_000


def test_memory_leaves_room_for_what_a_fork_copies() -> None:
    limit = size_in_bytes(_server(_redis(), "cache")["resources"]["limits"]["memory"])
    assert int(_directives(_redis(), "redis.conf")["maxmemory"]) < 0.7 * limit


def test_every_write_is_logged_and_needs_a_replica() -> None:
    directives = _directives(_redis(), "redis.conf")
    assert directives["appendonly"] == "yes"
    assert directives["min-replicas-to-write"] == "1"


@SETS
def test_no_two_share_a_zone_or_a_host(name: str) -> None:
    affinity = _pod(_redis(), name)["affinity"]["podAntiAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert {term["topologyKey"] for term in terms} == {parts.ZONE, parts.HOST}
    assert all(term["labelSelector"]["matchLabels"] == parts.selector(name) for term in terms)


def test_more_servers_than_zones_can_all_be_placed() -> None:
    pod = _pod(_redis(settings=RedisSettings(sentinels=5, quorum=3)), "cache-sentinel")
    terms = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["topologyKey"] for term in terms] == [parts.HOST]
    strict = [c for c in pod["topologySpreadConstraints"] if c["topologyKey"] == parts.ZONE]
    assert strict[0]["whenUnsatisfiable"] == "DoNotSchedule"


@SETS
def test_all_start_together(name: str) -> None:
    assert _spec(_redis(), name)["podManagementPolicy"] == "Parallel"


@SETS
def test_names_resolve_before_readiness(name: str) -> None:
    service = _redis().one("Service", name).inputs["spec"]
    assert service["publishNotReadyAddresses"]
    assert service["clusterIP"] == "None"
    assert _spec(_redis(), name)["serviceName"] == name


@SETS
def test_at_most_one_is_evicted_at_a_time(name: str) -> None:
    budget = _redis().one("PodDisruptionBudget", name).inputs["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == parts.selector(name)


@SETS
def test_a_silent_node_is_left_soon(name: str) -> None:
    for toleration in _pod(_redis(), name)["tolerations"]:
        assert toleration["tolerationSeconds"] <= 30


@SETS
def test_probes_differ(name: str) -> None:
    for container in _pod(_redis(), name)["containers"]:
        asked = [{**container[probe], **_WHEN} for probe in _PROBES]
        assert asked[0] != asked[1]


_PROBES = ("livenessProbe", "readinessProbe")
_WHEN = dict.fromkeys(("periodSeconds", "failureThreshold", "terminationGracePeriodSeconds"), 0)
"""What two probes may well differ in that ask the same."""


@SETS
def test_a_server_that_hangs_is_not_waited_for_as_one_that_hands_over(name: str) -> None:
    pod = _pod(_redis(), name)
    liveness = pod["containers"][0]["livenessProbe"]
    assert liveness["terminationGracePeriodSeconds"] == 10 < pod["terminationGracePeriodSeconds"]


@SETS
def test_state_is_on_a_volume_that_outlives_the_set(name: str) -> None:
    spec = _spec(_redis(), name)
    assert spec["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "gp3"
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


@SETS
@pytest.mark.parametrize("protect", [True, False])
def test_protection_follows_the_settings(name: str, protect: bool) -> None:
    servers = _redis(protect=protect).one("StatefulSet", name)
    assert (servers.protect, servers.retain_on_delete) == (protect, protect)


@SETS
def test_a_changed_setting_replaces_the_pods(name: str) -> None:
    before, after = (
        _spec(_redis(settings=RedisSettings(max_lag=lag)), name)["template"]["metadata"]
        for lag in (5, 6)
    )
    assert before["annotations"] != after["annotations"]


@SETS
def test_scripts_know_every_server_by_its_own_service(name: str) -> None:
    environment = _environment(_redis(), name)
    assert environment["REDIS_HOST"] == "$(POD_NAME).sim-data.svc.cluster.local"
    assert environment["REDIS_SERVERS"].split()[0] == "cache-0.sim-data.svc.cluster.local:6379"
    assert len(environment["REDIS_SENTINELS"].split()) == 3


@SETS
def test_each_server_has_a_service_whose_address_stays_and_is_there_before_it_is_ready(
    name: str,
) -> None:
    for ordinal in range(3):
        inputs = _redis().one("Service", f"{name}-{ordinal}").inputs
        spec = inputs["spec"]
        assert spec["selector"] == {
            **parts.selector(name),
            "statefulset.kubernetes.io/pod-name": f"{name}-{ordinal}",
        }
        assert "clusterIP" not in spec
        assert spec["publishNotReadyAddresses"]
        assert inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


@SETS
def test_a_silent_name_server_is_left_after_a_second(name: str) -> None:
    options = _spec(_redis(), name)["template"]["spec"]["dnsConfig"]["options"]
    assert {"name": "timeout", "value": "1"} in options


def test_sentinels_know_no_names() -> None:
    sentinel = _redis().one("ConfigMap", "cache").inputs["data"]["sentinel.conf"]
    assert "resolve-hostnames no" in sentinel
    assert "announce-hostnames yes" not in sentinel


def test_the_master_hands_over_before_it_stops() -> None:
    redis = _redis()
    command = _server(redis, "cache")["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["sh", "/etc/redis/stop-redis.sh"]
    assert "lifecycle" not in _server(redis, "cache-sentinel")


def test_every_script_that_pods_run_is_in_the_config_map() -> None:
    redis = _redis()
    files = redis.one("ConfigMap", "cache").inputs["data"]
    for name in ("cache", "cache-sentinel"):
        container = _server(redis, name)
        commands = [container["command"], *(container[p]["exec"]["command"] for p in _PROBES)]
        assert {Path(command[1]).name for command in commands} <= files.keys()


def test_passwords_are_secret_and_only_in_files() -> None:
    redis = _redis()
    assert all(isinstance(secret.inputs["data"], Secret) for secret in redis.of("Secret"))
    elsewhere = [r.inputs for r in redis.resources if r.kind not in {"Secret", "RandomPassword"}]
    assert "generated" not in json.dumps(elsewhere)


def test_clients_get_their_own_user_and_no_more() -> None:
    credentials = _redis().one("Secret", "cache-client")
    assert credentials.inputs["metadata"]["namespace"] == "sim-core"
    assert credentials.manifest["data"].keys() == {"username", "password"}


def test_clients_learn_the_sentinels_and_the_masters_name() -> None:
    published = _redis().one("ConfigMap", "cache-client").inputs
    assert published["metadata"]["namespace"] == "sim-core"
    assert published["data"]["REDIS_MASTER_NAME"] == "cache"
    assert published["data"]["REDIS_SENTINELS"].split(",")[2] == (
        "cache-sentinel-2.sim-data.svc.cluster.local:26379"
    )


@pytest.mark.parametrize(("name", "more"), [("cache", ["cache-backup"]), ("cache-sentinel", [])])
def test_only_clients_family_backups_and_prometheus_come_in(name: str, more: list[str]) -> None:
    policy = _redis().one("NetworkPolicy", name).inputs["spec"]
    *services, monitoring = policy["ingress"]
    names = [
        peer["podSelector"]["matchLabels"][parts.NAME_LABEL]
        for rule in services
        for peer in rule["from"]
    ]
    assert names == ["cache", "cache-sentinel", "engine", "gateway", *more]
    assert monitoring["from"] == [parts.peer("monitoring")]


def test_clients_learn_how_long_entries_may_be_used() -> None:
    caches = {
        "engine": {
            "cards": CacheSettings(ttl=60, stale_while_down=3600),
            "moves": CacheSettings(ttl=5),
            "rules": CacheSettings(),
        },
        "gateway": {},
    }
    redis = registered_by(lambda: Redis("cache", _args(caches=caches)))
    told = json.loads(redis.one("ConfigMap", "cache-client").inputs["data"]["REDIS_CACHES"])
    assert told == {
        "engine": {
            "cards": {"fresh": 60, "kept": 3600},
            "moves": {"fresh": 5, "kept": 5},
            "rules": {"fresh": None, "kept": None},
        }
    }


@SETS
def test_they_go_out_to_their_family_alone(name: str) -> None:
    policy = _redis().one("NetworkPolicy", name).inputs["spec"]
    targets = [
        (rule["to"][0]["podSelector"]["matchLabels"][parts.NAME_LABEL], rule["ports"][0]["port"])
        for rule in policy["egress"]
    ]
    assert targets == [("cache", 6379), ("cache-sentinel", 26379)]
    assert all("namespaceSelector" not in rule["to"][0] for rule in policy["egress"])


def _backup(registry: Registry) -> dict[str, Any]:
    spec: dict[str, Any] = registry.one("CronJob", "cache-backup").inputs["spec"]
    return spec


def _run(registry: Registry) -> dict[str, Any]:
    pod: dict[str, Any] = _backup(registry)["jobTemplate"]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize(("every", "schedule"), [(HOUR, "25 */1 * * *"), (DAY, "25 0 * * *")])
def test_backups_are_taken_as_often_as_the_settings_say(every: int, schedule: str) -> None:
    assert _backup(_redis(RedisSettings(backup_every=every)))["schedule"] == schedule


def test_backups_do_not_overlap_and_end_before_the_next_is_due() -> None:
    spec = _backup(_redis())
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < HOUR


def test_a_backup_is_whole_before_it_is_uploaded() -> None:
    pod = _run(_redis())
    [take], [upload] = pod["initContainers"], pod["containers"]
    assert take["command"] == ["sh", "/etc/redis/backup-redis.sh"]
    assert upload["command"][-2:] == ["/scratch/whole", "s3://games-backups/cache/"]
    assert upload["image"] == SETTINGS.backup_image


def test_a_backup_knows_no_password_but_the_servers() -> None:
    [secret] = [v["secret"] for v in _run(_redis())["volumes"] if "secret" in v]
    assert secret["items"] == [{"key": "password", "path": "password"}]


def test_backups_reach_servers_and_the_store_alone() -> None:
    policy = _redis().one("NetworkPolicy", "cache-backup").inputs["spec"]
    servers, *store = policy["egress"]
    assert servers["to"] == [{"podSelector": {"matchLabels": parts.selector("cache")}}]
    assert store == parts.allow_to_store()
    assert "ingress" not in policy


OLD = "2026-01-31T042500Z.rdb"
RECOVERING = RedisSettings(recovery=RedisRecovery(file=OLD))


def test_a_new_cache_fetches_the_backup_that_it_begins_with() -> None:
    redis = _redis(RECOVERING)
    [fetch] = _pod(redis, "cache")["initContainers"]
    assert fetch["command"] == ["sh", "/etc/redis/fetch-backup.sh"]
    assert _environment(redis, "cache")["REDIS_RECOVERY"] == f"s3://games-backups/cache/{OLD}"
    egress = redis.one("NetworkPolicy", "cache").inputs["spec"]["egress"]
    assert egress[-2:] == parts.allow_to_store()


def test_a_backup_may_be_in_another_bucket() -> None:
    recovery = RedisRecovery(file=OLD, bucket="lost-backups")
    redis = _redis(RedisSettings(recovery=recovery))
    assert _environment(redis, "cache")["REDIS_RECOVERY"] == f"s3://lost-backups/cache/{OLD}"


def test_without_a_recovery_nothing_is_fetched() -> None:
    assert "initContainers" not in _pod(_redis(), "cache")
    assert "initContainers" not in _pod(_redis(RECOVERING), "cache-sentinel")


def test_metrics_of_both_sets_are_read() -> None:
    monitor = _redis().one("PodMonitor", "cache").inputs["spec"]
    assert monitor["selector"]["matchExpressions"][0]["values"] == ["cache", "cache-sentinel"]


def test_no_token_of_the_api_server_is_in_the_pods() -> None:
    redis = _redis()
    assert not redis.one("ServiceAccount").inputs["automountServiceAccountToken"]
    for name in ("cache", "cache-sentinel"):
        assert not _pod(redis, name)["automountServiceAccountToken"]


def test_two_zones_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^redis: zones is us-east-1a, us-east-1b, but .* 3 or"):
        _args(zones=ZONES[:2])


def test_scripts_are_clean() -> None:
    """Where shellcheck is not installed, the shell's own parser must do."""
    folder = Path(__file__).parents[2]
    scripts = sorted(str(path) for path in folder.glob("components/redis_files/*.sh"))
    shellcheck = shutil.which("shellcheck")
    checks = [[shellcheck, "-x", *scripts]] if shellcheck else [["sh", "-n", s] for s in scripts]
    for check in checks:
        done = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
