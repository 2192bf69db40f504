"""What is watched of a Neo4j database, and when a person is called.

From Kubernetes' own metrics (kube-state-metrics and the kubelet), which both editions have.
"""

from __future__ import annotations

from components import jobs
from components.alerts import Alert, Severity, volume_filling
from stacks.fault_domains import majority
from stacks.systems.neo4j import Edition, Neo4jSettings


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
        found.append(
            jobs.overdue(
                "Neo4jBackupOverdue",
                namespace,
                f"{name}-change",
                backup_every,
                severity=Severity.CRITICAL,
                runbook="neo4j.md#backup-overdue",
            )
        )
    return found
