"""Real Kafka servers start with what is rendered, and get the declared topics and users."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.local.strimzi import declared
from tests.local.strimzi.lab import Lab, lab

pytestmark = [
    pytest.mark.dataplane,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root only"),
]

ASK = """
import json, sys
from confluent_kafka.admin import AdminClient, ConfigResource
folder = "/etc/kafka-entities"
admin = AdminClient({
    "bootstrap.servers": json.load(open(folder + "/wanted.json"))["bootstrap"],
    "security.protocol": "ssl",
    "ssl.ca.location": folder + "/ca.crt",
    "ssl.certificate.location": folder + "/entity-operator.crt",
    "ssl.key.location": folder + "/entity-operator.key",
})
topic = admin.list_topics(timeout=20).topics["events"]
resource = ConfigResource(ConfigResource.Type.TOPIC, "events")
configs = admin.describe_configs([resource])[resource].result(20)
nodes = admin.describe_cluster(include_authorized_operations=False).result(20).nodes
print(json.dumps({
    "replicas": [len(p.replicas) for p in topic.partitions.values()],
    "min.insync.replicas": configs["min.insync.replicas"].value,
    "retention.ms": configs["retention.ms"].value,
    "racks": sorted(node.rack for node in nodes),
}))
"""
WRITE = """
import json, sys
from confluent_kafka import Producer
producer = Producer({
    "bootstrap.servers": "kafka-kafka-bootstrap.sim-data.svc:9093",
    "security.protocol": "sasl_ssl",
    "ssl.ca.location": "/etc/kafka-entities/ca.crt",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "client",
    "sasl.password": sys.argv[2],
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 15000,
    "error_cb": lambda error: errors.append(error.name()),
})
errors, outcomes = [], []
told = lambda error, _: outcomes.append(error.name() if error else "written")
producer.produce(sys.argv[1], b"1", on_delivery=told)
producer.flush(20)
print(json.dumps({"errors": errors, "outcomes": outcomes}))
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three servers, each broker and controller, with two topics and a user."""
    recorder = declared.reconciled(
        tmp_path_factory.mktemp("keys"),
        declared.kafka(),
        declared.pool("pool", "broker", "controller"),
        declared.topic(declared.TOPIC, **{"retention.ms": 60_000}),
        declared.topic(declared.READ_ONLY),
        declared.user(),
    )
    with lab(tmp_path_factory.mktemp("lab")) as own:
        own.start(recorder)
        own.administer(recorder)
        yield own


@pytest.fixture(scope="module")
def told(running: Lab) -> dict[str, object]:
    """What the cluster says of itself."""
    answer: dict[str, object] = json.loads(running.run(["python3", "-c", ASK]))
    return answer


def test_a_topic_has_the_declared_partitions_and_replicas(told: dict[str, object]) -> None:
    assert told["replicas"] == [3, 3, 3]


def test_servers_start_with_the_declared_configuration(told: dict[str, object]) -> None:
    assert told["min.insync.replicas"] == "2"


def test_a_topic_has_the_declared_configuration(told: dict[str, object]) -> None:
    assert told["retention.ms"] == "60000"


def test_brokers_know_their_zones(told: dict[str, object]) -> None:
    assert told["racks"] == ["zone-1", "zone-2", "zone-3"]


def written(running: Lab, topic: str, password: str) -> dict[str, list[str]]:
    """What became of a message, and what went wrong with the connection."""
    told: dict[str, list[str]] = json.loads(running.run(["python3", "-c", WRITE, topic, password]))
    return told


def test_a_declared_user_writes_where_it_may(running: Lab) -> None:
    assert written(running, declared.TOPIC, declared.PASSWORD)["outcomes"] == ["written"]


def test_a_wrong_password_is_refused(running: Lab) -> None:
    assert "_AUTHENTICATION" in written(running, declared.TOPIC, "wrong")["errors"]


def test_a_user_does_not_write_where_it_may_only_read(running: Lab) -> None:
    told = written(running, declared.READ_ONLY, declared.PASSWORD)
    assert told["outcomes"] == ["TOPIC_AUTHORIZATION_FAILED"]
