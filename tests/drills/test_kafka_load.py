"""What the Kafka client reads of its environment, and how it checks the promise of order."""

from __future__ import annotations

import time
from contextlib import suppress
from unittest.mock import Mock

import confluent_kafka
import pytest

from drills.load.attempts import FailedError
from drills.load.kafka import Access, Kafka, require_order

pytestmark = pytest.mark.unit


def test_a_client_is_told_what_the_platform_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "KAFKA_ACKS": "all",
        "KAFKA_PRODUCES": "moves",
        "KAFKA_TOPIC": "drill",
        "KAFKA_USERNAME": "drill",
        "KAFKA_PASSWORD": "x",
    }.items():
        monkeypatch.setenv(key, value)
    assert Access.of_environment() == Access(
        {
            "bootstrap.servers": "kafka:9093",
            "acks": "all",
            "sasl.username": "drill",
            "sasl.password": "x",
        },
        "drill",
    )


def test_records_that_interleave_are_in_order() -> None:
    require_order([(0, 0), (1, 0), (0, 1), (1, 3)])


def test_a_record_before_an_earlier_one_of_its_key_is_told() -> None:
    with pytest.raises(RuntimeError, match="key 0: 1 follows 2"):
        require_order([(0, 2), (1, 5), (0, 1)])


def test_the_last_record_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Mock()
    consumer.get_watermark_offsets.return_value = (3, 8)
    consumer.poll.return_value.error.return_value = None
    monkeypatch.setattr(Access, "consumer", lambda _: consumer)
    Kafka(Access({}, "drill")).read()
    (assigned,) = consumer.assign.call_args.args[0]
    assert (assigned.topic, assigned.partition, assigned.offset) == ("drill", 0, 7)


@pytest.mark.parametrize(("seconds", "opened"), [(29.9, 1), (30.1, 2)])
def test_a_reader_without_an_answer_for_long_opens_a_new_consumer_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
    opened: int,
) -> None:
    now, consumers = [100.0], []

    def consumer(_: Access) -> Mock:
        consumers.append(Mock())
        consumers[-1].get_watermark_offsets.return_value = (3, 8)
        consumers[-1].poll.return_value.error.return_value = None
        return consumers[-1]

    monkeypatch.setattr(Access, "consumer", consumer)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    client = Kafka(Access({}, "drill"))
    client.read()
    now[0] += 60
    client.read()  # a reader that had nothing to do is no reader that waits
    consumers[-1].poll.return_value = None
    for passed in (1, seconds):
        now[0] += passed
        with suppress(FailedError):
            client.read()
    assert len(consumers) == opened
    assert capsys.readouterr().err.count("no answer for 30 s") == opened - 1


@pytest.mark.parametrize(("kind", "opened"), [("Producer", "producer"), ("Consumer", "consumer")])
def test_drivers_tell_of_connections_and_leaders(
    monkeypatch: pytest.MonkeyPatch, kind: str, opened: str
) -> None:
    made = Mock()
    monkeypatch.setattr(confluent_kafka, kind, made)
    getattr(Access({}, "drill"), opened)()
    assert made.call_args.args[0]["debug"] == "metadata,broker"
