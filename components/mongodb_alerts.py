"""What is watched of a MongoDB replica set, and when a person is called.

Names of metrics are those of mongodb_exporter 0.47, in its compatible mode and with its collector
of Percona Backup for MongoDB.
"""

from __future__ import annotations

from components import certificates
from components.alerts import Alert, Severity, volume_filling
from stacks.systems.mongodb import MongodbSettings

_LAG_SECONDS = 30
"""Writes wait for a majority: with two members that lag, each takes so long."""

_LATE = 2
"""Intervals after which a backup counts as missing: one may be slow, or fail once."""

_CERTIFICATE_DAYS = 21
"""cert-manager renews after two thirds of 90 days: later than this, it has failed for a week."""

_PRIMARY = 1
"""Number of the state PRIMARY."""


def of(name: str, namespace: str, settings: MongodbSettings) -> list[Alert]:
    """Every alert of a replica set.

    Args:
        name: of the replica set's resource.
        namespace: where it runs.
        settings: how many members there should be, and how often backups are taken.
    """
    pods = f'namespace="{namespace}",pod=~"{name}-rs0-[0-9]+"'
    claims = f'namespace="{namespace}",persistentvolumeclaim=~"mongod-data-{name}-rs0-[0-9]+"'
    return [
        *_members(pods, settings.members),
        volume_filling("MongodbVolumeFillingUp", claims, "mongodb.md#volume-filling-up"),
        *_backups(pods, f'namespace="{namespace}",statefulset="{name}-rs0"', settings),
        *([_certificate(name, namespace)] if settings.issuer is not None else []),
    ]


def _certificate(name: str, namespace: str) -> Alert:
    return certificates.not_renewed(
        "MongodbCertificateNotRenewed",
        f"{name}-ssl",
        namespace,
        _CERTIFICATE_DAYS,
        "mongodb.md#certificate",
    )


def _members(pods: str, members: int) -> list[Alert]:
    lag = f'mongodb_mongod_replset_member_replication_lag{{{pods},self="1"}}'
    # A member that is cut off from the others may still answer its own exporter.
    reached = (
        f"count(mongodb_members_health{{{pods}}} == 1 "
        f"and on (pod) mongodb_mongod_replset_my_state{{{pods}}} == {_PRIMARY})"
    )
    return [
        Alert(
            "MongodbMemberDown",
            f"(count(mongodb_up{{{pods}}} == 1) or vector(0)) < {members} or {reached} < {members}",
            120,
            Severity.WARNING,
            f"{{{{ $value }}}} of {members} members answer, or are reached by the primary",
            "mongodb.md#member-down",
        ),
        Alert(
            "MongodbNoPrimary",
            f"(count(mongodb_mongod_replset_my_state{{{pods}}} == {_PRIMARY}) or vector(0)) == 0",
            60,
            Severity.CRITICAL,
            "No member is primary: nothing is written",
            "mongodb.md#no-primary",
        ),
        Alert(
            "MongodbReplicationLag",
            f"{lag} > {_LAG_SECONDS}",
            300,
            Severity.WARNING,
            "{{ $labels.pod }} is {{ $value }}s behind the primary",
            "mongodb.md#replication-lag",
        ),
    ]


def _backups(pods: str, servers: str, settings: MongodbSettings) -> list[Alert]:
    def overdue(kind: str, every: int) -> str:
        """One that never succeeded counts from the beginning of the servers: it has no series."""
        done = f'mongodb_pbm_backup_last_transition_ts{{{pods},status="done",type="{kind}"}}'
        created = f"kube_statefulset_created{{{servers}}}"
        return f"time() - max({done} or {created}) > {_LATE * every}"

    configured = f"max(mongodb_pbm_cluster_pitr_backup_enabled{{{pods}}})"
    return [
        Alert(
            "MongodbOplogNotArchived",
            f"({configured} or vector(0)) == 0",
            900,
            Severity.CRITICAL,
            "The log of operations is not archived: a restore goes back to the last backup",
            "mongodb.md#oplog-not-archived",
        ),
        Alert(
            "MongodbIncrementalBackupOverdue",
            overdue("incremental", settings.incremental_every),
            0,
            # Whether the log of operations arrives can be seen here alone: the alert above sees
            # whether it should.
            Severity.CRITICAL,
            "The last incremental backup is {{ $value | humanizeDuration }} old",
            "mongodb.md#backup-overdue",
        ),
        Alert(
            "MongodbLogicalBackupOverdue",
            overdue("logical", settings.logical_every),
            0,
            Severity.CRITICAL,
            "The last logical backup is {{ $value | humanizeDuration }} old",
            "mongodb.md#backup-overdue",
        ),
        Alert(
            "MongodbBackupAgentDown",
            f'max by (host) (mongodb_pbm_agent_status{{{pods},self="1"}}) > 0',
            900,
            Severity.WARNING,
            "The backup agent of {{ $labels.host }} does not work",
            "mongodb.md#backup-agent-down",
        ),
    ]
