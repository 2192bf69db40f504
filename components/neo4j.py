"""A Neo4j graph database: a cluster that outlives a server or a zone, or one server that does not.

Enterprise: one StatefulSet a server, so that each can be stopped, moved and repaired alone; all are
primaries of every database, in different zones; backups are taken from outside the servers, full
ones and between them only what changed. Community has neither cluster nor backup of a running
database: one server, a declared single point of failure, which stops now and then to be dumped.

With an issuer of certificates every connection is encrypted and both ends are who they say they
are: `components/neo4j_tls.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pulumi
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.batch.v1 import CronJob, Job
from pulumi_kubernetes.core.v1 import ConfigMap, Secret, Service, ServiceAccount
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components import (
    alerts,
    certificates,
    connection,
    jobs,
    metrics,
    neo4j_alerts,
    neo4j_tls,
    parts,
)
from components.parts import Client, Endpoint
from stacks import schedules
from stacks.systems.neo4j import Edition, Neo4jRecovery, Neo4jSettings, backup_every
from stacks.values import Objective, size_in_bytes

PORT = 7687
"""Bolt, the protocol of every driver."""

_CLUSTER_PORT, _RAFT_PORT, _ROUTING_PORT, _BACKUP_PORT = 6000, 7000, 7688, 6362
_METRICS_PORT = 2004
_FILES = Path(__file__).parent / "neo4j_files"
_ADMIN = "neo4j-admin.conf"
_SCRIPTS, _SECRETS, _RUN, _DATA = "/etc/neo4j", "/etc/secrets", "/run/neo4j", "/data"

_USER = 7474
"""`neo4j` in the official images."""
_LOGIN = "neo4j"

_SERVER_LABEL = "fault-tolerance/server"

_HEAP_SHARE = Decimal(1) / 2
_PAGE_CACHE_SHARE = Decimal(1) / 4
"""Of a server's memory; the rest is for threads, network buffers and indexes outside the heap."""

_EPHEMERAL = "1Gi"

_GRACE_SECONDS = 120
"""For a server to hand its leaderships over and write what is in memory; a longer stop is a crash,
after which it replays its log."""

_START_SECONDS = 1800
"""For replaying the log, and for copying a store that fell too far behind."""

_BACKUP_CPU, _BACKUP_MEMORY = "500m", "2Gi"
_BACKUP_SCRATCH = "10Gi"
_BACKUP_LIMIT_SECONDS = 6 * 3600
_MINUTES = {"full": 10, "change": 50}
"""Past the hour: the two do not begin together."""

_OPTIONS = {
    # A transaction that met a change of leaders is tried again for so long; an election takes 30 s.
    "NEO4J_MAX_TRANSACTION_RETRY_SECONDS": "60",
    "NEO4J_CONNECTION_TIMEOUT_SECONDS": "3",
    "NEO4J_MAX_CONNECTION_LIFETIME_SECONDS": "600",
}


@dataclass(frozen=True)
class Neo4jArgs:
    """Settings and surroundings of the graph database.

    Raises:
        ValueError: if the servers cannot each have a zone of their own.
    """

    namespace: str
    settings: Neo4jSettings
    objective: Objective
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    backup_bucket: str
    clients: tuple[Client, ...]
    protect: bool
    wait: bool = True
    """Wait until the servers are ready, so that an update which leaves them broken fails. Not where
    their image cannot be had."""

    def __post_init__(self) -> None:
        if self.settings.servers > len(set(self.zones)):
            raise ValueError(
                f"neo4j: servers is {self.settings.servers}, but there are only "
                f"{len(set(self.zones))} zones: each server needs a zone of its own, or one zone "
                "takes a majority with it"
            )


class Neo4j(pulumi.ComponentResource):
    """A graph database with its credentials, metrics, alerts, network policies and backups.

    Clients connect to `NEO4J_URI` with `username` and `password` of the Secret `secret_name`. With
    a cluster it is a `neo4j://` address: the driver asks any server for the routing table and
    sends writes to the leader. With an issuer it is `neo4j+s://`: the driver encrypts, and verifies
    the servers by the authorities that its Pod trusts.

    The backups reach the bucket with the role that the ServiceAccount, named as the database, is
    given (EKS Pod Identity or an annotation): no key is stored. Community's dumps stay on the
    server's volume.

    Example:
        A program of its own::

            graph = Neo4j(
                "cards",
                Neo4jArgs(
                    namespace="games-data",
                    settings=Neo4jSettings(accept_license=True, issuer="games"),
                    objective=Objective(rpo=3600, rto=180),
                    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
                    priority_class="games-data",
                    storage_class="gp3",
                    backup_bucket="games-backups",
                    clients=(Client("games-core", "decks"),),
                    protect=True,
                ),
            )
            pulumi.export("graph", graph.endpoint)
    """

    endpoint: pulumi.Output[str]
    """Host and port that lead to any server that is ready."""
    endpoints: tuple[Endpoint, ...]
    """What clients open connections to."""
    environment: Mapping[str, str]
    """Where the database is; also in the ConfigMap `secret_name`."""
    secret_name: str
    """A Secret with `username` and `password`, in each namespace that has clients."""

    def __init__(
        self, name: str, args: Neo4jArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:neo4j:Neo4j", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        metadata = _metadata(name, args, "neo4j")
        files = _files(name, args)
        password = connection.password(f"{name}-password", child)
        needs: list[pulumi.Resource] = [
            ServiceAccount(
                f"{name}-account",
                metadata=metadata,
                automount_service_account_token=False,
                opts=child,
            ),
            ConfigMap(f"{name}-config", metadata=metadata, data=files, opts=child),
            Secret(
                f"{name}-secret",
                metadata=metadata,
                data={"password": connection.encoded(password)},
                opts=child,
            ),
            NetworkPolicy(
                f"{name}-network", metadata=metadata, spec=_network(name, args), opts=child
            ),
            self._discovery(name, args),
            *self._certificate(name, args),
        ]
        PodDisruptionBudget(
            f"{name}-disruption",
            metadata=metadata,
            spec=parts.disruption_budget(parts.selector(name)),
            opts=child,
        )
        servers = [
            StatefulSet(
                f"{name}-{number}-server",
                metadata=parts.metadata(
                    _server(name, number),
                    args.namespace,
                    parts.labels(name, "neo4j"),
                    _skip_await(args),
                ),
                spec=_stateful_set(name, number, args, files),
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=needs,
                    protect=args.protect,
                    retain_on_delete=args.protect,
                ),
            )
            for number in range(1, args.settings.servers + 1)
        ]
        self._entrance(name, args, servers)
        if _is_enterprise(args):
            self._backups(name, args)
            if args.settings.recovery is not None:
                self._recovery(name, args, args.settings.recovery, needs)
            metrics.pod_monitor(
                f"{name}-metrics", metadata, {"matchLabels": parts.selector(name)}, child
            )
        alerts.rules(
            f"{name}-alerts",
            metadata,
            neo4j_alerts.of(
                name, args.namespace, args.settings, backup_every(args.settings, args.objective)
            ),
            child,
        )

        client = Endpoint(args.namespace, name, PORT)
        self.endpoint = pulumi.Output.from_input(f"{client.host}:{PORT}")
        self.endpoints = (client,)
        self.environment = {"NEO4J_URI": f"{_scheme(args)}://{client.host}:{PORT}", **_OPTIONS}
        self.secret_name = connection.publish(
            name,
            args.clients,
            self.environment,
            {"username": pulumi.Output.from_input(_LOGIN), "password": password},
            parent=self,
        )
        self.register_outputs({"endpoint": self.endpoint, "secret_name": self.secret_name})

    def _discovery(self, name: str, args: Neo4jArgs) -> Service:
        """Servers must find each other to become ready, so names come first."""
        return Service(
            f"{name}-servers-service",
            metadata=_metadata(_servers(name), args, "neo4j"),
            spec={
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": parts.selector(name),
                "ports": [
                    {"name": port, "port": number, "targetPort": number}
                    for port, number in _ports(args).items()
                ],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _certificate(self, name: str, args: Neo4jArgs) -> list[pulumi.Resource]:
        if args.settings.issuer is None:
            return []
        servers = range(1, args.settings.servers + 1)
        entrance = Endpoint(args.namespace, name, PORT).host
        return [
            certificates.certificate(
                f"{name}-certificate",
                _metadata(_tls(name), args, "neo4j"),
                args.settings.issuer,
                [entrance, *(_host(name, number, args) for number in servers)],
                pulumi.ResourceOptions(parent=self),
                days=neo4j_tls.VALID_DAYS,
                renewed_days=neo4j_tls.RENEWED_DAYS,
            )
        ]

    def _entrance(self, name: str, args: Neo4jArgs, servers: list[StatefulSet]) -> None:
        """Leads clients to servers that are ready; an update waits for one, so servers go first."""
        Service(
            f"{name}-service",
            metadata=parts.metadata(
                name, args.namespace, parts.labels(name, "neo4j"), _skip_await(args)
            ),
            spec={
                "selector": parts.selector(name),
                "ports": [{"name": "bolt", "port": PORT, "targetPort": "bolt"}],
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=servers),
        )

    def _backups(self, name: str, args: Neo4jArgs) -> None:
        """Full ones, and between them ones that hold only what changed since the one before."""
        every = backup_every(args.settings, args.objective)
        NetworkPolicy(
            f"{name}-backup-network",
            metadata=_metadata(_backup(name), args, "backup"),
            spec=parts.network_policy(
                parts.selector(_backup(name)),
                egress=[
                    *parts.allow_to(
                        [{"podSelector": {"matchLabels": parts.selector(name)}}], _BACKUP_PORT
                    ),
                    *parts.allow_to_store(),
                ],
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for kind, interval in (("full", args.settings.full_every), ("change", every)):
            CronJob(
                f"{name}-{kind}-backup",
                metadata=_metadata(f"{name}-{kind}", args, "backup"),
                spec=_backup_job(name, kind, interval, args),
                opts=pulumi.ResourceOptions(parent=self),
            )

    def _recovery(
        self,
        name: str,
        args: Neo4jArgs,
        recovery: Neo4jRecovery,
        needs: list[pulumi.Resource],
    ) -> None:
        """Another recovery is another Job: one that has run cannot be changed."""
        spec = jobs.once(_restore(name, args, recovery))
        job = f"{name}-recovery-{parts.digest({'spec': json.dumps(spec, sort_keys=True)})[:8]}"
        Job(
            f"{name}-recovery",
            metadata=parts.metadata(
                job, args.namespace, parts.labels(_backup(name), "recovery"), _skip_await(args)
            ),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=needs,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{_BACKUP_LIMIT_SECONDS}s"),
            ),
        )


def _is_enterprise(args: Neo4jArgs) -> bool:
    return args.settings.edition is Edition.ENTERPRISE


def _scheme(args: Neo4jArgs) -> str:
    """How a driver connects: by routing table or directly, and encrypted or not."""
    scheme = "neo4j" if _is_enterprise(args) else "bolt"
    return f"{scheme}+s" if args.settings.issuer else scheme


def _metadata(name: str, args: Neo4jArgs, component: str) -> parts.Object:
    return parts.metadata(name, args.namespace, parts.labels(name, component))


def _skip_await(args: Neo4jArgs) -> dict[str, str]:
    return {} if args.wait else {"pulumi.com/skipAwait": "true"}


def _server(name: str, number: int) -> str:
    """The name of a server's StatefulSet; its one Pod is `<name>-<number>-0`."""
    return f"{name}-{number}"


def _servers(name: str) -> str:
    return f"{name}-servers"


def _backup(name: str) -> str:
    return f"{name}-backup"


def _tls(name: str) -> str:
    return f"{name}-tls"


def _host(name: str, number: int, args: Neo4jArgs) -> str:
    """Where a server is found whether it is ready or not."""
    return f"{_server(name, number)}-0.{_servers(name)}.{args.namespace}.svc.cluster.local"


def _ports(args: Neo4jArgs) -> dict[str, int]:
    """What servers open to each other."""
    if not _is_enterprise(args):
        return {"bolt": PORT}
    return {
        "bolt": PORT,
        "cluster": _CLUSTER_PORT,
        "raft": _RAFT_PORT,
        "routing": _ROUTING_PORT,
        "backup": _BACKUP_PORT,
    }


def _files(name: str, args: Neo4jArgs) -> dict[str, str]:
    scripts = {path.name: path.read_text() for path in sorted(_FILES.iterdir())}
    files = {"neo4j.conf": configuration(name, args), _ADMIN: _administration(args)}
    return {**{file: _lines(told) for file, told in files.items() if told}, **scripts}


def _lines(told: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in told.items())


def _administration(args: Neo4jArgs) -> dict[str, str]:
    """What the programs of administration are told, which take backups over the network."""
    return neo4j_tls.backup() if args.settings.issuer and _is_enterprise(args) else {}


def configuration(name: str, args: Neo4jArgs) -> dict[str, str]:
    """What every server is told, in the keys of `neo4j.conf`."""
    memory = size_in_bytes(args.settings.resources.memory)
    heap = _megabytes(memory * _HEAP_SHARE)
    shared = {
        "server.default_listen_address": "0.0.0.0",  # noqa: S104, a Pod has no other address
        "server.bolt.enabled": "true",
        "server.bolt.listen_address": f":{PORT}",
        "server.http.enabled": "false",
        "server.directories.data": _DATA,
        "server.directories.logs": f"{_RUN}/logs",
        "server.directories.run": f"{_RUN}/run",
        "server.directories.import": f"{_RUN}/import",
        # The whole heap from the start: a server that grows later may find no memory then.
        "server.memory.heap.initial_size": heap,
        "server.memory.heap.max_size": heap,
        "server.memory.pagecache.size": _megabytes(memory * _PAGE_CACHE_SHARE),
        # One that is out of memory answers no one and holds its leaderships: better none.
        "server.jvm.additional": "-XX:+ExitOnOutOfMemoryError",
        "dbms.usage_report.enabled": "false",
        **(neo4j_tls.bolt() if args.settings.issuer else {}),
    }
    if not _is_enterprise(args):
        return shared
    servers = range(1, args.settings.servers + 1)
    return shared | {
        # Upstream's default is one copy of each database, however many servers there are.
        "initial.dbms.default_primaries_count": str(args.settings.servers),
        "dbms.cluster.minimum_initial_system_primaries_count": str(args.settings.servers),
        "dbms.cluster.discovery.version": "V2_ONLY",
        "dbms.cluster.discovery.resolver_type": "LIST",
        "dbms.cluster.discovery.v2.endpoints": ",".join(
            f"{_host(name, number, args)}:{_CLUSTER_PORT}" for number in servers
        ),
        "server.cluster.listen_address": f":{_CLUSTER_PORT}",
        "server.cluster.raft.listen_address": f":{_RAFT_PORT}",
        "server.routing.listen_address": f":{_ROUTING_PORT}",
        # Clients behind a load balancer, too, are led to the leader.
        "dbms.routing.enabled": "true",
        "server.backup.enabled": "true",
        "server.backup.listen_address": f"0.0.0.0:{_BACKUP_PORT}",
        "server.metrics.prometheus.enabled": "true",
        "server.metrics.prometheus.endpoint": f"0.0.0.0:{_METRICS_PORT}",
        "server.metrics.filter": "*",
        **(neo4j_tls.between_servers() if args.settings.issuer else {}),
    }


def _megabytes(amount: Decimal) -> str:
    return f"{int(amount) // 2**20}m"


def _network(name: str, args: Neo4jArgs) -> parts.Object:
    """Let servers talk to each other, and clients to all of them: any may lead a database."""
    family = [{"podSelector": {"matchLabels": parts.selector(name)}}]
    backups = [{"podSelector": {"matchLabels": parts.selector(_backup(name))}}]
    inside = [number for port, number in _ports(args).items() if port != "backup"]
    enterprise = _is_enterprise(args)
    return parts.network_policy(
        parts.selector(name),
        ingress=[
            *parts.allow_from(parts.client_peers(args.clients), PORT),
            *(parts.allow_from(family, *inside) if enterprise else []),
            *(parts.allow_from(backups, _BACKUP_PORT) if enterprise else []),
            *(parts.allow_from([metrics.reader()], _METRICS_PORT) if enterprise else []),
        ],
        egress=parts.allow_to(family, *inside) if enterprise else [],
    )


def _stateful_set(
    name: str, number: int, args: Neo4jArgs, files: Mapping[str, str]
) -> parts.Object:
    retention = "Retain" if args.protect else "Delete"
    own = {**parts.selector(name), _SERVER_LABEL: str(number)}
    return {
        "serviceName": _servers(name),
        "replicas": 1,
        "selector": {"matchLabels": own},
        # One that does not start gives way to the next; else it would be waited for, for ever.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": retention, "whenScaled": "Retain"},
        "template": {
            "metadata": {
                "labels": {**parts.labels(name, "neo4j"), **own},
                # A change of a file replaces the Pod.
                "annotations": {"fault-tolerance/config": parts.digest(files)},
            },
            "spec": _pod(name, number, args),
        },
        "volumeClaimTemplates": [parts.claim("data", args.storage_class, args.settings.storage)],
    }


def _pod(name: str, number: int, args: Neo4jArgs) -> parts.Object:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": args.priority_class,
        "securityContext": parts.pod_security(_USER),
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "tolerations": parts.tolerations(),
        "affinity": parts.apart(parts.selector(name)),
        "topologySpreadConstraints": parts.spread(parts.selector(name), "controller-revision-hash"),
        "containers": [_container(name, number, args)],
        "volumes": [
            {"name": "config", "configMap": {"name": name, "defaultMode": 0o555}},
            {"name": "secrets", "secret": {"secretName": name, "defaultMode": 0o440}},
            parts.scratch("run", "512Mi"),
            parts.scratch("tmp", "256Mi"),
            *([neo4j_tls.volume(_tls(name))] if args.settings.issuer else []),
        ],
    }


def _container(name: str, number: int, args: Neo4jArgs) -> parts.Object:
    settings = args.settings
    own = {
        "ADDRESS": _host(name, number, args),
        "NEO4J_FILES": _SCRIPTS,
        "NEO4J_SECRETS": _SECRETS,
        "NEO4J_DATA": _DATA,
        "NEO4J_RUN": _RUN,
    }
    if _is_enterprise(args):
        own["NEO4J_ACCEPT_LICENSE_AGREEMENT"] = "yes"
    else:
        own["DUMP_SECONDS"] = str(backup_every(settings, args.objective))
    exporting = [{"name": metrics.PORT, "containerPort": _METRICS_PORT}]
    return {
        "name": "neo4j",
        "image": settings.image,
        "command": ["sh", f"{_SCRIPTS}/start.sh"],
        "env": [{"name": key, "value": value} for key, value in own.items()],
        "ports": [
            {"name": "bolt", "containerPort": PORT},
            *(exporting if _is_enterprise(args) else []),
        ],
        "resources": parts.container_resources(
            settings.resources.cpu, settings.resources.memory, _EPHEMERAL
        ),
        "securityContext": parts.container_security(),
        "startupProbe": {
            "tcpSocket": {"port": "bolt"},
            "periodSeconds": 5,
            "failureThreshold": _START_SECONDS // 5,
        },
        "livenessProbe": {
            "tcpSocket": {"port": "bolt"},
            "periodSeconds": 10,
            "failureThreshold": 6,
            "timeoutSeconds": 5,
        },
        "readinessProbe": parts.exec_probe(
            ["bash", f"{_SCRIPTS}/{'ready-tls.sh' if settings.issuer else 'ready.sh'}", str(PORT)],
            period=5,
            failures=3,
        ),
        "volumeMounts": [
            {"name": "config", "mountPath": _SCRIPTS, "readOnly": True},
            {"name": "secrets", "mountPath": _SECRETS, "readOnly": True},
            {"name": "data", "mountPath": _DATA},
            {"name": "run", "mountPath": _RUN},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, of the container
            *([neo4j_tls.mount()] if settings.issuer else []),
        ],
    }


def _backup_job(name: str, kind: str, interval: int, args: Neo4jArgs) -> parts.Object:
    """A backup asks any server that answers; one that cannot extend the chain begins a new one."""
    servers = range(1, args.settings.servers + 1)
    command = [
        "neo4j-admin",
        "database",
        "backup",
        "*",
        f"--from={','.join(f'{_host(name, number, args)}:{_BACKUP_PORT}' for number in servers)}",
        f"--to-path=s3://{args.backup_bucket}/{name}/",
        f"--type={'FULL' if kind == 'full' else 'AUTO'}",
        "--include-metadata=all",
        "--temp-path=/scratch",
    ]
    environment = {"NEO4J_ACCEPT_LICENSE_AGREEMENT": "yes"}
    mounts, volumes = [], []
    if args.settings.issuer:
        environment["NEO4J_CONF"] = _SCRIPTS
        told = [{"key": _ADMIN, "path": _ADMIN}]
        volumes = [
            {"name": "config", "configMap": {"name": name, "items": told}},
            neo4j_tls.volume(_tls(name)),
        ]
        mounts = [
            {"name": "config", "mountPath": _SCRIPTS, "readOnly": True},
            neo4j_tls.mount(),
        ]
    run = jobs.Run(
        labels=parts.labels(_backup(name), "backup"),
        service_account=name,
        priority_class=args.priority_class,
        user=_USER,
        limit_seconds=_BACKUP_LIMIT_SECONDS,
        containers=[
            {
                "name": "backup",
                "image": args.settings.image,
                "command": command,
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "resources": parts.container_resources(
                    _BACKUP_CPU, _BACKUP_MEMORY, _BACKUP_SCRATCH
                ),
                "securityContext": parts.container_security(),
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108
                    *mounts,
                ],
            }
        ],
        volumes=[parts.scratch("scratch", _BACKUP_SCRATCH), *volumes],
    )
    return jobs.scheduled(run, schedules.cron(interval, _MINUTES[kind]))


def _restore(name: str, args: Neo4jArgs, recovery: Neo4jRecovery) -> jobs.Run:
    """See `neo4j_files/restore.sh`."""
    settings, until = args.settings, ""
    if recovery.target_time is not None:
        moment = datetime.fromisoformat(recovery.target_time).astimezone(UTC)
        until = moment.strftime("%Y-%m-%d %H:%M:%S")
    environment = {
        "NEO4J_ACCEPT_LICENSE_AGREEMENT": "yes",
        "NEO4J_DATA": _DATA,
        "NEO4J_RUN": _RUN,
        "BACKUP": f"s3://{recovery.bucket or args.backup_bucket}/{name}/{recovery.file}",
        "DATABASE": recovery.database,
        "TARGET": f"s3://{args.backup_bucket}/{name}/recovered/",
        "UNTIL": until,
    }
    return jobs.Run(
        labels=parts.labels(_backup(name), "recovery"),
        service_account=name,
        priority_class=args.priority_class,
        user=_USER,
        limit_seconds=_BACKUP_LIMIT_SECONDS,
        containers=[
            {
                "name": "restore",
                "image": settings.image,
                "command": ["sh", f"{_SCRIPTS}/restore.sh"],
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "resources": parts.container_resources(
                    settings.resources.cpu, settings.resources.memory, _EPHEMERAL
                ),
                "securityContext": parts.container_security(),
                "volumeMounts": [
                    {"name": "config", "mountPath": _SCRIPTS, "readOnly": True},
                    {"name": "data", "mountPath": _DATA},
                    {"name": "run", "mountPath": _RUN},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, of the container
                ],
            }
        ],
        volumes=[
            {"name": "config", "configMap": {"name": name, "defaultMode": 0o555}},
            {
                "name": "data",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": parts.claim("data", args.storage_class, settings.storage)["spec"]
                    }
                },
            },
            parts.scratch("run", "64Mi"),
            parts.scratch("tmp", "256Mi"),
        ],
    )
