"""Reading topics: what is read once, and how a reader leaves."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from local.images.service import events

pytestmark = pytest.mark.unit

ENVIRONMENT = {"KAFKA_CONSUMES": "moves", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A consumer that has whatever a test puts in."""
    made = Mock()
    driver = SimpleNamespace(Consumer=Mock(return_value=made), KafkaException=RuntimeError)
    monkeypatch.setitem(sys.modules, "confluent_kafka", driver)
    return made


def read(consumer: Mock, *records: str) -> list[str]:
    """Read these records of a topic, and what was counted by then; then it is over."""
    over, counted = threading.Event(), list[str]()
    left = [Mock(error=lambda: None, topic=lambda name=name: name) for name in records]

    def poll(_: float) -> Mock | None:
        if left:
            return left.pop(0)
        over.set()
        return None

    consumer.poll.side_effect = poll
    login = {"username": "replay", "password": "secret"}
    events.consume(ENVIRONMENT, lambda: login, counted.append, over)
    return counted


def test_a_reader_that_is_over_leaves_its_group(consumer: Mock) -> None:
    """Else nobody reads its partitions until its session has run out."""
    assert read(consumer) == []
    consumer.close.assert_called_once_with()


def test_a_record_is_counted_and_then_committed(consumer: Mock) -> None:
    assert read(consumer, "moves", "moves") == ["moves", "moves"]
    assert consumer.commit.call_count == 2


def test_a_record_that_another_reads_again_ends_nothing(consumer: Mock) -> None:
    consumer.commit.side_effect = RuntimeError("not mine any more")
    assert read(consumer, "moves", "moves") == ["moves", "moves"]
    consumer.close.assert_called_once_with()
