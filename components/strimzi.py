"""Plain pieces of Strimzi's resources that Kafka and its mirror share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from components import metrics, parts
from stacks.values import size_in_bytes

API_VERSION: Final = "kafka.strimzi.io/v1"

OPERATOR_NAMESPACE: Final = "strimzi"
"""Where the cluster operator runs; it asks every server for its state."""

CLUSTER_LABEL: Final = "strimzi.io/cluster"
POOL_LABEL: Final = "strimzi.io/pool-name"

CLIENT_PORT, MIRROR_PORT = 9093, 9094
CONTROL_PORT, REPLICATION_PORT, AGENT_PORT, CONNECT_PORT = 9090, 9091, 8443, 8083
METRICS_PORT: Final = 9404
API_PORTS: Final = (443, 6443)
"""Of the Kubernetes API, which the topic and user operators watch."""

METRICS: Final = {"type": "strimziMetricsReporter"}
"""Metrics straight from the servers, without the agent that reads them over JMX."""

SCRAM: Final = "scram-sha-512"

_EPHEMERAL = "2Gi"
_HEAP_SHARE = 2
_MEBIBYTE = 2**20


def family(name: str) -> dict[str, str]:
    """Select every Pod that the operator makes for a cluster."""
    return {CLUSTER_LABEL: name}


def mirror_name(name: str) -> str:
    """Name the mirror of a cluster, and the user that it signs in as."""
    return f"{name}-mirror"


def bootstrap(name: str) -> str:
    """Name the Service that leads clients to the brokers."""
    return f"{name}-kafka-bootstrap"


def password_secret(name: str, user: str) -> str:
    """Name the Secret with the generated password of a user."""
    return f"{name}-{user}-password"


def tls_secret(name: str) -> str:
    """Name the Secret with the certificate that brokers show to services."""
    return f"{name}-tls"


def readiness(wait: bool) -> dict[str, str]:
    """Have an update wait until the operator reports a resource ready."""
    return {"pulumi.com/waitFor": "condition=Ready"} if wait else {}


def resource(
    name: str,
    kind: str,
    metadata: parts.Object,
    spec: parts.Object,
    opts: pulumi.ResourceOptions,
) -> CustomResource:
    """Declare one of Strimzi's resources."""
    return CustomResource(
        name, api_version=API_VERSION, kind=kind, metadata=metadata, spec=spec, opts=opts
    )


def sized(cpu: str, memory: str) -> parts.Object:
    """Resources of a Java server and its heap.

    Half of the memory is heap: the rest is for threads, buffers and the page cache, from which
    consumers that keep up are served. Equal bounds: it is taken once, at the start.
    """
    heap = f"{size_in_bytes(memory) // _HEAP_SHARE // _MEBIBYTE}m"
    return {
        "resources": parts.container_resources(cpu, memory, _EPHEMERAL),
        "jvmOptions": {"-Xms": heap, "-Xmx": heap},
    }


def template(
    priority_class: str, *containers: str, placement: parts.Object | None = None
) -> parts.Object:
    """Template of a Pod under the `restricted` standard, with its containers.

    The user is the image's; the root is not read-only, since Strimzi's scripts write their
    configuration beside themselves.
    """
    security = {**parts.container_security(), "readOnlyRootFilesystem": False}
    return {
        "pod": {
            "priorityClassName": priority_class,
            "tolerations": parts.tolerations(),
            "dnsConfig": parts.dns(),
            "enableServiceLinks": False,
            "securityContext": {
                "fsGroup": 0,
                "fsGroupChangePolicy": "OnRootMismatch",
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **(placement or {}),
        },
        **{container: {"securityContext": security} for container in containers},
    }


def apart(pods: Mapping[str, str], replicas: int, zones: tuple[str, ...]) -> parts.Object:
    """Never two in one zone; more than there are zones are spread evenly, never two on one host.

    Servers come back to the zone of their volume.
    """
    crowded = replicas > len(zones)
    return {
        "affinity": parts.apart(pods, parts.HOST if crowded else parts.ZONE),
        "topologySpreadConstraints": [
            {
                "topologyKey": parts.ZONE,
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": dict(pods)},
            }
        ],
    }


def pod_monitor(name: str, metadata: parts.Object, opts: pulumi.ResourceOptions) -> None:
    """Have every Pod of a cluster scraped that has metrics."""
    selector = {"matchLabels": family(metadata["name"])}
    metrics.pod_monitor(name, metadata, selector, opts, port="tcp-prometheus")
