"""Runs in a Pod of the cluster: make the declared topics and users, or fail and be run again.

    python3 administer.py FOLDER

The folder holds `wanted.json`, the password of each user, and key and certificates of a user that
may do everything. What is there already is brought to the declared state.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

SECONDS = 20.0
"""For each request."""
ITERATIONS = 4096
"""Kafka's least."""


def main(folder: Path) -> None:
    """Bring Kafka to the declared state."""
    wanted = json.loads((folder / "wanted.json").read_text())
    admin = AdminClient(
        {
            "bootstrap.servers": wanted["bootstrap"],
            "security.protocol": "ssl",
            "ssl.ca.location": str(folder / "ca.crt"),
            "ssl.certificate.location": str(folder / "entity-operator.crt"),
            "ssl.key.location": str(folder / "entity-operator.key"),
            "socket.connection.setup.timeout.ms": 3000,
        }
    )
    there = admin.list_topics(timeout=SECONDS).topics
    for topic in wanted["topics"]:
        make_topic(admin, topic, there.get(topic["name"]))
    for user in wanted["users"]:
        make_user(admin, user, folder)


def make_topic(admin: Any, topic: Mapping[str, Any], present: Any) -> None:  # noqa: ANN401
    """Create a topic, or give it its partitions and configuration."""
    name, partitions = topic["name"], topic["partitions"]
    if present is None:
        new = NewTopic(name, partitions, topic["replicas"], config=topic["config"])
        settle(admin.create_topics([new], operation_timeout=SECONDS), may_be=exists)
        return
    if len(present.partitions) < partitions:
        settle(admin.create_partitions([NewPartitions(name, partitions)]))
    set_all = AlterConfigOpType.SET
    entries = [ConfigEntry(k, v, incremental_operation=set_all) for k, v in topic["config"].items()]
    if entries:
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        settle(admin.incremental_alter_configs([resource]))


def make_user(admin: Any, user: Mapping[str, Any], folder: Path) -> None:  # noqa: ANN401
    """Give a user its password and its rights."""
    password = (folder / f"{user['name']}.password").read_bytes()
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    change = UserScramCredentialUpsertion(user["name"], info, password)
    settle(admin.alter_user_scram_credentials([change]))
    rules = [
        AclBinding(
            _member(ResourceType, {"cluster": "broker"}.get(rule["type"], rule["type"])),
            rule["name"],
            _member(ResourcePatternType, {"prefix": "prefixed"}.get(rule["pattern"], "literal")),
            f"User:{user['name']}",
            rule["host"],
            _member(AclOperation, rule["operation"]),
            _member(AclPermissionType, rule["permission"]),
        )
        for rule in user["rules"]
    ]
    if rules:
        settle(admin.create_acls(rules))


def settle(futures: Mapping[Any, Future[Any]], may_be: Callable[[int], bool] | None = None) -> None:
    """Wait for all of a request; an error that counts as done is let pass."""
    for future in futures.values():
        try:
            future.result(SECONDS)
        except KafkaException as error:
            if may_be is None or not may_be(error.args[0].code()):
                raise


def exists(code: int) -> bool:
    """Whether a topic is there after all: another run made it just now."""
    return bool(code == KafkaError.TOPIC_ALREADY_EXISTS)


def _member(names: Any, name: str) -> Any:  # noqa: ANN401
    """The driver's constant of a name in Strimzi's spelling: `IdempotentWrite`."""
    return names[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
