"""The typed settings of a stack: what `stacks/Pulumi.<stack>.yaml` may say, and what it means.

Defaults are production-grade, so a stack file says only where it differs. Whatever is wrong in a
stack file is wrong here first: nothing reaches the engine that these models do not accept.
Units: durations are whole seconds inside the program ("5m" in a file), sizes are Kubernetes
quantities ("10Gi", "250m").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, Field, StringConstraints

from stacks import rules
from stacks.contradictions import Contradiction
from stacks.operators import OperatorsSettings
from stacks.systems import AwaitedSystem, DataSystem
from stacks.systems.kafka import KafkaSettings, TopicSettings
from stacks.systems.mongodb import MongodbSettings
from stacks.systems.neo4j import Neo4jSettings
from stacks.systems.postgres import PostgresSettings
from stacks.systems.redis import CacheSettings, RedisSettings
from stacks.values import (
    DAY,
    HOUR,
    MINUTE,
    YEAR,
    Addresses,
    BucketName,
    Days,
    Flag,
    Image,
    Integer,
    Model,
    Name,
    Objective,
    Path,
    Prefix,
    Region,
    Resources,
    Seconds,
    ServiceCount,
    Variable,
    Zone,
    expects,
)


class Role(StrEnum):
    """Whether the stack serves users now, or stands by to take over."""

    ACTIVE = "active"
    STANDBY = "standby"


class Tier(StrEnum):
    """How much the platform needs a service; decides its namespace, priority and shedding order."""

    CORE = "core"
    STANDARD = "standard"
    BEST_EFFORT = "best-effort"


class Objectives(Model):
    """The objectives of each data system. Sources: docs/decisions/objectives.md."""

    postgres: Objective = Objective(rpo=5 * MINUTE, rto=3 * MINUTE)
    """PostgreSQL, for the loss of any one Pod, node or zone, and for a restore."""
    redis: Objective = Objective(rpo=10, rto=30)
    """The cache, for the loss of any one Pod, node or zone."""
    mongodb: Objective = Objective(rpo=5 * MINUTE, rto=3 * MINUTE)
    """MongoDB, for the loss of any one Pod, node or zone, and for a restore."""
    neo4j: Objective = Objective(rpo=HOUR, rto=3 * MINUTE)
    """Neo4j, for the loss of any one Pod, node or zone; its RPO is that of a restore."""
    kafka: Objective = Objective(rpo=0, rto=MINUTE)
    """Kafka, for the loss of any one Pod, node or zone."""
    region: Objective = Objective(rpo=20 * MINUTE, rto=30 * MINUTE)
    """The whole platform, for the loss of its region."""


EksCluster = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z][-0-9A-Za-z_]{0,99}$"),
    Field(json_schema_extra=expects("the name of an EKS cluster, such as games-prod")),
]


class BackupSettings(Model):
    """The bucket that holds every backup of the stack, and its copy in another region."""

    retention: Annotated[Days, Field(le=10 * YEAR)] = 35 * DAY
    """How long the bucket keeps an object; longer than any system's own retention."""
    lock: Annotated[Days, Field(le=10 * YEAR)] = 7 * DAY
    """Object lock: for so long nobody deletes a backup; where data is protected, administrators
    neither."""
    bucket: BucketName | None = None
    """Name of the bucket; none: made of prefix, stack and region. Bucket names are unique in the
    world, so the usual one may be taken."""
    replica_region: Region | None = None
    """Another region, to which every backup is copied; none: the backups fall with the region."""
    eks_cluster: EksCluster | None = None
    """Name of the EKS cluster, whose Pod Identity lends each data system the role that is made for
    its backups. None: lend them yourself, to the ServiceAccounts named as the systems, and that of
    MongoDB to its operator's too, `psmdb-operator/percona-server-mongodb-operator`."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A bucket that may delete what it no longer keeps."""
        return rules.backup(self)


class Replicas(Model):
    """Bounds of horizontal scaling."""

    min: ServiceCount = 3
    """Fewest replicas; at least one for each zone."""
    max: ServiceCount = 9
    """Most replicas under load."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Bounds in their order."""
        return rules.replicas(self)


class Probes(Model):
    """Paths that answer for the service's health.

    Readiness and liveness differ on purpose: a service that drains takes no requests, yet
    restarting it would not help. What a service depends on is part of neither: one outage of a
    database would take every service out of its Service, and those with a fallback with them.
    """

    startup: Path = "/health/startup"
    """Answers once the service has started."""
    ready: Path = "/health/ready"
    """Answers while the service itself can take requests."""
    live: Path = "/health/live"
    """Answers unless only a restart would help."""
    startup_limit: Annotated[Seconds, Field(ge=1, le=HOUR)] = 2 * MINUTE
    """A service that has not started after so long is restarted."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Readiness and liveness that are not the same question."""
        return rules.probes(self)


class ServiceSettings(Model):
    """One service of the catalogue."""

    tier: Tier
    """How much the platform needs it."""
    image: Image
    """Image of its one container."""
    port: Annotated[Integer, Field(ge=1024, le=65_535)] = 8080
    """Port of its requests, probes and metrics."""
    replicas: Replicas = Replicas()
    """Bounds of its horizontal scaling."""
    resources: Resources = Resources()
    """What each of its Pods asks for; at least 16Mi of memory."""
    probes: Probes = Probes()
    """Paths that answer for its health."""
    calls: tuple[Name, ...] = ()
    """Services of the catalogue that this one sends requests to.

    One that is not core has a flag, so whoever calls it can do without it."""
    uses: tuple[DataSystem, ...] = ()
    """Data systems that this one needs."""
    produces: tuple[Name, ...] = ()
    """Topics that it writes to; then it uses kafka."""
    consumes: tuple[Name, ...] = ()
    """Topics that it reads, as the consumer group of its own name; then it uses kafka."""
    caches: dict[Name, CacheSettings] = Field(default={})
    """What it keeps in Redis, by kind; then it uses redis."""
    flag: Name | None = None
    """The feature flag that switches it off under load or faults; never for a core service."""
    public: Flag = False
    """Reached from outside the cluster."""
    shutdown: Annotated[Seconds, Field(ge=1, le=10 * MINUTE)] = 30
    """Grace period in which requests under way are finished."""
    environment: dict[Variable, str] = Field(default={})
    """Environment variables, in clear: no place for a secret."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A flag where the service can be switched off, and only there; topics with kafka."""
        return rules.service(self)


class Settings(Model):
    """Everything that a stack file can say."""

    region: Region
    """Where the stack runs. A stack file says it as `aws:region`, which the provider reads too."""
    zones: Annotated[
        tuple[Zone, ...],
        Field(
            min_length=3,
            json_schema_extra=expects(
                "a list of at least 3 availability zones, "
                "such as [us-east-1a, us-east-1b, us-east-1c]"
            ),
        ),
    ]
    """Availability zones of the region, three or more: a majority survives the loss of one."""
    role: Role = Role.ACTIVE
    """Whether the stack serves users, or stands by without the services that use stored data."""
    prefix: Prefix = "sim"
    """First part of every name, so that stacks can share an account."""
    name_servers: tuple[Addresses, ...] = ("169.254.20.10/32",)
    """Where Pods may look names up beside kube-dns' own: the address of NodeLocal DNSCache."""
    protect: Flag = True
    """Refuse to delete what holds data; then no data system may be smaller than three."""
    systems: tuple[DataSystem, ...] = tuple(DataSystem)
    """Data systems that the stack has. One that is left out is deleted, once `unprotect` allows."""
    unprotect: tuple[DataSystem, ...] = ()
    """Data systems that may be deleted, replaced or downgraded in spite of `protect`."""
    wait_for: tuple[AwaitedSystem, ...] = get_args(AwaitedSystem)
    """An update waits until these are ready; leave out what cannot run where the stack does."""
    operators: OperatorsSettings = OperatorsSettings()
    """The operators that run the data systems: on the cluster already, or declared here."""
    objectives: Objectives = Objectives()
    """What an outage may cost."""
    postgres: PostgresSettings = PostgresSettings()
    """The PostgreSQL cluster."""
    redis: RedisSettings = RedisSettings()
    """The Redis cache."""
    mongodb: MongodbSettings = MongodbSettings()
    """The MongoDB replica set."""
    neo4j: Neo4jSettings = Neo4jSettings()
    """The Neo4j graph database."""
    kafka: KafkaSettings = KafkaSettings()
    """The Kafka cluster."""
    backup: BackupSettings = BackupSettings()
    """The bucket of the backups."""
    images: dict[Image, Image] = Field(default={})
    """Images to take the place of others, by full reference: those of a mirror of one's own."""
    services: dict[Name, ServiceSettings]
    """Services of the catalogue; a stack file gives only what differs, service by service."""
    topics: dict[Name, TopicSettings] = Field(default={})
    """Topics of the catalogue; a stack file gives only what differs, topic by topic."""

    def seen_by(self, system: DataSystem) -> Self:
        """The same settings, with `protect` as it holds for one data system."""
        return self.model_copy(update={"protect": self.protect and system not in self.unprotect})

    def named_images(self) -> set[str]:
        """Every image that the settings name, before `images` replaces any."""
        return set(_images(self.model_dump()))

    def with_replaced_images(self) -> Self:
        """The same settings, with each image that `images` names replaced.

        They are not judged anew: what stands for an image is known by what it stands for.
        """
        return _replaced(self, self.images)

    def contradictions(self) -> Iterator[Contradiction]:
        """What no part can see alone: zones, calls between services, topics, objectives."""
        return rules.stack(self)


def _is_image(key: str) -> bool:
    """Settings of type `Image` are known by their name: `image` or `<what>_image`."""
    return key == "image" or key.endswith("_image")


def _images(part: dict[str, Any]) -> Iterator[str]:
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _images(value)
        elif _is_image(key) and value is not None:
            yield value


_Part = TypeVar("_Part", bound=BaseModel)


def _replaced(part: _Part, images: Mapping[str, str]) -> _Part:
    def own(key: str, value: object) -> object:
        if isinstance(value, BaseModel):
            return _replaced(value, images)
        if isinstance(value, dict):
            return {each: own(each, inner) for each, inner in value.items()}
        return images.get(value, value) if _is_image(key) and isinstance(value, str) else value

    changed = {key: new for key, value in part if (new := own(key, value)) != value}
    return part.model_copy(update=changed)
