"""The way back of a PostgreSQL cluster: its log and base backups in a bucket, and snapshots.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from components import parts
from stacks import schedules
from stacks.systems.postgres import PostgresSettings
from stacks.values import DAY

_PLUGIN = "barman-cloud.cloudnative-pg.io"

_SIDECAR_CPU, _SIDECAR_MEMORY = "100m", "512Mi"
_EPHEMERAL = "1Gi"

_MINUTES = {"base": 0, "snapshot": 30}
"""Past the hour: base backups and snapshots do not load the same standby at the same time."""


def schedule(every: int, kind: str) -> str:
    """The operator's schedules have six fields; the first is seconds."""
    return f"0 {schedules.cron(every, _MINUTES[kind])}"


def plugin(store: str, server: str) -> parts.Object:
    """The plugin, with whose archive it reads or writes."""
    return {"name": _PLUGIN, "parameters": {"barmanObjectName": store, "serverName": server}}


def store(name: str, bucket: str, settings: PostgresSettings) -> parts.Object:
    """An archive. What others write is read in the same way; only its own is ever thinned out."""
    return {
        "configuration": {
            "destinationPath": f"s3://{bucket}/{name}",
            "s3Credentials": {"inheritFromIAMRole": True},
            # Without `encryption`, which would choose AWS's own key, not the bucket's.
            "data": {"compression": "gzip", "jobs": 2},
            "wal": {"compression": "gzip", "maxParallel": settings.archive_jobs},
        },
        "retentionPolicy": f"{settings.retention // DAY}d",
        "instanceSidecarConfiguration": {
            "resources": parts.container_resources(_SIDECAR_CPU, _SIDECAR_MEMORY, _EPHEMERAL)
        },
    }


def base_backup(name: str) -> parts.Object:
    """A copy of the files in the bucket, on which the archived log builds."""
    return {
        "cluster": {"name": name},
        "method": "plugin",
        "pluginConfiguration": {"name": _PLUGIN},
        "target": "prefer-standby",
        "immediate": True,
        "backupOwnerReference": "none",
    }


def snapshot_backup(name: str) -> parts.Object:
    """Restores in minutes whatever the size, but only in the same region."""
    return {
        "cluster": {"name": name},
        "method": "volumeSnapshot",
        "target": "prefer-standby",
        "immediate": True,
        "backupOwnerReference": "none",
    }
