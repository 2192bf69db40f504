"""Topics and users: what is declared, and the Job that makes Kafka have it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.strimzi import objects
from local.strimzi.properties import REPLICATION_PORT, Object, operator_identity

PROGRAM = Path(__file__).with_name("administer.py")
_FOLDER = "/etc/kafka-entities"
_MEMORY = "96Mi"


def wanted(kafka: Object, topics: Sequence[Object], users: Sequence[Object]) -> dict[str, Any]:
    """What `administer.py` is told."""
    name, namespace = kafka["metadata"]["name"], kafka["metadata"]["namespace"]
    return {
        "bootstrap": f"{name}-kafka-bootstrap.{namespace}.svc:{REPLICATION_PORT}",
        "topics": [
            {
                "name": topic["spec"].get("topicName", topic["metadata"]["name"]),
                "partitions": topic["spec"]["partitions"],
                "replicas": topic["spec"]["replicas"],
                "config": {k: _text(v) for k, v in topic["spec"].get("config", {}).items()},
            }
            for topic in topics
        ],
        "users": [_user(user) for user in users],
    }


def job_name(kafka: Object, told: Mapping[str, Any], secrets: Sequence[Object]) -> str:
    """One Job for each state of what is wanted, passwords included."""
    passwords = [secret.get("data", {}) for secret in secrets]
    content = json.dumps([told, passwords], sort_keys=True) + PROGRAM.read_text()
    return (
        f"{kafka['metadata']['name']}-entities-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    )


def render(
    kafka: Object, name: str, told: Mapping[str, Any], passwords: Sequence[Object]
) -> list[dict[str, Any]]:
    """The Job, and the ConfigMap that it reads; it repeats until all is made.

    Args:
        kafka: the `Kafka` object.
        name: of both.
        told: what it shall make.
        passwords: volume sources, one for each user.
    """
    cluster = kafka["metadata"]["name"]
    entity = kafka["spec"].get("entityOperator", {}).get("template", {}).get("pod", {})
    resources = {"cpu": "100m", "memory": _MEMORY, "ephemeral-storage": "64Mi"}
    sources = [
        {"configMap": {"name": name}},
        {"secret": {"name": f"{cluster}-entity-operator-certs"}},
        *passwords,
    ]
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": objects.pod_security(),
        **{key: value for key, value in entity.items() if key in _PLACEMENT},
        "restartPolicy": "OnFailure",
        "containers": [
            {
                "name": "administer",
                "image": kafka["spec"]["kafka"]["image"],
                "command": ["python3", f"{_FOLDER}/{PROGRAM.name}", _FOLDER],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": objects.CONTAINER_SECURITY,
                "volumeMounts": [{"name": "entities", "mountPath": _FOLDER, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "entities", "projected": {"sources": sources}}],
    }
    labels = {"strimzi.io/cluster": cluster, "strimzi.io/name": operator_identity(kafka)}
    spec = {"backoffLimit": 1000, "template": {"metadata": {"labels": labels}, "spec": pod}}
    told_map = objects.config_map(kafka, name, {"wanted.json": told})
    told_map["data"][PROGRAM.name] = PROGRAM.read_text()
    return [told_map, objects.job(kafka, name, spec)]


_PLACEMENT = ("affinity", "priorityClassName", "tolerations", "topologySpreadConstraints")


def password_source(user: Object) -> dict[str, Any]:
    """The volume source that puts a user's password where `administer.py` looks for it."""
    secret, key = password_of(user)
    items = [{"key": key, "path": f"{user['metadata']['name']}.password"}]
    return {"secret": {"name": secret, "items": items}}


def password_of(user: Object) -> tuple[str, str]:
    """The Secret, and its key, that hold a user's password.

    Raises:
        LocalError: if its password is not declared.
    """
    try:
        reference = user["spec"]["authentication"]["password"]["valueFrom"]["secretKeyRef"]
    except KeyError:
        name = user["metadata"]["name"]
        raise LocalError(f"KafkaUser {name}: only a declared password is possible here") from None
    return reference["name"], reference["key"]


def _user(user: Object) -> dict[str, Any]:
    name = user["metadata"]["name"]
    return {
        "name": name,
        "rules": [
            {
                "type": rule["resource"]["type"],
                "name": rule["resource"].get("name", "kafka-cluster"),
                "pattern": rule["resource"].get("patternType", "literal"),
                "host": rule.get("host", "*"),
                "operation": operation,
                "permission": rule.get("type", "allow"),
            }
            for rule in user["spec"].get("authorization", {}).get("acls", [])
            for operation in rule["operations"]
        ],
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
