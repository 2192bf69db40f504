"""A PostgreSQL cluster that keeps every acknowledged write when it loses a server or a zone.

CloudNativePG runs it from the resources declared here: instances in different zones, a write
acknowledged only when another zone has it, poolers in front, and the way back from disaster: base
backups and the archived log in a bucket, and snapshots of the volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components import alerts, connection, metrics, parts, postgres_alerts
from components.parts import Client, Endpoint
from stacks import schedules
from stacks.systems.postgres import DATABASE, PostgresSettings, SourceSettings, archive_timeout
from stacks.values import DAY, Objective, size_in_bytes

OPERATOR_NAMESPACE = "cnpg-system"
"""Where CloudNativePG runs; it asks every instance for its status."""

PORT = 5432

_STATUS_PORT = 8000
_METRICS_PORT, _POOLER_METRICS_PORT = 9187, 9127
_API_PORTS = (443, 6443)
"""Of the Kubernetes API, which every instance watches."""

_WORKLOAD = "postgresql"
"""What the operator puts into `app.kubernetes.io/name` of every Pod that it makes."""

_PLUGIN = "barman-cloud.cloudnative-pg.io"
_OWNER = DATABASE
_LOST, _HERE, _THERE = "lost", "here", "there"
"""How a Cluster calls what it is recovered from, itself, and that of the other region."""

_POOLERS = 3
_POOLER_CPU, _POOLER_MEMORY = "100m", "128Mi"
_POOL_SIZE, _POOL_CLIENTS = 25, 1000
"""Connections of each pooler to a database, and of clients to the pooler."""
_OWN_CONNECTIONS = 25
"""Of standbys, operator, backups and people: with one database, 100 in all as PostgreSQL has it."""

_PATIENCE = {
    # After a failed login, by default, clients are refused for 15 s: longer than a failover takes.
    "server_login_retry": "1",
    "server_connect_timeout": "3",
    # A server that vanished without a word is noticed within 8 s instead of two hours, and one
    # that does not acknowledge what was sent within 5 s.
    "tcp_keepidle": "5",
    "tcp_keepintvl": "1",
    "tcp_keepcnt": "3",
    "tcp_user_timeout": "5000",
}
"""How long a pooler bears with a server that does not answer, in seconds (the last: ms)."""

_CLIENT_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""The same for a client and its pooler, as libpq calls it: seconds (the last: ms)."""

_SIDECAR_CPU, _SIDECAR_MEMORY = "100m", "512Mi"
_EPHEMERAL = "1Gi"

_SHARED_BUFFERS_SHARE = Decimal(1) / 4
"""Of the memory, as PostgreSQL's documentation recommends for a server of its own."""

_WAL_KEPT_SHARE = Decimal(1) / 2
"""Of the log's volume: what may be kept for a standby that is away. Beyond it the standby must be
cloned again; without a bound, it would fill the volume and stop the primary."""

_SMART_SHUTDOWN_SECONDS = 15
"""How long a stopping server waits for clients to leave by themselves. The pooler's never do."""

_STOP_MARGIN_SECONDS = 60
"""Beyond `switchover_delay` and the smart shutdown, until the Pod is killed."""

_START_SECONDS = 600
"""For replaying the log after a crash, at most `max_wal_size`; upstream's 3600 s would hide a
server that hangs for an hour."""

_LEASE = {"leaseDurationSeconds": 5, "renewDeadlineSeconds": 3, "retryPeriodSeconds": 1}
"""Who may be primary. A standby takes over once it has seen the lease unrenewed for its duration:
upstream's 15 s would be most of a failover. A primary that misses a renewal goes on until another
holds the lease. It costs a write to the API server each second."""

_PROBES = {
    # A server that was restarted takes part again as soon as it answers.
    "startup": {"periodSeconds": 1, "failureThreshold": _START_SECONDS},
    # Failover begins when the primary is not ready: 6 s instead of 30.
    "readiness": {"periodSeconds": 2, "failureThreshold": 3, "timeoutSeconds": 2},
    # An isolated primary is stopped within 9 s: before its node counts as lost and another takes
    # over, so that the two never overlap. Upstream's 30 s would be too late for that.
    "liveness": {"periodSeconds": 3, "failureThreshold": 3, "timeoutSeconds": 3},
}

_FOLLOW_AGAIN = "500ms"
"""A new primary acknowledges nothing until the other standby follows it; that looks for its log
every 5 s by default."""

_ABANDONED = "60s"
"""After so long, a client that died inside a transaction loses its locks."""


@dataclass(frozen=True)
class PostgresArgs:
    """Settings and surroundings of the cluster.

    Raises:
        ValueError: if the settings cannot meet the objective.
    """

    namespace: str
    settings: PostgresSettings
    objective: Objective
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    snapshot_class: str
    backup_bucket: str
    clients: tuple[Client, ...]
    protect: bool
    standby: bool = False
    """Whether `settings.source` is followed; it is promoted when this ends."""
    region_rpo: int | None = None
    """Seconds; a standby that is further behind raises an alert. None: it never does."""
    wait: bool = False
    """Wait until the operator reports the cluster ready, so that an update which leaves it broken
    fails. Only where the operator runs: without it nobody would ever report."""

    def __post_init__(self) -> None:
        timeout = archive_timeout(self.settings, self.objective)
        if timeout > self.objective.rpo:
            raise ValueError(
                f"postgres: archive_timeout is {timeout}s, but the objective's rpo is "
                f"{self.objective.rpo}s: with only the archive left, more than that would be lost; "
                "archive at least that often"
            )
        if len(set(self.zones)) <= self.settings.synchronous:
            raise ValueError(
                f"postgres: synchronous is {self.settings.synchronous}, but there "
                f"are only {len(set(self.zones))} zones: each copy needs a zone of its own"
            )
        if self.standby and self.settings.source is None:
            raise ValueError(
                "postgres: standby is set, but source is not: name the archive that it follows"
            )
        for key, read in (("recovery", self.settings.recovery), ("source", self.settings.source)):
            if read and (read.bucket, read.server) == (self.backup_bucket, self.settings.archive):
                raise ValueError(
                    f"postgres: {key} names bucket {read.bucket} and server {read.server}, under "
                    "which this cluster archives itself; give it another archive, such as "
                    f"{read.server}-2"
                )


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
    given (`components.backup.BucketAccess` makes one): no key is stored.

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
        logins = {role: self._login(name, role, args) for role in _roles(args.settings)}
        stores = [
            CustomResource(
                f"{name}-store" if key == _HERE else f"{name}-{key}-store",
                api_version="barmancloud.cnpg.io/v1",
                kind="ObjectStore",
                metadata=_metadata(store, args, "backup"),
                spec=_store(name, bucket, args.settings),
                opts=child,
            )
            for key, (store, bucket) in _stores(name, args).items()
        ]
        cluster = CustomResource(
            f"{name}-cluster",
            api_version="postgresql.cnpg.io/v1",
            kind="Cluster",
            metadata=parts.metadata(
                name, args.namespace, parts.labels(name, "database"), _readiness(args.wait)
            ),
            spec=cluster_spec(name, args),
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
        for kind, spec in (("base", _base_backup(name)), ("snapshot", _snapshot_backup(name))):
            CustomResource(
                f"{name}-{kind}-backup",
                api_version="postgresql.cnpg.io/v1",
                kind="ScheduledBackup",
                metadata=_metadata(f"{name}-{kind}", args, "backup"),
                spec={"schedule": _schedule(args.settings.backup_every, kind), **spec},
                opts=inside,
            )
        metrics.pod_monitor(
            f"{name}-metrics",
            _metadata(name, args, "database"),
            {"matchLabels": _family(name)},
            child,
        )
        self._alerts(name, args)

        pooler = Endpoint(args.namespace, _pooler_name(name), PORT, workload=_WORKLOAD)
        self.endpoint = pulumi.Output.from_input(f"{pooler.host}:{PORT}")
        self.endpoints = (pooler,)
        self.environment = _environment(pooler.host, DATABASE)
        self.secret_name = connection.publish(
            name, args.clients, self.environment, logins[_OWNER].credentials, parent=self
        )
        for database in args.settings.databases:
            self._database(name, database, args, inside)
            connection.publish(
                _database_name(name, database),
                args.clients,
                _environment(pooler.host, database),
                logins[_owner(args.settings, database)].credentials,
                parent=self,
            )
        self.register_outputs({"endpoint": self.endpoint, "secret_name": self.secret_name})

    def _login(self, name: str, role: str, args: PostgresArgs) -> _Login:
        """Make the password of a role, and the Secret that the operator reads it from."""
        child = pulumi.ResourceOptions(parent=self)
        own = name if role == _OWNER else f"{name}-{role}"
        credentials = {
            "username": pulumi.Output.from_input(role),
            "password": connection.password(f"{own}-password", child),
        }
        secret = Secret(
            f"{own}-owner",
            metadata=_metadata(
                _password_name(name, role), args, "database", {"cnpg.io/reload": "true"}
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
                "owner": _owner(args.settings, database),
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
        family = [{"podSelector": {"matchLabels": _family(name)}}]
        return [
            NetworkPolicy(
                f"{name}-network",
                metadata=_metadata(name, args, "database"),
                spec=parts.network_policy(
                    _family(name),
                    ingress=[
                        *parts.allow_from(family, PORT, _STATUS_PORT),
                        *parts.allow_from([parts.peer(OPERATOR_NAMESPACE)], PORT, _STATUS_PORT),
                        *parts.allow_from([metrics.reader()], _METRICS_PORT, _POOLER_METRICS_PORT),
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
                metadata=_metadata(_pooler_name(name), args, "pooler"),
                spec={
                    "podSelector": {"matchLabels": _poolers(name)},
                    "policyTypes": ["Ingress"],
                    "ingress": parts.allow_from(parts.client_peers(args.clients), PORT),
                },
                opts=pulumi.ResourceOptions(parent=self),
            ),
        ]

    def _pooler(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions) -> None:
        metadata = _metadata(_pooler_name(name), args, "pooler")
        CustomResource(
            f"{name}-pooler",
            api_version="postgresql.cnpg.io/v1",
            kind="Pooler",
            metadata=metadata,
            spec=_pooler_spec(name, args),
            opts=opts,
        )
        # The operator makes budgets for the instances, not for the poolers.
        PodDisruptionBudget(
            f"{name}-pooler-disruption",
            metadata=metadata,
            spec=parts.disruption_budget(_poolers(name)),
            opts=pulumi.ResourceOptions(parent=self),
        )


_MINUTES = {"base": 0, "snapshot": 30}
"""Past the hour: base backups and snapshots do not load the same standby at the same time."""


def _schedule(every: int, kind: str) -> str:
    """The operator's schedules have six fields; the first is seconds."""
    return f"0 {schedules.cron(every, _MINUTES[kind])}"


def _metadata(
    name: str, args: PostgresArgs, component: str, labels: Mapping[str, str] | None = None
) -> parts.Object:
    return parts.metadata(name, args.namespace, {**parts.labels(name, component), **(labels or {})})


def _readiness(wait: bool) -> dict[str, str]:
    return {"pulumi.com/waitFor": "condition=Ready"} if wait else {}


def _store_name(name: str) -> str:
    return f"{name}-backups"


def _password_name(name: str, role: str) -> str:
    return f"{name}-owner" if role == _OWNER else f"{name}-role-{role}"


def _database_name(name: str, database: str) -> str:
    return f"{name}-{database}"


def _owner(settings: PostgresSettings, database: str) -> str:
    return settings.databases[database].owner or database


def _roles(settings: PostgresSettings) -> list[str]:
    """Every role that clients sign in as."""
    others = {_owner(settings, database) for database in settings.databases}
    return [_OWNER, *sorted(others - {_OWNER})]


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


def _pooler_name(name: str) -> str:
    return f"{name}-pooler"


def _family(name: str) -> dict[str, str]:
    """Select instances, their jobs and poolers: the operator labels them all."""
    return {"cnpg.io/cluster": name}


def _poolers(name: str) -> dict[str, str]:
    return {"cnpg.io/poolerName": _pooler_name(name)}


def cluster_spec(name: str, args: PostgresArgs) -> parts.Object:
    """Spec of the Cluster; a drill makes one beside it from the same."""
    settings = args.settings
    resources = settings.resources
    return {
        "instances": settings.instances,
        "imageName": settings.image,
        "enableSuperuserAccess": False,
        "enablePDB": True,
        "priorityClassName": args.priority_class,
        "resources": parts.container_resources(resources.cpu, resources.memory, _EPHEMERAL),
        "bootstrap": _bootstrap(name, args),
        **_topology(name, args),
        **_managed(name, settings),
        "postgresql": {
            "parameters": _parameters(settings, archive_timeout(settings, args.objective)),
            **_synchronous(settings),
        },
        "storage": _volume(settings.storage, args),
        "walStorage": _volume(settings.wal_storage, args),
        **_placement(name, args),
        # A standby that has caught up takes over within seconds; a restart is as long as it takes.
        "primaryUpdateMethod": "switchover",
        "primaryUpdateStrategy": "unsupervised",
        "failoverDelay": 0,
        "primaryLease": _LEASE,
        "probes": _PROBES,
        "startDelay": _START_SECONDS,
        "smartShutdownTimeout": _SMART_SHUTDOWN_SECONDS,
        "switchoverDelay": settings.switchover_delay,
        "stopDelay": settings.switchover_delay + _SMART_SHUTDOWN_SECONDS + _STOP_MARGIN_SECONDS,
        "backup": {
            "target": "prefer-standby",
            "volumeSnapshot": {
                "className": args.snapshot_class,
                "walClassName": args.snapshot_class,
                "snapshotOwnerReference": "none",
            },
        },
        "plugins": [
            {
                "enabled": True,
                "isWALArchiver": True,
                **_archive(_store_name(name), settings.archive),
            }
        ],
    }


def _archive(store: str, server: str) -> parts.Object:
    """The plugin, with whose archive it reads or writes."""
    return {"name": _PLUGIN, "parameters": {"barmanObjectName": store, "serverName": server}}


def _bootstrap(name: str, args: PostgresArgs) -> parts.Object:
    """What the first instance begins with; nobody asks once it is there."""
    application = {
        "database": DATABASE,
        "owner": _OWNER,
        "secret": {"name": _password_name(name, _OWNER)},
    }
    recovery = args.settings.recovery
    if args.standby:
        return {"recovery": {"source": _THERE, **application}}
    if recovery is None:
        return {"initdb": {"dataChecksums": True, **application}}
    moment = recovery.target_time
    target = {"recoveryTarget": {"targetTime": moment}} if moment else {}
    return {"recovery": {"source": _LOST, **target, **application}}


def _topology(name: str, args: PostgresArgs) -> parts.Object:
    """The archives that are read, and which of two regions has the primary."""
    stores, recovery, source = _stores(name, args), args.settings.recovery, args.settings.source
    clusters = {}
    if recovery is not None:
        store, _ = stores.get(_LOST, stores[_HERE])
        clusters[_LOST] = _archive(store, recovery.server)
    if source is not None:
        clusters[_HERE] = _archive(stores[_HERE][0], args.settings.archive)
        clusters[_THERE] = _archive(stores[_THERE][0], source.server)
    if not clusters:
        return {}
    return {
        "externalClusters": [{"name": key, "plugin": plugin} for key, plugin in clusters.items()],
        **({"replica": _replica(source, args.standby)} if source else {}),
    }


def _replica(source: SourceSettings, standby: bool) -> parts.Object:
    token = None if standby else source.promotion_token
    return {
        "self": _HERE,
        "primary": _THERE if standby else _HERE,
        "source": _THERE,
        **({"promotionToken": token} if token else {}),
    }


def _managed(name: str, settings: PostgresSettings) -> parts.Object:
    """Roles of the further databases; `app` and its owner come with the cluster."""
    roles = [
        {
            "name": role,
            "ensure": "present",
            "login": True,
            "passwordSecret": {"name": _password_name(name, role)},
        }
        for role in _roles(settings)
        if role != _OWNER
    ]
    return {"managed": {"roles": roles}} if roles else {}


def _parameters(settings: PostgresSettings, timeout: int) -> dict[str, str]:
    memory = size_in_bytes(settings.resources.memory)
    kept = size_in_bytes(settings.wal_storage)
    return {
        "archive_timeout": f"{timeout}s",
        "max_connections": str(_connections(settings)),
        "idle_in_transaction_session_timeout": _ABANDONED,
        "max_slot_wal_keep_size": _megabytes(kept * _WAL_KEPT_SHARE),
        "shared_buffers": _megabytes(memory * _SHARED_BUFFERS_SHARE),
        "wal_retrieve_retry_interval": _FOLLOW_AGAIN,
    }


def _connections(settings: PostgresSettings) -> int:
    """Each pooler holds a pool for each database; the rest is for whoever looks after them."""
    return _POOLERS * _POOL_SIZE * (1 + len(settings.databases)) + _OWN_CONNECTIONS


def _megabytes(amount: Decimal) -> str:
    """Write a size in bytes in PostgreSQL's unit."""
    return f"{int(amount) // 2**20}MB"


def _synchronous(settings: PostgresSettings) -> parts.Object:
    """Acknowledge a write once so many standbys have it, and promote only one that must have it."""
    if settings.synchronous == 0:
        return {}
    return {
        "synchronous": {
            "method": "any",
            "number": settings.synchronous,
            "dataDurability": "required",
            "failoverQuorum": True,
        }
    }


def _volume(size: str, args: PostgresArgs) -> parts.Object:
    return {
        "size": size,
        "storageClass": args.storage_class,
        "resizeInUseVolumes": True,
    }


def _placement(name: str, args: PostgresArgs) -> parts.Object:
    """Never two in one zone; more instances than zones are spread evenly, never two on one host."""
    crowded = args.settings.instances > len(args.zones)
    return {
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "required",
            "topologyKey": parts.HOST if crowded else parts.ZONE,
            "tolerations": parts.tolerations(),
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": parts.ZONE,
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": {**_family(name), "cnpg.io/podRole": "instance"}},
            }
        ],
    }


def _stores(name: str, args: PostgresArgs) -> dict[str, tuple[str, str]]:
    """Name and bucket of each ObjectStore, by whose archive is in it."""
    stores = {_HERE: (_store_name(name), args.backup_bucket)}
    recovery, source = args.settings.recovery, args.settings.source
    if recovery is not None and recovery.bucket is not None:
        stores[_LOST] = (f"{name}-{_LOST}", recovery.bucket)
    if source is not None:
        stores[_THERE] = (f"{name}-source", source.bucket)
    return stores


def _store(name: str, bucket: str, settings: PostgresSettings) -> parts.Object:
    """An archive. What others write is read in the same way; only its own is ever thinned out."""
    return {
        "configuration": {
            "destinationPath": f"s3://{bucket}/{name}",
            "s3Credentials": {"inheritFromIAMRole": True},
            "data": {"compression": "gzip", "encryption": "aws:kms", "jobs": 2},
            # Segments upload side by side, so the archive catches up after an outage of the store.
            "wal": {"compression": "gzip", "encryption": "aws:kms", "maxParallel": 4},
        },
        "retentionPolicy": f"{settings.retention // DAY}d",
        "instanceSidecarConfiguration": {
            "resources": parts.container_resources(_SIDECAR_CPU, _SIDECAR_MEMORY, _EPHEMERAL)
        },
    }


def _base_backup(name: str) -> parts.Object:
    return {
        "cluster": {"name": name},
        "method": "plugin",
        "pluginConfiguration": {"name": _PLUGIN},
        "target": "prefer-standby",
        "immediate": True,
        "backupOwnerReference": "none",
    }


def _snapshot_backup(name: str) -> parts.Object:
    """Restores in minutes whatever the size, but only in the same region."""
    return {
        "cluster": {"name": name},
        "method": "volumeSnapshot",
        "target": "prefer-standby",
        "immediate": True,
        "backupOwnerReference": "none",
    }


def _pooler_spec(name: str, args: PostgresArgs) -> parts.Object:
    return {
        "cluster": {"name": name},
        "type": "rw",
        "instances": _POOLERS,
        "deploymentStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "pgbouncer": {
            "poolMode": "transaction",
            "parameters": {
                "default_pool_size": str(_POOL_SIZE),
                "max_client_conn": str(_POOL_CLIENTS),
                # Lets drivers that prepare statements work with pooled transactions.
                "max_prepared_statements": "100",
                **_PATIENCE,
            },
        },
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/part-of": "platform"}},
            "spec": {
                "priorityClassName": args.priority_class,
                "tolerations": parts.tolerations(),
                "topologySpreadConstraints": parts.spread(_poolers(name)),
                "containers": [
                    {
                        "name": "pgbouncer",
                        "resources": parts.container_resources(_POOLER_CPU, _POOLER_MEMORY),
                    }
                ],
            },
        },
    }
