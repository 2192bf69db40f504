"""The whole platform of one stack: fault domains, data systems, and the services of the catalogue.

Here the settings become arguments: who calls whom, who uses which data, and what waits for what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pulumi

from components import parts, releases
from components.backup import Backup, BackupArgs
from components.bucket_access import BucketAccess, BucketAccessArgs
from components.foundation import Foundation, FoundationArgs
from components.kafka import Kafka, KafkaArgs, User
from components.mongodb import Mongodb, MongodbArgs
from components.neo4j import Neo4j, Neo4jArgs
from components.operators import Operators, OperatorsArgs
from components.parts import Client, Endpoint
from components.postgres import Postgres, PostgresArgs
from components.redis import Redis, RedisArgs
from components.service import DataAccess, Service, ServiceArgs
from stacks.settings import Role, ServiceSettings, Settings
from stacks.systems import DataSystem
from stacks.systems.neo4j import Edition

Store = Postgres | Redis | Mongodb | Neo4j | Kafka
"""A component whose data services use; each tells its `endpoint`, and the way in: `access` of each
service, or `endpoints`, `environment` and `secret_name` that all of them share."""


@dataclass(frozen=True)
class PlatformArgs:
    """Everything that a stack file says, and the name of its stack.

    Raises:
        ValueError: if the bucket of the backups cannot be made of it.
    """

    settings: Settings
    stack: str

    def __post_init__(self) -> None:
        _ = self.backup  # judges what it is named, before anything is declared

    @property
    def backup(self) -> BackupArgs:
        """What the bucket of the backups is made of."""
        return BackupArgs(
            settings=self.settings.backup,
            region=self.settings.region,
            stack=self.stack,
            prefix=self.settings.prefix,
            protect=self.settings.protect,
        )


class Platform(pulumi.ComponentResource):
    """One platform. A stack has only one: its parts carry the names that runbooks know them by.

    Example:
        A program of its own::

            platform = Platform("platform", PlatformArgs(settings, pulumi.get_stack()))
            for key, value in platform.outputs.items():
                pulumi.export(key, value)
    """

    outputs: dict[str, pulumi.Output[str]]
    """Endpoint of each service and data system, and the bucket of the backups."""

    def __init__(
        self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:platform:Platform", name, None, opts)
        settings = args.settings
        foundation = Foundation(
            f"{name}-foundation", FoundationArgs(settings), pulumi.ResourceOptions(parent=self)
        )
        backup = Backup(
            f"{name}-backup",
            args.backup,
            pulumi.ResourceOptions(parent=self),
        )
        # Percona's operator has MongoDB's role too, which must be lent before its Pods are made.
        lent = (
            [self._mongodb_access(settings, backup)]
            if DataSystem.MONGODB in settings.systems
            else []
        )
        operators = Operators(
            f"{name}-operators",
            OperatorsArgs(settings.operators),
            pulumi.ResourceOptions(parent=self, depends_on=lent),
        )
        builders: dict[DataSystem, Callable[[Settings], Store]] = {
            DataSystem.POSTGRES: lambda own: self._postgres(own, foundation, backup, operators),
            DataSystem.REDIS: lambda own: self._redis(own, foundation, backup),
            DataSystem.MONGODB: lambda own: self._mongodb(own, foundation, backup, operators, lent),
            DataSystem.NEO4J: lambda own: self._neo4j(own, foundation, backup),
            DataSystem.KAFKA: lambda own: self._kafka(own, foundation, operators),
        }
        stores = {
            system: build(settings.seen_by(system))
            for system, build in builders.items()
            if system in settings.systems
        }
        services = {
            service: self._service(settings, service, foundation, stores)
            for service, entry in settings.services.items()
            if settings.role is Role.ACTIVE or runs_on_standby(entry)
        }
        self.outputs = {
            "backup_bucket": backup.bucket,
            **{f"endpoint_{system}": store.endpoint for system, store in stores.items()},
            **{
                f"endpoint_{service.replace('-', '_')}": component.endpoint
                for service, component in services.items()
            },
        }
        self.register_outputs(self.outputs)

    def _bucket_access(
        self,
        system: DataSystem,
        settings: Settings,
        backup: Backup,
        *reads: str | None,
        also: tuple[tuple[str, str], ...] = (),
    ) -> BucketAccess:
        """Let the Pods of a system write to the stack's bucket, and read from others."""
        return BucketAccess(
            f"{system}-backup-access",
            BucketAccessArgs(
                system=system,
                role=f"{backup.bucket_name}-{system}",
                namespace=parts.namespace(settings.prefix, parts.DATA),
                account=system,
                writes=backup.bucket_name,
                reads=tuple(bucket for bucket in reads if bucket),
                region=settings.region,
                eks_cluster=settings.backup.eks_cluster,
                also=also,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[backup]),
        )

    def _postgres(
        self, settings: Settings, foundation: Foundation, backup: Backup, operators: Operators
    ) -> Postgres:
        own = settings.postgres
        access = self._bucket_access(
            DataSystem.POSTGRES,
            settings,
            backup,
            *(read.bucket for read in (own.recovery, own.source) if read),
        )
        return Postgres(
            DataSystem.POSTGRES,
            PostgresArgs(
                namespace=parts.namespace(settings.prefix, parts.DATA),
                settings=own,
                objective=settings.objectives.postgres,
                zones=settings.zones,
                priority_class=parts.priority_class(settings.prefix, parts.DATA),
                storage_class=foundation.storage_class,
                snapshot_class=foundation.snapshot_class,
                backup_bucket=backup.bucket_name,
                clients=_users(settings, DataSystem.POSTGRES),
                protect=settings.protect,
                standby=settings.role is Role.STANDBY,
                region_rpo=settings.objectives.region.rpo,
                wait=DataSystem.POSTGRES in settings.wait_for,
            ),
            # A Pod that is made before its role is lent has none as long as it lives.
            pulumi.ResourceOptions(parent=self, depends_on=[foundation, backup, access, operators]),
        )

    def _redis(self, settings: Settings, foundation: Foundation, backup: Backup) -> Redis:
        recovery = settings.redis.recovery
        access = self._bucket_access(
            DataSystem.REDIS, settings, backup, recovery.bucket if recovery else None
        )
        return Redis(
            DataSystem.REDIS,
            RedisArgs(
                namespace=parts.namespace(settings.prefix, parts.DATA),
                settings=settings.redis,
                zones=settings.zones,
                priority_class=parts.priority_class(settings.prefix, parts.DATA),
                storage_class=foundation.storage_class,
                backup_bucket=backup.bucket_name,
                clients=_users(settings, DataSystem.REDIS),
                protect=settings.protect,
                caches={name: entry.caches for name, entry in settings.services.items()},
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[foundation, backup, access]),
        )

    def _mongodb_access(self, settings: Settings, backup: Backup) -> BucketAccess:
        """The operator looks at a backup before it restores it, and deletes what has expired."""
        operator = (releases.PSMDB_NAMESPACE, releases.PSMDB_NAME)
        return self._bucket_access(DataSystem.MONGODB, settings, backup, also=(operator,))

    def _mongodb(
        self,
        settings: Settings,
        foundation: Foundation,
        backup: Backup,
        operators: Operators,
        lent: Sequence[BucketAccess],
    ) -> Mongodb:
        return Mongodb(
            DataSystem.MONGODB,
            MongodbArgs(
                namespace=parts.namespace(settings.prefix, parts.DATA),
                settings=settings.mongodb,
                objective=settings.objectives.mongodb,
                region=settings.region,
                zones=settings.zones,
                priority_class=parts.priority_class(settings.prefix, parts.DATA),
                storage_class=foundation.storage_class,
                backup_bucket=backup.bucket_name,
                clients=_users(settings, DataSystem.MONGODB),
                protect=settings.protect,
                wait=DataSystem.MONGODB in settings.wait_for,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[foundation, backup, *lent, operators]),
        )

    def _neo4j(self, settings: Settings, foundation: Foundation, backup: Backup) -> Neo4j:
        recovery = settings.neo4j.recovery
        needs: list[pulumi.Resource] = [foundation, backup]
        if settings.neo4j.edition is Edition.ENTERPRISE:  # Community's dumps stay on its volume
            needs.append(
                self._bucket_access(
                    DataSystem.NEO4J, settings, backup, recovery.bucket if recovery else None
                )
            )
        return Neo4j(
            DataSystem.NEO4J,
            Neo4jArgs(
                namespace=parts.namespace(settings.prefix, parts.DATA),
                settings=settings.neo4j,
                objective=settings.objectives.neo4j,
                zones=settings.zones,
                priority_class=parts.priority_class(settings.prefix, parts.DATA),
                storage_class=foundation.storage_class,
                scratch_class=foundation.scratch_class,
                backup_bucket=backup.bucket_name,
                clients=_users(settings, DataSystem.NEO4J),
                protect=settings.protect,
                wait=DataSystem.NEO4J in settings.wait_for,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=needs),
        )

    def _kafka(self, settings: Settings, foundation: Foundation, operators: Operators) -> Kafka:
        return Kafka(
            DataSystem.KAFKA,
            KafkaArgs(
                namespace=parts.namespace(settings.prefix, parts.DATA),
                settings=settings.kafka,
                topics=settings.topics,
                zones=settings.zones,
                priority_class=parts.priority_class(settings.prefix, parts.DATA),
                storage_class=foundation.storage_class,
                users=tuple(
                    User(_client(settings, service), entry.produces, entry.consumes)
                    for service, entry in settings.services.items()
                    if DataSystem.KAFKA in entry.uses
                ),
                standby=settings.role is Role.STANDBY,
                region_rpo=settings.objectives.region.rpo,
                protect=settings.protect,
                wait=DataSystem.KAFKA in settings.wait_for,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[foundation, operators]),
        )

    def _service(
        self,
        settings: Settings,
        service: str,
        foundation: Foundation,
        stores: dict[DataSystem, Store],
    ) -> Service:
        """Create a service once there is the data that it uses.

        It does not wait for what it calls: that may go and come at any time, and may call back.
        """
        entry = settings.services[service]
        used = {system: stores[system] for system in entry.uses}
        return Service(
            service,
            ServiceArgs(
                settings=entry,
                namespace=parts.namespace(settings.prefix, entry.tier),
                priority_class=parts.priority_class(settings.prefix, entry.tier),
                calls={called: _endpoint(settings, called) for called in entry.calls},
                uses={system: _access(store, service) for system, store in used.items()},
                callers=tuple(
                    _client(settings, caller)
                    for caller, other in settings.services.items()
                    if service in other.calls
                ),
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[foundation, *used.values()]),
        )


def runs_on_standby(service: ServiceSettings) -> bool:
    """Whether a service uses no data that is another region's until the stack is promoted.

    A cache is each region's own. Why the others wait: docs/decisions/standby-services.md.
    """
    return set(service.uses) <= {DataSystem.REDIS}


def _access(store: Store, service: str) -> DataAccess:
    """The way into a store, which may be each service's own."""
    if isinstance(store, Kafka):
        return store.access[service]
    return DataAccess(store.endpoints, store.environment, store.secret_name)


def _client(settings: Settings, service: str) -> Client:
    tier = settings.services[service].tier
    return Client(parts.namespace(settings.prefix, tier), service)


def _endpoint(settings: Settings, service: str) -> Endpoint:
    entry = settings.services[service]
    return Endpoint(parts.namespace(settings.prefix, entry.tier), service, entry.port)


def _users(settings: Settings, system: DataSystem) -> tuple[Client, ...]:
    """The services that use a data system."""
    return tuple(
        _client(settings, service)
        for service, entry in settings.services.items()
        if system in entry.uses
    )
