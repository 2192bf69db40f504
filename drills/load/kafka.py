"""Load on Kafka: a write is one record, acknowledged once every copy in sync has it.

    python3 -m drills.load.kafka prepare
    python3 -m drills.load.kafka run --seconds 60
    python3 -m drills.load.kafka stored

Records go to the one partition of the topic `KAFKA_TOPIC`, keyed by worker. The environment holds
Kafka's own properties, as the platform publishes them to every client (`KAFKA_ACKS` for `acks`),
with `KAFKA_USERNAME` and `KAFKA_PASSWORD`.

A producer repeats by itself, under the same number, for as long as `delivery.timeout.ms`; so a
write that a failover delays is one slow success, and a duplicate would be a broken promise.

A reader without an answer for `_ANEW_SECONDS` opens a new consumer, as a service should: drivers
were seen to wait on and on while others were served (docs/decisions/kafka.md).
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient

from drills.load import attempts
from drills.load.attempts import DEADLINE_SECONDS, FailedError, UnknownError

_OWN = ("topic", "username", "password", "produces", "consumes")
_CONSUMER_ONLY = ("group.id", "enable.auto.commit", "auto.offset.reset", "isolation.level")
_PRODUCER_ONLY = ("acks", "enable.idempotence", "delivery.timeout.ms", "request.timeout.ms")
_REQUEST_SECONDS = 20.0
_ANEW_SECONDS = 30.0
"""Longer than any failover that all clients waited for took: until then, the driver finds the next
leader by itself, and another login would only cost busy brokers more."""
_DEBUG = {"debug": "metadata,broker"}
"""The driver tells of every connection and of every answer about leaders: some ten lines a second
while brokers fail, and none while all is well."""


@dataclass(frozen=True)
class Access:
    """Where the brokers are, how to sign in, and the topic of the drill."""

    properties: Mapping[str, str]
    topic: str

    @classmethod
    def of_environment(cls) -> Access:
        """Read it from the variables that the platform gives to every client."""
        named = {
            key.removeprefix("KAFKA_").lower().replace("_", "."): value
            for key, value in os.environ.items()
            if key.startswith("KAFKA_")
        }
        login = {"sasl.username": named["username"], "sasl.password": named["password"]}
        kept = {key: value for key, value in named.items() if key not in _OWN}
        return cls({**kept, **login}, named["topic"])

    def producer(self) -> Any:  # noqa: ANN401 (the driver has no types)
        """Open a producer of one worker's own."""
        return confluent_kafka.Producer({**self._without(_CONSUMER_ONLY), **_DEBUG})

    def consumer(self) -> Any:  # noqa: ANN401 (the driver has no types)
        """Open a consumer that commits nothing."""
        own = {"group.id": "drill", "enable.auto.commit": "false", **_DEBUG}
        return confluent_kafka.Consumer({**self._without(_PRODUCER_ONLY), **own})

    def administrator(self) -> AdminClient:
        """Open a client that may empty the topic."""
        return AdminClient(self._without((*_CONSUMER_ONLY, *_PRODUCER_ONLY)))

    def partition(self, offset: int) -> Any:  # noqa: ANN401 (the driver has no types)
        """A place in the topic."""
        return confluent_kafka.TopicPartition(self.topic, 0, offset)

    def _without(self, keys: tuple[str, ...]) -> dict[str, str]:
        return {key: value for key, value in self.properties.items() if key not in keys}


class Kafka:
    """One producer or consumer, which finds the leader of the moment by itself."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._producer: Any = None
        self._consumer: Any = None
        self._waiting_since: float | None = None
        self._left: list[Any] = []
        """Consumers that were given up. To close one may take as long as its servers are gone."""

    def write(self, worker: int, sequence: int) -> None:
        """Send a record, and wait until it is acknowledged or given up."""
        if self._producer is None:
            self._producer = self._access.producer()
        outcomes: list[Any] = []
        self._producer.produce(
            self._access.topic,
            key=str(worker),
            value=str(sequence),
            partition=0,
            on_delivery=lambda error, _: outcomes.append(error),
        )
        while not outcomes:
            self._producer.poll(DEADLINE_SECONDS)
        if outcomes[0] is not None:
            raise UnknownError(outcomes[0].name())

    def read(self) -> None:
        """Read the last record from the leader."""
        now, since = time.monotonic(), self._waiting_since
        if since is not None and now - since > _ANEW_SECONDS:
            sys.stderr.write(f"no answer for {now - since:.0f} s: a new consumer is opened\n")
            self._left.append(self._consumer)
            self._consumer, self._waiting_since = None, None
        if self._consumer is None:
            self._consumer = self._access.consumer()
        try:
            self._read()
        except FailedError:
            self._waiting_since = self._waiting_since or now
            raise
        self._waiting_since = None

    def _read(self) -> None:
        try:
            _, end = self._consumer.get_watermark_offsets(
                self._access.partition(0), timeout=DEADLINE_SECONDS
            )
        except confluent_kafka.KafkaException as error:
            raise FailedError(error.args[0].name()) from error
        self._consumer.assign([self._access.partition(end - 1)])
        message = self._consumer.poll(DEADLINE_SECONDS)
        if message is None:
            raise FailedError("NoAnswer")
        if message.error():
            raise FailedError(message.error().name())

    def close(self) -> None:
        """Keep the connections: the driver itself drops those that are broken."""


def prepare(access: Access) -> None:
    """Forget what earlier runs stored."""
    end = access.partition(confluent_kafka.OFFSET_END)
    administrator = access.administrator()  # dropped earlier, it would drop what it was asked
    for done in administrator.delete_records([end]).values():
        done.result(_REQUEST_SECONDS)


def stored(access: Access) -> list[tuple[int, int]]:
    """Every record of the topic.

    Raises:
        RuntimeError: if those of one key are not in the order in which they were sent.
    """
    consumer = access.consumer()
    low, high = consumer.get_watermark_offsets(access.partition(0), timeout=_REQUEST_SECONDS)
    consumer.assign([access.partition(low)])
    rows: list[tuple[int, int]] = []
    following = low
    while following < high:
        message = consumer.poll(_REQUEST_SECONDS)
        if message is None or message.error():
            reason = message.error() if message else "no answer"
            raise RuntimeError(f"reading stopped at {following} of {high}: {reason}")
        rows.append((int(message.key()), int(message.value())))
        following = message.offset() + 1
    consumer.close()
    require_order(rows)
    return rows


def require_order(rows: list[tuple[int, int]]) -> None:
    """Check the promise of order: the numbers of each key never go back.

    Raises:
        RuntimeError: naming the first that did.
    """
    last: dict[int, int] = defaultdict(lambda: -1)
    for worker, sequence in rows:
        if sequence < last[worker]:
            raise RuntimeError(f"key {worker}: {sequence} follows {last[worker]}")
        last[worker] = sequence


def main(arguments: list[str]) -> int:
    """Run one command."""
    given = attempts.parser(__doc__).parse_args(arguments)
    access = Access.of_environment()
    if given.command == "prepare":
        prepare(access)
        return 0
    if given.command == "stored":
        attempts.print_stored(stored(access))
        return 0
    return attempts.run(lambda: Kafka(access), attempts.bounds(given), given.folder)


if __name__ == "__main__":
    attempts.end(main(sys.argv[1:]))
