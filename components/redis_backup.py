"""Copies of a Redis cache's dataset in the bucket: taken from a replica, checked, then uploaded.

The master does not take part: it would fork, and copy pages under all the writes. A copy that is
not whole is never uploaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import jobs, parts
from stacks import schedules
from stacks.systems.redis import RedisSettings

_MINUTE = 25
"""Past the hour: not when the other systems' backups begin."""

_LIMIT_SECONDS = 45 * 60
"""Less than the shortest interval, so that a run that hangs costs one backup, not two."""

_CONFIG, _SECRETS, _SCRATCH = "/etc/redis", "/etc/redis-secrets", "/scratch"
_CPU, _MEMORY = "100m", "256Mi"
_EPHEMERAL = "64Mi"


@dataclass(frozen=True)
class RedisBackupArgs:
    """The cache, and where the copies go."""

    namespace: str
    settings: RedisSettings
    cache: str
    """Name of the cache: of its ServiceAccount, ConfigMap, Secret, and the folder in the bucket."""
    servers: Sequence[str]
    """Each data server as host:port."""
    port: int
    """Of the data servers."""
    user: int
    bucket: str
    priority_class: str


class RedisBackup(pulumi.ComponentResource):
    """A schedule of backups, and what lets it reach the servers and the bucket.

    The bucket is reached with the role that the cache's ServiceAccount is given (EKS Pod Identity
    or an annotation): no key is stored. How long a copy is kept is the bucket's to decide.
    """

    def __init__(
        self, name: str, args: RedisBackupArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:redis:RedisBackup", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = parts.metadata(name, args.namespace, parts.labels(name, "backup"))
        network = NetworkPolicy(
            f"{name}-network",
            metadata=metadata,
            spec=parts.network_policy(
                parts.selector(name),
                egress=[
                    *parts.allow_to(
                        [{"podSelector": {"matchLabels": parts.selector(args.cache)}}], args.port
                    ),
                    *parts.allow_to_store(),
                ],
            ),
            opts=child,
        )
        CronJob(
            f"{name}-schedule",
            metadata=metadata,
            spec=jobs.scheduled(_run(name, args), _schedule(args.settings)),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[network]),
        )
        self.register_outputs({})


def _schedule(settings: RedisSettings) -> str:
    return schedules.cron(settings.backup_every, _MINUTE)


def _run(name: str, args: RedisBackupArgs) -> jobs.Run:
    return jobs.Run(
        labels=parts.labels(name, "backup"),
        service_account=args.cache,
        priority_class=args.priority_class,
        user=args.user,
        limit_seconds=_LIMIT_SECONDS,
        containers=[_take(args), _upload(args)],
        volumes=[
            {"name": "config", "configMap": {"name": args.cache, "defaultMode": 0o555}},
            {
                "name": "secrets",
                "secret": {
                    "secretName": args.cache,
                    "defaultMode": 0o440,
                    "items": [{"key": "password", "path": "password"}],
                },
            },
            # A dataset in a file takes no more room than in memory.
            parts.scratch("scratch", args.settings.memory),
        ],
    )


def _take(args: RedisBackupArgs) -> parts.Object:
    environment = {
        "REDIS_SERVERS": " ".join(args.servers),
        "REDIS_CONFIG": _CONFIG,
        "REDIS_SECRETS": _SECRETS,
        "REDIS_DATA": _SCRATCH,
        "REDIS_RUN": _SCRATCH,
    }
    return {
        "name": "take",
        "image": args.settings.image,
        "command": ["sh", f"{_CONFIG}/backup-redis.sh"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": parts.container_resources(_CPU, _MEMORY, args.settings.memory),
        "securityContext": parts.container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG, "readOnly": True},
            {"name": "secrets", "mountPath": _SECRETS, "readOnly": True},
            {"name": "scratch", "mountPath": _SCRATCH},
        ],
    }


def _upload(args: RedisBackupArgs) -> parts.Object:
    return {
        "name": "upload",
        "image": args.settings.backup_image,
        "command": [
            "aws", "s3", "cp", "--recursive", "--no-progress",
            f"{_SCRATCH}/whole", f"s3://{args.bucket}/{args.cache}/",
        ],
        "resources": parts.container_resources(_CPU, _MEMORY, _EPHEMERAL),
        "securityContext": parts.container_security(),
        "volumeMounts": [{"name": "scratch", "mountPath": _SCRATCH, "readOnly": True}],
    }  # fmt: skip
