"""What is watched of Kafka."""

from __future__ import annotations

import pytest

from components import kafka_alerts
from components.alerts import Alert, Severity
from stacks.loader import ROOT

pytestmark = pytest.mark.unit

RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = {alert.name: alert for alert in kafka_alerts.of("events", "sim-data", 5, 3)}


def section(runbook: str) -> str:
    """The text of a section, found by its anchor as GitHub and GitLab make it."""
    page, _, anchor = runbook.partition("#")
    for part in (RUNBOOKS / page).read_text().split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        if title.lower().replace(" ", "-") == anchor:
            return text
    raise AssertionError(f"{page} has no section {anchor}")


@pytest.mark.parametrize(
    "name",
    [
        "KafkaOfflinePartitions",
        "KafkaUnderMinIsr",
        "KafkaControllersWithoutMajority",
    ],
)
def test_what_stops_or_loses_writes_calls_a_person_within_half_a_minute(name: str) -> None:
    assert ALERTS[name].severity is Severity.CRITICAL
    assert ALERTS[name].for_seconds <= 30


def test_lost_redundancy_is_told_only_when_it_lasts() -> None:
    for name in ("KafkaUnderReplicated", "KafkaBrokerDown"):
        assert ALERTS[name].severity is Severity.WARNING
        assert ALERTS[name].for_seconds >= 120


def test_a_certificate_that_nobody_watches_is_told_too() -> None:
    assert "or absent(strimzi_certificate_expiration" in ALERTS["KafkaCertificateExpires"].expr


def test_a_certificate_of_an_issuer_is_watched_where_there_is_one() -> None:
    issued = {each.name: each for each in kafka_alerts.of("events", "sim-data", 5, 3, issued=True)}
    assert issued.keys() - ALERTS.keys() == {"KafkaCertificateNotRenewed"}
    added = issued["KafkaCertificateNotRenewed"]
    assert 'name="events-tls"' in added.expr
    assert added.name in section(added.runbook)


def test_servers_are_counted_against_the_settings() -> None:
    assert ALERTS["KafkaBrokerDown"].expr.endswith("< 5")
    assert ALERTS["KafkaControllersWithoutMajority"].expr.endswith("< 2")


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_only_this_cluster_is_watched(alert: Alert) -> None:
    assert 'namespace="sim-data"' in alert.expr
    assert "events" in alert.expr


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_expressions_are_whole(alert: Alert) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert alert.expr.count(opening) == alert.expr.count(closing)
    assert alert.expr.count('"') % 2 == 0


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_every_alert_leads_to_a_section_of_the_runbook_that_names_it(alert: Alert) -> None:
    assert alert.name in section(alert.runbook)
