"""Alert rules as Prometheus' operator reads them."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components import alerts, parts
from components.alerts import Alert, Severity
from tests.components.conftest import registered_by

pytestmark = pytest.mark.unit


def _alert(**changes: Any) -> Alert:
    usual: dict[str, Any] = {
        "name": "CacheDown",
        "expr": "up == 0",
        "for_seconds": 60,
        "severity": Severity.CRITICAL,
        "summary": "{{ $labels.pod }} is down",
        "runbook": "cache.md#down",
    }
    return Alert(**{**usual, **changes})


def _spec(*given: Alert) -> dict[str, Any]:
    metadata = parts.metadata("cache", "sim-data")
    registry = registered_by(
        lambda: alerts.rules("cache-alerts", metadata, given, pulumi.ResourceOptions())
    )
    spec: dict[str, Any] = registry.one("PrometheusRule", "cache").inputs["spec"]
    return spec


def test_an_alert_becomes_a_rule_with_its_severity_and_runbook() -> None:
    assert _spec(_alert()) == {
        "groups": [
            {
                "name": "cache",
                "rules": [
                    {
                        "alert": "CacheDown",
                        "expr": "up == 0",
                        "for": "60s",
                        "labels": {"severity": "critical"},
                        "annotations": {
                            "summary": "{{ $labels.pod }} is down",
                            "runbook": "docs/runbooks/cache.md#down",
                        },
                    }
                ],
            }
        ]
    }


def test_an_alert_that_cannot_wait_fires_at_once() -> None:
    [group] = _spec(_alert(for_seconds=0))["groups"]
    assert "for" not in group["rules"][0]


def test_two_alerts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="^alerts: CacheDown is there twice"):
        _spec(_alert(), _alert(expr="up == 1"))
