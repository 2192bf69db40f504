"""What is watched of PostgreSQL."""

from __future__ import annotations

import re

import pytest
import yaml

from components import postgres_alerts
from components.alerts import Alert, Severity
from components.manifest import find, parse
from local.toolchain import build
from stacks.systems.postgres import PostgresSettings
from stacks.values import DAY, Objective
from tests.components.test_kafka_alerts import section

pytestmark = pytest.mark.unit

OBJECTIVE = Objective(rpo=120, rto=180)


def _alerts(settings: PostgresSettings | None = None) -> dict[str, Alert]:
    found = [
        *postgres_alerts.of("cards", "sim-data", settings or PostgresSettings(), OBJECTIVE),
        *postgres_alerts.of_standby("cards", "sim-data", 1200),
    ]
    return {alert.name: alert for alert in found}


ALERTS = _alerts()
each_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)

COLLECTOR = {"pg_wal_archive_status", "replica_mode"}
"""Of the operator's own collector, whose names its release does not list (`pg_collector.go`)."""


@pytest.mark.parametrize(
    "name",
    [
        "PostgresPrimaries",
        "PostgresWritesWait",
        "PostgresStandbyLeftBehind",
        "PostgresArchiveStale",
        "PostgresBackupOverdue",
        "PostgresDiskFilling",
        "PostgresLogFilling",
        "PostgresRegionBehind",
    ],
)
def test_what_stops_writes_or_breaks_an_objective_calls_a_person_now(name: str) -> None:
    assert ALERTS[name].severity is Severity.CRITICAL


def test_stopped_writes_are_told_after_a_failover_should_be_over() -> None:
    for name in ("PostgresPrimaries", "PostgresWritesWait", "PostgresStandbyLeftBehind"):
        assert 44 < ALERTS[name].for_seconds <= 60


def test_lost_redundancy_is_told_only_when_it_lasts() -> None:
    for name in ("PostgresStandbyMissing", "PostgresReplicationLag"):
        assert ALERTS[name].severity is Severity.WARNING
        assert ALERTS[name].for_seconds >= 120


def test_an_archive_is_stale_once_more_than_the_objective_would_be_lost() -> None:
    assert f"> {OBJECTIVE.rpo} and" in ALERTS["PostgresArchiveStale"].expr


def test_an_idle_archive_is_no_stale_one() -> None:
    """Where nothing is written nothing is archived: only a log that waits tells of a fault."""
    assert 'value="ready"} > 0' in ALERTS["PostgresArchiveStale"].expr


def test_a_base_backup_may_be_late_once_and_must_not_be_missing() -> None:
    expr = _alerts(PostgresSettings(backup_every=DAY // 2))["PostgresBackupOverdue"].expr
    assert f"> {DAY} or absent(" in expr


def test_standbys_are_counted_against_the_settings() -> None:
    alerts = _alerts(PostgresSettings(instances=5, synchronous=2))
    assert alerts["PostgresStandbyMissing"].expr.endswith("< 4")
    assert alerts["PostgresWritesWait"].expr.endswith("< 2")


@pytest.mark.parametrize("name", ["PostgresStandbyMissing", "PostgresWritesWait"])
def test_a_copy_that_is_being_made_counts_as_no_standby(name: str) -> None:
    """The primary has two connections of it; the standbys say for themselves that they follow."""
    following = r"count\(cnpg_pg_replication_is_wal_receiver_up\{\S+\} == 1\)"
    assert re.match(rf"\({following} or vector\(0\)\) < \d$", ALERTS[name].expr)


def test_a_single_server_misses_no_standby() -> None:
    alerts = _alerts(PostgresSettings(instances=1, synchronous=0))
    assert not alerts.keys() & {
        "PostgresStandbyMissing",
        "PostgresStandbyLeftBehind",
        "PostgresWritesWait",
    }


def test_a_standby_is_left_behind_only_while_there_is_somebody_to_follow() -> None:
    """Not in a failover, nor where another region's archive is followed."""
    expr = ALERTS["PostgresStandbyLeftBehind"].expr
    assert "is_wal_receiver_up" in expr
    assert re.search(r"deriv\(cnpg_pg_replication_lag\S+\[3m\]\) > 0.5", expr)
    assert re.search(r"and on \(\) \(count\(cnpg_pg_replication_in_recovery\S+ == 0\) > 0\)$", expr)


def test_a_standby_that_is_restarted_stays_left_behind() -> None:
    """It has replayed nothing since, so that what it tells of its lag is 0."""
    expr = ALERTS["PostgresStandbyLeftBehind"].expr
    either = (
        r"\(deriv\(\S+\[3m\]\) > 0.5 or max_over_time\(cnpg_pg_replication_lag\S+\[3m\]\) == 0\)"
    )
    assert re.search(rf"and on \(pod\) {either} and on", expr)


def test_an_archive_that_works_off_a_backlog_is_behind_too() -> None:
    """More waits than was archived in the time that one segment may take."""
    expr = ALERTS["PostgresArchiveBehind"].expr
    assert re.search(r"increase\(cnpg_pg_stat_archiver_archived_count\S+\[\d+s\]\)$", expr)
    assert ALERTS["PostgresArchiveBehind"].severity is Severity.CRITICAL


@pytest.mark.parametrize(("timeout", "window"), [(15, 120), (120, 120), (600, 600)])
def test_an_archive_is_never_judged_by_less_than_a_few_samples(timeout: int, window: int) -> None:
    alert = _alerts(PostgresSettings(archive_timeout=timeout))["PostgresArchiveBehind"]
    assert alert.expr.endswith(f"[{window}s])")
    assert f"more than were archived in {window} s:" in alert.summary


def test_who_queues_for_one_lock_is_counted_once() -> None:
    """Of N that wait for one object, what is exported counts each N times."""
    expr = ALERTS["PostgresBackendsWait"].expr
    assert expr.startswith("sqrt(sum by (pod) (cnpg_backends_waiting_total{")
    assert "})) / max by (pod) (cnpg_pg_settings_setting{" in expr


@each_alert
def test_only_this_cluster_is_watched(alert: Alert) -> None:
    selectors = re.findall(r"\{([^}]*)\}", alert.expr)
    assert selectors
    for selector in selectors:
        assert 'namespace="sim-data"' in selector
        assert "cards-[0-9]+" in selector


@each_alert
def test_expressions_are_whole(alert: Alert) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert alert.expr.count(opening) == alert.expr.count(closing)
    assert alert.expr.count('"') % 2 == 0


@each_alert
def test_every_alert_leads_to_a_section_of_the_runbook_that_names_it(alert: Alert) -> None:
    assert alert.name in section(alert.runbook)


def test_metrics_are_those_that_the_operator_exports() -> None:
    """By the queries that its release brings along."""
    release = parse(build.operator_manifest("cnpg-manager", print).read_text())
    queries = yaml.safe_load(
        find(release, "ConfigMap", "cnpg-default-monitoring")["data"]["queries"]
    )
    exported = {
        f"{query.get('name', key)}_{name}"
        for key, query in queries.items()
        for metric in query["metrics"]
        for name in metric
    } | {f"collector_{name}" for name in COLLECTOR}
    used = {name for alert in ALERTS.values() for name in re.findall(r"\bcnpg_(\w+)", alert.expr)}
    assert len(used) > 8
    assert used <= exported
