"""PostgreSQL's settings: what follows from them, and what a stack file may not say."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stacks.systems.postgres import PostgresSettings, against, archive_timeout
from stacks.values import Objective
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

MIRRORED = {"source": "kafka.us-east-1.example.com"}
"""What Kafka wants of a standby."""
SOURCE = {"bucket": "sim-prod-backups-us-west-2"}
TOKEN_FIELDS = {
    "databaseSystemIdentifier": "7420000000000000000",
    "latestCheckpointREDOLocation": "0/6000028",
    "latestCheckpointTimelineID": "1",
    "operatorVersion": "1.30.0",
    "redoWalFile": "000000010000000000000006",
    "timeOfLatestCheckpoint": "Tue Nov 24 08:00:00 2026",
}


def _token(**changes: str) -> str:
    return base64.b64encode(json.dumps({**TOKEN_FIELDS, **changes}).encode()).decode()


@pytest.mark.parametrize(("rpo", "timeout"), [(300, 300), (3600, 300), (60, 60), (0, 1)])
def test_the_log_is_archived_as_often_as_the_objective_asks_and_each_five_minutes(
    rpo: int, timeout: int
) -> None:
    assert archive_timeout(PostgresSettings(), Objective(rpo=rpo, rto=180)) == timeout


def test_a_timeout_that_is_set_is_kept() -> None:
    settings = PostgresSettings(archive_timeout=30)
    assert archive_timeout(settings, Objective(rpo=300, rto=180)) == 30


@pytest.mark.parametrize(("delay", "least"), [(1, 42), (12, 42), (60, 90), (120, 150)])
def test_an_old_primary_is_cut_off_or_shut_down_and_never_both(delay: int, least: int) -> None:
    settings = PostgresSettings(switchover_delay=delay)
    assert not list(against(settings, Objective(rpo=300, rto=least)))
    [problem] = against(settings, Objective(rpo=300, rto=least - 1))
    assert problem.key == ("objectives", "postgres", "rto")
    assert f"the old primary may take {least - 30}s to end" in problem.remedy


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no loss at all from an archive": (
        {"objectives": {"postgres": {"rpo": "0s"}}},
        "objectives.postgres.rpo",
        'is "0s"; it should be at least 1s: the log is archived only so often',
    ),
    "a standby that follows nobody": (
        {"role": "standby", "kafka": MIRRORED},
        "postgres.source",
        "it should name the other region's archive where role is standby",
    ),
    "a token while standing by": (
        {
            "role": "standby",
            "kafka": MIRRORED,
            "postgres": {"source": {**SOURCE, "promotion_token": _token()}},
        },
        "postgres.source.promotion_token",
        "it should be left out where role is standby: it promotes",
    ),
    "a standby that is recovered": (
        {
            "role": "standby",
            "kafka": MIRRORED,
            "postgres": {"source": SOURCE, "recovery": {}, "archive": "postgres-2"},
        },
        "postgres.recovery",
        "it should be left out where role is standby",
    ),
    "a standby whose source is archived too rarely": (
        {
            "role": "standby",
            "kafka": MIRRORED,
            "postgres": {"source": SOURCE},
            "objectives": {"region": {"rpo": "19m"}},
        },
        "objectives.region.rpo",
        'is "19m"; it should be at least 20m: postgres.archive_timeout and the copy',
    ),
    "a second history in one archive": (
        {"postgres": {"recovery": {}}},
        "postgres.archive",
        "it should be another name than recovery.server, such as postgres-2",
    ),
    "a moment without a zone": (
        {"postgres": {"archive": "two", "recovery": {"target_time": "2026-03-01T12:00:00"}}},
        "postgres.recovery.target_time",
        "it should be a past time of RFC 3339 with its zone",
    ),
    "a moment that is not in the calendar": (
        {"postgres": {"archive": "two", "recovery": {"target_time": "2026-02-30T12:00:00Z"}}},
        "postgres.recovery.target_time",
        "it should be a past time of RFC 3339 with its zone",
    ),
    "a moment to come": (
        {
            "postgres": {
                "archive": "two",
                "recovery": {
                    "target_time": f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
                },
            }
        },
        "postgres.recovery.target_time",
        "it should be a past time of RFC 3339 with its zone",
    ),
    "a token that was cut": (
        {"postgres": {"source": {**SOURCE, "promotion_token": _token()[:-8]}}},
        "postgres.source.promotion_token",
        "it should be status.demotionToken of the other region's Cluster",
    ),
    "a token without what it is for": (
        {"postgres": {"source": {**SOURCE, "promotion_token": _token(redoWalFile="")}}},
        "postgres.source.promotion_token",
        "it should be status.demotionToken of the other region's Cluster",
    ),
    "a database that is there already": (
        {"postgres": {"databases": {"app": {}}}},
        "postgres.databases.app",
        "it should have another name: every cluster has a database of that name already",
    ),
    "an owner that PostgreSQL keeps for itself": (
        {"postgres": {"databases": {"cards": {"owner": "postgres"}}}},
        "postgres.databases.cards.owner",
        'is "postgres"; it should be a role of its own',
    ),
    **{
        f"a database named {name}": (
            {"postgres": {"databases": {name: {"owner": "cards"}}}},
            f"postgres.databases.{name}",
            "it should have another name: PostgreSQL or PgBouncer keeps that one for itself",
        )
        for name in ("public", "none", "pgbouncer")
    },
    **{
        f"an owner named {name}": (
            {"postgres": {"databases": {"cards": {"owner": name}}}},
            "postgres.databases.cards.owner",
            f'is "{name}"; it should be a role of its own',
        )
        for name in ("public", "none", "pgbouncer")
    },
    "an extension twice": (
        {"postgres": {"databases": {"cards": {"extensions": ["pg_trgm", "pg_trgm"]}}}},
        "postgres.databases.cards.extensions[1]",
        "it should be left out: it is in the list already",
    ),
    "an extension that none is called": (
        {"postgres": {"databases": {"cards": {"extensions": ["Not One"]}}}},
        "postgres.databases.cards.extensions[0]",
        "it should be the name of an extension, such as pg_trgm",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_be_are_refused(case: str, project: Project) -> None:
    sections, key, what = REFUSED[case]
    project.configure(**sections)
    (error,) = project.errors()
    assert f": fault-tolerance:{key} " in error
    assert what in error


ACCEPTED: dict[str, dict[str, Any]] = {
    "a standby": {"role": "standby", "kafka": MIRRORED, "postgres": {"source": SOURCE}},
    "a standby that was promoted by plan": {
        "postgres": {"source": {**SOURCE, "promotion_token": _token()}}
    },
    "a recovery that was long ago": {
        "postgres": {
            "archive": "postgres-2",
            "recovery": {"target_time": "2020-03-01T12:00:00.5+01:00"},
        }
    },
    "a recovery from another bucket": {"postgres": {"recovery": SOURCE}},
    "a database of the usual owner": {"postgres": {"databases": {"cards": {"owner": "app"}}}},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_settings_that_can_be_are_accepted(case: str, project: Project) -> None:
    project.configure(**ACCEPTED[case])
    project.settings()
