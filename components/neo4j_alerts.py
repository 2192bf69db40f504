"""What is watched of a Neo4j database, and when a person is called.

From Kubernetes' own metrics (kube-state-metrics and the kubelet), which both editions have, and
cert-manager's of the certificate.
"""

from __future__ import annotations

from components import certificates, jobs
from components.alerts import Alert, Severity, volume_filling
from components.neo4j_tls import RENEWED_DAYS
from stacks.fault_domains import majority
from stacks.systems.neo4j import Edition, Neo4jSettings
from stacks.values import DAY

_TAKEN_DAYS = 60
"""For a server to start again by itself after a renewal, and so show the new certificate."""


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
            # One alone is away by plan, too: while it is dumped.
            60 if servers > 1 else 600,
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
    if settings.issuer is not None:
        found += _certificate(name, namespace)
    if settings.edition is Edition.ENTERPRISE:
        found += _enterprise(name, namespace, settings, backup_every)
    return found


def _enterprise(
    name: str, namespace: str, settings: Neo4jSettings, backup_every: int
) -> list[Alert]:
    outdated = (
        f'kube_statefulset_status_replicas_updated{{namespace="{namespace}",'
        f'statefulset=~"{name}-[0-9]+"}} < 1'
    )
    overdue = {
        "Neo4jBackupOverdue": ("change", backup_every, Severity.CRITICAL),
        # Changes go on extending a chain whose beginning the bucket's lifecycle will delete.
        "Neo4jFullBackupOverdue": ("full", settings.full_every, Severity.WARNING),
    }
    return [
        Alert(
            "Neo4jServerOutdated",
            f"count({outdated}) > 0",
            3600,
            Severity.WARNING,
            "{{ $value }} servers run as declared before: restart them one after the other",
            "neo4j.md#server-outdated",
        ),
        *(
            jobs.overdue(
                alert,
                namespace,
                f"{name}-{kind}",
                every,
                severity=severity,
                runbook="neo4j.md#backup-overdue",
            )
            for alert, (kind, every, severity) in overdue.items()
        ),
    ]


def _certificate(name: str, namespace: str) -> list[Alert]:
    begun = f"max({certificates.told('not_before_timestamp_seconds', f'{name}-tls', namespace)})"
    started = f'min(kube_pod_start_time{{namespace="{namespace}",pod=~"{name}-[0-9]+-0"}})'
    return [
        Alert(
            "Neo4jCertificateNotTaken",
            f"{started} < {begun} and time() - {begun} > {_TAKEN_DAYS * DAY}",
            600,
            Severity.WARNING,
            "A server still shows the certificate before the present one: start it again",
            "neo4j.md#certificate",
        ),
        certificates.not_renewed(
            "Neo4jCertificateNotRenewed",
            f"{name}-tls",
            namespace,
            RENEWED_DAYS - _TAKEN_DAYS,
            "neo4j.md#certificate",
        ),
    ]
