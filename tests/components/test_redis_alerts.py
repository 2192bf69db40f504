"""What is watched of Redis."""

from __future__ import annotations

import pytest

from components import redis_alerts
from components.alerts import Alert, Severity
from stacks.systems.redis import RedisSettings
from tests.components.test_kafka_alerts import section

pytestmark = pytest.mark.unit

SETTINGS = RedisSettings(
    replicas=5, sentinels=5, quorum=3, min_replicas_to_write=2, max_lag=7, backup_every=7200
)
ALERTS = {alert.name: alert for alert in redis_alerts.of("cache", "sim-data", SETTINGS)}


@pytest.mark.parametrize(
    "name", ["RedisMasters", "RedisRefusesWrites", "RedisSentinelsWithoutMajority"]
)
def test_what_stops_writes_or_failovers_calls_a_person_within_half_a_minute(name: str) -> None:
    assert ALERTS[name].severity is Severity.CRITICAL
    assert ALERTS[name].for_seconds <= 30


def test_a_person_is_called_for_a_volume_that_stops_writes_and_for_no_other() -> None:
    """Redis refuses writes when its log cannot be written; a failed copy stops nothing."""
    assert ALERTS["RedisPersistenceFails"].severity is Severity.CRITICAL
    assert "bg" not in ALERTS["RedisPersistenceFails"].expr
    assert ALERTS["RedisRewriteFails"].severity is Severity.WARNING


def test_lost_redundancy_is_told_only_when_it_lasts() -> None:
    for name in ("RedisServerDown", "RedisSentinelDown", "RedisReplicaBehind"):
        assert ALERTS[name].severity is Severity.WARNING
        assert ALERTS[name].for_seconds >= 120


def test_what_there_should_be_is_what_the_settings_say() -> None:
    ends = {
        "RedisRefusesWrites": "<= 7) or vector(0)) < 2",
        "RedisSentinelsWithoutMajority": "< 3",
        "RedisSentinelDown": "< 5",
        "RedisServerDown": "< 5",
    }
    assert {name: ALERTS[name].expr[-len(end) :] for name, end in ends.items()} == ends


def test_a_backup_is_missed_after_twice_its_interval_also_if_there_never_was_one() -> None:
    expr = ALERTS["RedisBackupOverdue"].expr
    assert "> 14400" in expr
    assert "or kube_cronjob_created" in expr
    assert 'cronjob="cache-backup"' in expr


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_only_this_cache_is_watched(alert: Alert) -> None:
    assert 'namespace="sim-data"' in alert.expr
    assert "cache-" in alert.expr


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_expressions_are_whole(alert: Alert) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert alert.expr.count(opening) == alert.expr.count(closing)
    assert alert.expr.count('"') % 2 == 0


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_every_alert_leads_to_a_section_of_the_runbook_that_names_it(alert: Alert) -> None:
    assert alert.name in section(alert.runbook)
