"""A Kafka cluster as a component would declare it, and an operator that nobody but a test asks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.strimzi.operator import KAFKAS, POOLS, SECRETS, TOPICS, USERS, Operator

Object = dict[str, Any]

NAMESPACE, NAME = "sim-data", "kafka"
TOPIC, READ_ONLY, USER = "events", "others", "client"
PASSWORD = "a password"


def thing(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}.{name}")),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
            "labels": {"strimzi.io/cluster": NAME},
        },
        "spec": spec,
    }


def kafka(**more: Any) -> Object:
    spec = {
        "version": "4.3.1",
        "image": "kafka:1",
        "listeners": [
            {
                "name": "tls",
                "port": 9093,
                "type": "internal",
                "tls": True,
                "authentication": {"type": "scram-sha-512"},
            }
        ],
        "authorization": {"type": "simple"},
        "config": {
            "default.replication.factor": 3,
            "min.insync.replicas": 2,
            "auto.create.topics.enable": False,
            "offsets.topic.replication.factor": 3,
        },
        "rack": {"topologyKey": "topology.kubernetes.io/zone"},
        **more,
    }
    return thing("Kafka", NAME, {"kafka": spec})


def pool(name: str, *roles: str, first: int = 0, **more: Any) -> Object:
    storage = {"type": "jbod", "volumes": [{"id": 0, "type": "persistent-claim", "size": "1Gi"}]}
    resources = {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}
    heap = {"-Xms": "256m", "-Xmx": "256m"}
    spec = {"replicas": 3, "roles": list(roles), "storage": storage, "resources": resources}
    made = thing("KafkaNodePool", name, {**spec, "jvmOptions": heap, **more})
    made["metadata"]["annotations"] = {"strimzi.io/next-node-ids": f"[{first}-99]"}
    return made


def topic(name: str = TOPIC, **config: Any) -> Object:
    return thing("KafkaTopic", name, {"partitions": 3, "replicas": 3, "config": config})


def user() -> Object:
    secret = {"name": "passwords", "key": USER}
    rules = [
        {"resource": {"type": "topic", "name": name}, "operations": operations}
        for name, operations in {TOPIC: ["Read", "Write"], READ_ONLY: ["Read"]}.items()
    ]
    spec = {
        "authentication": {
            "type": "scram-sha-512",
            "password": {"valueFrom": {"secretKeyRef": secret}},
        },
        "authorization": {"type": "simple", "acls": rules},
    }
    return thing("KafkaUser", USER, spec)


class Present:
    """What the operator sees."""

    def __init__(self, collections: Mapping[str, Sequence[Object]]) -> None:
        self._collections = collections

    def objects(self, path: str) -> dict[tuple[str, str], Object]:
        """What a collection holds."""
        found = self._collections.get(path, [])
        return {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in found}


class Recorder:
    """What the operator tells the API server."""

    def __init__(self) -> None:
        self.applied: dict[tuple[str, str], Object] = {}
        self.said: dict[str, Object] = {}

    def apply(self, _: str, body: Object, __: str) -> None:
        """Keep an object."""
        self.applied[body["kind"], body["metadata"]["name"]] = body

    def merge(self, path: str, body: Object) -> None:
        """Keep a status."""
        self.said[path] = body["status"]

    def delete(self, path: str) -> None:
        """Refuse."""
        raise AssertionError(f"nothing is to be deleted, but {path}")

    def of(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [body for (each, _), body in self.applied.items() if each == kind]


def passwords() -> Object:
    body = thing("Secret", "passwords", {})
    return {**body, "data": {USER: "YSBwYXNzd29yZA=="}}


def reconciled(folder: Path, *things: Object, **more: Sequence[Object]) -> Recorder:
    """What the operator does about these objects."""
    paths = {"Kafka": KAFKAS, "KafkaNodePool": POOLS, "KafkaTopic": TOPICS, "KafkaUser": USERS}
    seen: dict[str, list[Object]] = {path: [] for path in paths.values()}
    for each in things:
        seen[paths[each["kind"]]].append(each)
    recorder = Recorder()
    operator = Operator(Present({**seen, SECRETS: [passwords()], **more}), folder)  # type: ignore[arg-type]
    operator.reconcile(recorder)  # type: ignore[arg-type]
    return recorder
