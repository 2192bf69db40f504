"""What one value may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stacks.settings import (
    BackupSettings,
    Objectives,
    Replicas,
    ServiceSettings,
    Settings,
    Tier,
)
from stacks.systems.neo4j import Neo4jSettings
from stacks.systems.postgres import PostgresSettings
from stacks.systems.redis import RedisSettings
from stacks.values import DAY, Objective, Resources, duration, seconds

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "amount"), [("30s", 30), ("5m", 300), ("1h", 3600), ("7d", 604_800), (90, 90)]
)
def test_a_duration_is_read_into_seconds(text: object, amount: int) -> None:
    assert seconds(text) == amount


@pytest.mark.parametrize(
    "text", ["soon", "5", "5 m", "5min", "-5m", "1.5h", "", "٣s", "9999999999d", True, None, 1.5]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="amount of time"):
        seconds(text)


@given(st.integers(min_value=0, max_value=10 * 365 * DAY))
def test_a_duration_that_is_written_reads_as_the_same(amount: int) -> None:
    assert seconds(duration(amount)) == amount


SERVICE: dict[str, Any] = {"tier": "core", "image": "example.com/a:1"}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Replicas, {"min": 0}),
        (Replicas, {"min": 2}),
        (Replicas, {"max": 1_000_000}),
        (Replicas, {"min": True}),
        (Replicas, {"min": "3"}),
        (Replicas, {"min": 3.0}),
        (Resources, {"cpu": "0"}),
        (Resources, {"cpu": "fast"}),
        (Resources, {"cpu": "0.0"}),
        (Resources, {"cpu": True}),
        (Resources, {"memory": "1G"}),
        (Resources, {"memory": "0Mi"}),
        (Resources, {"memory": "1٣Gi"}),
        (Resources, {"cpu": "٣"}),
        (Objective, {"rpo": "8d", "rto": "1m"}),
        (Objective, {"rpo": "1m", "rto": "0s"}),
        (PostgresSettings, {"storage": 10}),
        (PostgresSettings, {"switchover_delay": "2h"}),
        (PostgresSettings, {"backup_every": "30m"}),
        (PostgresSettings, {"retention": "36h"}),
        (RedisSettings, {"replicas": 2}),
        (RedisSettings, {"sentinels": 2}),
        (RedisSettings, {"eviction": "noeviction"}),
        (RedisSettings, {"min_replicas_to_write": 0}),
        (BackupSettings, {"lock": "0d"}),
        (BackupSettings, {"replica_region": "mars"}),
        (BackupSettings, {"replica_region": "cn-north-1"}),
        (BackupSettings, {"replica_region": "us-iso-east-1"}),
        (ServiceSettings, SERVICE | {"tier": "important"}),
        (ServiceSettings, SERVICE | {"image": "example.com/a"}),
        (ServiceSettings, SERVICE | {"image": "example.com/a:latest"}),
        (ServiceSettings, SERVICE | {"image": "example.com/a:1@sha256:abc"}),
        (ServiceSettings, SERVICE | {"port": 80}),
        (ServiceSettings, SERVICE | {"public": "yes"}),
        (ServiceSettings, SERVICE | {"uses": ["mysql"]}),
        (ServiceSettings, SERVICE | {"shutdown": "1h"}),
        (ServiceSettings, SERVICE | {"probes": {"ready": "ready"}}),
        (ServiceSettings, SERVICE | {"environment": {"LEVEL": 5}}),
        (ServiceSettings, SERVICE | {"environment": {"A B": "x"}}),
        (ServiceSettings, SERVICE | {"colour": "red"}),
    ],
)
def test_a_value_out_of_bounds_is_refused(
    model: type[BaseModel], values: Mapping[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)


@pytest.mark.parametrize(
    "image",
    [
        "redis:7.4.5",
        "ghcr.io/cloudnative-pg/postgresql:17.6",
        "localhost:5000/a/b:v1_2",
        "example.com/a:1@sha256:" + "0a" * 32,
    ],
)
def test_a_pinned_image_is_accepted(image: str) -> None:
    assert ServiceSettings(tier=Tier.CORE, image=image).image == image


def test_cpu_may_be_written_as_a_number() -> None:
    assert Resources.model_validate({"cpu": 2}).cpu == "2"


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Resources().cpu = "1"


def test_the_defaults_hold_together() -> None:
    zones = ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    licensed = Neo4jSettings(accept_license=True, issuer="platform")
    settings = Settings(region="eu-west-1", zones=zones, neo4j=licensed, services={})
    assert settings.objectives == Objectives()


def test_every_setting_says_what_it_means() -> None:
    schema = Settings.model_json_schema()
    silent = [
        f"{model['title']}.{name}"
        for model in [schema, *schema["$defs"].values()]
        for name, part in model.get("properties", {}).items()
        if not part.get("description") and "$ref" not in part
    ]
    assert silent == []
