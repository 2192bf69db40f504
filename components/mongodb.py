"""A MongoDB replica set that keeps every acknowledged write when it loses a member or a zone.

Percona's operator runs it from the resources declared here: members in different zones, a write
acknowledged once a majority has it, and the way back from disaster: full and incremental backups
and the archived log of operations in a bucket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret, ServiceAccount
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import alerts, connection, metrics, mongodb_alerts, parts
from components.parts import Client, Endpoint
from components.releases import PERCONA_MONGODB
from stacks import schedules
from stacks.systems.mongodb import MongodbSettings, oplog_span
from stacks.values import Objective, Resources

OPERATOR_NAMESPACE = "psmdb-operator"
"""Where Percona's operator runs; it asks every member for its state."""

PORT = 27_017

REPLICA_SET = "rs0"

_API = "psmdb.percona.com/v1"
_WORKLOAD = "percona-server-mongodb"
"""What the operator puts into `app.kubernetes.io/name` of every Pod that it makes."""

_METRICS_PORT = 9216

_USER = 1001
"""`mongodb` in Percona's images."""

_DATABASE = _CLIENT = "app"
_MONITOR = "exporter"
_LOGINS = "admin"
"""The database that users are kept in."""

_SYSTEM_USERS = {
    "BACKUP": "backup",
    "CLUSTER_ADMIN": "clusterAdmin",
    "CLUSTER_MONITOR": "clusterMonitor",
    "DATABASE_ADMIN": "databaseAdmin",
    "USER_ADMIN": "userAdmin",
}
"""Users that the operator works with, by their part of the keys in its Secret."""

_AGENT = Resources(cpu="100m", memory="512Mi")
"""Of the backup agent beside each server: it compresses and uploads in parallel streams."""

_EXPORTER = Resources(cpu="20m", memory="128Mi")
"""Of the metrics exporter beside each server."""

_EPHEMERAL = "1Gi"

_STORAGE = "bucket"

_STOP_SECONDS = 60
"""For a member to hand the role of primary over and close its files; a longer stop is a crash."""

_SERVER_CONFIGURATION = """\
net:
  tls:
    # Clients log in with a password: the authority that would sign their certificates is made by
    # the operator, and its key stays in this namespace.
    allowConnectionsWithoutCertificates: true
security:
  # Volumes and bucket are encrypted. With a key of its own besides, which the operator would make,
  # no physical backup could be restored once this cluster is lost with the key.
  enableEncryption: false
"""

_FEWEST_ZONES = 3

_MINUTES = {"base": 0, "logical": 20, "incremental": 40}
"""Past the hour. One backup waits for another; these do not begin with a wait."""

_OPTIONS = {
    "replicaSet": REPLICA_SET,
    "authSource": _LOGINS,
    # Acknowledged means: a majority has it on disk, so whoever is elected has it too. Within a time
    # limit, since without a majority it would wait for ever.
    "w": "majority",
    "journal": "true",
    "wtimeoutMS": "10000",
    # A write that met a failover is tried once more, and applied once.
    "retryWrites": "true",
    "retryReads": "true",
    # While there is no primary, others answer; only what a majority has, which no failover undoes.
    "readPreference": "primaryPreferred",
    "readConcernLevel": "majority",
    # An election takes 12 s at the median.
    "serverSelectionTimeoutMS": "20000",
    "connectTimeoutMS": "3000",
    "socketTimeoutMS": "30000",
    "maxPoolSize": "50",
    "tls": "true",
}
"""Of a client's connection string."""

_UNVERIFIED = {
    # Encrypted, and by SCRAM both sides prove that they know the password; the certificate is not
    # verified, for its authority is known in the members' namespace alone. The drivers of Go, Node,
    # Python and C read this; Go's does not know `tlsAllowInvalidCertificates`.
    "tlsInsecure": "true",
}
"""Of the connection string too, where no issuer signs that clients know."""


@dataclass(frozen=True)
class MongodbArgs:
    """Settings and surroundings of the replica set.

    Raises:
        ValueError: if the settings cannot meet the objective, or the zones not keep a majority.
    """

    namespace: str
    settings: MongodbSettings
    objective: Objective
    region: str
    """Of the bucket."""
    zones: tuple[str, ...]
    priority_class: str
    storage_class: str
    backup_bucket: str
    clients: tuple[Client, ...]
    protect: bool
    wait: bool = False
    """Wait until the operator reports the replica set ready, so that an update which leaves it
    broken fails. Only where the operator runs: without it nobody would ever report."""

    def __post_init__(self) -> None:
        span = oplog_span(self.settings, self.objective)
        if span > self.objective.rpo:
            raise ValueError(
                f"mongodb: oplog_span is {span}s, but the objective's rpo is {self.objective.rpo}s:"
                " with only the archive left, more than that would be lost; archive at least that "
                "often"
            )
        if len(set(self.zones)) < _FEWEST_ZONES:
            raise ValueError(
                f"mongodb: zones is {', '.join(self.zones) or 'empty'}, but a majority of the "
                f"members survives the loss of a zone only with {_FEWEST_ZONES} or more"
            )


class Mongodb(pulumi.ComponentResource):
    """A replica set with its backups, credentials, metrics, alerts and network policy.

    Clients connect to all members in `MONGODB_HOSTS` with the options of `MONGODB_OPTIONS`, and
    `username` and `password` of the Secret `secret_name`; the driver finds the primary.

    The members reach the bucket with the role that the ServiceAccount, named as the replica set, is
    given (EKS Pod Identity or an annotation): no key is stored. The operator's own ServiceAccount
    needs the same one: it looks at a backup before it restores it, and deletes what has expired.

    With `settings.issuer` clients verify the members' certificates; without it they do not, because
    the authority that signs them is made by the operator, and known in this namespace alone.

    Once the replica set is ready, the first full backup is taken: until there is one, no log of
    operations is archived. Without `wait` nobody can tell when, and it is the first scheduled one.
    It belongs to no schedule, so it stays listed when the bucket has long deleted what it holds.

    Example:
        A program of its own::

            documents = Mongodb(
                "documents",
                MongodbArgs(
                    namespace="games-data",
                    settings=MongodbSettings(),
                    objective=Objective(rpo=300, rto=180),
                    region="us-east-1",
                    zones=("us-east-1a", "us-east-1b", "us-east-1c"),
                    priority_class="games-data",
                    storage_class="gp3",
                    backup_bucket="games-backups",
                    clients=(Client("games-core", "replay"),),
                    protect=True,
                ),
            )
            pulumi.export("documents", documents.endpoint)
    """

    endpoint: pulumi.Output[str]
    """Host and port that lead to any member."""
    endpoints: tuple[Endpoint, ...]
    """What clients open connections to."""
    environment: Mapping[str, str]
    """Where the members are, and how to talk to them; also in the ConfigMap `secret_name`."""
    secret_name: str
    """A Secret with `username` and `password`, in each namespace that has clients."""

    def __init__(
        self, name: str, args: MongodbArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:mongodb:Mongodb", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        password, monitor = (
            connection.password(f"{name}-{user}-password", child) for user in (_CLIENT, _MONITOR)
        )
        needs: list[pulumi.Resource] = [
            ServiceAccount(
                f"{name}-account",
                metadata=_metadata(name, args, "database"),
                automount_service_account_token=False,
                opts=child,
            ),
            self._system_users(name, args),
            Secret(
                f"{name}-users",
                metadata=_metadata(f"{name}-users", args, "database"),
                data={
                    _CLIENT: connection.encoded(password),
                    _MONITOR: connection.encoded(monitor),
                },
                opts=child,
            ),
            NetworkPolicy(
                f"{name}-network",
                metadata=_metadata(name, args, "database"),
                spec=_network(name, args),
                opts=child,
            ),
        ]
        cluster = CustomResource(
            f"{name}-cluster",
            api_version=_API,
            kind="PerconaServerMongoDB",
            metadata=parts.metadata(
                name, args.namespace, parts.labels(name, "database"), _readiness(args.wait)
            ),
            spec=_cluster(name, args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=needs,
                protect=args.protect,
                retain_on_delete=args.protect,
            ),
        )
        if args.wait:
            self._first_backup(name, args, cluster)
        metrics.pod_monitor(
            f"{name}-metrics",
            _metadata(name, args, "database"),
            {"matchLabels": _members(name)},
            child,
        )
        alerts.rules(
            f"{name}-alerts",
            _metadata(name, args, "database"),
            mongodb_alerts.of(name, args.namespace, args.settings),
            child,
        )

        members = Endpoint(args.namespace, _service(name), PORT, workload=_WORKLOAD)
        self.endpoint = pulumi.Output.from_input(f"{members.host}:{PORT}")
        self.endpoints = (members,)
        self.environment = {
            "MONGODB_HOSTS": ",".join(
                f"{_service(name)}-{ordinal}.{members.host}:{PORT}"
                for ordinal in range(args.settings.members)
            ),
            "MONGODB_DATABASE": _DATABASE,
            "MONGODB_OPTIONS": "&".join(
                f"{key}={value}" for key, value in _options(args.settings).items()
            ),
        }
        self.secret_name = connection.publish(
            name,
            args.clients,
            self.environment,
            {"username": pulumi.Output.from_input(_CLIENT), "password": password},
            parent=self,
        )
        self.register_outputs({"endpoint": self.endpoint, "secret_name": self.secret_name})

    def _system_users(self, name: str, args: MongodbArgs) -> Secret:
        """The operator would make this Secret itself; the stack's state must know it.

        A restore brings the users of the cluster that was backed up: whoever restores elsewhere
        needs their passwords.
        """
        child = pulumi.ResourceOptions(parent=self)
        data: dict[str, pulumi.Input[str]] = {}
        for key, user in _SYSTEM_USERS.items():
            password = connection.password(f"{name}-{user}-password", child)
            data[f"MONGODB_{key}_USER"] = connection.encoded(pulumi.Output.from_input(user))
            data[f"MONGODB_{key}_PASSWORD"] = connection.encoded(password)
        return Secret(
            f"{name}-system-users",
            metadata=_metadata(_system_users(name), args, "database"),
            data=data,
            opts=child,
        )

    def _first_backup(self, name: str, args: MongodbArgs, cluster: pulumi.Resource) -> None:
        CustomResource(
            f"{name}-first-backup",
            api_version=_API,
            kind="PerconaServerMongoDBBackup",
            metadata=_metadata(f"{name}-first", args, "backup"),
            spec={"clusterName": name, "storageName": _STORAGE, "type": "logical"},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[cluster]),
        )


def _metadata(name: str, args: MongodbArgs, component: str) -> parts.Object:
    return parts.metadata(name, args.namespace, parts.labels(name, component))


def _readiness(wait: bool) -> dict[str, str]:
    """Have an update wait until the operator has seen it, and the replica set is ready.

    The condition stays once it was true, but counts only if the operator has seen the latest
    change; the state is what holds now, whatever it has seen.
    """
    tests = ["condition=ready", "jsonpath={.status.state}=ready"]
    return {"pulumi.com/waitFor": json.dumps(tests)} if wait else {}


def _system_users(name: str) -> str:
    return f"{name}-system-users"


def _service(name: str) -> str:
    """The operator's name for the members' Service and StatefulSet."""
    return f"{name}-{REPLICA_SET}"


def _members(name: str) -> dict[str, str]:
    """Select the members among all that the operator labels."""
    return {
        parts.NAME_LABEL: _WORKLOAD,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/replset": REPLICA_SET,
        "app.kubernetes.io/component": "mongod",
    }


def _network(name: str, args: MongodbArgs) -> parts.Object:
    """Let members talk to each other, and clients to all of them: any may become primary."""
    family = [{"podSelector": {"matchLabels": _members(name)}}]
    operator = parts.peer(OPERATOR_NAMESPACE)
    return parts.network_policy(
        _members(name),
        ingress=[
            *parts.allow_from([*family, operator, *parts.client_peers(args.clients)], PORT),
            *parts.allow_from([metrics.reader()], _METRICS_PORT),
        ],
        egress=[
            *parts.allow_to(family, PORT),
            *parts.allow_to_store(),
        ],
    )


def _cluster(name: str, args: MongodbArgs) -> parts.Object:
    return {
        # The operator whose behaviour this is written for; a newer one keeps to it.
        "crVersion": PERCONA_MONGODB.version,
        "image": args.settings.image,
        # A registry that is away must not keep a member from starting again.
        "imagePullPolicy": "IfNotPresent",
        "initContainerSecurityContext": _container_security(),
        # Secondaries first, and the primary last, after it has handed over.
        "updateStrategy": "SmartUpdate",
        "upgradeOptions": {"apply": "disabled"},
        # Without it, a larger `storage` would change nothing, and nobody would hear of it.
        "storageScaling": {"enableVolumeScaling": True},
        "tls": {
            "mode": "requireTLS",
            "allowInvalidCertificates": False,
            **_issuer(args.settings),
        },
        "secrets": {"users": _system_users(name)},
        "users": _users(name),
        "replsets": [_replica_set(name, args)],
        "sharding": {"enabled": False},
        "logcollector": {"enabled": False},
        "backup": _backup(name, args),
    }


def _issuer(settings: MongodbSettings) -> parts.Object:
    """Who signs; in the same namespace the operator (1.22) makes an Issuer of that name besides.

    Nobody asks that one: it is for the operator's own authority.
    """
    if settings.issuer is None:
        return {}
    by = {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": settings.issuer}
    return {"issuerConf": by}


def _options(settings: MongodbSettings) -> dict[str, str]:
    """The options of a client's connection string."""
    return _OPTIONS if settings.issuer is not None else {**_OPTIONS, **_UNVERIFIED}


def _users(name: str) -> list[parts.Object]:
    roles = {
        _CLIENT: {"readWrite": _DATABASE},
        # Besides the servers' state, that of the backups, which is kept among the logins.
        _MONITOR: {"clusterMonitor": _LOGINS, "read": _LOGINS},
    }
    return [
        {
            "name": user,
            "db": _LOGINS,
            "passwordSecretRef": {"name": f"{name}-users", "key": user},
            "roles": [{"name": role, "db": database} for role, database in granted.items()],
        }
        for user, granted in roles.items()
    ]


def _replica_set(name: str, args: MongodbArgs) -> parts.Object:
    settings = args.settings
    resources = settings.resources
    return {
        "name": REPLICA_SET,
        "size": settings.members,
        # An arbiter votes for what it does not hold.
        "arbiter": {"enabled": False, "size": 1},
        "configuration": _SERVER_CONFIGURATION,
        "serviceAccountName": name,
        "priorityClassName": args.priority_class,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "resources": parts.container_resources(resources.cpu, resources.memory, _EPHEMERAL),
        "podSecurityContext": parts.pod_security(_USER),
        "containerSecurityContext": _container_security(),
        # The spread alone: together with the operator's own anti-affinity, a member of a lost zone
        # would find no host.
        "affinity": {"antiAffinityTopologyKey": "none"},
        "topologySpreadConstraints": parts.spread(_members(name), stay=True),
        "tolerations": parts.tolerations(),
        "podDisruptionBudget": {"maxUnavailable": 1},
        "volumeSpec": {
            "persistentVolumeClaim": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": args.storage_class,
                "resources": {"requests": {"storage": settings.storage}},
            }
        },
        "sidecars": [_exporter(name, settings)],
    }


def _container_security() -> parts.Object:
    """Percona's entry points write certificates into `/tmp` of the container."""
    return {**parts.container_security(), "readOnlyRootFilesystem": False}


def _exporter(name: str, settings: MongodbSettings) -> parts.Object:
    return {
        "name": _MONITOR,
        "image": settings.exporter_image,
        "args": [
            # The member beside it, by the loopback interface: whose certificate it is, is no
            # question.
            f"--mongodb.uri=mongodb://localhost:{PORT}/?tls=true&tlsInsecure=true",
            "--compatible-mode",
            "--collector.diagnosticdata",
            "--collector.replicasetstatus",
            "--collector.pbm",
        ],
        "env": [
            {"name": "MONGODB_USER", "value": _MONITOR},
            # It reads no password from a file.
            {
                "name": "MONGODB_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": f"{name}-users", "key": _MONITOR}},
            },
        ],
        "ports": [{"name": metrics.PORT, "containerPort": _METRICS_PORT}],
        "resources": parts.container_resources(_EXPORTER.cpu, _EXPORTER.memory),
        "securityContext": parts.container_security(),
        "livenessProbe": parts.http_probe("/", metrics.PORT, period=10, failures=6),
    }


def _backup(name: str, args: MongodbArgs) -> parts.Object:
    settings = args.settings
    span = oplog_span(settings, args.objective)
    return {
        "enabled": True,
        "image": settings.backup_image,
        "resources": parts.container_resources(_AGENT.cpu, _AGENT.memory, _EPHEMERAL),
        "containerSecurityContext": _container_security(),
        "storages": {
            # One for all: increments lie where their base does, and the log where both do.
            _STORAGE: {
                "main": True,
                "type": "s3",
                "s3": {"bucket": args.backup_bucket, "prefix": name, "region": args.region},
            }
        },
        "pitr": {
            "enabled": True,
            "oplogOnly": False,
            "oplogSpanMin": span / 60,
            "compressionType": "gzip",
        },
        "tasks": [
            {
                **_task("base", settings.base_every),
                "type": "incremental-base",
                **_retention(settings.kept(settings.base_every)),
            },
            # What is stored goes with its base; the objects stay (docs/runbooks/mongodb.md).
            {**_task("incremental", settings.incremental_every), "type": "incremental"},
            {
                **_task("logical", settings.logical_every),
                "type": "logical",
                **_retention(settings.kept(settings.logical_every)),
            },
        ],
    }


def _task(kind: str, every: int) -> parts.Object:
    return {
        "name": kind,
        "enabled": True,
        "schedule": schedules.cron(every, _MINUTES[kind]),
        "storageName": _STORAGE,
        "compressionType": "gzip",
    }


def _retention(count: int) -> parts.Object:
    return {"retention": {"type": "count", "count": count, "deleteFromStorage": True}}
