"""What an update would lose is told, each by its own key; what loses nothing passes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks import guards
from stacks.settings import Settings
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

PRODUCER = {
    "tier": "core",
    "image": "example.com/a:1",
    "uses": ["kafka"],
    "produces": ["moves"],
    "replicas": {"min": 7, "max": 9},
}
BEFORE: dict[str, Any] = {
    "region": "us-east-1",
    "zones": [f"us-east-1{letter}" for letter in "abcdefg"],
    "neo4j": {"accept_license": True, "issuer": "platform", "servers": 3},
    "services": {"engine": PRODUCER},
    "topics": {"moves": {"key": "game", "partitions": 12}},
}
WITHOUT_KAFKA = {"systems": ["postgres", "redis", "mongodb", "neo4j"], "services": {}, "topics": {}}


def settings(**changes: Any) -> Settings:
    """Settings of a stack, with some sections laid over those of `BEFORE`."""
    given = {
        **BEFORE,
        **{
            name: {**BEFORE.get(name, {}), **value} if name in {"neo4j"} else value
            for name, value in changes.items()
        },
    }
    return Settings.model_validate(given)


def told(before: Settings, after: Settings) -> dict[str, str]:
    """Findings by key, after the engine has kept what was declared: as JSON, counts as floats."""
    kept = json.loads(json.dumps(guards.declared(before)), parse_int=float)
    return {
        ".".join(str(part) for part in item.key): item.remedy for item in guards.losses(after, kept)
    }


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "smaller volume": (
        {"postgres": {"storage": "1Ti"}},
        {"postgres": {"storage": "900Gi"}},
        "postgres.storage",
        "should be at least 1Ti, as the last update declared",
    ),
    "smaller log": (
        {},
        {"postgres": {"wal_storage": "19Gi"}},
        "postgres.wal_storage",
        "should be at least 20Gi",
    ),
    "another archive": (
        {},
        {"postgres": {"archive": "postgres-2"}},
        "postgres.archive",
        "should stay postgres, as the last update declared",
    ),
    "another archive, and a recovery from a third": (
        {},
        {"postgres": {"archive": "postgres-2", "recovery": {"server": "postgres-0"}}},
        "postgres.archive",
        "name postgres in postgres.recovery.server, or postgres in unprotect",
    ),
    "smaller cache": ({}, {"redis": {"storage": "9Gi"}}, "redis.storage", "at least 10Gi"),
    "smaller member": ({}, {"mongodb": {"storage": "9Gi"}}, "mongodb.storage", "at least 100Gi"),
    "smaller server": ({}, {"neo4j": {"storage": "9Gi"}}, "neo4j.storage", "at least 50Gi"),
    "smaller broker": ({}, {"kafka": {"storage": "9Gi"}}, "kafka.storage", "at least 100Gi"),
    "smaller controller": (
        {},
        {"kafka": {"controller_storage": "9Gi"}},
        "kafka.controller_storage",
        "at least 10Gi",
    ),
    "smaller volume that is not protected": (
        {"protect": False},
        {"protect": False, "redis": {"storage": "9Gi"}},
        "redis.storage",
        "at least 10Gi",
    ),
    "older major of postgres": (
        {},
        {"postgres": {"image": "ghcr.io/cloudnative-pg/postgresql:16.10"}},
        "postgres.image",
        "should be of PostgreSQL 17 or later, as the last update declared "
        "(ghcr.io/cloudnative-pg/postgresql:17.6)",
    ),
    "older series of mongodb": (
        {},
        {"mongodb": {"image": "percona/percona-server-mongodb:7.0.30-16"}},
        "mongodb.image",
        "should be of MongoDB 8.0 or later",
    ),
    "older neo4j": (
        {},
        {"neo4j": {"image": "neo4j:5.26.11-enterprise"}},
        "neo4j.image",
        "should be of Neo4j Enterprise 5.26.12 or later",
    ),
    "community in the place of enterprise": (
        {"protect": False, "neo4j": {"servers": 1}},
        {
            "protect": False,
            "neo4j": {"edition": "community", "servers": 1, "image": "neo4j:5.26.12-community"},
        },
        "neo4j.image",
        "should be of Neo4j Enterprise, as the last update declared",
    ),
    "older redis": (
        {},
        {"redis": {"image": "redis:7.2.10"}},
        "redis.image",
        "should be of Redis 7.4 or later",
    ),
    "valkey in the place of redis": (
        {},
        {"redis": {"image": "valkey/valkey:8.1"}},
        "redis.image",
        "should be of Redis, as the last update declared (redis:7.4.6): Valkey may not read",
    ),
    "older kafka": (
        {},
        {"kafka": {"version": "4.3.0", "image": "quay.io/strimzi/kafka:1.2.0-kafka-4.3.0"}},
        "kafka.version",
        "should be of Kafka 4.3.1 or later",
    ),
    "fewer partitions": (
        {},
        {"topics": {"moves": {"key": "game", "partitions": 6}}},
        "topics.moves.partitions",
        "should be at least 12, as the last update declared: Kafka cannot take away partitions",
    ),
    "another replication factor": (
        {},
        {"kafka": {"brokers": 5, "replication_factor": 5}},
        "kafka.replication_factor",
        "should stay 3: Kafka's own topics (__consumer_offsets, __transaction_state) would keep",
    ),
    "fewer copies": (
        {"kafka": {"brokers": 5, "replication_factor": 5}},
        {"kafka": {"brokers": 5}},
        "kafka.replication_factor",
        "should stay 5: Kafka's own topics",
    ),
    "more controllers": (
        {},
        {"kafka": {"controllers": 5}},
        "kafka.controllers",
        "should stay 3: Strimzi can neither add controllers to a cluster that runs, nor take any",
    ),
    "fewer controllers": (
        {"kafka": {"controllers": 5}},
        {},
        "kafka.controllers",
        "should stay 5: Strimzi can neither",
    ),
    "a topic that is gone": (
        {},
        {"services": {}, "topics": {}},
        "topics.moves",
        "should stay, whose records are protected; to delete them, first name kafka in unprotect",
    ),
    "a system that is gone": (
        {},
        WITHOUT_KAFKA,
        "systems",
        "should name kafka, whose data is protected; to delete it, first name kafka in unprotect "
        "and run an update, then leave it out of both",
    ),
    "protection and system gone at once": (
        {},
        {**WITHOUT_KAFKA, "protect": False},
        "systems",
        "should name kafka",
    ),
    "fewer servers of neo4j": (
        {"neo4j": {"servers": 5}},
        {},
        "neo4j.servers",
        "should stay 5: a server that goes takes its copies of the databases along",
    ),
    "a minority of neo4j": (
        {"protect": False, "neo4j": {"servers": 7}},
        {"protect": False},
        "neo4j.servers",
        "should be at least 4: fewer of the 7",
    ),
    "another prefix": ({}, {"prefix": "new"}, "prefix", "should stay sim: every data system"),
    "another region": (
        {},
        {"region": "us-west-2", "zones": ["us-west-2a", "us-west-2b", "us-west-2c"]},
        "region",
        "should stay us-east-1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_loss_is_told_by_key_and_remedy(case: str) -> None:
    before, after, key, remedy = REFUSED[case]
    found = told(settings(**before), settings(**after))
    assert list(found) == [key]
    assert remedy in found[key]


PASSING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing changes": ({}, {}),
    "the same size in another unit": (
        {"postgres": {"storage": "1Ti"}},
        {"postgres": {"storage": "1024Gi"}},
    ),
    "another archive of a cluster that is recovered": (
        {},
        {"postgres": {"archive": "postgres-2", "recovery": {"server": "postgres"}}},
    ),
    "another archive of a primary that comes back as a standby": (
        {},
        {
            "role": "standby",
            "kafka": {"source": "kafka.us-west-2.example.com"},
            "postgres": {"archive": "postgres-2", "source": {"bucket": "games-copies"}},
        },
    ),
    "another archive of a cluster that may be lost": (
        {},
        {"unprotect": ["postgres"], "postgres": {"archive": "postgres-2"}},
    ),
    "a larger volume": ({}, {"kafka": {"storage": "200Gi"}}),
    "more brokers": ({}, {"kafka": {"brokers": 5}}),
    "another number in sync": (
        {"kafka": {"brokers": 6, "replication_factor": 6, "min_in_sync": 3}},
        {"kafka": {"brokers": 6, "replication_factor": 6, "min_in_sync": 2}},
    ),
    "a major upgrade of postgres": (
        {},
        {"postgres": {"image": "ghcr.io/cloudnative-pg/postgresql:18.1"}},
    ),
    "an older minor of postgres": (
        {},
        {"postgres": {"image": "ghcr.io/cloudnative-pg/postgresql:17.5"}},
    ),
    "an older version that is let by name": (
        {},
        {
            "unprotect": ["postgres"],
            "postgres": {"image": "ghcr.io/cloudnative-pg/postgresql:16.10"},
        },
    ),
    "enterprise in the place of community": (
        {
            "protect": False,
            "neo4j": {"edition": "community", "servers": 1, "image": "neo4j:5.26.12-community"},
        },
        {},
    ),
    "more partitions": ({}, {"topics": {"moves": {"key": "game", "partitions": 24}}}),
    "an unprotected system that is gone": ({"unprotect": ["kafka"]}, WITHOUT_KAFKA),
    "an unprotected topic that is gone": (
        {"unprotect": ["kafka"]},
        {"services": {}, "topics": {}},
    ),
    "a system that comes": (WITHOUT_KAFKA, {}),
    "another prefix where nothing is protected": (
        {"protect": False},
        {"protect": False, "prefix": "new"},
    ),
}


@pytest.mark.parametrize("case", PASSING)
def test_what_loses_nothing_passes(case: str) -> None:
    before, after = PASSING[case]
    assert told(settings(**before), settings(**after)) == {}


def test_an_update_that_said_nothing_of_the_archive_holds_to_none() -> None:
    before = guards.declared(settings())
    del before["systems"]["postgres"]["archive"]
    assert list(guards.losses(settings(postgres={"archive": "postgres-2"}), before)) == []


def test_an_update_that_said_nothing_of_controllers_holds_to_none() -> None:
    """As those did before it was declared."""
    before = guards.declared(settings())
    del before["systems"]["kafka"]["controllers"]
    assert list(guards.losses(settings(kafka={"controllers": 5}), before)) == []


def test_a_first_update_has_nothing_to_lose() -> None:
    assert list(guards.losses(settings(), {})) == []


@pytest.mark.parametrize("stack", ["dev", "staging", "prod", "dr"])
def test_a_stack_as_it_ships_agrees_with_itself(project: Project, stack: str) -> None:
    given = project.settings(stack)
    assert told(given, given) == {}
