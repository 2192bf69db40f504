"""Kafka, as a service uses it: records that count once every copy in sync has them.

The environment holds Kafka's own properties, `KAFKA_ENABLE_IDEMPOTENCE` for `enable.idempotence`;
beside them stand `KAFKA_PRODUCES` and `KAFKA_CONSUMES`, lists of topics.
"""

from __future__ import annotations

import importlib
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.5
SETTINGS = {
    "reconnect.backoff.max.ms": 1000,  # instead of 10 s, which would outlast a failover
    "socket.connection.setup.timeout.ms": 5000,  # a node that is gone answers nothing
    "log.connection.close": False,
}
"""What a failover takes is the brokers' matter; these keep clients from making it longer."""

_PREFIX = "KAFKA_"
_LISTS = ("produces", "consumes")
_CONSUMER_ONLY = ("group.id", "enable.auto.commit", "auto.offset.reset", "isolation.level")
_PRODUCER_ONLY = ("acks", "enable.idempotence", "delivery.timeout.ms", "request.timeout.ms")


class Work(Protocol):
    """One unit of work."""

    @property
    def id(self) -> uuid.UUID:
        """Its key, the same when it is asked for again."""

    def at_most(self, seconds: float) -> float:
        """Seconds for one step, within the deadline."""


def properties(environment: Mapping[str, str], without: tuple[str, ...]) -> dict[str, Any]:
    """What the driver is told, but for what the other kind of client alone knows."""
    named = {
        key.removeprefix(_PREFIX).lower().replace("_", "."): value
        for key, value in environment.items()
        if key.startswith(_PREFIX)
    }
    return SETTINGS | {k: v for k, v in named.items() if k not in {*_LISTS, *without}}


def topics(environment: Mapping[str, str], kind: str) -> list[str]:
    """Those that the service `produces` or `consumes`."""
    return [name for name in environment.get(f"{_PREFIX}{kind.upper()}", "").split(",") if name]


class Producer:
    """One connection to the brokers that many threads share; it finds new leaders by itself."""

    def __init__(
        self, environment: Mapping[str, str], login: Callable[[], Mapping[str, str]], service: str
    ) -> None:
        self._driver = importlib.import_module("confluent_kafka")
        self._properties = properties(environment, _CONSUMER_ONLY)
        self._topics, self._login, self._service = topics(environment, "produces"), login, service
        self._lock = threading.Lock()
        self._client: Any = None

    def use(self, work: Work) -> None:
        """Add the work's record to each topic, and wait until all are acknowledged.

        One that comes too late for the caller is tried for on, as it may be acknowledged yet: who
        reads it knows it again by its key.

        Raises:
            TimeoutError: if they are not acknowledged in time.
            KafkaException: if one is refused.
        """
        client = self._connected()
        key, value = str(work.id), json.dumps({"service": self._service, "id": str(work.id)})
        outcomes: list[Any] = []
        done = threading.Semaphore(0)

        def delivered(error: Any, _: object) -> None:  # noqa: ANN401
            outcomes.append(error)
            done.release()

        for topic in self._topics:
            client.produce(topic, value, key, on_delivery=delivered)
        for _ in self._topics:
            if not done.acquire(timeout=work.at_most(ANSWER_SECONDS)):
                raise TimeoutError("not acknowledged in time")
        for error in filter(None, outcomes):
            raise self._driver.KafkaException(error)

    def _connected(self) -> Any:  # noqa: ANN401
        with self._lock:
            if self._client is None:
                self._client = self._driver.Producer(self._properties | signed_in(self._login()))
                threading.Thread(target=self._poll, daemon=True).start()
            return self._client

    def _poll(self) -> None:
        while True:
            self._client.poll(POLL_SECONDS)


def consume(
    environment: Mapping[str, str],
    login: Callable[[], Mapping[str, str]],
    count: Callable[[str], None],
    over: threading.Event,
) -> None:
    """Read until it is over; a record is committed once it was counted.

    So a crash repeats records and skips none. A member that leaves says so: else its partitions are
    nobody's for 45 s.

    Args:
        environment: with the topics.
        login: reads the credentials.
        count: told the topic of each record.
        over: ends it.
    """
    driver = importlib.import_module("confluent_kafka")
    client = driver.Consumer(properties(environment, _PRODUCER_ONLY) | signed_in(login()))
    client.subscribe(topics(environment, "consumes"))
    try:
        while not over.is_set():
            message = client.poll(POLL_SECONDS)
            if message is None or message.error():
                continue
            count(message.topic())
            try:
                client.commit(message)
            except driver.KafkaException:
                continue  # another member has the partition now, and reads the record again
    finally:
        client.close()


def signed_in(login: Mapping[str, str]) -> dict[str, str]:
    """The credentials, as the driver knows them."""
    return {"sasl.username": login["username"], "sasl.password": login["password"]}
