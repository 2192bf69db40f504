"""A PostgreSQL cluster that keeps every acknowledged write when it loses a server or a zone.

CloudNativePG runs it from the resources declared here: instances in different zones, a write
acknowledged only when another zone has it, poolers in front, and the way back from disaster: base
backups and the archived log in a bucket, and snapshots of the volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components import (
    alerts,
    connection,
    metrics,
    parts,
    postgres_alerts,
    postgres_archive,
    postgres_cluster,
    postgres_pooler,
)
from components.parts import Endpoint
from components.postgres_cluster import PostgresArgs
from stacks.systems.postgres import DATABASE

__all__ = ["OPERATOR_NAMESPACE", "PORT", "Postgres", "PostgresArgs"]

OPERATOR_NAMESPACE = "cnpg-system"
"""Where CloudNativePG runs; it asks every instance for its status."""

PORT = 5432

_STATUS_PORT = 8000
_METRICS_PORT = 9187
_API_PORTS = (443, 6443)
"""Of the Kubernetes API, which every instance watches."""

_WORKLOAD = "postgresql"
"""What the operator puts into `app.kubernetes.io/name` of every Pod that it makes."""

_CLIENT_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""How long a client bears with a pooler that does not answer, in seconds (the last: ms)."""


@dataclass(frozen=True)
class _Login:
    """A role that clients sign in as."""

    credentials: Mapping[str, pulumi.Output[str]]
    secret: Secret


class Postgres(pulumi.ComponentResource):
    """A CloudNativePG cluster with poolers, databases, backups, metrics, alerts and policies.

    Clients connect to the pooler at `PGHOST` with `username` and `password` of the Secret
    `secret_name`. Transactions are pooled, so session state does not last beyond one.
    `POSTGRES_URI` says what libpq has no variables for: when to give up a pooler that fell silent.
    Each further database has a ConfigMap and a Secret of its own, `<name>-<database>-client`.

    Connections are encrypted; clients do not verify the server's certificate, because the authority
    that signs it is made by the operator, after everything here, and known in this namespace alone.

    The instances reach the bucket with the role that the ServiceAccount, named as the cluster, is
    given (`components.bucket_access.BucketAccess` makes one): no key is stored.

    A standby follows the archive of another region's cluster, and takes no writes until it is
    promoted: docs/decisions/postgres-dr.md.

    Example:
        A program of its own::

            database = Postgres(
                "games",
                PostgresArgs(
                    namespace="games-data",
                    settings=PostgresSettings(),
                    objective=Objective(rpo=300, rto=180),
                    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
                    priority_class="games-data",
                    storage_class="gp3",
                    snapshot_class="snapshots",
                    backup_bucket="games-backups",
                    clients=(Client("games-core", "engine"),),
                    protect=True,
                ),
            )
            pulumi.export("database", database.endpoint)
    """

    endpoint: pulumi.Output[str]
    """Host and port of the pooler, which leads to the primary."""
    endpoints: tuple[Endpoint, ...]
    """What clients open connections to."""
    environment: Mapping[str, str]
    """Where the database is, as libpq's variables; also in the ConfigMap `secret_name`."""
    secret_name: str
    """A Secret with `username` and `password`, in each namespace that has clients."""

    def __init__(
        self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:postgres:Postgres", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        logins = {
            role: self._login(name, role, args) for role in postgres_cluster.roles(args.settings)
        }
        stores = [
            CustomResource(
                f"{name}-store" if key == postgres_cluster.HERE else f"{name}-{key}-store",
                api_version="barmancloud.cnpg.io/v1",
                kind="ObjectStore",
                metadata=_metadata(store, args, "backup"),
                spec=postgres_archive.store(name, bucket, args.settings),
                opts=child,
            )
            for key, (store, bucket) in postgres_cluster.stores(name, args).items()
        ]
        cluster = CustomResource(
            f"{name}-cluster",
            api_version="postgresql.cnpg.io/v1",
            kind="Cluster",
            metadata=parts.metadata(
                name, args.namespace, parts.labels(name, "database"), _readiness(args.wait)
            ),
            spec=postgres_cluster.cluster_spec(name, args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[
                    *(login.secret for login in logins.values()),
                    *stores,
                    *self._network(name, args),
                ],
                protect=args.protect,
                retain_on_delete=args.protect,
            ),
        )
        inside = pulumi.ResourceOptions(parent=self, depends_on=[cluster])
        self._pooler(name, args, inside)
        for kind, spec in (
            ("base", postgres_archive.base_backup(name)),
            ("snapshot", postgres_archive.snapshot_backup(name)),
        ):
            CustomResource(
                f"{name}-{kind}-backup",
                api_version="postgresql.cnpg.io/v1",
                kind="ScheduledBackup",
                metadata=_metadata(f"{name}-{kind}", args, "backup"),
                spec={
                    "schedule": postgres_archive.schedule(args.settings.backup_every, kind),
                    **spec,
                },
                opts=inside,
            )
        metrics.pod_monitor(
            f"{name}-metrics",
            _metadata(name, args, "database"),
            {"matchLabels": postgres_cluster.family(name)},
            child,
        )
        self._alerts(name, args)

        pooler = Endpoint(args.namespace, postgres_pooler.name_of(name), PORT, workload=_WORKLOAD)
        self.endpoint = pulumi.Output.from_input(f"{pooler.host}:{PORT}")
        self.endpoints = (pooler,)
        self.environment = _environment(pooler.host, DATABASE)
        self.secret_name = connection.publish(
            name,
            args.clients,
            self.environment,
            logins[postgres_cluster.OWNER].credentials,
            parent=self,
        )
        for database in args.settings.databases:
            self._database(name, database, args, inside)
            connection.publish(
                _database_name(name, database),
                args.clients,
                _environment(pooler.host, database),
                logins[postgres_cluster.owner(args.settings, database)].credentials,
                parent=self,
            )
        self.register_outputs({"endpoint": self.endpoint, "secret_name": self.secret_name})

    def _login(self, name: str, role: str, args: PostgresArgs) -> _Login:
        """Make the password of a role, and the Secret that the operator reads it from."""
        child = pulumi.ResourceOptions(parent=self)
        own = name if role == postgres_cluster.OWNER else f"{name}-{role}"
        credentials = {
            "username": pulumi.Output.from_input(role),
            "password": connection.password(f"{own}-password", child),
        }
        secret = Secret(
            f"{own}-owner",
            metadata=_metadata(
                postgres_cluster.password_name(name, role),
                args,
                "database",
                {"cnpg.io/reload": "true"},
            ),
            type="kubernetes.io/basic-auth",
            data={key: connection.encoded(value) for key, value in credentials.items()},
            opts=child,
        )
        return _Login(credentials, secret)

    def _database(
        self, name: str, database: str, args: PostgresArgs, opts: pulumi.ResourceOptions
    ) -> None:
        """Declare a database; it outlives its object, and is dropped by hand alone."""
        CustomResource(
            f"{name}-{database}-database",
            api_version="postgresql.cnpg.io/v1",
            kind="Database",
            metadata=_metadata(_database_name(name, database), args, "database"),
            spec={
                "cluster": {"name": name},
                "name": database,
                "owner": postgres_cluster.owner(args.settings, database),
                "databaseReclaimPolicy": "retain",
                "extensions": [
                    {"name": extension, "ensure": "present"}
                    for extension in args.settings.databases[database].extensions
                ],
            },
            opts=opts,
        )

    def _alerts(self, name: str, args: PostgresArgs) -> None:
        child = pulumi.ResourceOptions(parent=self)
        alerts.rules(
            f"{name}-alerts",
            _metadata(name, args, "database"),
            postgres_alerts.of(name, args.namespace, args.settings, args.objective),
            child,
        )
        if args.standby and args.region_rpo is not None:
            alerts.rules(
                f"{name}-standby-alerts",
                _metadata(f"{name}-standby", args, "database"),
                postgres_alerts.of_standby(name, args.namespace, args.region_rpo),
                child,
            )

    def _network(self, name: str, args: PostgresArgs) -> list[pulumi.Resource]:
        """Let the cluster's Pods talk to each other, and clients to the poolers alone."""
        family = [{"podSelector": {"matchLabels": postgres_cluster.family(name)}}]
        return [
            NetworkPolicy(
                f"{name}-network",
                metadata=_metadata(name, args, "database"),
                spec=parts.network_policy(
                    postgres_cluster.family(name),
                    ingress=[
                        *parts.allow_from(family, PORT, _STATUS_PORT),
                        *parts.allow_from([parts.peer(OPERATOR_NAMESPACE)], PORT, _STATUS_PORT),
                        *parts.allow_from(
                            [metrics.reader()], _METRICS_PORT, postgres_pooler.METRICS_PORT
                        ),
                    ],
                    egress=[
                        *parts.allow_to(family, PORT, _STATUS_PORT),
                        # The address of the API server is not known here.
                        {"ports": parts.ports(*_API_PORTS)},
                        *parts.allow_to_store(),
                    ],
                ),
                opts=pulumi.ResourceOptions(parent=self),
            ),
            NetworkPolicy(
                f"{name}-pooler-network",
                metadata=_metadata(postgres_pooler.name_of(name), args, "pooler"),
                spec={
                    "podSelector": {"matchLabels": postgres_pooler.selector(name)},
                    "policyTypes": ["Ingress"],
                    "ingress": parts.allow_from(parts.client_peers(args.clients), PORT),
                },
                opts=pulumi.ResourceOptions(parent=self),
            ),
        ]

    def _pooler(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions) -> None:
        metadata = _metadata(postgres_pooler.name_of(name), args, "pooler")
        CustomResource(
            f"{name}-pooler",
            api_version="postgresql.cnpg.io/v1",
            kind="Pooler",
            metadata=metadata,
            spec=postgres_pooler.spec(name, args.priority_class),
            opts=opts,
        )
        # The operator makes budgets for the instances, not for the poolers.
        PodDisruptionBudget(
            f"{name}-pooler-disruption",
            metadata=metadata,
            spec=parts.disruption_budget(postgres_pooler.selector(name)),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _metadata(
    name: str, args: PostgresArgs, component: str, labels: Mapping[str, str] | None = None
) -> parts.Object:
    return parts.metadata(name, args.namespace, {**parts.labels(name, component), **(labels or {})})


def _readiness(wait: bool) -> dict[str, str]:
    return {"pulumi.com/waitFor": "condition=Ready"} if wait else {}


def _database_name(name: str, database: str) -> str:
    return f"{name}-{database}"


def _environment(host: str, database: str) -> dict[str, str]:
    """What libpq has variables for, and a connection string that says it all but who connects.

    Not `target_session_attrs`: a pooler answers it from what it once heard, and would lock clients
    out after a promotion (docs/decisions/postgres-clients.md).
    """
    options = {"sslmode": "require", **_CLIENT_PATIENCE}
    return {
        "PGHOST": host,
        "PGPORT": str(PORT),
        "PGDATABASE": database,
        "PGSSLMODE": options["sslmode"],
        "PGCONNECT_TIMEOUT": options["connect_timeout"],
        "POSTGRES_URI": f"postgresql://{host}:{PORT}/{database}?{urlencode(options)}",
    }
