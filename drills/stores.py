"""The stores that are drilled: who leads, whether they are whole, how to weaken and restart."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from components.postgres import OPERATOR_NAMESPACE
from drills.faults import Pod
from drills.kube import Kube
from local import inventory
from local.errors import LocalError

_OPERATOR_LEASE = "db9c8771.cnpg.io"
_SWITCHOVER_SECONDS = 180.0
_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class Store(Protocol):
    """What a drill asks of a store."""

    @property
    def client(self) -> str:
        """The module of its load client."""

    @property
    def connection(self) -> str:
        """The ConfigMap and the Secret, of one name, with which its clients reach it."""

    def leader(self) -> Pod:
        """The Pod that takes the writes.

        Raises:
            LocalError: if none can be named now.
        """

    def is_whole(self) -> bool:
        """Whether every instance is there and follows the leader.

        Raises:
            LocalError: if that cannot be asked now.
        """

    def restart(self) -> None:
        """Ask for a rolling restart of everything."""

    def lead_beside_operator(self) -> None:
        """Have the leader move to the node where its operator leads, if it has an operator.

        Raises:
            LocalError: if it is not there in time.
        """

    def leads_beside_operator(self) -> bool:
        """Whether the leader stands where its operator leads; True if it has no operator.

        Raises:
            LocalError: if that cannot be asked now.
        """

    def weakened(self) -> AbstractContextManager[None]:
        """Run with dangerous settings for as long as the context lasts."""

    def settings(self) -> dict[str, Any]:
        """What its figures depend on."""


@dataclass(frozen=True)
class Postgres:
    """A CloudNativePG cluster."""

    kube: Kube
    namespace: str
    name: str
    client: str = "drills.load.postgres"

    @property
    def connection(self) -> str:
        """As the component publishes it."""
        return f"{self.name}-client"

    @property
    def _path(self) -> str:
        return f"/apis/postgresql.cnpg.io/v1/namespaces/{self.namespace}/clusters/{self.name}"

    def leader(self) -> Pod:
        """The current primary."""
        return self.kube.pod(
            self.namespace, self.kube.api.get(self._path)["status"]["currentPrimary"]
        )

    def is_whole(self) -> bool:
        """Whether all instances are ready and restarted, and the primary streams to the others."""
        cluster = self.kube.api.get(self._path)
        if not all_ready(cluster) or self._is_restart_due(cluster):
            return False
        return self._ask("select count(*) from pg_stat_replication where state = 'streaming'") == (
            str(cluster["spec"]["instances"] - 1)
        )

    def restart(self) -> None:
        """Restart the instances, standbys first, and the poolers beside them."""
        now = datetime.now(UTC).isoformat()
        stamp = {"metadata": {"annotations": {_RESTARTED_AT: now}}}
        self.kube.api.merge(self._path, stamp)
        deployments = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        labels = f"cnpg.io/cluster={self.name}"
        for found in self.kube.api.items(f"{deployments}?labelSelector={labels}"):
            path = f"{deployments}/{found['metadata']['name']}"
            self.kube.api.merge(path, {"spec": {"template": stamp}})

    def lead_beside_operator(self) -> None:
        """Switch over to the instance there; every node of a zone has one."""
        operator = self._operator()
        instances = self.kube.ready_pods(self.namespace, self._instances)
        target = next((pod.name for pod in instances if pod.node == operator.node), None)
        if target is None:
            raise LocalError(
                f"no instance of {self.name} is ready on {operator.node}, where {operator.name} "
                "leads"
            )
        deadline = time.monotonic() + _SWITCHOVER_SECONDS
        while self.leader().name != target:
            if time.monotonic() > deadline:
                raise LocalError(f"{target} did not lead within {_SWITCHOVER_SECONDS:.0f} s")
            self.kube.api.merge(f"{self._path}/status", {"status": {"targetPrimary": target}})
            time.sleep(1)

    def leads_beside_operator(self) -> bool:
        """Whether the primary and the operator's leader share a node."""
        return self.leader().node == self._operator().node

    @contextmanager
    def weakened(self) -> Iterator[None]:
        """Acknowledge writes that no standby has, and promote whatever is there."""
        postgresql = self.kube.api.get(self._path)["spec"]["postgresql"]
        self._set_synchronous(None)
        try:
            yield
        finally:
            self._set_synchronous(postgresql.get("synchronous"))

    def settings(self) -> dict[str, Any]:
        """The whole declaration."""
        spec: dict[str, Any] = self.kube.api.get(self._path)["spec"]
        return spec

    @property
    def _instances(self) -> str:
        return f"cnpg.io/cluster={self.name},cnpg.io/podRole=instance"

    def _operator(self) -> Pod:
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases"
        holder = self.kube.api.get(f"{leases}/{_OPERATOR_LEASE}")["spec"]["holderIdentity"]
        return self.kube.pod(OPERATOR_NAMESPACE, holder.split("_")[0])

    def _is_restart_due(self, cluster: dict[str, Any]) -> bool:
        """Whether an instance has not followed the last `restart`; it is ready until its turn."""
        asked = cluster["metadata"].get("annotations", {}).get(_RESTARTED_AT)
        pods = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={self._instances}"
        return asked is not None and any(
            pod["metadata"].get("annotations", {}).get(_RESTARTED_AT) != asked
            for pod in self.kube.api.items(pods)
        )

    def _set_synchronous(self, value: object) -> None:
        self.kube.api.merge(self._path, {"spec": {"postgresql": {"synchronous": value}}})

    def _ask(self, query: str) -> str:
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query]
        return self.kube.execute(self.leader(), "postgres", command).strip()


_TELL_SECONDS = 120.0


@dataclass(frozen=True)
class Redis:
    """Data servers with their Sentinels."""

    kube: Kube
    namespace: str
    name: str
    client: str = "drills.load.redis"

    @property
    def connection(self) -> str:
        """As the component publishes it."""
        return f"{self.name}-client"

    def leader(self) -> Pod:
        """The master that the Sentinels name."""
        sentinels = self._pods(f"{self.name}-sentinel")
        if not sentinels:
            raise LocalError(f"no Sentinel of {self.namespace}/{self.name} is ready")
        answer = self._ask(
            sentinels[0], f"ask $here sentinel get-master-addr-by-name {self.name}"
        ).split()
        # Each server has a Service of its own, whose address it goes by, named as its Pod.
        name = answer and inventory.service_at(self.kube.api, self.namespace, answer[0])
        if not name:
            raise LocalError(f"no Sentinel of {self.namespace}/{self.name} names a master")
        return self.kube.pod(self.namespace, name)

    def is_whole(self) -> bool:
        """Whether all servers and Sentinels are ready, and the master feeds all others."""
        servers, sentinels = (
            self.kube.api.get(self._set(name)) for name in (self.name, f"{self.name}-sentinel")
        )
        if not (is_rolled_out(servers) and is_rolled_out(sentinels)):
            return False
        replication = self._ask(self.leader(), "ask $here info replication")
        online: int = servers["spec"]["replicas"] - 1
        return replication.count("state=online") == online

    def restart(self) -> None:
        """Restart servers and Sentinels, one by one in each set."""
        now = datetime.now(UTC).isoformat()
        stamp = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED_AT: now}}}}}
        for name in (self.name, f"{self.name}-sentinel"):
            self.kube.api.merge(self._set(name), stamp)

    def lead_beside_operator(self) -> None:
        """It has none: its Sentinels do all that one would."""

    def leads_beside_operator(self) -> bool:
        """Likewise."""
        return True

    @contextmanager
    def weakened(self) -> Iterator[None]:
        """Let a master take writes that no replica receives."""
        asked = self._ask(self.leader(), "ask $here config get min-replicas-to-write").split()
        if len(asked) != 2:  # noqa: PLR2004 - its name and its value
            raise LocalError(f"the master of {self.namespace}/{self.name} does not answer")
        try:
            self._need_replicas("0")
            yield
        finally:
            self._need_replicas(asked[1])

    def settings(self) -> dict[str, Any]:
        """What the servers and the Sentinels were told."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{self.name}"
        data: dict[str, str] = self.kube.api.get(path)["data"]
        return {name: text for name, text in data.items() if name.endswith(".conf")}

    def _need_replicas(self, number: str) -> None:
        """Tell all servers; one that was cut off may take a while to listen again.

        Raises:
            LocalError: if one does not within `_TELL_SECONDS`.
        """
        wanted = self.kube.api.get(self._set(self.name))["spec"]["replicas"]
        deadline = time.monotonic() + _TELL_SECONDS
        told: set[str] = set()
        while len(told) < wanted:
            for pod in self._pods(self.name):
                with suppress(LocalError):
                    asked = f"ask $here config set min-replicas-to-write {number}"
                    if self._ask(pod, asked).strip() == "OK":
                        told.add(pod.name)
            if time.monotonic() > deadline:
                raise LocalError(
                    f"only {', '.join(sorted(told)) or 'none'} of {self.namespace}/{self.name} "
                    f"could be told min-replicas-to-write {number}"
                )

    def _set(self, name: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets/{name}"

    def _pods(self, name: str) -> list[Pod]:
        return self.kube.ready_pods(self.namespace, f"app.kubernetes.io/name={name}")

    def _ask(self, pod: Pod, script: str) -> str:
        """Run shell that may use the component's own `ask`."""
        return self.kube.execute(pod, "redis", ["sh", "-c", f'. "$REDIS_CONFIG/lib.sh"; {script}'])


@dataclass(frozen=True)
class Kafka:
    """A Kafka cluster, through a topic and a user of the drills' own.

    Servers are asked by the Python of their local image, with the certificate that the stand-in for
    Strimzi (local/strimzi) gives each of them.
    """

    kube: Kube
    namespace: str
    name: str
    client: str = "drills.load.kafka"
    connection: str = "kafka-drill-client"

    def admit(self, namespace: str, service: str) -> None:
        """Make topic and user, and tell a client of this service's kind how it gets in.

        Raises:
            LocalError: if they are not ready in time.
        """
        login = {"username": _text("drill"), "password": _text(secrets.token_urlsafe(24))}
        for path, body in self._entities(login["password"]):
            self.kube.api.apply(path, body, _MANAGER)
        core = f"/api/v1/namespaces/{namespace}"
        known = self.kube.api.get(f"{core}/configmaps/{self.name}-{service}-client")["data"]
        body = {"apiVersion": "v1", "metadata": {"name": self.connection, "namespace": namespace}}
        told = {**body, "kind": "ConfigMap", "data": {**known, "KAFKA_TOPIC": _TOPIC}}
        self.kube.api.apply(f"{core}/configmaps/{self.connection}", told, _MANAGER)
        secret = {**body, "kind": "Secret", "data": login}
        self.kube.api.apply(f"{core}/secrets/{self.connection}", secret, _MANAGER)
        deadline = time.monotonic() + _ADMISSION_SECONDS
        while not (self._made("kafkatopics") and self._made("kafkausers")):
            if time.monotonic() > deadline:
                raise LocalError(f"topic and user {_TOPIC} are not ready: nobody operates Kafka")
            time.sleep(1)

    def leader(self) -> Pod:
        """The broker that leads the drills' partition."""
        leader, _, _ = self._partitions()[_TOPIC][0]
        if leader < 0:
            raise LocalError(f"nobody leads the topic {_TOPIC}")
        return self.kube.pod(self.namespace, f"{self.name}-broker-{leader}")

    def is_whole(self) -> bool:
        """Whether all servers are ready, and every copy of every partition is in sync."""
        if not all(map(is_rolled_out, self._sets())):
            return False
        found = [partition for topic in self._partitions().values() for partition in topic]
        return all(len(in_sync) == len(copies) for _, copies, in_sync in found)

    def restart(self) -> None:
        """Restart the servers, one by one in each pool."""
        now = datetime.now(UTC).isoformat()
        stamp = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED_AT: now}}}}}
        for each in self._sets():
            self.kube.api.merge(f"{self._sets_path}/{each['metadata']['name']}", stamp)

    def lead_beside_operator(self) -> None:
        """Its operator has no part in a failover."""

    def leads_beside_operator(self) -> bool:
        """Likewise."""
        return True

    def weakened(self) -> AbstractContextManager[None]:
        """Nothing weakens it yet."""
        raise LocalError("no drill runs Kafka with dangerous settings")

    def settings(self) -> dict[str, Any]:
        """What is declared of the cluster."""
        spec: dict[str, Any] = self.kube.api.get(f"{self._path}/kafkas/{self.name}")["spec"]
        return spec

    @property
    def _path(self) -> str:
        return f"/apis/kafka.strimzi.io/v1/namespaces/{self.namespace}"

    @property
    def _sets_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets"

    def _sets(self) -> list[dict[str, Any]]:
        labels = f"strimzi.io/cluster={self.name}"
        return self.kube.api.items(f"{self._sets_path}?labelSelector={labels}")

    def _entities(self, password: str) -> Iterator[tuple[str, dict[str, Any]]]:
        metadata = {
            "name": _TOPIC,
            "namespace": self.namespace,
            "labels": {"strimzi.io/cluster": self.name},
        }
        yield (
            f"/api/v1/namespaces/{self.namespace}/secrets/{_TOPIC}",
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"p": password}},
        )
        kafka = {"apiVersion": "kafka.strimzi.io/v1", "metadata": metadata}
        # A consumer asks for the coordinator of its group, even if it never joins.
        rights = [
            {"resource": {"type": kind, "name": _TOPIC}, "operations": ["All"]}
            for kind in ("topic", "group")
        ]
        secret = {"valueFrom": {"secretKeyRef": {"name": _TOPIC, "key": "p"}}}
        user = {
            "authentication": {"type": "scram-sha-512", "password": secret},
            "authorization": {"type": "simple", "acls": rights},
        }
        yield f"{self._path}/kafkausers/{_TOPIC}", {**kafka, "kind": "KafkaUser", "spec": user}
        topic = {"partitions": 1, "replicas": 3, "config": {"min.insync.replicas": 2}}
        yield f"{self._path}/kafkatopics/{_TOPIC}", {**kafka, "kind": "KafkaTopic", "spec": topic}

    def _made(self, kind: str) -> bool:
        found = self.kube.api.get(f"{self._path}/{kind}/{_TOPIC}")
        status, generation = found.get("status", {}), found["metadata"]["generation"]
        return status.get("observedGeneration") == generation and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions", [])
        )

    def _partitions(self) -> dict[str, list[tuple[int, list[int], list[int]]]]:
        """Leader, copies and copies in sync of each partition, by topic.

        Raises:
            LocalError: if no broker says so.
        """
        labels = f"strimzi.io/cluster={self.name},strimzi.io/broker-role=true"
        problem = LocalError(f"no broker of {self.namespace}/{self.name} is ready")
        for pod in self.kube.ready_pods(self.namespace, labels):
            address = f"{pod.name}.{self.name}-kafka-brokers.{pod.namespace}.svc:9091"
            try:
                text = self.kube.execute(pod, "kafka", ["python3", "-c", _ASK, address])
            except LocalError as error:
                problem = error
            else:
                answer: dict[str, list[tuple[int, list[int], list[int]]]] = json.loads(text)
                return answer
        raise problem


_TOPIC = "drill"
"""Of the drills: topic, user and Secret of the password."""
_MANAGER = "drills"
_ADMISSION_SECONDS = 180.0
_ASK = """
import json, os, sys
from confluent_kafka.admin import AdminClient
folder = "/etc/kafka-secrets"
own = f"{folder}/{os.environ['NAME']}.pem"
admin = AdminClient({
    "bootstrap.servers": sys.argv[1],
    "security.protocol": "ssl",
    "ssl.ca.location": f"{folder}/ca.crt",
    "ssl.certificate.location": own,
    "ssl.key.location": own,
})
topics = admin.list_topics(timeout=5).topics
print(json.dumps({
    name: [(p.leader, p.replicas, p.isrs) for p in topic.partitions.values()]
    for name, topic in topics.items()
}))
"""


def _text(clear: str) -> str:
    return base64.b64encode(clear.encode()).decode()


def is_rolled_out(servers: dict[str, Any]) -> bool:
    """Whether a StatefulSet's Pods are all ready, and as it declares them now.

    Between two restarts of a rolling one all are ready too, and some are still as before.
    """
    status, wanted = servers["status"], servers["spec"]["replicas"]
    seen = status.get("observedGeneration") == servers["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas") == status.get("updatedReplicas") == wanted)


def all_ready(cluster: dict[str, Any]) -> bool:
    """Whether a CloudNativePG cluster says that no instance is missing and no failover runs."""
    status = cluster.get("status", {})
    settled: bool = status.get("currentPrimary") == status.get("targetPrimary") is not None
    return settled and bool(status.get("readyInstances") == cluster["spec"]["instances"])
