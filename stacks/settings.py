"""The typed settings of a stack: what `stacks/Pulumi.<stack>.yaml` may say, and what it means.

Defaults are production-grade, so a stack file says only where it differs. Whatever is wrong in a
stack file is wrong here first: nothing reaches the engine that these models do not accept.
Units: durations are whole seconds inside the program ("5m" in a file), sizes are Kubernetes
quantities ("10Gi", "250m").
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MAX_REPLICAS = 100
"""Upper bound for any count of instances: a slip of the keyboard, not a plan, lies beyond it."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(value: object) -> int:
    """Read a duration such as ``30s``, ``5m``, ``1h`` or ``7d`` into whole seconds.

    Raises:
        ValueError: if the value is not a whole amount with one of the units s, m, h, d.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("should be an amount of time with a unit, such as 30s, 5m, 1h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


Seconds = Annotated[int, BeforeValidator(seconds), Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=MAX_REPLICAS)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(Ki|Mi|Gi|Ti)$")]
Cpu = Annotated[str, StringConstraints(pattern=r"^([1-9]\d*m?|0\.\d+|[1-9]\d*\.\d+)$")]
Image = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9./_-]+:[A-Za-z0-9._-]+(@sha256:[a-f0-9]{64})?$")
]
Path = Annotated[str, StringConstraints(pattern=r"^/\S*$")]


class Model(BaseModel):
    """Base of every settings model: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(StrEnum):
    """Whether the stack serves users now, or stands by to take over."""

    ACTIVE = "active"
    STANDBY = "standby"


class Tier(StrEnum):
    """How much the platform needs a service; decides its namespace, priority and shedding order."""

    CORE = "core"
    STANDARD = "standard"
    BEST_EFFORT = "best-effort"


class Resources(Model):
    """What one container asks for. Memory's limit equals its request: no eviction by overcommit."""

    cpu: Cpu = "250m"
    memory: Memory = "256Mi"


class Objective(Model):
    """What an outage may cost: RPO = data lost, RTO = time without service, both in seconds."""

    rpo: Seconds
    rto: Seconds


class Objectives(Model):
    """The objectives of each data system. Sources: docs/decisions/objectives.md."""

    postgres: Objective = Objective(rpo=300, rto=60)
    redis: Objective = Objective(rpo=10, rto=30)


class PostgresSettings(Model):
    """A PostgreSQL cluster run by CloudNativePG."""

    instances: Count = 3
    synchronous: Annotated[int, Field(ge=0)] = 1
    """Standbys that must have a write before it is acknowledged; below `instances`."""
    image: Image = "ghcr.io/cloudnative-pg/postgresql:17.6"
    storage: Memory = "100Gi"
    wal_storage: Memory = "20Gi"
    resources: Resources = Resources(cpu="2", memory="8Gi")
    switchover_delay: Seconds = 120
    """Bounds the old primary's fast shutdown (upstream default 3600 s is far beyond any RTO)."""
    backup_every: Seconds = 86_400
    """Between two base backups; the RPO is kept by the WAL archive in between."""
    retention: Seconds = 30 * 86_400

    @model_validator(mode="after")
    def _quorum_is_possible(self) -> Self:
        if self.synchronous >= self.instances and self.instances > 1:
            raise ValueError(
                f"synchronous is {self.synchronous} but instances is {self.instances}: "
                "there must be more instances than synchronous standbys"
            )
        return self


class RedisSettings(Model):
    """A Redis cache: one master, its replicas, and Sentinels that agree on who is master."""

    replicas: Count = 3
    """Data servers, the master included."""
    sentinels: Annotated[int, Field(ge=3, le=9)] = 3
    quorum: Annotated[int, Field(ge=2)] = 2
    """Sentinels that must agree that the master is down; at least a majority of `sentinels`."""
    image: Image = "redis:7.4.5"
    exporter_image: Image = "oliver006/redis_exporter:v1.74.0"
    storage: Memory = "10Gi"
    memory: Memory = "2Gi"
    cpu: Cpu = "500m"
    eviction: StrEnum | str = "allkeys-lru"
    min_replicas_to_write: Annotated[int, Field(ge=0)] = 1
    down_after: Seconds = 5
    failover_timeout: Seconds = 60


class BackupSettings(Model):
    """The bucket that holds every backup of the stack, and its copy in another region."""

    retention: Seconds = 35 * 86_400
    lock: Seconds = 7 * 86_400
    """Object lock: for so long nobody, not even an administrator, deletes a backup."""
    replica_region: Region | None = None


class Replicas(Model):
    """Bounds of horizontal scaling."""

    min: Count = 3
    max: Count = 9

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max is {self.max} but min is {self.min}: max must not be below min")
        return self


class Probes(Model):
    """Paths that answer for the service's health.

    Readiness and liveness differ on purpose: a service whose database is away is not ready, yet
    restarting it would not help.
    """

    startup: Path = "/health/startup"
    ready: Path = "/health/ready"
    live: Path = "/health/live"
    startup_limit: Seconds = 120

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.ready == self.live:
            raise ValueError(f"ready and live are both {self.ready}: give each its own path")
        return self


class ServiceSettings(Model):
    """One service of the catalogue."""

    tier: Tier
    image: Image
    port: Annotated[int, Field(ge=1024, le=65_535)] = 8080
    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    probes: Probes = Probes()
    calls: tuple[Name, ...] = ()
    """Services of the catalogue that this one sends requests to."""
    uses: tuple[str, ...] = ()
    """Data systems that this one needs: postgres, redis."""
    flag: Name | None = None
    """The feature flag that switches it off under load or faults; never for a core service."""
    public: bool = False
    """Reached from outside the cluster."""
    shutdown: Seconds = 30
    """Grace period in which requests under way are finished."""
    environment: dict[str, str] = {}


class Settings(Model):
    """Everything that a stack file can say."""

    region: Region
    zones: Annotated[tuple[str, ...], Field(min_length=3)]
    role: Role = Role.ACTIVE
    prefix: Name = "sim"
    protect: bool = True
    """Refuse to delete what holds data."""
    objectives: Objectives = Objectives()
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    backup: BackupSettings = BackupSettings()
    services: dict[Name, ServiceSettings]
