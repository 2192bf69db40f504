"""Redis, PostgreSQL and their backups."""

from __future__ import annotations

import re

from policies.model import Resource, text
from policies.rules.backups import OBJECT_STORE, VELERO_SCHEDULE
from policies.rules.postgres import CLUSTER, POOLER, SCHEDULED_BACKUP
from policies.world import CONFIG_MAP, STATEFUL_SET, World
from tests.policies.mutations.making import (
    Change,
    Props,
    Table,
    all_of,
    container,
    drop,
    each,
    put,
    replaced,
    without,
)

_COMPONENT = "app.kubernetes.io/component"
_SCHEDULES = (SCHEDULED_BACKUP, VELERO_SCHEDULE)


def _sentinel(resource: Resource, world: World) -> bool:
    return text(world.workload(resource).labels, _COMPONENT) == "sentinel"


def _data(resource: Resource, world: World) -> bool:
    return text(world.workload(resource).labels, _COMPONENT) == "redis"


def _directive(name: str, value: str | None) -> Change:
    """Give a directive of redis.conf another value; None removes it."""

    def rewritten(conf: str) -> str:
        kept = re.sub(rf"(?m)^{name} .*\n?", "", conf)
        return kept if value is None else f"{kept}\n{name} {value}\n"

    return replaced("data/redis.conf", rewritten)


def _has_file(resource: Resource, _: World) -> bool:
    return "redis.conf" in resource.props.get("data", {})


def _quorum(value: str) -> Change:
    def change(one: Props) -> None:
        for variable in one.get("env", []):
            if variable["name"] == "REDIS_QUORUM":
                variable["value"] = value

    return container(change)


def _schedules(_: Resource, world: World) -> list[Resource]:
    return list(world.of(SCHEDULED_BACKUP))


def _no_archive(props: Props) -> None:
    for plugin in props["spec"].get("plugins", []):
        plugin.pop("isWALArchiver", None)


def _follows(resource: Resource, _: World) -> bool:
    return "replica" in resource.props["spec"]


_UNSPREAD = drop("spec.topologySpreadConstraints")

MUTATIONS: Table = {
    "redis-sentinels": tuple(
        each(STATEFUL_SET, put("spec.replicas", count), _sentinel) for count in (1, 2, 4)
    ),
    "redis-quorum": tuple(
        each(STATEFUL_SET, _quorum(value), _sentinel) for value in ("1", "9", "two")
    ),
    "redis-min-replicas-to-write": (
        each(CONFIG_MAP, _directive("min-replicas-to-write", "0"), _has_file),
        each(CONFIG_MAP, _directive("min-replicas-to-write", None), _has_file),
    ),
    "redis-write-path": (
        each(STATEFUL_SET, put("spec.replicas", 2), _data),
        each(STATEFUL_SET, put("spec.replicas", 1), _data),
    ),
    "redis-persistence": (
        each(
            CONFIG_MAP,
            all_of(_directive("appendonly", "no"), _directive("save", '""')),
            _has_file,
        ),
        each(STATEFUL_SET, drop("spec.volumeClaimTemplates"), _data),
    ),
    "redis-memory-policy": (
        each(CONFIG_MAP, _directive("maxmemory-policy", "noeviction"), _has_file),
        each(CONFIG_MAP, _directive("maxmemory-policy", None), _has_file),
        each(CONFIG_MAP, _directive("maxmemory", "0"), _has_file),
    ),
    "postgres-instances": (
        each(CLUSTER, put("spec.instances", 1)),
        each(CLUSTER, put("spec.instances", 2)),
    ),
    "postgres-synchronous": (
        each(CLUSTER, drop("spec.postgresql.synchronous")),
        each(CLUSTER, put("spec.postgresql.synchronous.number", 9)),
    ),
    "postgres-durability": (
        each(CLUSTER, put("spec.postgresql.synchronous.dataDurability", "preferred")),
    ),
    "postgres-failover-quorum": (
        each(CLUSTER, drop("spec.postgresql.synchronous.failoverQuorum")),
        each(CLUSTER, put("spec.postgresql.synchronous.failoverQuorum", False)),
    ),
    "postgres-zone-affinity": (
        each(CLUSTER, all_of(_UNSPREAD, put("spec.affinity.podAntiAffinityType", "preferred"))),
        each(CLUSTER, all_of(_UNSPREAD, put("spec.affinity.enablePodAntiAffinity", False))),
        each(
            CLUSTER,
            all_of(_UNSPREAD, put("spec.affinity.topologyKey", "kubernetes.io/hostname")),
        ),
        each(CLUSTER, all_of(_UNSPREAD, drop("spec.affinity"))),
    ),
    "postgres-delays": (
        each(CLUSTER, drop("spec.switchoverDelay")),
        each(CLUSTER, put("spec.stopDelay", 7200)),
    ),
    "postgres-wal-archive": (
        each(CLUSTER, _no_archive),
        each(CLUSTER, put("spec.postgresql.parameters.archive_timeout", "1h")),
    ),
    "postgres-scheduled-backup": (without(CLUSTER, _schedules),),
    "postgres-backup-method": (
        each(SCHEDULED_BACKUP, drop("spec.method")),
        each(SCHEDULED_BACKUP, put("spec.method", "barmanObjectStore")),
        each(CLUSTER, put("spec.backup.barmanObjectStore", {"destinationPath": "s3://backups/"})),
    ),
    "postgres-isolation-check": (
        each(CLUSTER, put("spec.probes.liveness.isolationCheck.enabled", False)),
    ),
    "postgres-isolated-shutdown": (
        each(CLUSTER, drop("spec.probes.liveness.terminationGracePeriodSeconds")),
        each(CLUSTER, put("spec.probes.liveness.terminationGracePeriodSeconds", 30)),
    ),
    "postgres-wal-volume": (
        each(CLUSTER, drop("spec.walStorage")),
        each(CLUSTER, put("spec.walStorage", {})),
    ),
    "postgres-external-clusters": (
        each(CLUSTER, put("spec.bootstrap.recovery.source", "nobody")),
        each(CLUSTER, put("spec.replica.source", "nobody")),
        each(CLUSTER, put("spec.replica.primary", "nobody")),
        each(CLUSTER, put("spec.externalClusters", []), _follows),
    ),
    "postgres-pooler-instances": (
        each(POOLER, put("spec.instances", 1)),
        each(POOLER, drop("spec.instances")),
    ),
    "backup-schedule": (
        each(_SCHEDULES, put("spec.schedule", "0 30 2 *")),
        each(_SCHEDULES, put("spec.schedule", "0 0 0 31 4 *")),
    ),
    "backup-interval": (
        each(SCHEDULED_BACKUP, put("spec.schedule", "0 0 3 * * 0")),
        each(VELERO_SCHEDULE, put("spec.schedule", "0 3 * * 0")),
    ),
    "backup-active": (
        each(SCHEDULED_BACKUP, put("spec.suspend", True)),
        each(VELERO_SCHEDULE, put("spec.paused", True)),
    ),
    "backup-retention": (
        each(OBJECT_STORE, put("spec.retentionPolicy", "12h")),
        each(OBJECT_STORE, drop("spec.retentionPolicy")),
        each(VELERO_SCHEDULE, put("spec.template.ttl", "12h0m0s")),
    ),
    "postgres-object-store-encryption": (
        each(OBJECT_STORE, put("spec.configuration.data.encryption", "aws:kms")),
        each(OBJECT_STORE, put("spec.configuration.wal.encryption", "AES256")),
    ),
}
