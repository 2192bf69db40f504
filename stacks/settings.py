"""The typed settings of a stack: what `stacks/Pulumi.<stack>.yaml` may say, and what it means.

Defaults are production-grade, so a stack file says only where it differs. Whatever is wrong in a
stack file is wrong here first: nothing reaches the engine that these models do not accept.
Units: durations are whole seconds inside the program ("5m" in a file), sizes are Kubernetes
quantities ("10Gi", "250m").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from stacks import rules
from stacks.contradictions import Contradiction, refuse

MAX_REPLICAS: Final = 100
"""Upper bound for any count of instances: a slip of the keyboard, not a plan, lies beyond it."""

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
YEAR: Final = 365 * DAY

_SECONDS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}
_LONGEST_NUMBER = 9


def seconds(value: object) -> int:
    """Read a duration such as ``30s``, ``5m``, ``1h`` or ``7d`` into whole seconds.

    A bare whole number is taken as seconds: it is what the models hold and print.

    Raises:
        ValueError: if the value is not a whole amount with one of the units s, m, h, d.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = (
        re.fullmatch(rf"(\d{{1,{_LONGEST_NUMBER}}})([smhd])", value, re.ASCII)
        if isinstance(value, str)
        else None
    )
    if match is None:
        raise ValueError("should be an amount of time with a unit, such as 30s, 5m, 1h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def duration(amount: int) -> str:
    """Write seconds the way a stack file does, in the largest unit that is exact: 300 → ``5m``."""
    unit = next((u for u in "dhm" if amount and amount % _SECONDS[u] == 0), "s")
    return f"{amount // _SECONDS[unit]}{unit}"


def _number_as_text(value: object) -> object:
    """Let ``cpu: 2`` mean ``cpu: "2"``, as in a Kubernetes manifest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _pinned(image: str) -> str:
    """Refuse a tag that moves: every Pod of a service must run the same code."""
    if image.endswith(":latest"):
        raise ValueError("should have a tag that never moves")
    return image


def _expects(words: str) -> dict[str, str | int | float | bool | list[object] | None]:
    """Words for what a value should be, kept in the JSON schema for messages and reference."""
    return {"expects": words}


Seconds = Annotated[
    int,
    BeforeValidator(seconds),
    Field(ge=0, le=10 * YEAR, json_schema_extra={"form": "duration"}),
]
Days = Annotated[Seconds, Field(ge=DAY, multiple_of=DAY)]
"""A duration in whole days: object stores count in nothing smaller."""

Integer = Annotated[int, Field(strict=True)]
Count = Annotated[Integer, Field(ge=1, le=MAX_REPLICAS)]
ServiceCount = Annotated[Integer, Field(ge=3, le=MAX_REPLICAS)]
"""Replicas of a service: at least one for each of three zones."""

Flag = Annotated[bool, Field(strict=True)]

_NAME = "lower-case letters, digits and dashes, starting with a letter, such as"
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"),
    Field(json_schema_extra=_expects(f"a name of at most 40 {_NAME} deck-analytics")),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,18}[a-z0-9])?$"),
    Field(json_schema_extra=_expects(f"a name of at most 20 {_NAME} sim")),
]
Region = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$"),
    Field(json_schema_extra=_expects("a region of AWS, such as us-east-1")),
]
Zone = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$"),
    Field(json_schema_extra=_expects("an availability zone, such as us-east-1a")),
]
Memory = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9]\d{0,5}(Ki|Mi|Gi|Ti)$"),
    Field(json_schema_extra=_expects("a size with a unit, such as 512Mi, 10Gi or 1Ti")),
]
Cpu = Annotated[
    str,
    BeforeValidator(_number_as_text),
    StringConstraints(pattern=r"^([1-9]\d{0,5}m?|0\.\d{0,2}[1-9]|[1-9]\d{0,2}\.\d{1,3})$"),
    Field(json_schema_extra=_expects("an amount of CPU, such as 250m, 0.5 or 2")),
]
Image = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9.-]+(:\d+)?/)?[a-z0-9._/-]+:[A-Za-z0-9_][A-Za-z0-9._-]*"
        r"(@sha256:[a-f0-9]{64})?$"
    ),
    AfterValidator(_pinned),
    Field(
        json_schema_extra=_expects(
            "an image with a tag that never moves, such as example.com/gateway:1.4.2"
        )
    ),
]
BucketName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,53}[a-z0-9]$"),
    Field(
        json_schema_extra=_expects(
            "a bucket name of 3 to 55 lower-case letters, digits and dashes, such as games-backups"
        )
    ),
]
Path = Annotated[
    str,
    StringConstraints(pattern=r"^/\S*$"),
    Field(json_schema_extra=_expects("a path, such as /health/ready")),
]
Variable = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Field(json_schema_extra=_expects("the name of an environment variable, such as LOG_LEVEL")),
]


class Model(BaseModel):
    """Base of every settings model: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def contradictions(self) -> Iterator[Contradiction]:
        """Settings of this model that are right alone but wrong together."""
        return iter(())

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if found := list(self.contradictions()):
            refuse(type(self).__name__, found)
        return self


class Role(StrEnum):
    """Whether the stack serves users now, or stands by to take over."""

    ACTIVE = "active"
    STANDBY = "standby"


class Tier(StrEnum):
    """How much the platform needs a service; decides its namespace, priority and shedding order."""

    CORE = "core"
    STANDARD = "standard"
    BEST_EFFORT = "best-effort"


class DataSystem(StrEnum):
    """A data system that a service can use."""

    POSTGRES = "postgres"
    REDIS = "redis"


class Eviction(StrEnum):
    """What Redis drops when its memory is full.

    `noeviction` is left out on purpose: a full cache would then answer writes with errors.
    """

    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_RANDOM = "allkeys-random"
    VOLATILE_LRU = "volatile-lru"
    VOLATILE_LFU = "volatile-lfu"
    VOLATILE_RANDOM = "volatile-random"
    VOLATILE_TTL = "volatile-ttl"


class Resources(Model):
    """What one container asks for. Memory's limit equals its request: no eviction by overcommit."""

    cpu: Cpu = "250m"
    """CPU that is set aside for the container."""
    memory: Memory = "256Mi"
    """Memory that is set aside, and the most it may take."""


class Objective(Model):
    """What an outage may cost: RPO = data lost, RTO = time without service, both in seconds."""

    rpo: Annotated[Seconds, Field(le=7 * DAY)]
    """Recovery point objective: how much of the newest data may be lost."""
    rto: Annotated[Seconds, Field(ge=1, le=7 * DAY)]
    """Recovery time objective: how long the service may be away."""


class Objectives(Model):
    """The objectives of each data system. Sources: docs/decisions/objectives.md."""

    postgres: Objective = Objective(rpo=5 * MINUTE, rto=3 * MINUTE)
    """PostgreSQL, for the loss of any one Pod, node or zone, and for a restore."""
    redis: Objective = Objective(rpo=10, rto=30)
    """The cache, for the loss of any one Pod, node or zone."""
    region: Objective = Objective(rpo=20 * MINUTE, rto=30 * MINUTE)
    """The whole platform, for the loss of its region."""


class PostgresSettings(Model):
    """A PostgreSQL cluster run by CloudNativePG."""

    instances: Count = 3
    """Servers, the primary included."""
    synchronous: Annotated[Integer, Field(ge=0, le=MAX_REPLICAS - 1)] = 1
    """Standbys that must have a write before it is acknowledged; below `instances`."""
    image: Image = "ghcr.io/cloudnative-pg/postgresql:17.6"
    """Image of the servers."""
    storage: Memory = "100Gi"
    """Volume of each server for its data."""
    wal_storage: Memory = "20Gi"
    """Volume of each server for its write-ahead log."""
    resources: Resources = Resources(cpu="2", memory="8Gi")
    """What each server asks for."""
    switchover_delay: Annotated[Seconds, Field(ge=1, le=HOUR)] = 2 * MINUTE
    """Bounds the old primary's fast shutdown (upstream default 3600 s is far beyond any RTO)."""
    archive_timeout: Annotated[Seconds, Field(ge=1, le=DAY)] = 5 * MINUTE
    """The write-ahead log is archived at least so often: the RPO when only the archive is left."""
    backup_every: Annotated[Seconds, Field(ge=HOUR, le=7 * DAY)] = DAY
    """Between two base backups: 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d, which a schedule can keep.

    The RPO is kept by the WAL archive in between."""
    retention: Annotated[Days, Field(le=10 * YEAR)] = 30 * DAY
    """How far back a restore can go."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A quorum that is possible, and backups that a schedule can express."""
        return rules.postgres(self)


class RedisSettings(Model):
    """A Redis cache: one master, its replicas, and Sentinels that agree on who is master."""

    replicas: ServiceCount = 3
    """Data servers, the master included."""
    sentinels: Annotated[Integer, Field(ge=3, le=9)] = 3
    """Sentinels; an odd number, since a majority of them must be reachable."""
    quorum: Annotated[Integer, Field(ge=2, le=9)] = 2
    """Sentinels that must agree that the master is down; at least a majority of `sentinels`."""
    image: Image = "redis:7.4.5"
    """Image of the servers and the Sentinels."""
    exporter_image: Image = "oliver006/redis_exporter:v1.74.0"
    """Image of the metrics exporter beside each server."""
    storage: Memory = "10Gi"
    """Volume of each server."""
    memory: Memory = "2Gi"
    """Memory of each server."""
    cpu: Cpu = "500m"
    """CPU of each server."""
    eviction: Eviction = Eviction.ALLKEYS_LRU
    """Which keys are dropped when the memory is full."""
    min_replicas_to_write: Annotated[Integer, Field(ge=1, le=MAX_REPLICAS)] = 1
    """Replicas that must keep up with the master, or it takes no more writes."""
    max_lag: Annotated[Seconds, Field(ge=1, le=HOUR)] = 10
    """A replica keeps up if it was heard from within this time: the most a failover loses."""
    down_after: Annotated[Seconds, Field(ge=1, le=5 * MINUTE)] = 5
    """A server that is silent for so long counts as down."""
    failover_timeout: Annotated[Seconds, Field(ge=1, le=HOUR)] = MINUTE
    """A failover that takes longer is given up and tried again."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A quorum that is a majority, and writes that survive the loss of one zone."""
        return rules.redis(self)


class BackupSettings(Model):
    """The bucket that holds every backup of the stack, and its copy in another region."""

    retention: Annotated[Days, Field(le=10 * YEAR)] = 35 * DAY
    """How long the bucket keeps an object; longer than any system's own retention."""
    lock: Annotated[Days, Field(le=10 * YEAR)] = 7 * DAY
    """Object lock: for so long nobody, not even an administrator, deletes a backup."""
    bucket: BucketName | None = None
    """Name of the bucket; none: made of prefix, stack and region. Bucket names are unique in the
    world, so the usual one may be taken."""
    replica_region: Region | None = None
    """Another region, to which every backup is copied; none: the backups fall with the region."""

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
    """What each of its Pods asks for."""
    probes: Probes = Probes()
    """Paths that answer for its health."""
    calls: tuple[Name, ...] = ()
    """Services of the catalogue that this one sends requests to.

    One that is not core has a flag, so whoever calls it can do without it."""
    uses: tuple[DataSystem, ...] = ()
    """Data systems that this one needs."""
    flag: Name | None = None
    """The feature flag that switches it off under load or faults; never for a core service."""
    public: Flag = False
    """Reached from outside the cluster."""
    shutdown: Annotated[Seconds, Field(ge=1, le=10 * MINUTE)] = 30
    """Grace period in which requests under way are finished."""
    environment: dict[Variable, str] = {}
    """Environment variables, in clear: no place for a secret."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A flag where the service can be switched off, and only there."""
        return rules.service(self)


class Settings(Model):
    """Everything that a stack file can say."""

    region: Region
    """Where the stack runs. A stack file says it as `aws:region`, which the provider reads too."""
    zones: Annotated[
        tuple[Zone, ...],
        Field(
            min_length=3,
            json_schema_extra=_expects(
                "a list of at least 3 availability zones, "
                "such as [us-east-1a, us-east-1b, us-east-1c]"
            ),
        ),
    ]
    """Availability zones of the region, three or more: a majority survives the loss of one."""
    role: Role = Role.ACTIVE
    """Whether the stack serves users now, or stands by to take over."""
    prefix: Prefix = "sim"
    """First part of every name, so that stacks can share an account."""
    protect: Flag = True
    """Refuse to delete what holds data; then no data system may be smaller than three."""
    wait_for_operators: Flag = True
    """An update waits until operators report what they run as ready; off where none runs."""
    objectives: Objectives = Objectives()
    """What an outage may cost."""
    postgres: PostgresSettings = PostgresSettings()
    """The PostgreSQL cluster."""
    redis: RedisSettings = RedisSettings()
    """The Redis cache."""
    backup: BackupSettings = BackupSettings()
    """The bucket of the backups."""
    images: dict[Image, Image] = {}
    """Images to take the place of others, by full reference: those of a mirror of one's own."""
    services: dict[Name, ServiceSettings]
    """Services of the catalogue; a stack file gives only what differs, service by service."""

    def named_images(self) -> set[str]:
        """Every image that the settings name, before `images` replaces any."""
        services = {service.image for service in self.services.values()}
        return {self.postgres.image, self.redis.image, self.redis.exporter_image, *services}

    def with_replaced_images(self) -> Self:
        """The same settings, with each image that `images` names replaced."""

        def own(image: str) -> str:
            return self.images.get(image, image)

        redis = {"image": own(self.redis.image), "exporter_image": own(self.redis.exporter_image)}
        return self.model_copy(
            update={
                "postgres": self.postgres.model_copy(update={"image": own(self.postgres.image)}),
                "redis": self.redis.model_copy(update=redis),
                "services": {
                    name: service.model_copy(update={"image": own(service.image)})
                    for name, service in self.services.items()
                },
            }
        )

    def contradictions(self) -> Iterator[Contradiction]:
        """What no part can see alone: zones, calls between services, objectives."""
        return rules.stack(self)
