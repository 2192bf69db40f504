"""Real Kafka servers start with what the component declares, and give each user its rights.

Strimzi's stand-in makes their files, as on real local nodes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from components.kafka import Kafka, KafkaArgs, User
from components.parts import Client
from local.strimzi.operator import SECRETS
from stacks.systems.kafka import Cleanup, KafkaSettings, TopicSettings
from stacks.values import Resources
from tests.components.conftest import registered_by
from tests.local.strimzi.declared import NAME, NAMESPACE, PASSWORD, USER, reconciled, thing
from tests.local.strimzi.lab import Lab, lab

pytestmark = [
    pytest.mark.dataplane,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root only"),
]

SMALL = Resources(cpu="100m", memory="512Mi")
OURS = {"Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"}
PASSWORDS = {"random:index/randomPassword:RandomPassword": {"result": PASSWORD}}

CONFIGURATION = """
import json
from confluent_kafka.admin import AdminClient, ConfigResource
folder = "/etc/kafka-entities"
admin = AdminClient({
    "bootstrap.servers": json.load(open(folder + "/wanted.json"))["bootstrap"],
    "security.protocol": "ssl",
    "ssl.ca.location": folder + "/ca.crt",
    "ssl.certificate.location": folder + "/entity-operator.crt",
    "ssl.key.location": folder + "/entity-operator.key",
})
def values(kind, name):
    resource = ConfigResource(kind, name)
    found = admin.describe_configs([resource])[resource].result(20)
    return {key: entry.value for key, entry in found.items()}
topics = admin.list_topics(timeout=20).topics
print(json.dumps({
    "broker": values(ConfigResource.Type.BROKER, "0"),
    "topics": {name: [
        len(topic.partitions),
        {len(p.replicas) for p in topic.partitions.values()}.pop(),
        values(ConfigResource.Type.TOPIC, name),
    ] for name, topic in topics.items() if not name.startswith("__")},
}))
"""
CLIENT = """
import json, sys
from confluent_kafka import Consumer, Producer
login = {
    "bootstrap.servers": "kafka-kafka-bootstrap.sim-data.svc:9093",
    "security.protocol": "sasl_ssl",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "client",
    "sasl.password": sys.argv[1],
    "enable.ssl.certificate.verification": False,
}
outcomes = {}
producer = Producer({**login, "acks": "all", "enable.idempotence": True,
                     "message.timeout.ms": 20000})
for topic in ("events", "others"):
    producer.produce(topic, b"1", key=b"game", on_delivery=lambda error, message:
                     outcomes.__setitem__(message.topic(), error.name() if error else "written"))
producer.flush(30)
for group in ("client", "another"):
    consumer = Consumer({**login, "group.id": group, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    consumer.subscribe(["events"])
    for _ in range(60):
        message = consumer.poll(1)
        if message is not None:
            break
    error = message.error() if message else None
    outcomes[group] = "nothing" if message is None else error.name() if error else "read"
    consumer.close()
print(json.dumps(outcomes))
"""


def _declared() -> list[dict[str, Any]]:
    args = KafkaArgs(
        namespace=NAMESPACE,
        settings=KafkaSettings(resources=SMALL, controller_resources=SMALL),
        topics={
            "events": TopicSettings(key="game", partitions=3, retention=3600),
            "others": TopicSettings(key="deck", partitions=2, cleanup=Cleanup.COMPACT),
        },
        zones=("a", "b", "c"),
        priority_class="data",
        storage_class="gp3",
        users=(User(Client("sim-core", USER), produces=("events",), consumes=("events",)),),
        standby=False,
        region_rpo=1200,
        protect=True,
    )
    return list(registered_by(lambda: Kafka(NAME, args), computed=PASSWORDS).manifests())


def _stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """The object with what an API server adds."""
    metadata = manifest["metadata"]
    stored = thing(manifest["kind"], metadata["name"], manifest.get("spec", {}))
    return {**manifest, "metadata": {**stored["metadata"], **metadata}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three controllers and three brokers, with topics and a user."""
    manifests = _declared()
    secrets = [_stored(m) for m in manifests if m["kind"] == "Secret"]
    recorder = reconciled(
        tmp_path_factory.mktemp("keys"),
        *(_stored(m) for m in manifests if m["kind"] in OURS),
        **{SECRETS: secrets},
    )
    with lab(tmp_path_factory.mktemp("lab")) as own:
        own.start(recorder)
        own.administer(recorder)
        yield own


@pytest.fixture(scope="module")
def told(running: Lab) -> dict[str, Any]:
    """What the cluster says of itself."""
    answer: dict[str, Any] = json.loads(running.run(["python3", "-c", CONFIGURATION]))
    return answer


@pytest.fixture(scope="module")
def outcomes(running: Lab) -> dict[str, str]:
    """What became of what the user tried."""
    answer: dict[str, str] = json.loads(running.run(["python3", "-c", CLIENT, PASSWORD]))
    return answer


def test_brokers_run_with_every_declared_value(told: dict[str, Any]) -> None:
    (kafka,) = [m for m in _declared() if m["kind"] == "Kafka"]
    wanted = kafka["spec"]["kafka"]["config"]
    as_text = {key: json.dumps(value).strip('"') for key, value in wanted.items()}
    assert {key: told["broker"].get(key) for key in wanted} == as_text


def test_topics_are_made_as_declared(told: dict[str, Any]) -> None:
    partitions, copies, config = told["topics"]["events"]
    assert (partitions, copies) == (3, 3)
    assert (config["retention.ms"], config["min.insync.replicas"]) == ("3600000", "2")
    assert config["segment.ms"] == "3600000"
    partitions, copies, config = told["topics"]["others"]
    assert (partitions, copies, config["cleanup.policy"]) == (2, 3, "compact")


def test_a_user_writes_its_topic_and_no_other(outcomes: dict[str, str]) -> None:
    assert outcomes["events"] == "written"
    assert outcomes["others"] == "TOPIC_AUTHORIZATION_FAILED"


def test_a_user_reads_as_its_own_group_and_no_other(outcomes: dict[str, str]) -> None:
    assert outcomes["client"] == "read"
    assert outcomes["another"] == "GROUP_AUTHORIZATION_FAILED"
