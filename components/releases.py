"""The operators' releases: which ones, and their manifests, changed to what a recovery depends on.

Each function takes a release's documents and returns new ones; nothing here talks to a cluster.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from components import parts
from components.availability import PRIORITY_CLASS, REPLICAS, TOLERATION_SECONDS, survive_zone_loss
from components.manifest import (
    Document,
    ManifestError,
    container,
    find,
    restart_on_change,
    set_variable,
)

CNPG_NAMESPACE: Final = "cnpg-system"
"""CloudNativePG's and its plugin's: the operator looks for plugins in its own namespace."""
CNPG_PODS: Final = {parts.NAME_LABEL: "cloudnative-pg"}
"""Labels of CloudNativePG's own Pods."""
PSMDB_NAMESPACE: Final = "psmdb-operator"
PSMDB_NAME: Final = "percona-server-mongodb-operator"
"""What its release calls the operator's ServiceAccount, Deployment and container."""
STRIMZI_NAMESPACE: Final = "strimzi"


# Which ones -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """A release that is published as a file."""

    version: str
    url: str
    """Where upstream publishes it; `{version}` is the version."""
    sha256: str
    """Digest of the file, which is also in the operator's Go module of that version."""

    @property
    def location(self) -> str:
        """Where upstream publishes this version."""
        return self.url.format(version=self.version)


@dataclass(frozen=True)
class Chart:
    """A release that is published as a Helm chart."""

    version: str
    name: str
    """Its name in a registry, with `oci://`."""


# An upgrade is a version here, and the digest of its file. What stands in a local world
# (local/toolchain) is pinned by Go modules; a test holds the two together.

CLOUDNATIVE_PG: Final = Manifest(
    "1.30.0",
    "https://raw.githubusercontent.com/cloudnative-pg/cloudnative-pg/v{version}"
    "/releases/cnpg-{version}.yaml",
    "f8bede43fe4ee0d478c2355b204a36876b2ae4faac60f2a9452280b293da3b88",
)
BARMAN_CLOUD: Final = Manifest(
    "0.14.0",
    "https://raw.githubusercontent.com/cloudnative-pg/plugin-barman-cloud/v{version}/manifest.yaml",
    "691e598b4591e83e23586d3394a8fedef429586a01d1a1b56ab8b80e9fa6ccb0",
)
PERCONA_MONGODB: Final = Manifest(
    "1.22.0",
    "https://raw.githubusercontent.com/percona/percona-server-mongodb-operator/v{version}"
    "/deploy/cw-bundle.yaml",
    "baa2d1e75e2a75ae444f57359f834477bf0cf4b3bc710f7a328c2589b25214b7",
)
STRIMZI: Final = Chart("1.2.0", "oci://quay.io/strimzi-helm/strimzi-kafka-operator")
DRAIN_CLEANER: Final = Chart("1.6.0", "oci://quay.io/strimzi-helm/strimzi-drain-cleaner")

BARMAN_IMAGE: Final = f"ghcr.io/cloudnative-pg/plugin-barman-cloud:v{BARMAN_CLOUD.version}"
BARMAN_SIDECAR: Final = BARMAN_IMAGE.replace(":", "-sidecar:")
"""The file in the plugin's tag names images of its tests; these are the release's."""


_SCRATCH: Final = "/tmp"  # noqa: S108, a folder of the container
_BURST: Final = "1"
"""CPU limit of an operator: it has nothing to do for days, and must be quick when a node is lost.
Throttled to a tenth of a core, as in some releases, it may miss its lease just then."""

_HEALTH: Final[Document] = {"name": "health", "containerPort": 8081, "protocol": "TCP"}
"""Where operators answer for themselves unless they are told another port."""


def _http(path: str, port: int | str, period: int) -> Document:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": period}


def _resources(cpu: str, memory: str) -> Document:
    resources = parts.container_resources(cpu, memory)
    return {**resources, "limits": {**resources["limits"], "cpu": _BURST}}


# CloudNativePG ----------------------------------------------------------------------------------

LEASE_SECONDS: Final = 10
"""How long a dead leader is waited for; the program's default is 15 s.

With it a killed leader was replaced after 11 to 14 s, with the default after 15 to 19 s (four runs
each). Neither figure can harm data: a leader that loses its lease ends, and PostgreSQL runs on
without an operator.
"""
RENEW_SECONDS: Final = 6
"""After this long without a renewal a leader gives up: three tries, one every 2 s.

An API server that stalls for longer costs a restart of the operator, which is why it is not less.
"""

_GIVE_UP_SENDING = {"name": "net.ipv4.tcp_retries2", "value": "3"}
"""Ends a connection whose other side has been silent for some 3 s, instead of 15 minutes.

The operator keeps connections to the instances and gives each request 30 s. To an instance that was
cut off, without a word, that would be half a minute of every failover.
"""

_CONFIGURATION = "cnpg-controller-manager-config"


def cloudnative_pg(
    release: Sequence[Document],
    *,
    operator: str | None = None,
    postgres: str | None = None,
    pgbouncer: str | None = None,
    unsafe_sysctls: bool = False,
) -> list[Document]:
    """CloudNativePG, able to fail a database over when its own active replica dies with it.

    Args:
        release: the documents of the release's manifest.
        operator: image of the operator, which instances also get their manager from.
        postgres: image of a database whose `Cluster` names none; its tag begins with the version
            of PostgreSQL, as every such image's must, for example `15.14-<digest>`.
        pgbouncer: image of a pooler whose `Pooler` names none.
            Each is the release's own where it is not given.
        unsafe_sysctls: whether the nodes' kubelets allow `net.ipv4.tcp_retries2`, and the
            namespace's Pod security; neither does by default, and the Pods would not start. Then a
            server that was cut off without a word costs a failover some 3 s, not up to 30 s.

    Raises:
        ManifestError: if the release has another shape than expected, or the version is not told.
    """
    documents = copy.deepcopy(list(release))
    deployment = find(documents, "Deployment", "cnpg-controller-manager")
    manager = container(deployment, "manager")
    if operator:
        manager["image"] = operator
        set_variable(manager, "OPERATOR_IMAGE_NAME", operator)
    _pull_once(manager)
    # Whether it can judge objects is no reason for a restart; that is what readiness asks.
    manager["livenessProbe"] = _http("/metrics", "metrics", 10)
    _require_argument(manager, "--leader-elect")
    manager["args"] += [
        f"--leader-lease-duration={LEASE_SECONDS}",
        f"--leader-renew-deadline={RENEW_SECONDS}",
    ]
    manager["resources"] = _resources("100m", "200Mi")
    if unsafe_sysctls:
        deployment["spec"]["template"]["spec"]["securityContext"]["sysctls"] = [_GIVE_UP_SENDING]
    if postgres:
        _require_version(postgres)
    images = {"POSTGRES_IMAGE_NAME": postgres, "PGBOUNCER_IMAGE_NAME": pgbouncer}
    if given := {key: image for key, image in images.items() if image}:
        configuration = _configuration(given)
        restart_on_change(deployment, configuration)
        documents.append(configuration)
    return [*documents, survive_zone_loss(deployment)]


def barman_plugin(
    release: Sequence[Document], *, plugin: str = BARMAN_IMAGE, sidecar: str = BARMAN_SIDECAR
) -> list[Document]:
    """The Barman Cloud plugin: CloudNativePG reconciles no database with backups without it.

    Both replicas serve. With leader election only the leader would listen, so that the other were
    never ready; none is needed, since all that the plugin writes are Roles, which both replicas
    derive from the same object stores, with a retry on conflict.

    Each operator has a replica on its own node, and asks that one, or else one of its zone: with
    another one's node lost, it would ask in vain, for 5 s at a time, until Kubernetes has noticed,
    and fail nothing over meanwhile.

    Its certificates are asked of cert-manager, as in the release.

    Args:
        release: the documents of the release's manifest.
        plugin: image of the plugin's server.
        sidecar: image of the container that the plugin adds to each instance.

    Raises:
        ManifestError: if the release has another shape than expected.
    """
    documents = [copy.deepcopy(body) for body in release if not _names_the_sidecar(body)]
    deployment = find(documents, "Deployment", "barman-cloud")
    server = container(deployment, "barman-cloud")
    server["image"] = plugin
    _pull_once(server)
    # An image's name is no secret; in the Deployment, a new name restarts the plugin.
    set_variable(server, "SIDECAR_IMAGE", sidecar)
    _require_argument(server, "--leader-elect")
    server["args"].remove("--leader-elect")
    server["readinessProbe"] = {"tcpSocket": {"port": 9090}, "periodSeconds": 2}
    server["livenessProbe"] = _http("/healthz", _HEALTH["containerPort"], 10)
    server["ports"] += [_HEALTH]
    server["resources"] = _resources("50m", "256Mi")
    deployment["spec"]["template"]["spec"]["affinity"] = _beside(CNPG_PODS)
    find(documents, "Service", "barman-cloud")["spec"]["trafficDistribution"] = "PreferSameNode"
    return [*documents, survive_zone_loss(deployment)]


def _beside(pods: Mapping[str, str]) -> Document:
    """Affinity to the nodes on which those Pods are, wherever there is room for both."""
    term = {"labelSelector": {"matchLabels": dict(pods)}, "topologyKey": parts.HOST}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def without_cert_manager(documents: Sequence[Document]) -> list[Document]:
    """The documents that a cluster without cert-manager accepts; its certificates are missing."""
    return [body for body in documents if not body["apiVersion"].startswith("cert-manager.io/")]


def _names_the_sidecar(body: Document) -> bool:
    return body["kind"] == "Secret" and "SIDECAR_IMAGE" in body.get("data", {})


def _pull_once(body: Document) -> None:
    """What a node already has must start while the registry is away."""
    body["imagePullPolicy"] = "IfNotPresent"


def _require_version(image: str) -> None:
    """A bare digest is refused, or worse: that of `15ab…` would be taken for version 15."""
    if not re.search(r":\d{2}(\.\d+)?(-[^/:]*)?$", image):
        raise ManifestError(
            f"CloudNativePG reads PostgreSQL's version from an image's tag; {image} tells none: "
            "name it <name>:<version>-<digest>, for example postgres:15.14-0123456789ab"
        )


def _require_argument(body: Document, argument: str) -> None:
    if argument not in body["args"]:
        raise ManifestError(
            f"container {body['name']} is not started with {argument}: the pinned release has "
            "another shape than the one that components/releases.py was written for; adapt it"
        )


def _configuration(values: Mapping[str, str]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _CONFIGURATION, "namespace": CNPG_NAMESPACE},
        "data": dict(values),
    }


# Percona's operator for MongoDB -----------------------------------------------------------------


def percona_mongodb(release: Sequence[Document]) -> list[Document]:
    """Percona's operator for MongoDB, twice; it elects its leader unless it is told not to.

    The release's manifest says neither namespace, nor resources, nor when a replica is ready.

    Args:
        release: the documents of the release's manifest for the whole cluster.

    Raises:
        ManifestError: if the release has another shape than expected.
    """
    documents = copy.deepcopy(list(release))
    for kind in ("ServiceAccount", "Deployment"):
        find(documents, kind, PSMDB_NAME)["metadata"]["namespace"] = PSMDB_NAMESPACE
    deployment = find(documents, "Deployment", PSMDB_NAME)
    manager = container(deployment, PSMDB_NAME)
    _pull_once(manager)
    set_variable(manager, "DISABLE_TELEMETRY", "true")
    # Empty means all namespaces; the API server does not store that it is.
    manager["env"] = [_without_empty_value(variable) for variable in manager["env"]]
    manager["readinessProbe"] = _http("/readyz", _HEALTH["containerPort"], 5)
    manager["livenessProbe"] = _http("/healthz", _HEALTH["containerPort"], 10)
    manager["ports"] += [_HEALTH]
    manager["resources"] = _resources("100m", "256Mi")
    manager["securityContext"] = parts.container_security()
    manager["volumeMounts"] = [{"name": "scratch", "mountPath": _SCRATCH}]
    deployment["spec"]["template"]["spec"] |= {
        "securityContext": parts.pod_security(),
        "volumes": [parts.scratch("scratch", "64Mi")],
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PSMDB_NAMESPACE}}
    return [namespace, *documents, survive_zone_loss(deployment)]


def _without_empty_value(variable: Document) -> Document:
    return {key: value for key, value in variable.items() if (key, value) != ("value", "")}


# Strimzi ----------------------------------------------------------------------------------------


def strimzi_values() -> Document:
    """Values of Strimzi's chart for an operator that the loss of a zone does not stop.

    A chart's objects cannot be changed afterwards, so what `survive_zone_loss` does is said in the
    chart's own words.
    """
    return {
        "replicas": REPLICAS,
        "leaderElection": {"enable": True},
        "watchAnyNamespace": True,
        "podDisruptionBudget": {"enabled": True, "minAvailable": None, "maxUnavailable": 1},
        "priorityClassName": PRIORITY_CLASS,
        "tolerations": parts.tolerations(TOLERATION_SECONDS),
        "topologySpreadConstraints": parts.spread({"name": "strimzi-cluster-operator"}),
        "resources": _resources("200m", "512Mi"),
    }


def drain_cleaner_values() -> Document:
    """Values of the chart of Strimzi's Drain Cleaner, beside the operator.

    It answers evictions of Kafka's Pods with "no", and has the operator restart them once their
    copies have caught up. While it is away evictions are let through, and the operator's budget
    alone holds them back: a drain must not hang on it. It offers no priority.
    """
    return {
        "replicaCount": REPLICAS,
        "namespace": {"create": False, "name": STRIMZI_NAMESPACE},
        "podDisruptionBudget": {"create": True, "minAvailable": 1},
        "topologySpreadConstraints": parts.spread({"app": "strimzi-drain-cleaner"}),
        "tolerations": parts.tolerations(TOLERATION_SECONDS),
        "webhook": {"failurePolicy": "Ignore"},
        "resources": _resources("50m", "128Mi"),
        "podSecurityContext": parts.pod_security(),
        "securityContext": parts.container_security(),
    }
