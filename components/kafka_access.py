"""What each service may do in a Kafka cluster, and what its client is told.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components import parts
from components.parts import Client

_DELIVERY_SECONDS = 120
"""How long a producer tries again before it gives a record up: many times a failover."""

_RECONNECT_MILLISECONDS = 1000
"""The longest pause between two tries to reach a broker: one that is back is used within a second,
where librdkafka's own 10 s would outlast the failover."""


@dataclass(frozen=True)
class User:
    """A service, and the topics that it may use."""

    client: Client
    produces: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()


def rights(user: User) -> list[parts.Object]:
    """What a service may do: write and read its own topics, read as the group of its own name."""

    def operations(topic: str) -> list[str]:
        reads = ["Read"] if topic in user.consumes else []
        writes = ["Write"] if topic in user.produces else []
        return ["Describe", *reads, *writes]

    topics = dict.fromkeys((*user.produces, *user.consumes))
    group = [_right("group", user.client.name, ["Read"])] if user.consumes else []
    return [*(_right("topic", topic, operations(topic)) for topic in topics), *group]


def mirrors_rights(*, into: bool) -> list[parts.Object]:
    """What a mirror may do with every topic and group: make and change them, or only read."""
    changes = ["Alter", "AlterConfigs", "Create", "Write"] if into else []
    moves = ["Read"] if into else []
    return [
        _right("topic", "*", ["Describe", "DescribeConfigs", "Read", *changes]),
        _right("group", "*", ["Describe", *moves]),
    ]


def _right(kind: str, name: str, operations: list[str]) -> parts.Object:
    resource = {"type": kind, "name": name, "patternType": "literal"}
    return {"type": "allow", "resource": resource, "operations": operations}


def environment(
    address: str, user: User, *, session_timeout: int, verified: bool
) -> dict[str, str]:
    """Where the brokers are, and how a client loses nothing.

    An answer is awaited for no longer than a broker's session, in seconds, after which another one
    leads: by default a client waits half a minute for one that is cut off. A record that is sent
    again is still stored once. Nor is a connection, which to librdkafka includes TLS and the login:
    with much less, a busy broker never gets to the end of it.

    Named as Kafka's own properties. Producers wait for every copy in sync, and number their
    records, so that trying again neither doubles nor reorders them. Consumers commit what they have
    processed, by themselves: a crash repeats records, and skips none.
    """
    answer = str(session_timeout * 1000)
    return {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION": "true" if verified else "false",
        "KAFKA_RECONNECT_BACKOFF_MAX_MS": str(_RECONNECT_MILLISECONDS),
        "KAFKA_SOCKET_CONNECTION_SETUP_TIMEOUT_MS": answer,
        "KAFKA_SOCKET_TIMEOUT_MS": answer,
        **_producer(user.produces, answer),
        **_consumer(user),
    }


def _producer(topics: Iterable[str], answer: str) -> dict[str, str]:
    if not topics:
        return {}
    return {
        "KAFKA_PRODUCES": ",".join(topics),
        "KAFKA_ACKS": "all",
        "KAFKA_ENABLE_IDEMPOTENCE": "true",
        "KAFKA_REQUEST_TIMEOUT_MS": answer,
        "KAFKA_DELIVERY_TIMEOUT_MS": str(_DELIVERY_SECONDS * 1000),
    }


def _consumer(user: User) -> dict[str, str]:
    if not user.consumes:
        return {}
    return {
        "KAFKA_CONSUMES": ",".join(user.consumes),
        "KAFKA_GROUP_ID": user.client.name,
        "KAFKA_ENABLE_AUTO_COMMIT": "false",
        "KAFKA_AUTO_OFFSET_RESET": "earliest",
        "KAFKA_ISOLATION_LEVEL": "read_committed",
    }
