"""The Kubernetes objects of one Kafka cluster, named and labelled as Strimzi's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local.errors import LocalError
from local.strimzi.properties import (
    BROKER,
    CONTROL_PORT,
    CONTROLLER,
    DATA,
    REPLICATION_PORT,
    SECRETS,
    Object,
    Server,
    internal,
    render,
)

JARS = "/opt/kafka/libs/*"
CONFIG = "/etc/kafka"
_NUMBERS = "strimzi.io/next-node-ids"
_USER = 1001
_STEADY_SECONDS = 10
"""After a start, before the next server restarts: time to catch up with its leaders."""
_LOG = """\
Configuration:
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "%d{ISO8601} %p %m (%c)%n"}}
  Loggers:
    Root: {level: info, AppenderRef: [{ref: STDOUT}]}
"""


def members(kafka: Object, pool: Object) -> list[Server]:
    """The servers of a pool.

    Raises:
        LocalError: if the pool does not say how they are numbered, which tells a server of one pool
            from that of another.
    """
    metadata, spec = pool["metadata"], pool["spec"]
    numbers = re.match(r"\[(\d+)", metadata.get("annotations", {}).get(_NUMBERS, ""))
    if numbers is None:
        raise LocalError(f'{metadata["name"]}: the annotation {_NUMBERS} is needed, as in "[0-99]"')
    first = int(numbers[1])
    return [
        Server(
            f"{_name(kafka)}-{metadata['name']}-{number}",
            number,
            tuple(spec["roles"]),
            tuple(folder for folder, _ in _volumes(pool)),
        )
        for number in range(first, first + spec["replicas"])
    ]


def render_all(
    kafka: Object, pools: Sequence[tuple[Object, Sequence[Server]]]
) -> Iterator[dict[str, Any]]:
    """Every object but the Secrets.

    Args:
        kafka: the `Kafka` object.
        pools: each `KafkaNodePool` with its servers.

    Raises:
        LocalError: if something is declared that the stand-in does not know.
    """
    name = _name(kafka)
    servers = [server for _, own in pools for server in own]
    files = {f"{s.name}.properties": render(kafka, servers, s) for s in servers}
    files["log4j2.yaml"] = _LOG
    yield _object(kafka, "v1", "ConfigMap", f"{name}-kafka-config", data=files)
    listeners = [_port(each["name"], each["port"]) for each in internal(kafka)]
    replication = _port("replication", REPLICATION_PORT)
    everybody = {"strimzi.io/cluster": name, "strimzi.io/name": f"{name}-kafka"}
    headless: dict[str, Any] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": everybody,
        "ports": [_port("control", CONTROL_PORT), replication, *listeners],
    }
    yield _object(kafka, "v1", "Service", f"{name}-kafka-brokers", spec=headless)
    brokers: dict[str, Any] = {
        "selector": {**everybody, "strimzi.io/broker-role": "true"},
        "ports": [replication, *listeners],
    }
    yield _object(kafka, "v1", "Service", f"{name}-kafka-bootstrap", spec=brokers)
    yield _object(
        kafka,
        "policy/v1",
        "PodDisruptionBudget",
        f"{name}-kafka",
        spec={"maxUnavailable": 1, "selector": {"matchLabels": everybody}},
    )
    for pool, own in pools:
        content = "".join(files[f"{server.name}.properties"] for server in own)
        yield _stateful_set(kafka, pool, own, hashlib.sha256(content.encode()).hexdigest())


def _stateful_set(
    kafka: Object, pool: Object, servers: Sequence[Server], digest: str
) -> dict[str, Any]:
    name, spec = _name(kafka), pool["spec"]
    labels = {
        "strimzi.io/cluster": name,
        "strimzi.io/kind": "Kafka",
        "strimzi.io/name": f"{name}-kafka",
        "strimzi.io/pool-name": _name(pool),
        **{f"strimzi.io/{role}-role": _yes(role in spec["roles"]) for role in (BROKER, CONTROLLER)},
        "app.kubernetes.io/name": "kafka",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": f"strimzi-{name}",
        "app.kubernetes.io/managed-by": "strimzi-cluster-operator",
    }
    pod = dict(spec.get("template", {}).get("pod", {}))
    template = pod.pop("metadata", {})
    return _object(
        kafka,
        "apps/v1",
        "StatefulSet",
        f"{name}-{_name(pool)}",
        spec={
            "serviceName": f"{name}-kafka-brokers",
            "replicas": len(servers),
            "ordinals": {"start": servers[0].number if servers else 0},
            "podManagementPolicy": "Parallel",  # a quorum needs several before one is ready
            "minReadySeconds": _STEADY_SECONDS,
            "selector": {"matchLabels": {k: labels[k] for k in list(labels)[:4]}},
            "template": {
                "metadata": {
                    "labels": {**template.get("labels", {}), **labels},
                    "annotations": {**template.get("annotations", {}), "config": digest[:16]},
                },
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": _POD_SECURITY,
                    **pod,
                    "initContainers": [_formats(kafka, pool)],
                    "containers": [_serves(kafka, pool)],
                    "volumes": [
                        {"name": "config", "configMap": {"name": f"{name}-kafka-config"}},
                        {"name": "secrets", "secret": {"secretName": f"{name}-kafka-secrets"}},
                        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
                    ],
                },
            },
            "volumeClaimTemplates": [_claim(path, volume) for path, volume in _volumes(pool)],
        },
    )


def _formats(kafka: Object, pool: Object) -> dict[str, Any]:
    """Prepare a new server's volumes; nothing happens to those of an old one."""
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
    # In one word: of 64 ids one begins with a dash, and would be taken for another option.
    options = [f"--cluster-id={cluster_id(kafka)}", "--config", _PROPERTIES]
    if version := kafka["spec"]["kafka"].get("metadataVersion"):
        options += ["--release-version", version]
    return {**_container(kafka, pool, ["-Xmx96m"], [*tool, *options]), "name": "format"}


def _serves(kafka: Object, pool: Object) -> dict[str, Any]:
    spec = pool["spec"]
    port = REPLICATION_PORT if BROKER in spec["roles"] else CONTROL_PORT
    probe = {"tcpSocket": {"port": port}, "timeoutSeconds": 5}
    heap = [f"{option}{spec['jvmOptions'][option]}" for option in ("-Xms", "-Xmx")]
    server = ["kafka.Kafka", _PROPERTIES]
    return {
        **_container(kafka, pool, [*heap, "-XX:+ExitOnOutOfMemoryError"], server),
        "name": "kafka",
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 150},
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 10},
    }


_PROPERTIES = f"{CONFIG}/$(NAME).properties"
_ON_FEW_CORES = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""In place of what optimizes servers that run for days on cores of their own. Here six of them
start at once: with it they took 69 s of processor while `up` of dev ran, and 36 s without."""


def _container(
    kafka: Object, pool: Object, java: Sequence[str], program: Sequence[str]
) -> dict[str, Any]:
    zone = "metadata.labels['topology.kubernetes.io/zone']"
    log = f"-Dlog4j2.configurationFile={CONFIG}/log4j2.yaml"
    mounts = {"config": CONFIG, "secrets": SECRETS, "tmp": "/tmp"}  # noqa: S108 (in the container)
    mounts |= {_volume_name(path): path for path, _ in _volumes(pool)}
    return {
        "image": kafka["spec"]["kafka"]["image"],
        "command": ["java", *_ON_FEW_CORES, *java, log, "-cp", JARS, *program],
        "env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": zone}}},
        ],
        "resources": pool["spec"].get("resources", {}),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }


CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "fsGroup": 0,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_security() -> dict[str, Any]:
    """What every Pod of a cluster may do: nothing but run as an ordinary user."""
    return dict(_POD_SECURITY)


def _volumes(pool: Object) -> list[tuple[str, Object]]:
    """Where each volume of a server is, and what is declared of it.

    Raises:
        LocalError: if it is none that outlives its Pod.
    """
    storage = pool["spec"]["storage"]
    kinds = {volume["type"] for volume in storage.get("volumes", [])}
    if storage["type"] != "jbod" or kinds != {"persistent-claim"}:
        raise LocalError(f"{_name(pool)}: storage must be jbod with volumes persistent-claim here")
    return [(f"{DATA}/data-{volume['id']}", volume) for volume in storage["volumes"]]


def _claim(path: str, volume: Object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _volume_name(path)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": volume["size"]}},
            **({"storageClassName": volume["class"]} if "class" in volume else {}),
        },
    }


def _volume_name(path: str) -> str:
    return path.rsplit("/", 1)[1]


def secret(kafka: Object, name: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret of the cluster."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return _object(kafka, "v1", "Secret", name, data=encoded)


def job(kafka: Object, name: str, spec: Object) -> dict[str, Any]:
    """A Job of the cluster."""
    return _object(kafka, "batch/v1", "Job", name, spec=spec)


def config_map(kafka: Object, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigMap of the cluster, with JSON in it."""
    texts = {key: json.dumps(value, sort_keys=True) for key, value in data.items()}
    return _object(kafka, "v1", "ConfigMap", name, data=texts)


def cluster_id(kafka: Object) -> str:
    """What tells this cluster's volumes from another's: its uid, as Kafka writes one."""
    number = uuid.UUID(kafka["metadata"]["uid"]).bytes
    return base64.urlsafe_b64encode(number).decode().rstrip("=")


def _object(kafka: Object, version: str, kind: str, name: str, **body: object) -> dict[str, Any]:
    metadata = kafka["metadata"]
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {"strimzi.io/cluster": metadata["name"]},
            "ownerReferences": [
                {
                    "apiVersion": kafka["apiVersion"],
                    "kind": kafka["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        **body,
    }


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": f"tcp-{name}", "port": port, "targetPort": port, "protocol": "TCP"}


def _name(thing: Object) -> str:
    name: str = thing["metadata"]["name"]
    return name


def _yes(value: bool) -> str:
    return str(value).lower()
