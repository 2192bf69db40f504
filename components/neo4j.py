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
    neo4j_backup,
    neo4j_server,
    neo4j_tls,
    parts,
)
from components.neo4j_server import PORT, Neo4jArgs
from components.parts import Endpoint
from stacks.systems.neo4j import Neo4jRecovery, backup_every

__all__ = ["Neo4j", "Neo4jArgs"]

_LOGIN = "neo4j"

_OPTIONS = {
    # A transaction that met a change of leaders is tried again for so long; an election takes 30 s.
    "NEO4J_MAX_TRANSACTION_RETRY_SECONDS": "60",
    "NEO4J_CONNECTION_TIMEOUT_SECONDS": "3",
    "NEO4J_MAX_CONNECTION_LIFETIME_SECONDS": "600",
}


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
                    scratch_class="gp3-scratch",
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
        files = neo4j_server.files(name, args)
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
                f"{name}-network",
                metadata=metadata,
                spec=neo4j_server.network(name, args),
                opts=child,
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
                    neo4j_server.server_name(name, number),
                    args.namespace,
                    parts.labels(name, "neo4j"),
                    _skip_await(args),
                ),
                spec=neo4j_server.stateful_set(name, number, args, files),
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
        if neo4j_server.is_enterprise(args):
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
            metadata=_metadata(neo4j_server.servers_name(name), args, "neo4j"),
            spec={
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": parts.selector(name),
                "ports": [
                    {"name": port, "port": number, "targetPort": number}
                    for port, number in neo4j_server.ports(args).items()
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
                _metadata(neo4j_server.tls_name(name), args, "neo4j"),
                args.settings.issuer,
                [entrance, *(neo4j_server.host(name, number, args) for number in servers)],
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
            metadata=_metadata(neo4j_server.backup_name(name), args, "backup"),
            spec=neo4j_backup.network(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for kind, interval in (("full", args.settings.full_every), ("change", every)):
            CronJob(
                f"{name}-{kind}-backup",
                metadata=_metadata(f"{name}-{kind}", args, "backup"),
                spec=neo4j_backup.scheduled(name, kind, interval, args),
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
        spec = jobs.once(neo4j_backup.restore(name, args, recovery))
        labels = parts.labels(neo4j_server.backup_name(name), "recovery")
        job = f"{name}-recovery-{parts.digest({'spec': json.dumps(spec, sort_keys=True)})[:8]}"
        Job(
            f"{name}-recovery",
            metadata=parts.metadata(job, args.namespace, labels, _skip_await(args)),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=needs,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{neo4j_backup.LIMIT_SECONDS}s"),
            ),
        )


def _scheme(args: Neo4jArgs) -> str:
    """How a driver connects: by routing table or directly, and encrypted or not."""
    scheme = "neo4j" if neo4j_server.is_enterprise(args) else "bolt"
    return f"{scheme}+s" if args.settings.issuer else scheme


def _metadata(name: str, args: Neo4jArgs, component: str) -> parts.Object:
    return parts.metadata(name, args.namespace, parts.labels(name, component))


def _skip_await(args: Neo4jArgs) -> dict[str, str]:
    return {} if args.wait else {"pulumi.com/skipAwait": "true"}
