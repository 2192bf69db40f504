"""One server of a Neo4j database: its name, its files, its Pod, and who may reach it.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from components import metrics, neo4j_tls, parts
from components.parts import Client
from stacks.systems.neo4j import Edition, Neo4jSettings, backup_every
from stacks.values import Objective, size_in_bytes

PORT: Final = 7687
"""Bolt, the protocol of every driver."""

BACKUP_PORT: Final = 6362
_CLUSTER_PORT, _RAFT_PORT, _ROUTING_PORT, _METRICS_PORT = 6000, 7000, 7688, 2004

_FILES = Path(__file__).parent / "neo4j_files"
ADMIN: Final = "neo4j-admin.conf"
SCRIPTS: Final = "/etc/neo4j"
RUN: Final = "/run/neo4j"
DATA: Final = "/data"
_SECRETS = "/etc/secrets"

USER: Final = 7474
"""`neo4j` in the official images."""

EPHEMERAL: Final = "1Gi"

_SERVER_LABEL = "fault-tolerance/server"

_HEAP_SHARE = Decimal(1) / 2
_PAGE_CACHE_SHARE = Decimal(1) / 4
"""Of a server's memory; the rest is for threads, network buffers and indexes outside the heap."""

_JVM_OPTIONS = (
    # One that is out of memory answers no one and holds its leaderships: better none.
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:+UseG1GC",
    "-XX:+DisableExplicitGC",
    "-Djdk.nio.maxCachedBufferSize=1024",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Djdk.tls.ephemeralDHKeySize=2048",
    "-Djdk.tls.rejectClientInitiatedRenegotiation=true",
    *(f"--add-opens=java.base/{of}=ALL-UNNAMED" for of in ("java.nio", "java.io", "sun.nio.ch")),
)
"""Options of Java. All but the first are in the configuration that upstream ships, which this one
takes the place of, and in no program: without `--add-opens` the page cache works at its slowest."""
_JVM = {"server.jvm.additional": " ".join(_JVM_OPTIONS)}

_GRACE_SECONDS = 120
"""For a server to hand its leaderships over and write what is in memory; a longer stop is a crash,
after which it replays its log."""

_START_SECONDS = 1800
"""For replaying the log, for copying a store that fell too far behind, and for Community's dump."""


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
    scratch_class: str
    """Of volumes that backups and restores work on: it must not keep what nobody claims."""
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


def is_enterprise(args: Neo4jArgs) -> bool:
    """Whether there is a cluster, with backups and metrics."""
    return args.settings.edition is Edition.ENTERPRISE


def server_name(name: str, number: int) -> str:
    """The name of a server's StatefulSet; its one Pod is `<name>-<number>-0`."""
    return f"{name}-{number}"


def servers_name(name: str) -> str:
    """The name of the Service that knows every server, ready or not."""
    return f"{name}-servers"


def backup_name(name: str) -> str:
    """The name by which the Pods of backups are known."""
    return f"{name}-backup"


def tls_name(name: str) -> str:
    """The name of the certificate, and of its Secret."""
    return f"{name}-tls"


def host(name: str, number: int, args: Neo4jArgs) -> str:
    """Where a server is found whether it is ready or not."""
    return f"{server_name(name, number)}-0.{servers_name(name)}.{args.namespace}.svc.cluster.local"


def ports(args: Neo4jArgs) -> dict[str, int]:
    """What servers open to each other."""
    if not is_enterprise(args):
        return {"bolt": PORT}
    return {
        "bolt": PORT,
        "cluster": _CLUSTER_PORT,
        "raft": _RAFT_PORT,
        "routing": _ROUTING_PORT,
        "backup": BACKUP_PORT,
    }


def files(name: str, args: Neo4jArgs) -> dict[str, str]:
    """What Pods find in `SCRIPTS`: configuration and scripts."""
    scripts = {path.name: path.read_text() for path in sorted(_FILES.iterdir())}
    configured = {"neo4j.conf": configuration(name, args), ADMIN: _administration(args)}
    return {**{file: _lines(told) for file, told in configured.items() if told}, **scripts}


def _lines(told: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in told.items())


def _administration(args: Neo4jArgs) -> dict[str, str]:
    """What the programs of administration are told, which take backups over the network."""
    if not args.settings.issuer or not is_enterprise(args):
        return {}
    return {**_JVM, **neo4j_tls.backup()}


def configuration(name: str, args: Neo4jArgs) -> dict[str, str]:
    """What every server is told, in the keys of `neo4j.conf`."""
    memory = size_in_bytes(args.settings.resources.memory)
    heap = _megabytes(memory * _HEAP_SHARE)
    shared = {
        "server.default_listen_address": "0.0.0.0",  # noqa: S104, a Pod has no other address
        "server.bolt.enabled": "true",
        "server.bolt.listen_address": f":{PORT}",
        "server.http.enabled": "false",
        "server.directories.data": DATA,
        "server.directories.logs": f"{RUN}/logs",
        "server.directories.run": f"{RUN}/run",
        "server.directories.import": f"{RUN}/import",
        # The whole heap from the start: a server that grows later may find no memory then.
        "server.memory.heap.initial_size": heap,
        "server.memory.heap.max_size": heap,
        "server.memory.pagecache.size": _megabytes(memory * _PAGE_CACHE_SHARE),
        **_JVM,
        # Upstream's file says so too; without a size, the log of a busy day fills the volume.
        "db.tx_log.rotation.retention_policy": "2 days 2G",
        "dbms.usage_report.enabled": "false",
        **(neo4j_tls.bolt() if args.settings.issuer else {}),
    }
    if not is_enterprise(args):
        return shared
    servers = range(1, args.settings.servers + 1)
    return shared | {
        # Upstream's default is one copy of each database, however many servers there are.
        "initial.dbms.default_primaries_count": str(args.settings.servers),
        "dbms.cluster.minimum_initial_system_primaries_count": str(args.settings.servers),
        "dbms.cluster.discovery.version": "V2_ONLY",
        "dbms.cluster.discovery.resolver_type": "LIST",
        "dbms.cluster.discovery.v2.endpoints": ",".join(
            f"{host(name, number, args)}:{_CLUSTER_PORT}" for number in servers
        ),
        "server.cluster.listen_address": f":{_CLUSTER_PORT}",
        "server.cluster.raft.listen_address": f":{_RAFT_PORT}",
        "server.routing.listen_address": f":{_ROUTING_PORT}",
        # The first of 5.26's two for s3:// wants keys in each command, and knows no chains.
        "dbms.databases.seed_from_uri_providers": "CloudSeedProvider",
        # Clients behind a load balancer, too, are led to the leader.
        "dbms.routing.enabled": "true",
        "server.backup.enabled": "true",
        "server.backup.listen_address": f"0.0.0.0:{BACKUP_PORT}",
        "server.metrics.prometheus.enabled": "true",
        "server.metrics.prometheus.endpoint": f"0.0.0.0:{_METRICS_PORT}",
        "server.metrics.filter": "*",
        # Written beside the program by default, where a container may not write.
        "server.metrics.csv.enabled": "false",
        **(neo4j_tls.between_servers() if args.settings.issuer else {}),
    }


def _megabytes(amount: Decimal) -> str:
    return f"{int(amount) // 2**20}m"


def network(name: str, args: Neo4jArgs) -> parts.Object:
    """Let servers talk to each other, and clients to all of them: any may lead a database."""
    family = [{"podSelector": {"matchLabels": parts.selector(name)}}]
    backups = [{"podSelector": {"matchLabels": parts.selector(backup_name(name))}}]
    inside = [number for port, number in ports(args).items() if port != "backup"]
    enterprise = is_enterprise(args)
    return parts.network_policy(
        parts.selector(name),
        ingress=[
            *parts.allow_from(parts.client_peers(args.clients), PORT),
            *(parts.allow_from(family, *inside) if enterprise else []),
            *(parts.allow_from(backups, BACKUP_PORT) if enterprise else []),
            *(parts.allow_from([metrics.reader()], _METRICS_PORT) if enterprise else []),
        ],
        # Each server fetches for itself what a database is seeded from.
        egress=[*parts.allow_to(family, *inside), *parts.allow_to_store()] if enterprise else [],
    )


def stateful_set(name: str, number: int, args: Neo4jArgs, files: Mapping[str, str]) -> parts.Object:
    """Spec of the StatefulSet of one server."""
    retention = "Retain" if args.protect else "Delete"
    own = {**parts.selector(name), _SERVER_LABEL: str(number)}
    return {
        "serviceName": servers_name(name),
        "replicas": 1,
        "selector": {"matchLabels": own},
        # One that does not start gives way to the next; else it would be waited for, for ever.
        "podManagementPolicy": "Parallel",
        # Of several, each is a set of its own: rolled out by themselves, all would stop at once.
        "updateStrategy": {"type": "OnDelete" if args.settings.servers > 1 else "RollingUpdate"},
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
        "securityContext": parts.pod_security(USER),
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "tolerations": parts.tolerations(),
        "dnsConfig": parts.dns(),
        "affinity": parts.apart(parts.selector(name)),
        "topologySpreadConstraints": parts.spread(parts.selector(name), stay=True),
        "containers": [_container(name, number, args)],
        "volumes": [
            {"name": "config", "configMap": {"name": name, "defaultMode": 0o555}},
            {"name": "secrets", "secret": {"secretName": name, "defaultMode": 0o440}},
            parts.scratch("run", "512Mi"),
            parts.scratch("tmp", "256Mi"),
            *([neo4j_tls.volume(tls_name(name))] if args.settings.issuer else []),
        ],
    }


def _container(name: str, number: int, args: Neo4jArgs) -> parts.Object:
    settings = args.settings
    own = {
        "ADDRESS": host(name, number, args),
        "NEO4J_FILES": SCRIPTS,
        "NEO4J_SECRETS": _SECRETS,
        "NEO4J_DATA": DATA,
        "NEO4J_RUN": RUN,
    }
    if is_enterprise(args):
        own["NEO4J_ACCEPT_LICENSE_AGREEMENT"] = "yes"
    else:
        own["DUMP_SECONDS"] = str(backup_every(settings, args.objective))
    exporting = [{"name": metrics.PORT, "containerPort": _METRICS_PORT}]
    return {
        "name": "neo4j",
        "image": settings.image,
        "command": ["sh", f"{SCRIPTS}/start.sh"],
        "env": [{"name": key, "value": value} for key, value in own.items()],
        "ports": [
            {"name": "bolt", "containerPort": PORT},
            *(exporting if is_enterprise(args) else []),
        ],
        "resources": parts.container_resources(
            settings.resources.cpu, settings.resources.memory, EPHEMERAL
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
            ["bash", f"{SCRIPTS}/{'ready-tls.sh' if settings.issuer else 'ready.sh'}", str(PORT)],
            period=5,
            failures=3,
        ),
        "volumeMounts": [
            {"name": "config", "mountPath": SCRIPTS, "readOnly": True},
            {"name": "secrets", "mountPath": _SECRETS, "readOnly": True},
            {"name": "data", "mountPath": DATA},
            {"name": "run", "mountPath": RUN},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108, of the container
            *([neo4j_tls.mount()] if settings.issuer else []),
        ],
    }
