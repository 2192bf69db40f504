"""The operators' own release manifests, changed to what a platform's recovery can depend on.

Each function takes a release's documents and returns new ones; nothing here talks to a cluster.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence

from local.addons.availability import survive_zone_loss
from local.addons.manifest import Document, container, find, restart_on_change, set_variable
from local.errors import LocalError

NAMESPACE = "cnpg-system"
"""Both operators' namespace: CloudNativePG looks for its plugins in its own."""

LEASE_SECONDS = 10
"""How long a dead leader is waited for; the program's default is 15 s.

With it a killed leader was replaced after 11 to 14 s, with the default after 15 to 19 s (four runs
each). Neither figure can harm data: a leader that loses its lease ends, and PostgreSQL runs on
without an operator.
"""
RENEW_SECONDS = 6
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
    release: Sequence[Document], *, operator: str, postgres: str, pgbouncer: str
) -> list[Document]:
    """CloudNativePG, able to fail a database over when its own active replica dies with it.

    Args:
        release: the documents of the release's manifest.
        operator: image of the operator, which instances also get their manager from.
        postgres: image of a database whose `Cluster` names none; its tag begins with the version
            of PostgreSQL, as every such image's must, for example `15.14-<digest>`.
        pgbouncer: image of a pooler whose `Pooler` names none.

    Raises:
        LocalError: if the release has another shape than expected, or the version is not told.
    """
    _require_version(postgres)
    documents = copy.deepcopy(list(release))
    deployment = find(documents, "Deployment", "cnpg-controller-manager")
    manager = container(deployment, "manager")
    _set_image(manager, operator)
    set_variable(manager, "OPERATOR_IMAGE_NAME", operator)
    _require_argument(manager, "--leader-elect")
    manager["args"] += [
        f"--leader-lease-duration={LEASE_SECONDS}",
        f"--leader-renew-deadline={RENEW_SECONDS}",
    ]
    # Throttled to a tenth of a core, an operator is slow exactly when it has much to do, and may
    # miss its lease; its request keeps its share, so nobody suffers from the missing limit.
    del manager["resources"]["limits"]["cpu"]
    pod = deployment["spec"]["template"]["spec"]
    pod["securityContext"] = {**pod.get("securityContext", {}), "sysctls": [_GIVE_UP_SENDING]}
    configuration = _configuration(
        {"POSTGRES_IMAGE_NAME": postgres, "PGBOUNCER_IMAGE_NAME": pgbouncer}
    )
    restart_on_change(deployment, configuration)
    return [*documents, configuration, survive_zone_loss(deployment)]


def barman_plugin(release: Sequence[Document], *, plugin: str, sidecar: str) -> list[Document]:
    """The Barman Cloud plugin: CloudNativePG reconciles no database with backups without it.

    Both replicas serve. With leader election only the leader would listen, so that the other were
    never ready; none is needed, since all that the plugin writes are Roles, which both replicas
    derive from the same object stores, with a retry on conflict.

    The documents lack what cert-manager would make: the Secrets `SERVER_SECRET` and
    `CLIENT_SECRET` of local.addons.certificates.

    Args:
        release: the documents of the release's manifest.
        plugin: image of the plugin's server.
        sidecar: image of the container that the plugin adds to each instance.

    Raises:
        LocalError: if the release has another shape than expected.
    """
    documents = [
        copy.deepcopy(body)
        for body in release
        if not body["apiVersion"].startswith("cert-manager.io/") and not _names_the_sidecar(body)
    ]
    deployment = find(documents, "Deployment", "barman-cloud")
    server = container(deployment, "barman-cloud")
    _set_image(server, plugin)
    # An image's name is no secret; in the Deployment, a new name restarts the plugin.
    set_variable(server, "SIDECAR_IMAGE", sidecar)
    _require_argument(server, "--leader-elect")
    server["args"].remove("--leader-elect")
    server["readinessProbe"] = {"tcpSocket": {"port": 9090}, "periodSeconds": 2}
    server["resources"] = {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"memory": "256Mi"},
    }
    return [*documents, survive_zone_loss(deployment)]


def _names_the_sidecar(body: Document) -> bool:
    return body["kind"] == "Secret" and "SIDECAR_IMAGE" in body.get("data", {})


def _set_image(body: Document, image: str) -> None:
    body["image"] = image
    # What a node already has must start while the registry is away.
    body["imagePullPolicy"] = "IfNotPresent"


def _require_version(image: str) -> None:
    """A bare digest is refused, or worse: that of `15ab…` would be taken for version 15."""
    if not re.search(r":\d{2}(\.\d+)?(-[^/:]*)?$", image):
        raise LocalError(
            f"CloudNativePG reads PostgreSQL's version from an image's tag; {image} tells none: "
            "name it <name>:<version>-<digest>, for example postgres:15.14-0123456789ab"
        )


def _require_argument(body: Document, argument: str) -> None:
    if argument not in body["args"]:
        raise LocalError(
            f"container {body['name']} is not started with {argument}: the pinned release has "
            "another shape than the one that local/addons was written for; adapt it"
        )


def _configuration(values: Mapping[str, str]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _CONFIGURATION, "namespace": NAMESPACE},
        "data": dict(values),
    }
