"""Alerts as Prometheus itself judges them: what happens, and whether a person is called."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from components import mongodb_alerts, postgres_alerts
from components.alerts import Alert
from local.toolchain import build
from stacks.systems.mongodb import MongodbSettings
from stacks.systems.postgres import PostgresSettings
from stacks.values import Objective

pytestmark = pytest.mark.dataplane

NAMESPACE = "sim-data"

ALERTS = {
    alert.name: alert
    for alert in (
        *postgres_alerts.of("pg", NAMESPACE, PostgresSettings(), Objective(rpo=300, rto=180)),
        *postgres_alerts.of_standby("pg", NAMESPACE, 1200),
        *mongodb_alerts.of("docs", NAMESPACE, MongodbSettings()),
    )
}


def judge(folder: Path, alert: Alert, series: Mapping[str, str], *, fires: bool) -> None:
    """Whether an alert fires after ten minutes of these samples, one each 15 s, is as it should."""
    rule = {"alert": alert.name, "expr": alert.expr, "for": f"{alert.for_seconds}s"}
    firing = f'count(ALERTS{{alertname="{alert.name}",alertstate="firing"}}) or vector(0)'
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": "10m", "exp_samples": [{"value": int(fires)}]}
        ],
    }
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "it", "rules": [rule]}]}))
    (folder / "test.json").write_text(
        json.dumps({"rule_files": ["rules.json"], "evaluation_interval": "15s", "tests": [test]})
    )
    done = subprocess.run(
        [build.ensure(["promtool"], print)["promtool"], "test", "rules", "test.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def postgres(standby: Mapping[str, str]) -> dict[str, str]:
    """A primary, and a standby of which some metrics are told."""
    usual = {"in_recovery": "1x40", "is_wal_receiver_up": "1x40", "lag": "0x40"}
    return {
        f'cnpg_pg_replication_in_recovery{{namespace="{NAMESPACE}",pod="pg-1"}}': "0x40",
        **{
            f'cnpg_pg_replication_{name}{{namespace="{NAMESPACE}",pod="pg-2"}}': values
            for name, values in {**usual, **standby}.items()
        },
    }


@pytest.mark.parametrize(
    ("standby", "left_behind"),
    [
        pytest.param({}, False, id="it follows"),
        pytest.param({"is_wal_receiver_up": "0x40", "lag": "0+15x40"}, True, id="it stands still"),
        pytest.param({"is_wal_receiver_up": "0x40"}, True, id="it was restarted since"),
        pytest.param(
            {"is_wal_receiver_up": "0x40", "lag": "9000-15x40"}, False, id="it catches up"
        ),
    ],
)
def test_a_standby_that_follows_nobody_is_told(
    tmp_path: Path, standby: Mapping[str, str], left_behind: bool
) -> None:
    judge(tmp_path, ALERTS["PostgresStandbyLeftBehind"], postgres(standby), fires=left_behind)


@pytest.mark.parametrize(
    ("restored", "streamed", "behind"),
    [
        pytest.param("60x40", {}, False, id="it follows"),
        pytest.param("2000+15x40", {}, True, id="nothing comes"),
        pytest.param(
            "2000+15x40", {"is_wal_receiver_up": "0x40"}, True, id="an instance has no stream too"
        ),
    ],
)
def test_a_region_that_is_behind_is_told(
    tmp_path: Path, restored: str, streamed: Mapping[str, str], behind: bool
) -> None:
    """The first instance restores from the archive, and so has no receiver."""
    series = postgres(streamed)
    own = f'namespace="{NAMESPACE}",pod="pg-1"'
    series |= {
        f"cnpg_pg_replication_in_recovery{{{own}}}": "1x40",
        f"cnpg_pg_replication_is_wal_receiver_up{{{own}}}": "0x40",
        f"cnpg_pg_replication_lag{{{own}}}": restored,
    }
    judge(tmp_path, ALERTS["PostgresRegionBehind"], series, fires=behind)


def mongodb(up: str, reached: str) -> dict[str, str]:
    """Three members of which the third answers, and is reached by the primary, or not."""
    own = f'namespace="{NAMESPACE}",pod="docs-rs0-'
    return {
        **{f'mongodb_up{{{own}{member}"}}': "1x40" for member in (0, 1)},
        f'mongodb_up{{{own}2"}}': up,
        f'mongodb_mongod_replset_my_state{{{own}0"}}': "1x40",
        f'mongodb_mongod_replset_my_state{{{own}2"}}': "2x40",
        **{f'mongodb_members_health{{{own}0",member_idx="{m}"}}': "1x40" for m in (0, 1)},
        f'mongodb_members_health{{{own}0",member_idx="2"}}': reached,
        # Its own view, which calls nobody: it reaches itself alone.
        f'mongodb_members_health{{{own}2",member_idx="0"}}': "0x40",
    }


@pytest.mark.parametrize(
    ("up", "reached", "missed"),
    [
        pytest.param("1x40", "1x40", False, id="all are well"),
        pytest.param("0x40", "0x40", True, id="one is away"),
        pytest.param("1x40", "0x40", True, id="one is cut off from the others"),
    ],
)
def test_a_member_that_is_away_or_cut_off_is_told(
    tmp_path: Path, up: str, reached: str, missed: bool
) -> None:
    judge(tmp_path, ALERTS["MongodbMemberDown"], mongodb(up, reached), fires=missed)
