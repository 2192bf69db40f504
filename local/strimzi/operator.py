"""One look at what is declared, and everything that is due for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local.api import Api, RefusedError
from local.errors import LocalError
from local.strimzi import entities, identities, objects
from local.strimzi.properties import Object, address, internal, operator_identity, servers_identity
from local.watch import Watched

GROUP = "/apis/kafka.strimzi.io/v1"
KAFKAS, POOLS, TOPICS, USERS = (
    f"{GROUP}/{kind}" for kind in ("kafkas", "kafkanodepools", "kafkatopics", "kafkausers")
)
SETS, JOBS = "/apis/apps/v1/statefulsets", "/apis/batch/v1/jobs"
SECRETS, DEPLOYMENTS = "/api/v1/secrets", "/apis/apps/v1/deployments"
WATCHED = (KAFKAS, POOLS, TOPICS, USERS, SETS, JOBS, SECRETS, DEPLOYMENTS)

REAL = "strimzi-cluster-operator"
"""The Deployment of a real Strimzi."""

_CLUSTER = "strimzi.io/cluster"
_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps/{}",
    "Job": "/apis/batch/v1/namespaces/{}/jobs/{}",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{}",
    "Secret": "/api/v1/namespaces/{}/secrets/{}",
    "Service": "/api/v1/namespaces/{}/services/{}",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets/{}",
}
_log = logging.getLogger(__name__)


@dataclass
class Operator:
    """Reconciles every Kafka of a cluster.

    Attributes:
        watched: all of `WATCHED`.
        folder: where each Kafka's keys are kept.
    """

    watched: Watched
    folder: Path

    def __post_init__(self) -> None:
        self._applied: dict[str, dict[str, Any]] = {}

    def reconcile(self, api: Api) -> None:
        """Do what is due; an error is told in the status of its Kafka, and tried again."""
        if any(name == REAL for _, name in self.watched.objects(DEPLOYMENTS)):
            return
        for kafka in self.watched.objects(KAFKAS).values():
            if "deletionTimestamp" in kafka["metadata"]:
                continue
            try:
                self._reconcile(api, kafka)
            except LocalError as error:
                _log.warning("%s: %s", kafka["metadata"]["name"], error)
                _report(api, kafka, KAFKAS, str(error))

    def _reconcile(self, api: Api, kafka: Object) -> None:
        pools = self._of(POOLS, kafka)
        members = [(pool, objects.members(kafka, pool)) for pool in pools]
        wanted = list(objects.render_all(kafka, members))
        names = [server.name for _, own in members for server in own]
        for body in [*self._identities(kafka, names), *wanted]:
            self._apply(api, body)
        missing = self._missing(kafka, wanted)
        for pool, own in members:
            numbers = [server.number for server in own]
            _report(api, pool, POOLS, missing, {"nodeIds": numbers})
        status = {"listeners": _listeners(kafka), "clusterId": objects.cluster_id(kafka)}
        _report(api, kafka, KAFKAS, missing, status)
        self._entities(api, kafka)

    def _identities(self, kafka: Object, servers: Iterable[str]) -> list[dict[str, Any]]:
        """The Secrets of keys and certificates: of servers, of the administration, of clients."""
        metadata = kafka["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        pki = identities.ensure(self.folder / f"{namespace}-{name}")
        ca = {"ca.crt": pki.authority.read_bytes()}
        common = [f"{name}-kafka-bootstrap.{namespace}.svc", f"{name}-kafka-bootstrap"]
        pairs = {}
        for server in servers:
            hosts = [*common, address(kafka, server)]
            pair = identities.certificate(pki, server, servers_identity(kafka), hosts)
            pairs[f"{server}.pem"] = b"".join(pair)
        crt, key = identities.certificate(pki, "entity-operator", operator_identity(kafka), [])
        found = {
            f"{name}-kafka-secrets": {**ca, **pairs},
            f"{name}-cluster-ca-cert": ca,
            f"{name}-entity-operator-certs": {
                **ca,
                "entity-operator.crt": crt,
                "entity-operator.key": key,
            },
        }
        return [objects.secret(kafka, secret, data) for secret, data in found.items()]

    def _missing(self, kafka: Object, wanted: Iterable[Object]) -> str | None:
        """Which servers are not ready, in words; None if all are."""
        namespace, sets = kafka["metadata"]["namespace"], self.watched.objects(SETS)
        for body in (each for each in wanted if each["kind"] == "StatefulSet"):
            name, replicas = body["metadata"]["name"], body["spec"]["replicas"]
            status = sets.get((namespace, name), {}).get("status", {})
            ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
            if ready < replicas:
                return f"{name}: {ready} of {replicas} servers are ready"
        return None

    def _entities(self, api: Api, kafka: Object) -> None:
        topics, users = self._of(TOPICS, kafka), self._of(USERS, kafka)
        if not topics and not users:
            return
        namespace, known = kafka["metadata"]["namespace"], self.watched.objects(SECRETS)
        keys = [(namespace, entities.password_of(user)[0]) for user in users]
        for _, secret in (key for key in keys if key not in known):
            raise LocalError(f"there is no Secret {secret}, which holds a user's password")
        told = entities.wanted(kafka, topics, users)
        job = entities.job_name(kafka, told, [known[key] for key in keys])
        passwords = [entities.password_source(user) for user in users]
        for body in entities.render(kafka, job, told, passwords):
            self._apply(api, body)
        jobs = self.watched.objects(JOBS)
        for (where, name), old in jobs.items():
            labels = old["metadata"].get("labels", {})
            mine = labels.get(_CLUSTER) == kafka["metadata"]["name"] and where == namespace
            if mine and name != job:
                api.delete(f"{_PATHS['Job'].format(where, name)}?propagationPolicy=Background")
                api.delete(_PATHS["ConfigMap"].format(where, name))
        done = jobs.get((namespace, job), {}).get("status", {}).get("succeeded", 0)
        missing = None if done else "not made yet"
        for path, present in ((TOPICS, topics), (USERS, users)):
            for entity in present:
                _report(api, entity, path, missing)

    def _of(self, path: str, kafka: Object) -> list[Mapping[str, Any]]:
        """The pools, topics or users of one Kafka, by name."""
        metadata = kafka["metadata"]
        found = self.watched.objects(path)
        return [
            found[key]
            for key in sorted(found)
            if key[0] == metadata["namespace"]
            and found[key]["metadata"].get("labels", {}).get(_CLUSTER) == metadata["name"]
        ]

    def _apply(self, api: Api, body: dict[str, Any]) -> None:
        """Bring an object to its state, unless this process did just that before."""
        metadata = body["metadata"]
        path = _PATHS[body["kind"]].format(metadata["namespace"], metadata["name"])
        if self._applied.get(path) != body:
            api.apply(path, body, "strimzi-stand-in")
            self._applied[path] = body


def _listeners(kafka: Object) -> list[dict[str, str]]:
    name, namespace = kafka["metadata"]["name"], kafka["metadata"]["namespace"]
    host = f"{name}-kafka-bootstrap.{namespace}.svc"
    return [
        {"name": each["name"], "bootstrapServers": f"{host}:{each['port']}"}
        for each in internal(kafka)
    ]


def _report(
    api: Api, thing: Object, path: str, missing: str | None, more: Mapping[str, Any] | None = None
) -> None:
    """Say in an object's status whether it is ready, if it does not say so yet."""
    condition = {"type": "Ready", "status": "False" if missing else "True"}
    if missing:
        condition |= {"reason": "Creating", "message": missing}
    metadata = thing["metadata"]
    status = {
        **(more or {}),
        "conditions": [condition],
        "observedGeneration": metadata["generation"],
    }
    present = thing.get("status", {})
    if any(present.get(key) != value for key, value in status.items()):
        kind = path.rsplit("/", 1)[1]
        own = f"{GROUP}/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"
        try:
            api.merge(f"{own}/status", {"status": status})
        except RefusedError as error:
            if error.status != httpx.codes.NOT_FOUND:  # it was deleted just now
                raise
