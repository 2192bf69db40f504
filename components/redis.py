"""A Redis cache that loses any one server, or any one zone, and goes on.

Data servers (one master, its replicas) and Sentinels, which watch the master and agree on a new
one, are two StatefulSets. What runs in their Pods is in `redis_files/`: the configuration, and the
scripts that decide who is master at a start and hand the role over before a stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from string import Template

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service, ServiceAccount
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components import alerts, connection, metrics, parts, redis_alerts
from components.parts import Client, Endpoint
from components.redis_backup import RedisBackup, RedisBackupArgs
from stacks.systems.redis import CacheSettings, RedisSettings
from stacks.values import size_in_bytes

PORT = 6379
SENTINEL_PORT = 26_379

_METRICS_PORT = 9121
_USER = 999
"""`redis` in the official image."""

_CLIENT = "client"
"""The user that clients log in as: no administration, no replication, no FLUSHALL."""

_FILES = Path(__file__).with_name("redis_files")
_CONFIG, _SECRETS, _DATA, _RUN = "/etc/redis", "/etc/redis-secrets", "/data", "/run/redis"
_EXPORTER_SECRETS = "/etc/redis-exporter"
_EXPORTER_PASSWORDS = "exporter.json"

_MAXMEMORY_SHARE = Decimal("0.6")
"""Of the container's memory. The rest is for pages copied while a child rewrites the append-only
file under write load, for the replicas' buffers, and for fragmentation."""

_REPLICA_BUFFER_SHARE = Decimal(1) / 8
"""Of the container's memory: what may wait for one slow replica until it is disconnected."""

_BACKLOG_SHARE = Decimal(1) / 32
"""Of the container's memory: how far a replica may be behind and need no full copy."""

_SENTINEL_CPU, _SENTINEL_MEMORY, _SENTINEL_STORAGE = "250m", "64Mi", "1Gi"
"""It may use no more than it asks for, as it spins while a Service of another has no Pod behind
it; and no less, because it distrusts itself after 2 s: docs/decisions/redis-addresses.md."""

_EXPORTER_CPU, _EXPORTER_MEMORY = "20m", "64Mi"
_EPHEMERAL = "64Mi"

_LOADING_SECONDS = 10
"""A master that restarted and loads for longer is replaced. Sentinels see a restart in up to 10 s:
with this and the promotion, the objective of 30 s holds."""

_LONGEST_GRACE = 300
_HUNG_GRACE_SECONDS = 10
"""Of a server that answers nothing any more, and so hands nothing over: as long as a shutdown that
works may take. With the Pod's own grace one that was stopped was away for 260 s (a drill)."""

_FEWEST_ZONES = 3

_BEFORE_ITS_POD = {"pulumi.com/skipAwait": "true"}
"""An update waits until somebody answers behind a Service, and no server starts without its own."""


@dataclass(frozen=True)
class RedisArgs:
    """Settings and surroundings of the cache.

    Raises:
        ValueError: if the zones do not leave a majority when one of them is gone.
    """

    namespace: str
    settings: RedisSettings
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    backup_bucket: str
    clients: tuple[Client, ...]
    protect: bool
    caches: Mapping[str, Mapping[str, CacheSettings]] = field(default_factory=dict)
    """What each service keeps in it, by kind: told to all clients."""

    def __post_init__(self) -> None:
        if len(set(self.zones)) < _FEWEST_ZONES:
            raise ValueError(
                f"redis: zones is {', '.join(self.zones) or 'empty'}, but a majority of the "
                f"Sentinels survives the loss of a zone only with {_FEWEST_ZONES} or more"
            )


@dataclass(frozen=True)
class _Set:
    """One of the two StatefulSets."""

    name: str
    role: str
    replicas: int
    port: int
    start: str
    ready: str
    storage: str
    resources: parts.Object
    stop: str | None = None

    def addresses(self, namespace: str) -> list[str]:
        """Name and port of each server's own Service; ordinal 0 first."""
        return [f"{pod}.{namespace}.svc.cluster.local:{self.port}" for pod in self.pods]

    @property
    def pods(self) -> list[str]:
        """The name of each server's Pod, and of its own Service; ordinal 0 first."""
        return [f"{self.name}-{ordinal}" for ordinal in range(self.replicas)]


class Redis(pulumi.ComponentResource):
    """Data servers and Sentinels with everything that keeps them apart, up and reachable.

    Clients ask the Sentinels in `REDIS_SENTINELS` for the master `REDIS_MASTER_NAME`, and log in
    to both as `REDIS_USERNAME` with `password` of the Secret `secret_name`. It is a cache: a
    failover may lose the last `max_lag` seconds of writes, because Redis replicates
    asynchronously; a planned handover loses none.

    `REDIS_CACHES` says how long entries may be used, as JSON: service, kind, then in seconds
    `fresh` (an entry that is older is made again) and `kept` (what to expire it after; older than
    `fresh`, it is served only while its store is down); null: for ever.

    Copies of the dataset go to `backup_bucket`, and a new cache may begin with one
    (`settings.recovery`), with the role that the ServiceAccount, named as the cache, is given.

    Example:
        A program of its own::

            cache = Redis(
                "cache",
                RedisArgs(
                    namespace="games-data",
                    settings=RedisSettings(),
                    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
                    priority_class="games-data",
                    storage_class="gp3",
                    backup_bucket="games-backups",
                    clients=(Client("games-core", "gateway"),),
                    protect=True,
                ),
            )
            pulumi.export("cache", cache.endpoint)
    """

    endpoint: pulumi.Output[str]
    """Host and port where any Sentinel answers."""
    endpoints: tuple[Endpoint, ...]
    """What clients open connections to: Sentinels, and the data servers that these name."""
    environment: Mapping[str, str]
    """Where the cache is, for the clients' environment; also in the ConfigMap `secret_name`."""
    secret_name: str
    """A Secret with `username` and `password`, in each namespace that has clients."""

    def __init__(
        self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:redis:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        servers, sentinels = _servers(name, args.settings), _sentinels(name, args.settings)
        files = _files(name, args.settings)

        password, client_password = (
            connection.password(f"{name}-{user}-password", child) for user in ("server", _CLIENT)
        )
        own = [
            ServiceAccount(
                f"{name}-account",
                metadata=_metadata(name, args, "redis"),
                automount_service_account_token=False,
                opts=child,
            ),
            ConfigMap(
                f"{name}-config", metadata=_metadata(name, args, "redis"), data=files, opts=child
            ),
            _secret(name, args, password, client_password, child),
        ]
        for group in (servers, sentinels):
            self._workload(name, args, group, files, own)
        RedisBackup(
            _backup(name),
            RedisBackupArgs(
                namespace=args.namespace,
                settings=args.settings,
                cache=name,
                servers=servers.addresses(args.namespace),
                port=servers.port,
                user=_USER,
                bucket=args.backup_bucket,
                priority_class=args.priority_class,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=own),
        )
        metrics.pod_monitor(
            f"{name}-metrics",
            _metadata(name, args, "redis"),
            {
                "matchExpressions": [
                    {
                        "key": parts.NAME_LABEL,
                        "operator": "In",
                        "values": [servers.name, sentinels.name],
                    }
                ]
            },
            child,
        )

        alerts.rules(
            f"{name}-alerts",
            _metadata(name, args, "redis"),
            redis_alerts.of(name, args.namespace, args.settings),
            child,
        )

        sentinel = Endpoint(args.namespace, sentinels.name, sentinels.port)
        self.endpoint = pulumi.Output.from_input(f"{sentinel.host}:{sentinel.port}")
        self.endpoints = (sentinel, Endpoint(args.namespace, servers.name, servers.port))
        self.environment = {
            "REDIS_SENTINELS": ",".join(sentinels.addresses(args.namespace)),
            "REDIS_MASTER_NAME": name,
            "REDIS_USERNAME": _CLIENT,
            "REDIS_CACHES": _caches(args.caches),
        }
        self.secret_name = connection.publish(
            name,
            args.clients,
            self.environment,
            {
                "username": pulumi.Output.from_input(_CLIENT),
                "password": client_password,
            },
            parent=self,
        )
        self.register_outputs({"endpoint": self.endpoint, "secret_name": self.secret_name})

    def _workload(
        self,
        name: str,
        args: RedisArgs,
        group: _Set,
        files: Mapping[str, str],
        needs: list[pulumi.Resource],
    ) -> None:
        """Create one StatefulSet with its Service, budget and network policy."""
        child = pulumi.ResourceOptions(parent=self)
        metadata = _metadata(group.name, args, group.role)
        # They must find each other to become ready, so names come first.
        found = {
            "publishNotReadyAddresses": True,
            "ports": [{"name": "redis", "port": group.port, "targetPort": "redis"}],
        }
        selector = parts.selector(group.name)
        service = Service(
            f"{group.name}-service",
            metadata=metadata,
            spec={"clusterIP": "None", "selector": selector, **found},
            opts=child,
        )
        # An address that stays for each: docs/decisions/redis-addresses.md.
        own = [
            Service(
                f"{pod}-service",
                metadata=parts.metadata(
                    pod, args.namespace, parts.labels(name, group.role), _BEFORE_ITS_POD
                ),
                spec={"selector": {**selector, parts.POD_LABEL: pod}, **found},
                opts=child,
            )
            for pod in group.pods
        ]
        network = NetworkPolicy(
            f"{group.name}-network",
            metadata=metadata,
            spec=_network(name, args, group),
            opts=child,
        )
        PodDisruptionBudget(
            f"{group.name}-disruption",
            metadata=metadata,
            spec=parts.disruption_budget(parts.selector(group.name)),
            opts=child,
        )
        StatefulSet(
            f"{group.name}-servers",
            metadata=metadata,
            spec=_stateful_set(name, args, group, files),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*needs, service, *own, network],
                protect=args.protect,
                retain_on_delete=args.protect,
            ),
        )


def _servers(name: str, settings: RedisSettings) -> _Set:
    return _Set(
        name=name,
        role="redis",
        replicas=settings.replicas,
        port=PORT,
        start="start-redis.sh",
        ready="ready-redis.sh",
        stop="stop-redis.sh",
        storage=settings.storage,
        resources=parts.container_resources(settings.cpu, settings.memory, _EPHEMERAL),
    )


def _sentinels(name: str, settings: RedisSettings) -> _Set:
    return _Set(
        name=f"{name}-sentinel",
        role="sentinel",
        replicas=settings.sentinels,
        port=SENTINEL_PORT,
        start="start-sentinel.sh",
        ready="ready-sentinel.sh",
        storage=_SENTINEL_STORAGE,
        resources=parts.container_resources(
            _SENTINEL_CPU, _SENTINEL_MEMORY, _EPHEMERAL, cpu_limit=_SENTINEL_CPU
        ),
    )


def _caches(caches: Mapping[str, Mapping[str, CacheSettings]]) -> str:
    told = {
        service: {
            kind: {"fresh": cache.ttl, "kept": cache.stale_while_down or cache.ttl}
            for kind, cache in own.items()
        }
        for service, own in caches.items()
        if own
    }
    return json.dumps(told, sort_keys=True)


def _backup(name: str) -> str:
    return f"{name}-backup"


def _metadata(name: str, args: RedisArgs, role: str) -> parts.Object:
    return parts.metadata(name, args.namespace, parts.labels(name, role))


def _files(name: str, settings: RedisSettings) -> dict[str, str]:
    """Scripts as they are, configuration with the settings filled in."""
    values = {
        "master_name": name,
        "min_replicas_to_write": settings.min_replicas_to_write,
        "max_lag": settings.max_lag,
        "eviction": settings.eviction,
        "maxmemory": _share(settings, _MAXMEMORY_SHARE),
        "replica_buffer": _share(settings, _REPLICA_BUFFER_SHARE),
        "backlog": _share(settings, _BACKLOG_SHARE),
        "down_after_milliseconds": settings.down_after * 1000,
        "failover_timeout_milliseconds": settings.failover_timeout * 1000,
        "reboot_down_after_milliseconds": _LOADING_SECONDS * 1000,
    }
    return {
        path.name: (
            Template(path.read_text()).substitute(values)
            if path.suffix == ".conf"
            else path.read_text()
        )
        for path in sorted(_FILES.iterdir())
    }


def _share(settings: RedisSettings, share: Decimal) -> int:
    """Bytes that are this share of a data server's memory."""
    return int(size_in_bytes(settings.memory) * share)


def _secret(
    name: str,
    args: RedisArgs,
    servers: pulumi.Output[str],
    clients: pulumi.Output[str],
    opts: pulumi.ResourceOptions,
) -> Secret:
    """Create the Secret with the servers' password and the clients'.

    It is read as files: arguments and environment leak into dumps.
    """
    return Secret(
        f"{name}-secret",
        metadata=_metadata(name, args, "redis"),
        data={
            "password": connection.encoded(servers),
            "client-password": connection.encoded(clients),
            _EXPORTER_PASSWORDS: connection.encoded(servers.apply(_exporter_passwords)),
        },
        opts=opts,
    )


def _exporter_passwords(password: str) -> str:
    """Name the password for each address that an exporter asks, as its password file wants."""
    return json.dumps({_exporter_address(port): password for port in (PORT, SENTINEL_PORT)})


def _exporter_address(port: int) -> str:
    return f"redis://localhost:{port}"


def _network(name: str, args: RedisArgs, group: _Set) -> parts.Object:
    """Let clients, the servers and the Sentinels in, and the latter two out to each other.

    Backups ask data servers, and a cache that begins with one reaches for it.
    """
    servers, sentinels = _servers(name, args.settings), _sentinels(name, args.settings)
    family = [
        {"podSelector": {"matchLabels": parts.selector(s.name)}} for s in (servers, sentinels)
    ]
    data = group.role == servers.role
    backups = [{"podSelector": {"matchLabels": parts.selector(_backup(name))}}] if data else []
    return parts.network_policy(
        parts.selector(group.name),
        ingress=[
            *parts.allow_from([*family, *parts.client_peers(args.clients)], group.port),
            *parts.allow_from(backups, group.port),
            *parts.allow_from([metrics.reader()], _METRICS_PORT),
        ],
        egress=[
            *parts.allow_to(family[:1], servers.port),
            *parts.allow_to(family[1:], sentinels.port),
            *(parts.allow_to_store() if data and args.settings.recovery else []),
        ],
    )


def _stateful_set(
    name: str, args: RedisArgs, group: _Set, files: Mapping[str, str]
) -> parts.Object:
    retention = "Retain" if args.protect else "Delete"
    return {
        "serviceName": group.name,
        "replicas": group.replicas,
        "selector": {"matchLabels": parts.selector(group.name)},
        # After an outage any of them may be the master or know it. One after the other, the first
        # would wait for the others, and the others would never be started.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": retention, "whenScaled": "Retain"},
        "template": {
            "metadata": {
                "labels": parts.labels(group.name, group.role),
                # A change of a file replaces the Pods, one by one.
                "annotations": {"fault-tolerance/config": parts.digest(files)},
            },
            "spec": _pod(name, args, group),
        },
        "volumeClaimTemplates": [parts.claim("data", args.storage_class, group.storage)],
    }


def _pod(name: str, args: RedisArgs, group: _Set) -> parts.Object:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": args.priority_class,
        "securityContext": parts.pod_security(_USER),
        "terminationGracePeriodSeconds": _grace_seconds(args.settings),
        "tolerations": parts.tolerations(),
        "dnsConfig": parts.dns(),
        **_placement(group, len(args.zones)),
        **_recovery(name, args, group),
        "containers": [_container(name, args, group), _exporter(args.settings, group.port)],
        "volumes": [
            {"name": "config", "configMap": {"name": name, "defaultMode": 0o555}},
            _secret_volume("secrets", name, "password", "client-password"),
            _secret_volume("exporter", name, _EXPORTER_PASSWORDS),
            parts.scratch("run", "1Mi", memory=True),
        ],
    }


def _grace_seconds(settings: RedisSettings) -> int:
    """For stop-redis.sh, mostly 2 s, and the server's own shutdown, up to 10 s.

    The script waits for up to 40, 10, 3, 15 and 35 s. In each look, at worst the last, every
    question takes the two seconds that it may: two to each Sentinel while it waits, five until one
    begins, three at the end of the handover, two to each server but two after it, and eleven more
    of its own or at once.
    """
    waits = 40 + 10 + 3 + 15 + 35
    questions = (2 + 5 + 3) * settings.sentinels + 2 * (settings.replicas - 2) + 11
    return min(waits + 2 * questions + 10, _LONGEST_GRACE)


def _secret_volume(volume: str, secret: str, *files: str) -> parts.Object:
    items = [{"key": file, "path": file} for file in files]
    return {
        "name": volume,
        "secret": {"secretName": secret, "defaultMode": 0o440, "items": items},
    }


def _placement(group: _Set, zones: int) -> parts.Object:
    """Never two on one host, nor in one zone; more servers than zones are spread evenly instead."""
    pods = parts.selector(group.name)
    keys = [parts.HOST] if group.replicas > zones else [parts.HOST, parts.ZONE]
    terms = [{"labelSelector": {"matchLabels": pods}, "topologyKey": key} for key in keys]
    return {
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "topologySpreadConstraints": parts.spread(pods, stay=True),
    }


def _container(name: str, args: RedisArgs, group: _Set) -> parts.Object:
    return {
        "name": "redis",
        "image": args.settings.image,
        "command": _script(group.start),
        "env": _environment(name, args, group),
        "ports": [{"name": "redis", "containerPort": group.port}],
        "resources": group.resources,
        "securityContext": parts.container_security(),
        "livenessProbe": {
            **parts.exec_probe(_script("live.sh"), period=10, failures=6),
            "terminationGracePeriodSeconds": _HUNG_GRACE_SECONDS,
        },
        "readinessProbe": parts.exec_probe(_script(group.ready), period=5, failures=3),
        **(
            {"lifecycle": {"preStop": {"exec": {"command": _script(group.stop)}}}}
            if group.stop
            else {}
        ),
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG, "readOnly": True},
            {"name": "secrets", "mountPath": _SECRETS, "readOnly": True},
            {"name": "data", "mountPath": _DATA},
            {"name": "run", "mountPath": _RUN},
        ],
    }


def _recovery(name: str, args: RedisArgs, group: _Set) -> parts.Object:
    """What fetches the backup that a new cache begins with; see `redis_files/fetch-backup.sh`."""
    if args.settings.recovery is None or group.role != "redis":
        return {}
    fetch = {
        "name": "fetch",
        "image": args.settings.backup_image,
        "command": _script("fetch-backup.sh"),
        "env": _environment(name, args, group),
        "resources": group.resources,
        "securityContext": parts.container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG, "readOnly": True},
            {"name": "data", "mountPath": _DATA},
        ],
    }
    return {"initContainers": [fetch]}


def _script(file: str) -> list[str]:
    return ["sh", f"{_CONFIG}/{file}"]


def _environment(name: str, args: RedisArgs, group: _Set) -> list[parts.Object]:
    """What `redis_files/lib.sh` says that the scripts need."""
    servers, sentinels = _servers(name, args.settings), _sentinels(name, args.settings)
    known = {
        "REDIS_HOST": f"$(POD_NAME).{args.namespace}.svc.cluster.local",
        "REDIS_PORT": str(group.port),
        "REDIS_SERVERS": " ".join(servers.addresses(args.namespace)),
        "REDIS_SENTINELS": " ".join(sentinels.addresses(args.namespace)),
        "REDIS_MASTER_NAME": name,
        "REDIS_QUORUM": str(args.settings.quorum),
        "REDIS_CONFIG": _CONFIG,
        "REDIS_SECRETS": _SECRETS,
        "REDIS_DATA": _DATA,
        "REDIS_RUN": _RUN,
    }
    if (recovery := args.settings.recovery) and group.role == "redis":
        bucket = recovery.bucket or args.backup_bucket
        known["REDIS_RECOVERY"] = f"s3://{bucket}/{name}/{recovery.file}"
    return [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *({"name": key, "value": value} for key, value in known.items()),
    ]


def _exporter(settings: RedisSettings, port: int) -> parts.Object:
    return {
        "name": "exporter",
        "image": settings.exporter_image,
        "args": [
            f"--redis.addr={_exporter_address(port)}",
            f"--redis.password-file={_EXPORTER_SECRETS}/{_EXPORTER_PASSWORDS}",
        ],
        "ports": [{"name": metrics.PORT, "containerPort": _METRICS_PORT}],
        "resources": parts.container_resources(_EXPORTER_CPU, _EXPORTER_MEMORY, _EPHEMERAL),
        "securityContext": parts.container_security(),
        "livenessProbe": parts.http_probe("/health", metrics.PORT, period=10, failures=6),
        "readinessProbe": parts.http_probe("/", metrics.PORT, period=10, failures=3),
        "volumeMounts": [{"name": "exporter", "mountPath": _EXPORTER_SECRETS, "readOnly": True}],
    }
