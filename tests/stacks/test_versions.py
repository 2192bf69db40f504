"""Versions are read from images, and those that nothing here runs are refused."""

from __future__ import annotations

from typing import Any

import pytest

from stacks import versions
from tests.stacks.conftest import VALID, Project

pytestmark = pytest.mark.unit

NEO4J = VALID["fault-tolerance:neo4j"]


@pytest.mark.parametrize(
    ("image", "number"),
    [
        ("redis:7.4.5", (7, 4, 5)),
        ("ghcr.io/cloudnative-pg/postgresql:17", (17,)),
        ("ghcr.io/cloudnative-pg/postgresql:17.6-system-trixie", (17, 6)),
        ("percona/percona-server-mongodb:8.0.19-7", (8, 0, 19)),
        ("mirror.example.com:5000/neo4j:v5.26.12-enterprise@sha256:" + "a" * 64, (5, 26, 12)),
        ("ghcr.io/cloudnative-pg/postgresql:19beta1", None),
        ("redis:alpine", None),
        ("redis:f0a88675d74d", None),
    ],
)
def test_the_version_is_what_the_tag_begins_with(
    image: str, number: versions.Number | None
) -> None:
    assert versions.number(image) == number


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "postgres without a version": (
        {"postgres": {"image": "example.com/postgresql:stable"}},
        "postgres.image",
        "should have a tag that begins with its version, of PostgreSQL 14 to 18, which "
        "CloudNativePG 1.30 runs",
    ),
    "postgres that is too old": (
        {"postgres": {"image": "example.com/postgresql:13.22"}},
        "postgres.image",
        "should be of PostgreSQL 14 to 18",
    ),
    "postgres that is too new": (
        {"postgres": {"image": "example.com/postgresql:19.0"}},
        "postgres.image",
        "should be of PostgreSQL 14 to 18",
    ),
    "redis that is too old": (
        {"redis": {"image": "redis:6.2.19"}},
        "redis.image",
        "should be of Redis 7 or 8, or of Valkey 7 or 8",
    ),
    "mongodb of another series": (
        {"mongodb": {"image": "percona/percona-server-mongodb:8.1.0-1"}},
        "mongodb.image",
        "should be of MongoDB 6.0, 7.0 or 8.0, which Percona's operator 1.22 runs",
    ),
    "neo4j of another version": (
        {"neo4j": {**NEO4J, "image": "neo4j:2025.08.0-enterprise"}},
        "neo4j.image",
        "should be of Neo4j 5.26",
    ),
    "kafka that strimzi does not run": (
        {"kafka": {"version": "4.4.0", "image": "quay.io/strimzi/kafka:1.2.0-kafka-4.4.0"}},
        "kafka.version",
        "should be 4.2.0, 4.2.1, 4.3.0 or 4.3.1, which Strimzi 1.2 runs",
    ),
    "an image of another kafka": (
        {"kafka": {"version": "4.3.0"}},
        "kafka.image",
        "should be of kafka.version, with a tag such as 1.2.0-kafka-4.3.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unknown_version_is_told_with_what_can_run(case: str, project: Project) -> None:
    sections, key, remedy = REFUSED[case]
    project.configure(**sections)
    (said,) = project.errors()
    assert f"fault-tolerance:{key} is" in said
    assert remedy in said


def test_valkey_can_stand_in_for_redis(project: Project) -> None:
    project.configure(redis={"image": "valkey/valkey:8.1"})
    assert project.settings().redis.image == "valkey/valkey:8.1"


def test_the_version_of_a_system_that_there_is_not_does_not_matter(project: Project) -> None:
    others = ("simulation-engine", "simulation-worker", "leaderboards")
    uses = {
        **{name: {"uses": list[str]()} for name in ("gateway", "ai-inference")},
        **{name: {"uses": ["postgres", "kafka"]} for name in others},
    }
    project.configure(
        systems=["postgres", "mongodb", "neo4j", "kafka"],
        services=uses,
        redis={"image": "redis:1.0"},
    )
    assert "redis" not in project.settings().systems


def test_an_image_in_the_place_of_another_has_its_version(project: Project) -> None:
    project.configure(images={"redis:7.4.6": "mirror.example.com/cache:abc"})
    replaced = project.settings().with_replaced_images()
    assert replaced.redis.image == "mirror.example.com/cache:abc"
