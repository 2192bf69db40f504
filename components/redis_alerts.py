"""What is watched of a Redis cache, and when a person is called.

Names of metrics are those of redis_exporter, which stands beside each server and each Sentinel, and
of Kubernetes' own (kube-state-metrics and the kubelet).
"""

from __future__ import annotations

from components import jobs
from components.alerts import Alert, Severity, volume_filling
from stacks.fault_domains import majority
from stacks.systems.redis import RedisSettings

_FULL = 0.9
"""Of `maxmemory`: above it, what is evicted is missed."""

_RESTARTS = 3
_RESTARTS_MINUTES = 15


def of(name: str, namespace: str, settings: RedisSettings) -> list[Alert]:
    """Every alert of a cache.

    Args:
        name: of the cache.
        namespace: where it runs.
        settings: what there should be of it.
    """
    servers = f'namespace="{namespace}",pod=~"{name}-[0-9]+"'
    sentinels = f'namespace="{namespace}",pod=~"{name}-sentinel-[0-9]+"'
    return [
        *_master(servers, settings),
        *_sentinels(sentinels, settings),
        *_servers(servers, settings),
        Alert(
            "RedisRestarting",
            "increase(kube_pod_container_status_restarts_total"
            f'{{namespace="{namespace}",pod=~"{name}-(sentinel-)?[0-9]+"}}'
            f"[{_RESTARTS_MINUTES}m]) >= {_RESTARTS}",
            0,
            Severity.WARNING,
            "{{ $labels.container }} of {{ $labels.pod }} restarts again and again",
            "redis.md#restarting",
        ),
        volume_filling(
            "RedisVolumeFillingUp",
            f'namespace="{namespace}",persistentvolumeclaim=~"data-{name}-(sentinel-)?[0-9]+"',
            "redis.md#volume-filling-up",
        ),
        jobs.overdue(
            "RedisBackupOverdue",
            namespace,
            f"{name}-backup",
            settings.backup_every,
            severity=Severity.WARNING,
            runbook="redis.md#backup-overdue",
        ),
    ]


def _count(vector: str) -> str:
    """How many series there are; none is 0."""
    return f"(count({vector}) or vector(0))"


def _master(servers: str, settings: RedisSettings) -> list[Alert]:
    needed = settings.min_replicas_to_write
    keeping_up = (
        f'redis_connected_slave_lag_seconds{{{servers},slave_state="online"}} <= {settings.max_lag}'
    )
    return [
        Alert(
            "RedisMasters",
            f'{_count(f"""redis_instance_info{{{servers},role="master"}}""")} != 1',
            30,
            Severity.CRITICAL,
            "There are {{ $value }} masters instead of one",
            "redis.md#masters",
        ),
        Alert(
            "RedisRefusesWrites",
            f"{_count(keeping_up)} < {needed}",
            30,
            Severity.CRITICAL,
            f"{{{{ $value }}}} replicas keep up with the master, and a write needs {needed}",
            "redis.md#refuses-writes",
        ),
        Alert(
            "RedisReplicaBehind",
            f"redis_master_link_up{{{servers}}} == 0",
            120,
            Severity.WARNING,
            "{{ $labels.pod }} does not follow the master",
            "redis.md#replica-behind",
        ),
    ]


def _sentinels(sentinels: str, settings: RedisSettings) -> list[Alert]:
    up, least = _count(f"redis_up{{{sentinels}}} == 1"), majority(settings.sentinels)
    return [
        Alert(
            "RedisSentinelsWithoutMajority",
            f"{up} < {least}",
            30,
            Severity.CRITICAL,
            f"{{{{ $value }}}} of {settings.sentinels} Sentinels answer: nobody can fail over",
            "redis.md#sentinels",
        ),
        Alert(
            "RedisSentinelWithoutQuorum",
            f"max by (pod) (redis_sentinel_master_ckquorum_status{{{sentinels}}}) == 0",
            60,
            Severity.CRITICAL,
            "{{ $labels.pod }} reaches too few Sentinels for a failover",
            "redis.md#sentinels",
        ),
        Alert(
            "RedisSentinelDown",
            f"{up} < {settings.sentinels}",
            300,
            Severity.WARNING,
            f"{{{{ $value }}}} of {settings.sentinels} Sentinels answer",
            "redis.md#sentinels",
        ),
    ]


def _servers(servers: str, settings: RedisSettings) -> list[Alert]:
    return [
        Alert(
            "RedisServerDown",
            f"{_count(f'redis_up{{{servers}}} == 1')} < {settings.replicas}",
            120,
            Severity.WARNING,
            f"{{{{ $value }}}} of {settings.replicas} servers answer",
            "redis.md#server-down",
        ),
        Alert(
            "RedisMemoryFull",
            f"redis_memory_used_bytes{{{servers}}} / redis_memory_max_bytes{{{servers}}} > {_FULL} "
            f"and increase(redis_evicted_keys_total{{{servers}}}[10m]) > 0",
            600,
            Severity.WARNING,
            "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its memory and evicts",
            "redis.md#memory-full",
        ),
        Alert(
            "RedisPersistenceFails",
            f"redis_aof_last_write_status{{{servers}}} == 0",
            60,
            Severity.CRITICAL,
            "{{ $labels.pod }} cannot write to its volume, and refuses writes",
            "redis.md#persistence-fails",
        ),
        # Writes go on: there are no snapshots by schedule, whose failure would stop them.
        Alert(
            "RedisRewriteFails",
            f"redis_aof_last_bgrewrite_status{{{servers}}} == 0 "
            f"or redis_rdb_last_bgsave_status{{{servers}}} == 0",
            600,
            Severity.WARNING,
            "{{ $labels.pod }} cannot make its log shorter, or a copy for a replica",
            "redis.md#rewrite-fails",
        ),
    ]
