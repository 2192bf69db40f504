"""Let Prometheus read the metrics of Pods that have no Service for it."""

from __future__ import annotations

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from components import parts

NAMESPACE = "monitoring"
"""Where Prometheus runs; network policies let it in by this name."""

PORT = "metrics"
"""Name of the port of metrics, whatever its number."""

_INTERVAL = "15s"


def reader() -> parts.Object:
    """Select Prometheus, for the ingress rules of a NetworkPolicy."""
    return parts.peer(NAMESPACE)


def pod_monitor(
    resource: str,
    metadata: parts.Object,
    selector: parts.Object,
    opts: pulumi.ResourceOptions,
    port: str = PORT,
) -> None:
    """Have a port of the selected Pods scraped.

    Args:
        resource: name of the resource in the stack.
        metadata: of the PodMonitor; the Pods are in its namespace.
        selector: a label selector.
        opts: options of the resource.
        port: its name, where an operator has chosen another.
    """
    CustomResource(
        resource,
        api_version="monitoring.coreos.com/v1",
        kind="PodMonitor",
        metadata=metadata,
        spec={
            "selector": selector,
            "podMetricsEndpoints": [{"port": port, "interval": _INTERVAL}],
        },
        opts=opts,
    )
