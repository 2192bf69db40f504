"""Alert rules beside what they watch, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from components import parts


class Severity(StrEnum):
    """Who hears of an alert, and when."""

    CRITICAL = "critical"
    """A person, now: an objective is at risk, or what guards it is gone."""
    WARNING = "warning"
    """A person, in working hours: redundancy or room is running out."""


@dataclass(frozen=True)
class Alert:
    """One alert."""

    name: str
    """In CamelCase, starting with the system, such as `KafkaOfflinePartitions`."""
    expr: str
    """PromQL; fires for each series that it returns."""
    for_seconds: int
    """How long it must hold without a break before it fires; 0: at once."""
    severity: Severity
    summary: str
    """One line for whoever is called; may hold templates such as `{{ $labels.pod }}`."""
    runbook: str
    """Page below `docs/runbooks/`, such as `kafka.md#offline-partitions`."""


_VOLUME_LEFT = 0.2
"""Share of a volume. A full one stops its server, and growing it takes minutes to hours."""


def volume_filling(
    name: str,
    claims: str,
    runbook: str,
    severity: Severity = Severity.WARNING,
    for_seconds: int = 600,
) -> Alert:
    """Watch how much room is left on some volumes.

    Args:
        name: of the alert.
        claims: PromQL's matchers of the volumes' claims, without braces.
        runbook: page below `docs/runbooks/`.
        severity: who hears of it.
        for_seconds: how long it must hold.
    """
    return Alert(
        name,
        f"kubelet_volume_stats_available_bytes{{{claims}}} / "
        f"kubelet_volume_stats_capacity_bytes{{{claims}}} < {_VOLUME_LEFT}",
        for_seconds,
        severity,
        "{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} left",
        runbook,
    )


def rules(
    resource: str,
    metadata: parts.Object,
    alerts: Sequence[Alert],
    opts: pulumi.ResourceOptions,
) -> None:
    """Declare alerts as one group of one PrometheusRule.

    Args:
        resource: name of the resource in the stack.
        metadata: of the PrometheusRule; its name is the group's too.
        alerts: what to watch.
        opts: options of the resource.

    Raises:
        ValueError: if two alerts have one name: routes and silences could not tell them apart.
    """
    names = [alert.name for alert in alerts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"alerts: {name} is there twice; give each alert a name of its own")
    CustomResource(
        resource,
        api_version="monitoring.coreos.com/v1",
        kind="PrometheusRule",
        metadata=metadata,
        spec={"groups": [{"name": metadata["name"], "rules": [_rule(a) for a in alerts]}]},
        opts=opts,
    )


def _rule(alert: Alert) -> parts.Object:
    lasting = {"for": f"{alert.for_seconds}s"} if alert.for_seconds else {}
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **lasting,
        "labels": {"severity": alert.severity.value},
        "annotations": {"summary": alert.summary, "runbook": f"docs/runbooks/{alert.runbook}"},
    }
