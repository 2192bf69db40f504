"""What is watched of a Neo4j database, and when a person is called.

From Kubernetes' own metrics (kube-state-metrics and the kubelet), which both editions have.
"""

from __future__ import annotations

from components.alerts import Alert, Severity, volume_filling
from stacks.fault_domains import majority
from stacks.systems.neo4j import Edition, Neo4jSettings

_LATE = 2
"""Intervals after which a backup counts as missing: one may be slow, or fail once."""


def of(name: str, namespace: str, settings: Neo4jSettings, backup_every: int) -> list[Alert]:
    """Every alert of a database.

    Args:
        name: of the database.
        namespace: where it runs.
        settings: how many servers there should be.
        backup_every: seconds between two backups.
    """
    servers, least = settings.servers, majority(settings.servers)
    ready = (
        f'sum(kube_statefulset_status_replicas_ready{{namespace="{namespace}",'
        f'statefulset=~"{name}-[0-9]+"}}) or vector(0)'
    )
    claims = f'namespace="{namespace}",persistentvolumeclaim=~"data-{name}-[0-9]+-0"'
    found = [
        Alert(
            "Neo4jNoMajority",
            f"({ready}) < {least}",
            60,
            Severity.CRITICAL,
            f"{{{{ $value }}}} of {servers} servers are ready: nothing is written",
            "neo4j.md#no-majority",
        ),
        volume_filling("Neo4jVolumeFillingUp", claims, "neo4j.md#volume-filling-up"),
    ]
    if servers > 1:
        found.append(
            Alert(
                "Neo4jServerDown",
                f"({ready}) < {servers}",
                300,
                Severity.WARNING,
                f"{{{{ $value }}}} of {servers} servers are ready",
                "neo4j.md#server-down",
            )
        )
    if settings.edition is Edition.ENTERPRISE:
        last = (
            f'kube_cronjob_status_last_successful_time{{namespace="{namespace}",'
            f'cronjob="{name}-change"}}'
        )
        found.append(
            Alert(
                "Neo4jBackupOverdue",
                f"time() - {last} > {_LATE * backup_every} or absent({last})",
                600,
                Severity.CRITICAL,
                "No backup has succeeded for twice its interval: the RPO is not kept",
                "neo4j.md#backup-overdue",
            )
        )
    return found
