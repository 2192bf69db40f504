"""What one value of a stack file may be: times, sizes, counts, names, images.

Units: durations are whole seconds inside the program ("5m" in a file), sizes are Kubernetes
quantities ("10Gi", "250m").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network
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

from stacks.contradictions import Contradiction, Key, refuse

MAX_REPLICAS: Final = 100
"""Upper bound for any count of instances: a slip of the keyboard, not a plan, lies beyond it."""

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
YEAR: Final = 365 * DAY

_SECONDS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}
_LONGEST_NUMBER = 9
_BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def seconds(value: object) -> int:
    """Read a duration such as ``30s``, ``5m``, ``1h`` or ``7d`` into whole seconds.

    A bare whole number is taken as seconds: it is what the models hold and print.

    Raises:
        ValueError: if the value is not a whole amount with one of the units s, m, h, d.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = (
        re.fullmatch(rf"([0-9]{{1,{_LONGEST_NUMBER}}})([smhd])", value)
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


def size_in_bytes(quantity: str) -> int:
    """Read a size such as ``256Mi`` or ``10Gi``."""
    return int(quantity[:-2]) * _BYTES[quantity[-2:]]


def size(amount: int) -> str:
    """Write a size in bytes as a canonical quantity: the largest unit that leaves no fraction."""
    for unit, factor in reversed(_BYTES.items()):
        if amount and amount % factor == 0:
            return f"{amount // factor}{unit}"
    return str(amount)


def _number_as_text(value: object) -> object:
    """Let ``cpu: 2`` mean ``cpu: "2"``, as in a Kubernetes manifest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _pinned(image: str) -> str:
    """Refuse a tag that moves: every Pod of a service must run the same code."""
    if image.endswith(":latest"):
        raise ValueError("should have a tag that never moves")
    return image


def _moment(written: str) -> str:
    """Read a time as RFC 3339 writes it; a moment to come cannot be recovered to."""
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError("should be a time of RFC 3339 that exists") from None
    if moment > datetime.now(UTC):
        raise ValueError("should be in the past: nothing later is in the archive")
    return written


def _addresses(written: str) -> str:
    """Refuse what no network has; whoever means one address may not name a whole network."""
    try:
        IPv4Network(written)
    except ValueError as problem:
        raise ValueError(f"should be a network: {problem}") from None
    return written


def partition(region: str) -> str:
    """Which part of AWS a region is in: nothing is copied or shared between them."""
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def expects(words: str) -> dict[str, str | int | float | bool | list[object] | None]:
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
    Field(json_schema_extra=expects(f"a name of at most 40 {_NAME} deck-analytics")),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,18}[a-z0-9])?$"),
    Field(json_schema_extra=expects(f"a name of at most 20 {_NAME} sim")),
]
Moment = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
        r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
    ),
    AfterValidator(_moment),
    Field(
        json_schema_extra=expects(
            'a past time of RFC 3339 with its zone, in quotes, such as "2026-03-01T12:00:00Z"'
        )
    ),
]
# Policies name buckets and keys by their partition of AWS. Those of China (`cn-`) and the isolated
# ones were never looked into.
_REGION = r"(us-gov|[abd-z][a-z]|c[a-mo-z])-[a-z]+-[0-9]"
Region = Annotated[
    str,
    StringConstraints(pattern=rf"^{_REGION}$"),
    Field(json_schema_extra=expects("a region of AWS outside of China, such as us-east-1")),
]
Zone = Annotated[
    str,
    StringConstraints(pattern=rf"^{_REGION}[a-z]$"),
    Field(json_schema_extra=expects("an availability zone, such as us-east-1a")),
]
Memory = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,5}(Ki|Mi|Gi|Ti)$"),
    Field(json_schema_extra=expects("a size with a unit, such as 512Mi, 10Gi or 1Ti")),
]
Cpu = Annotated[
    str,
    BeforeValidator(_number_as_text),
    StringConstraints(
        pattern=r"^([1-9][0-9]{0,5}m?|0\.[0-9]{0,2}[1-9]|[1-9][0-9]{0,2}\.[0-9]{1,3})$"
    ),
    Field(json_schema_extra=expects("an amount of CPU, such as 250m, 0.5 or 2")),
]
Image = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._/-]+:[A-Za-z0-9_][A-Za-z0-9._-]*"
        r"(@sha256:[a-f0-9]{64})?$"
    ),
    AfterValidator(_pinned),
    Field(
        json_schema_extra=expects(
            "an image with a tag that never moves, such as example.com/gateway:1.4.2"
        )
    ),
]
BucketName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,53}[a-z0-9]$"),
    Field(
        json_schema_extra=expects(
            "a bucket name of 3 to 55 lower-case letters, digits and dashes, such as games-backups"
        )
    ),
]
Host = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,62}(\.[a-z0-9][-a-z0-9]{0,62})+$"),
    Field(json_schema_extra=expects("a name in DNS, such as kafka.us-east-1.example.com")),
]
Addresses = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$"),
    AfterValidator(_addresses),
    Field(
        json_schema_extra=expects(
            "an IPv4 network, such as 10.0.0.0/8, or one address, such as 10.0.0.10/32"
        )
    ),
]
Path = Annotated[
    str,
    StringConstraints(pattern=r"^/\S*$"),
    Field(json_schema_extra=expects("a path, such as /health/ready")),
]
Variable = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"),
    Field(json_schema_extra=expects("the name of an environment variable, such as LOG_LEVEL")),
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


def enough_memory(key: Key, value: str, least: str) -> Iterator[Contradiction]:
    """Hold a server's memory to what it starts and works with."""
    why = "with less it does not start, or is killed as soon as it works"
    yield from _at_least(key, value, least, why)


def enough_room(key: str, value: str, least: str = "1Gi") -> Iterator[Contradiction]:
    """Hold a volume to what a server that holds nothing yet writes there."""
    why = "what a server writes there for itself needs as much"
    yield from _at_least((key,), value, least, why)


def _at_least(key: Key, value: str, least: str, why: str) -> Iterator[Contradiction]:
    if size_in_bytes(value) < size_in_bytes(least):
        yield Contradiction(key, value, f"should be at least {least}: {why}")


def within(
    needed: int, objective: int, key: Key, others: tuple[Key, ...], why: str
) -> Iterator[Contradiction]:
    """Hold an objective (RPO or RTO, in seconds) to what the settings need."""
    if needed > objective:
        yield Contradiction(key, objective, f"should be at least {duration(needed)}: {why}", others)
