"""What is watched of a PostgreSQL cluster, and when a person is called.

Names of metrics are those of CloudNativePG 1.30 (its collector and its default queries), of the
Barman Cloud plugin 0.14, and of the kubelet. The operator asks the server for most of them no more
than every 30 s, so nothing is held for less than that.
"""

from __future__ import annotations

from components.alerts import Alert, Severity, volume_filling
from stacks.systems.postgres import PostgresSettings, archive_timeout
from stacks.values import Objective

_LATE = 2
"""Intervals after which a base backup counts as missing: one may be slow, or fail once."""

_LAG_SECONDS = 60
"""A standby replays what it lacks before it takes over: so much of a failover is spent on it."""

_STANDING_STILL = 0.5
"""Seconds by which a standby gets older in each second: 1 if it replays nothing. One that replays
what it missed gets younger."""

_TRANSACTION_SECONDS = 300
"""CloudNativePG's own threshold: longer ones hold back vacuum, and locks that others wait for."""

_WAITING_SHARE = 0.25
"""Of all connections: so many that wait for locks of others are a queue. What CloudNativePG exports
counts each waiting lock once for every lock of others on the same object, so N that queue for one
count N times N: the root of it is about how many wait."""

_DEADLOCKS = 10
"""In an hour: each costs its loser the transaction, and some are normal."""

_CONNECTIONS_SHARE = 0.8

_GROWTH_SECONDS = 120
"""Over which a counter's growth is read, at least: it is asked each 15 s and is up to 30 s old, so
that a shorter time may have no two values that differ."""

_AGE = 300_000_000
"""Transactions since the oldest row was frozen: CloudNativePG's own threshold. Autovacuum begins at
200 million; at 2.1 billion the server refuses every write."""


def of(name: str, namespace: str, settings: PostgresSettings, objective: Objective) -> list[Alert]:
    """Every alert of a cluster, whether it is a primary or stands by.

    Args:
        name: of the cluster.
        namespace: where it runs.
        settings: how many instances there should be, and how often what is saved.
        objective: what an outage may cost.
    """
    pods = f'namespace="{namespace}",pod=~"{name}-[0-9]+"'
    return [
        *_instances(pods, settings),
        *_backups(pods, settings, archive_timeout(settings, objective)),
        *_slowly(pods),
        *_volumes(name, namespace),
    ]


def of_standby(name: str, namespace: str, region_rpo: int) -> list[Alert]:
    """What is watched besides while the archive of another region is followed.

    Args:
        name: of the cluster.
        namespace: where it runs.
        region_rpo: seconds that the loss of the other region may cost.
    """
    pods = f'namespace="{namespace}",pod=~"{name}-[0-9]+"'
    return [
        Alert(
            "PostgresRegionBehind",
            # An instance that has lost its stream, and replayed all that it had, tells 0.
            f"min(cnpg_pg_replication_lag{{{pods}}} > 0 "
            f"and on (pod) cnpg_pg_replication_is_wal_receiver_up{{{pods}}} == 0) > {region_rpo}",
            300,
            Severity.CRITICAL,
            "What was replayed here is {{ $value | humanizeDuration }} old: "
            "the loss of the other region would cost more than its RPO",
            "postgres.md#region-behind",
        )
    ]


def _instances(pods: str, settings: PostgresSettings) -> list[Alert]:
    standbys = settings.instances - 1
    # Asked of the standbys: the primary counts a copy that is being made as two. Where another
    # region's archive is followed, the one that restores it has no receiver, and all others do.
    streaming = f"(count(cnpg_pg_replication_is_wal_receiver_up{{{pods}}} == 1) or vector(0))"
    found = [
        Alert(
            "PostgresPrimaries",
            f"(count(cnpg_pg_replication_in_recovery{{{pods}}} == 0) or vector(0)) "
            f"!= on () (1 - (max(cnpg_collector_replica_mode{{{pods}}}) or vector(0)))",
            60,
            Severity.CRITICAL,
            "{{ $value }} instances take writes: one should, or none where the other region does",
            "postgres.md#primaries",
        ),
        Alert(
            "PostgresReplicationLag",
            f"cnpg_pg_replication_lag{{{pods}}} > {_LAG_SECONDS} "
            f"and on (pod) cnpg_pg_replication_is_wal_receiver_up{{{pods}}} == 1",
            120,
            Severity.WARNING,
            "{{ $labels.pod }} is {{ $value | humanizeDuration }} behind the primary",
            "postgres.md#replication-lag",
        ),
    ]
    if standbys:
        found.append(
            Alert(
                "PostgresStandbyMissing",
                f"{streaming} < {standbys}",
                300,
                Severity.WARNING,
                f"{{{{ $value }}}} of {standbys} standbys follow: the next failure may stop writes",
                "postgres.md#standby-missing",
            )
        )
        found.append(
            Alert(
                "PostgresStandbyLeftBehind",
                f"cnpg_pg_replication_in_recovery{{{pods}}} == 1 "
                f"and on (pod) cnpg_pg_replication_is_wal_receiver_up{{{pods}}} == 0 "
                # One that catches up from the archive has no receiver either, but replays. One that
                # has replayed nothing since it started tells 0, and goes on telling it.
                f"and on (pod) (deriv(cnpg_pg_replication_lag{{{pods}}}[3m]) > {_STANDING_STILL} "
                f"or max_over_time(cnpg_pg_replication_lag{{{pods}}}[3m]) == 0) "
                f"and on () (count(cnpg_pg_replication_in_recovery{{{pods}}} == 0) > 0)",
                60,
                Severity.CRITICAL,
                "{{ $labels.pod }} runs and follows nobody: the next failover may promote it, "
                "and what was acknowledged since would be lost",
                "postgres.md#standby-left-behind",
            )
        )
    if settings.synchronous:
        found.append(
            Alert(
                "PostgresWritesWait",
                f"{streaming} < {settings.synchronous}",
                60,
                Severity.CRITICAL,
                f"{{{{ $value }}}} standbys follow, and writes wait for {settings.synchronous}",
                "postgres.md#writes-wait",
            )
        )
    return found


def _backups(pods: str, settings: PostgresSettings, timeout: int) -> list[Alert]:
    plugin = "barman_cloud_cloudnative_pg_io"
    window = max(timeout, _GROWTH_SECONDS)
    last = f"max({plugin}_last_available_backup_timestamp{{{pods}}})"
    return [
        # A store that hangs fails nothing: the operator reports the archive as working. What
        # tells is a log that waits while nothing was archived for longer than it may take.
        Alert(
            "PostgresArchiveStale",
            f"time() - cnpg_pg_stat_archiver_last_archived_time{{{pods}}} > {timeout} "
            f'and on (pod) cnpg_collector_pg_wal_archive_status{{{pods},value="ready"}} > 0',
            120,
            Severity.CRITICAL,
            "{{ $labels.pod }} archived nothing for {{ $value | humanizeDuration }}, and its log "
            "waits: with only the archive left, that would be lost",
            "postgres.md#archive-stale",
        ),
        # While it works off a backlog, it archived something a moment ago.
        Alert(
            "PostgresArchiveBehind",
            f'cnpg_collector_pg_wal_archive_status{{{pods},value="ready"}} > on (pod) '
            f"increase(cnpg_pg_stat_archiver_archived_count{{{pods}}}[{window}s])",
            120,
            Severity.CRITICAL,
            "{{ $value }} segments of the log of {{ $labels.pod }} wait, more than were archived "
            f"in {window} s: with only the archive left, they would be lost",
            "postgres.md#archive-stale",
        ),
        Alert(
            "PostgresArchiveFails",
            f"cnpg_pg_stat_archiver_last_failed_time{{{pods}}} > "
            f"cnpg_pg_stat_archiver_last_archived_time{{{pods}}}",
            300,
            Severity.WARNING,
            "{{ $labels.pod }} fails to archive its log, which fills its volume meanwhile",
            "postgres.md#archive-stale",
        ),
        Alert(
            "PostgresBackupOverdue",
            f"time() - {last} > {_LATE * settings.backup_every} or absent({last})",
            1800,
            Severity.CRITICAL,
            "No base backup has succeeded for twice its interval: a restore takes ever longer, and "
            "in the end has nothing to begin with",
            "postgres.md#backup-overdue",
        ),
        Alert(
            "PostgresBackupFailed",
            f"max({plugin}_last_failed_backup_timestamp{{{pods}}}) > {last}",
            60,
            Severity.WARNING,
            "The newest base backup failed",
            "postgres.md#backup-overdue",
        ),
    ]


def _slowly(pods: str) -> list[Alert]:
    most = f'max by (pod) (cnpg_pg_settings_setting{{{pods},name="max_connections"}})'
    return [
        Alert(
            "PostgresConnections",
            f"sum by (pod) (cnpg_backends_total{{{pods}}}) / {most} > {_CONNECTIONS_SHARE}",
            300,
            Severity.WARNING,
            "{{ $labels.pod }} has {{ $value | humanizePercentage }} of its connections in use",
            "postgres.md#connections",
        ),
        Alert(
            "PostgresLongTransaction",
            f"max by (pod, datname, usename) (cnpg_backends_max_tx_duration_seconds{{{pods}}}) "
            f"> {_TRANSACTION_SECONDS}",
            60,
            Severity.WARNING,
            "A transaction of {{ $labels.usename }} in {{ $labels.datname }} is open for "
            "{{ $value | humanizeDuration }}",
            "postgres.md#long-transaction",
        ),
        Alert(
            "PostgresBackendsWait",
            f"sqrt(sum by (pod) (cnpg_backends_waiting_total{{{pods}}})) / {most} "
            f"> {_WAITING_SHARE}",
            60,
            Severity.WARNING,
            "About {{ $value | humanizePercentage }} of the connections of {{ $labels.pod }} wait "
            "for locks of others",
            "postgres.md#locks",
        ),
        Alert(
            "PostgresDeadlocks",
            f"sum by (datname) (increase(cnpg_pg_stat_database_deadlocks{{{pods}}}[1h])) "
            f"> {_DEADLOCKS}",
            60,
            Severity.WARNING,
            "{{ $value | humanize }} transactions in {{ $labels.datname }} were ended in an hour, "
            "since they waited for each other",
            "postgres.md#locks",
        ),
        Alert(
            "PostgresWraparound",
            f"max by (datname) (cnpg_pg_database_xid_age{{{pods}}}) > {_AGE} "
            f"or max by (datname) (cnpg_pg_database_mxid_age{{{pods}}}) > {_AGE}",
            3600,
            Severity.WARNING,
            "{{ $labels.datname }} was not frozen for {{ $value | humanize }} transactions; "
            "at 2.1 billion it refuses writes",
            "postgres.md#wraparound",
        ),
    ]


def _volumes(name: str, namespace: str) -> list[Alert]:
    return [
        volume_filling(
            f"Postgres{what}Filling",
            f'namespace="{namespace}",persistentvolumeclaim=~"{name}-[0-9]+{suffix}"',
            "postgres.md#disk",
            Severity.CRITICAL,
            300,
        )
        for what, suffix in (("Disk", ""), ("Log", "-wal"))
    ]
