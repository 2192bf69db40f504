"""PostgreSQL's rules: what declared settings let a failover cost, and where a reader is sent."""

from __future__ import annotations

from typing import Any

import pytest

from components import releases
from policies import manifests
from policies.model import Resource
from policies.rules import RULES, SUBJECTS
from policies.rules.postgres import failover_seconds
from tests.policies.analyzer_session import Session

pytestmark = pytest.mark.unit

NODE_SILENT = 50.0
PATIENT = {"liveness": {"periodSeconds": 20, "failureThreshold": 6, "timeoutSeconds": 5}}

FAILOVERS: dict[str, tuple[dict[str, Any], float]] = {
    "as the component declares it": (
        {
            "switchoverDelay": 120,
            "failoverDelay": 3,
            "primaryLease": {"leaseDurationSeconds": 3},
            "probes": {
                "readiness": {"periodSeconds": 2, "failureThreshold": 3, "timeoutSeconds": 5},
                "liveness": {"periodSeconds": 3, "failureThreshold": 3, "timeoutSeconds": 3},
            },
        },
        (6 + 5 + 120) + 3 + 3 + 10,
    ),
    "upstream's probes": ({"switchoverDelay": 120}, (30 + 5 + 120) + 15 + 10),
    "a node that is lost takes longest": ({"switchoverDelay": 5}, NODE_SILENT + 15 + 10),
    "a liveness probe that is patient": (
        {"switchoverDelay": 60, "probes": PATIENT},
        (6 * 20 + 5) + 15 + 10,
    ),
    "time instead of failures": (
        {"switchoverDelay": 5, "livenessProbeTimeout": 115},
        (12 * 10 + 5) + 15 + 10,
    ),
    "time instead of failures, and a period": (
        {
            "switchoverDelay": 5,
            "livenessProbeTimeout": 115,
            "probes": {"liveness": {"periodSeconds": 30}},
        },
        (4 * 30 + 5) + 15 + 10,
    ),
}


@pytest.mark.parametrize("case", FAILOVERS)
def test_a_failover_takes_as_long_as_its_longest_case(case: str) -> None:
    spec, seconds = FAILOVERS[case]
    assert failover_seconds(_cluster(spec), NODE_SILENT) == seconds


@pytest.mark.parametrize(("rto", "broken"), [(150, False), (149, True)])
def test_an_objective_is_held_to_the_longest_case(
    analyzer: Session, rto: int, *, broken: bool
) -> None:
    annotations = {"fault-tolerance/postgres-rto-seconds": str(rto)}
    changes = [
        {"kind": "Namespace", "metadata": {"name": "games", "annotations": annotations}},
        {
            "kind": "Cluster",
            "metadata": {"name": "postgres"},
            "spec": {"switchoverDelay": 60, "probes": PATIENT},
        },
    ]
    found = analyzer.judge(manifests.changed(manifests.baseline(), changes))
    assert {each.rule for each in found} == ({"objective-rto"} if broken else set())


def test_the_manual_is_that_of_the_pinned_release() -> None:
    minor, _, _ = releases.CLOUDNATIVE_PG.version.rpartition(".")
    manual = [each.source for each in SUBJECTS["postgres"] if "cloudnative-pg.io" in each.source]
    assert len(manual) > 8
    for source in manual:
        assert source.startswith(f"https://cloudnative-pg.io/docs/{minor}/")


def test_durability_is_told_under_a_heading_of_its_own() -> None:
    anchor = "/replication/#data-durability-and-synchronous-replication"
    assert RULES["postgres-durability"].source.endswith(anchor)


def test_an_isolated_primary_is_one_that_lacks_any_of_the_others() -> None:
    assert "all of the other instances" in RULES["postgres-isolation-check"].why


def _cluster(spec: dict[str, Any]) -> Resource:
    return manifests.resource(
        {
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Cluster",
            "metadata": {"name": "postgres", "namespace": "games"},
            "spec": spec,
        }
    )
