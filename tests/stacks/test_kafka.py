"""Settings of Kafka and its topics: each rule refuses, says what is right, and lets right pass."""

from __future__ import annotations

from typing import Any

import pytest

from stacks.systems.kafka import Cleanup
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

WRITER: dict[str, Any] = {
    "tier": "core",
    "image": "example.com/a:1",
    "uses": ["kafka"],
    "produces": ["moves"],
}
READER: dict[str, Any] = {
    "tier": "core",
    "image": "example.com/b:1",
    "uses": ["kafka"],
    "consumes": ["moves"],
}
MOVES: dict[str, Any] = {"moves": {"key": "game"}}
BOTH: dict[str, Any] = {"writer": WRITER, "reader": READER}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "even controllers": (
        {"kafka": {"controllers": 4}},
        "kafka.controllers",
        "is 4; it should be odd: 4 survive the loss of no more than 3 do",
    ),
    "more copies than brokers": (
        {"kafka": {"replication_factor": 5}},
        "kafka.replication_factor",
        "is 5; it should be at most brokers (3)",
    ),
    "every copy in sync": (
        {"kafka": {"min_in_sync": 3}},
        "kafka.min_in_sync",
        "is 3; it should be less than replication_factor (3)",
    ),
    "more in sync than the only copy": (
        {"protect": False, "kafka": {"replication_factor": 1}},
        "kafka.min_in_sync",
        "is 2; it should be less than replication_factor (1)",
    ),
    "one controller, protected": (
        {"kafka": {"controllers": 1}},
        "kafka.controllers",
        "is 1; it should be at least 3, one for each zone, where protect is true",
    ),
    "two brokers, protected": (
        {
            "kafka": {"brokers": 2, "replication_factor": 2, "min_in_sync": 1},
            "objectives": {"kafka": {"rpo": "1s"}},
        },
        "kafka.brokers",
        "is 2; it should be at least 3, one for each zone, where protect is true",
    ),
    "two copies, protected": (
        {
            "kafka": {"replication_factor": 2, "min_in_sync": 1},
            "objectives": {"kafka": {"rpo": "1s"}},
        },
        "kafka.replication_factor",
        "is 2; it should be at least 3, one copy for each zone",
    ),
    "one in sync, protected": (
        {"kafka": {"min_in_sync": 1}, "objectives": {"kafka": {"rpo": "1s"}}},
        "kafka.min_in_sync",
        "is 1; it should be 2 with 3 copies, where protect is true",
    ),
    "more in sync than a lost zone leaves": (
        {"kafka": {"brokers": 6, "replication_factor": 6, "min_in_sync": 5}},
        "kafka.min_in_sync",
        "is 5; it should be from 2 to 4 with 6 copies",
    ),
    "no loss with one copy in sync": (
        {"protect": False, "kafka": {"min_in_sync": 1}},
        "objectives.kafka.rpo",
        "is 0s; it should be above 0s, or kafka.min_in_sync at least 2",
    ),
    "failover faster than a broker's session": (
        {"kafka": {"session_timeout": "9s"}, "objectives": {"kafka": {"rto": "14s"}}},
        "objectives.kafka.rto",
        'is "14s"; it should be at least 15s',
    ),
    "a session that a pause outlasts": (
        {"kafka": {"session_timeout": "2s"}},
        "kafka.session_timeout",
        'is "2s"; it should be a time from 3s to 1m',
    ),
    "a version that is none": (
        {"kafka": {"version": "3.9.0"}},
        "kafka.version",
        'is "3.9.0"; it should be a version of Kafka that Strimzi runs, such as 4.3.1',
    ),
    "an address for a name": (
        {"kafka": {"host": "https://kafka.example.com"}},
        "kafka.host",
        'is "https://kafka.example.com"; it should be a name in DNS',
    ),
    "a topic without a key": (
        {"topics": {"moves": {}}, "services": BOTH},
        "topics.moves.key",
        "is missing; it should be a name",
    ),
    "a topic that nobody produces": (
        {"topics": {**MOVES, "results": {"key": "game"}}, "services": BOTH},
        "topics.results",
        "is a mapping; it should be named in produces of some service, or left out",
    ),
    "an unknown topic, produced": (
        {"topics": MOVES, "services": {"writer": {**WRITER, "produces": ["moves", "moved"]}}},
        "services.writer.produces[1]",
        'is "moved"; it should name a topic of the catalogue: moves',
    ),
    "an unknown topic, consumed": (
        {"services": {"reader": READER}},
        "services.reader.consumes[0]",
        'is "moves"; it should name a topic of the catalogue: there is none',
    ),
    "a topic named twice": (
        {"topics": MOVES, "services": {"writer": {**WRITER, "produces": ["moves", "moves"]}}},
        "services.writer.produces[1]",
        'is "moves"; it should be left out: it is in the list already',
    ),
    "topics without kafka": (
        {"topics": MOVES, "services": {"writer": {**WRITER, "uses": ["redis"]}}},
        "services.writer.uses",
        "is [redis]; it should name kafka too: this service produces or consumes topics",
    ),
    "kafka without topics": (
        {"services": {"writer": {**WRITER, "uses": ["redis", "kafka"], "produces": []}}},
        "services.writer.uses[1]",
        'is "kafka"; it should be left out, unless produces or consumes names a topic',
    ),
    "a retention for what never expires": (
        {
            "topics": {"moves": {"key": "game", "cleanup": "compact", "retention": "1d"}},
            "services": BOTH,
        },
        "topics.moves.retention",
        'is "1d"; it should be left out: a compacted topic keeps the last record of each key',
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "a single server, not protected": {
        "protect": False,
        "kafka": {"brokers": 1, "controllers": 1, "replication_factor": 1, "min_in_sync": 1},
        "objectives": {"kafka": {"rpo": "1s"}},
    },
    "as many in sync as a lost zone leaves": {
        "kafka": {"brokers": 6, "replication_factor": 6, "min_in_sync": 4}
    },
    "five of each": {"kafka": {"brokers": 5, "controllers": 5}},
    "a topic with a writer and a reader": {"topics": MOVES, "services": BOTH},
    "a topic that nobody of the catalogue reads": {
        "topics": MOVES,
        "services": {"writer": WRITER},
    },
    "compacted records that expire as well": {
        "topics": {"moves": {"key": "game", "cleanup": "compact,delete", "retention": "1d"}},
        "services": BOTH,
    },
}


@pytest.fixture
def bare(project: Project) -> Project:
    """A project whose catalogue is empty."""
    (project.root / "stacks" / "catalogue.yaml").write_text("services: {}\n")
    return project


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_agree_are_refused(case: str, bare: Project) -> None:
    sections, key, finding = REFUSED[case]
    bare.configure(**sections)
    (error,) = bare.errors()
    assert f"{key} {finding}" in error


@pytest.mark.parametrize("case", ACCEPTED)
def test_settings_that_agree_are_accepted(case: str, bare: Project) -> None:
    bare.configure(**ACCEPTED[case])
    bare.settings()


def test_a_stack_file_overrides_single_keys_of_a_topic(bare: Project) -> None:
    (bare.root / "stacks" / "catalogue.yaml").write_text(
        "services:\n"
        "  writer: {tier: core, image: 'example.com/a:1', uses: [kafka], produces: [moves]}\n"
        "topics:\n"
        "  moves: {key: game, cleanup: compact}\n"
    )
    bare.configure(topics={"moves": {"partitions": 3}})
    topic = bare.settings().topics["moves"]
    assert (topic.key, topic.cleanup, topic.partitions) == ("game", Cleanup.COMPACT, 3)


def test_a_mistake_in_a_topic_is_told_with_its_line_of_the_catalogue(bare: Project) -> None:
    (bare.root / "stacks" / "catalogue.yaml").write_text(
        "services: {}\ntopics:\n  moves:\n    key: game\n    partitions: 0\n"
    )
    bare.configure()
    assert any(
        error.startswith("stacks/catalogue.yaml:5: topics.moves.partitions is 0; it should be")
        for error in bare.errors()
    )


def test_topics_that_are_no_mapping_are_told(bare: Project) -> None:
    (bare.root / "stacks" / "catalogue.yaml").write_text("services: {}\ntopics: 5\n")
    bare.configure()
    (error,) = bare.errors()
    assert error.startswith("stacks/catalogue.yaml:2: topics is 5; it should be a mapping of names")
