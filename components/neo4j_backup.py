"""Backups of a Neo4j cluster, taken from outside its servers, and a way back from them.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from components import jobs, neo4j_server, neo4j_tls, parts
from components.neo4j_server import ADMIN, BACKUP_PORT, DATA, RUN, SCRIPTS, Neo4jArgs
from stacks import schedules
from stacks.systems.neo4j import Neo4jRecovery
from stacks.values import size, size_in_bytes

LIMIT_SECONDS: Final = 6 * 3600
"""A backup or a restore that takes longer is ended, and counts as failed."""

_LOOK_SECONDS = 900
"""After its end, for whoever wants to see why one failed: until then it holds a volume as large as
the database."""

_CPU, _MEMORY = "500m", "2Gi"
_SCRIPT = "backup.sh"
_SCRATCH = "/scratch"
_MINUTES = {"full": 10, "change": 50}
"""Past the hour: the two do not begin together."""


def network(name: str) -> parts.Object:
    """Let backups ask every server, and reach the bucket."""
    servers = [{"podSelector": {"matchLabels": parts.selector(name)}}]
    return parts.network_policy(
        parts.selector(neo4j_server.backup_name(name)),
        egress=[*parts.allow_to(servers, BACKUP_PORT), *parts.allow_to_store()],
    )


def scheduled(name: str, kind: str, interval: int, args: Neo4jArgs) -> parts.Object:
    """A backup asks any server that answers; one that cannot extend the chain begins a new one."""
    servers = " ".join(
        f"{neo4j_server.host(name, number, args)}:{BACKUP_PORT}"
        for number in range(1, args.settings.servers + 1)
    )
    command = [
        "bash",
        f"{SCRIPTS}/{_SCRIPT}",
        f"--to-path=s3://{args.backup_bucket}/{name}/",
        f"--type={'FULL' if kind == 'full' else 'AUTO'}",
        "--include-metadata=all",
        f"--temp-path={_SCRATCH}",
    ]
    environment = {"NEO4J_ACCEPT_LICENSE_AGREEMENT": "yes", "SERVERS": servers}
    # Not the servers' own configuration: the program would look for their folders.
    told, mounts, volumes = [_SCRIPT], [], []
    if args.settings.issuer:
        environment["NEO4J_CONF"] = SCRIPTS
        told.append(ADMIN)
        volumes = [neo4j_tls.volume(neo4j_server.tls_name(name))]
        mounts = [neo4j_tls.mount()]
    config = {"name": name, "items": [{"key": key, "path": key} for key in told]}
    run = jobs.Run(
        labels=parts.labels(neo4j_server.backup_name(name), "backup"),
        service_account=name,
        priority_class=args.priority_class,
        user=neo4j_server.USER,
        limit_seconds=LIMIT_SECONDS,
        containers=[
            {
                "name": "backup",
                "image": args.settings.image,
                "command": command,
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "resources": parts.container_resources(_CPU, _MEMORY, neo4j_server.EPHEMERAL),
                "securityContext": parts.container_security(),
                "volumeMounts": [
                    # Empty, as `--temp-path` must be: the root of a new volume holds `lost+found`.
                    {"name": "scratch", "mountPath": _SCRATCH, "subPath": "backup"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, of the container
                    {"name": "config", "mountPath": SCRIPTS, "readOnly": True},
                    *mounts,
                ],
            }
        ],
        # Upstream prepares a backup there, and a full one is as large as the database.
        volumes=[
            _ephemeral("scratch", args, size_in_bytes(args.settings.storage)),
            parts.scratch("tmp", "256Mi"),
            {"name": "config", "configMap": config},
            *volumes,
        ],
        forget_seconds=_LOOK_SECONDS,
    )
    return jobs.scheduled(run, schedules.cron(interval, _MINUTES[kind]))


def restore(name: str, args: Neo4jArgs, recovery: Neo4jRecovery) -> jobs.Run:
    """See `neo4j_files/restore.sh`."""
    settings, until = args.settings, ""
    if recovery.target_time is not None:
        moment = datetime.fromisoformat(recovery.target_time).astimezone(UTC)
        until = moment.strftime("%Y-%m-%d %H:%M:%S")
    environment = {
        "NEO4J_ACCEPT_LICENSE_AGREEMENT": "yes",
        "NEO4J_FILES": SCRIPTS,
        "NEO4J_DATA": DATA,
        "NEO4J_RUN": RUN,
        "BACKUP": f"s3://{recovery.bucket or args.backup_bucket}/{name}/{recovery.file}",
        "DATABASE": recovery.database,
        "TARGET": f"s3://{args.backup_bucket}/{name}/recovered/",
        "UNTIL": until,
    }
    return jobs.Run(
        labels=parts.labels(neo4j_server.backup_name(name), "recovery"),
        service_account=name,
        priority_class=args.priority_class,
        user=neo4j_server.USER,
        limit_seconds=LIMIT_SECONDS,
        containers=[
            {
                "name": "restore",
                "image": settings.image,
                "command": ["sh", f"{SCRIPTS}/restore.sh"],
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "resources": parts.container_resources(
                    settings.resources.cpu, settings.resources.memory, neo4j_server.EPHEMERAL
                ),
                "securityContext": parts.container_security(),
                "volumeMounts": [
                    {"name": "config", "mountPath": SCRIPTS, "readOnly": True},
                    {"name": "data", "mountPath": DATA},
                    {"name": "run", "mountPath": RUN},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, of the container
                ],
            }
        ],
        volumes=[
            {"name": "config", "configMap": {"name": name, "defaultMode": 0o555}},
            # The chain is fetched onto it, and the database made of it beside that.
            _ephemeral("data", args, 2 * size_in_bytes(settings.storage)),
            parts.scratch("run", "64Mi"),
            parts.scratch("tmp", "256Mi"),
        ],
    )


def _ephemeral(name: str, args: Neo4jArgs, room: int) -> parts.Object:
    """A volume that comes and goes with its Pod, of so many bytes."""
    spec = parts.claim(name, args.scratch_class, size(room))["spec"]
    return {"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}
