"""PostgreSQL: what keeps acknowledged writes, and the ways back when everything is lost."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from components import parts
from components.parts import Client
from components.postgres import Postgres, PostgresArgs
from stacks.systems.postgres import PostgresSettings
from stacks.values import Objective
from tests.components.conftest import Registry, Secret, registered_by

pytestmark = pytest.mark.unit

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
SETTINGS = PostgresSettings()
DAY = 86_400


def _args(**changes: Any) -> PostgresArgs:
    usual: dict[str, Any] = {
        "namespace": "sim-data",
        "settings": SETTINGS,
        "objective": Objective(rpo=300, rto=180),
        "zones": ZONES,
        "priority_class": "sim-data",
        "storage_class": "gp3",
        "snapshot_class": "snapshots",
        "backup_bucket": "sim-backups",
        "clients": (Client("sim-core", "engine"),),
        "protect": True,
    }
    return PostgresArgs(**{**usual, **changes})


@cache
def _postgres(
    settings: PostgresSettings = SETTINGS, protect: bool = True, wait: bool = False
) -> Registry:
    args = _args(settings=settings, protect=protect, wait=wait)
    return registered_by(lambda: Postgres("database", args))


def _cluster(settings: PostgresSettings = SETTINGS) -> dict[str, Any]:
    spec: dict[str, Any] = _postgres(settings).one("Cluster").inputs["spec"]
    return spec


def test_example_of_the_docstring_runs() -> None:
    def program() -> None:
        Postgres(
            "games",
            PostgresArgs(
                namespace="games-data",
                settings=PostgresSettings(),
                objective=Objective(rpo=300, rto=180),
                zones=ZONES,
                priority_class="games-data",
                storage_class="gp3",
                snapshot_class="snapshots",
                backup_bucket="games-backups",
                clients=(Client("games-core", "engine"),),
                protect=True,
            ),
        )

    assert registered_by(program).one("Cluster", "games")


def test_a_write_needs_a_standby_and_only_one_that_has_it_is_promoted() -> None:
    assert _cluster(settings=PostgresSettings(synchronous=2))["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 2,
        "dataDurability": "required",
        "failoverQuorum": True,
    }


def test_a_single_server_has_no_standby_to_wait_for() -> None:
    settings = PostgresSettings(instances=1, synchronous=0)
    assert "synchronous" not in _cluster(settings=settings)["postgresql"]


def test_no_two_instances_share_a_zone() -> None:
    affinity = _cluster()["affinity"]
    assert affinity["podAntiAffinityType"] == "required"
    assert affinity["topologyKey"] == parts.ZONE


def test_more_instances_than_zones_can_all_be_placed() -> None:
    spec = _cluster(settings=PostgresSettings(instances=5))
    assert spec["affinity"]["topologyKey"] == parts.HOST
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == parts.ZONE


def test_delays_are_far_below_upstreams() -> None:
    spec = _cluster(settings=PostgresSettings(switchover_delay=60))
    assert spec["switchoverDelay"] == 60
    assert spec["switchoverDelay"] + spec["smartShutdownTimeout"] < spec["stopDelay"] <= 180
    assert spec["startDelay"] == 600


def test_data_and_log_have_volumes_of_their_own() -> None:
    spec = _cluster()
    assert spec["storage"]["size"] == "100Gi"
    assert spec["walStorage"]["size"] == "20Gi"
    assert {spec[key]["storageClass"] for key in ("storage", "walStorage")} == {"gp3"}


def test_an_absent_standby_cannot_fill_the_logs_volume() -> None:
    parameters = _cluster(settings=PostgresSettings(wal_storage="8Gi"))["postgresql"]["parameters"]
    assert parameters["max_slot_wal_keep_size"] == "4096MB"


def test_the_log_is_archived_as_often_as_the_settings_say() -> None:
    spec = _cluster(settings=PostgresSettings(archive_timeout=120))
    assert spec["postgresql"]["parameters"]["archive_timeout"] == "120s"
    [plugin] = spec["plugins"]
    assert plugin["isWALArchiver"]
    store = _postgres().one("ObjectStore").inputs["metadata"]["name"]
    assert plugin["parameters"] == {"barmanObjectName": store}


def test_backups_are_encrypted_kept_and_need_no_stored_key() -> None:
    spec = (
        _postgres(settings=PostgresSettings(retention=20 * DAY)).one("ObjectStore").inputs["spec"]
    )
    assert spec["retentionPolicy"] == "20d"
    configuration = spec["configuration"]
    assert configuration["destinationPath"] == "s3://sim-backups/database"
    assert configuration["s3Credentials"] == {"inheritFromIAMRole": True}
    assert {configuration[k]["encryption"] for k in ("data", "wal")} == {"aws:kms"}


def test_both_kinds_of_backup_are_scheduled_at_different_times() -> None:
    schedules = {
        r.inputs["spec"]["method"]: r.inputs["spec"]["schedule"]
        for r in _postgres().of("ScheduledBackup")
    }
    assert schedules == {"plugin": "0 0 0 * * *", "volumeSnapshot": "0 30 0 * * *"}


def test_snapshots_outlive_their_objects() -> None:
    postgres = _postgres()
    snapshots = postgres.one("Cluster").inputs["spec"]["backup"]["volumeSnapshot"]
    assert snapshots["className"] == snapshots["walClassName"] == "snapshots"
    assert snapshots["snapshotOwnerReference"] == "none"
    owners = {r.inputs["spec"]["backupOwnerReference"] for r in postgres.of("ScheduledBackup")}
    assert owners == {"none"}


def test_poolers_are_spread_and_drained_one_by_one() -> None:
    postgres = _postgres()
    pooler = postgres.one("Pooler").inputs
    assert pooler["spec"]["instances"] == 3
    spread = pooler["spec"]["template"]["spec"]["topologySpreadConstraints"][0]
    chosen = {"cnpg.io/poolerName": pooler["metadata"]["name"]}
    assert spread["labelSelector"]["matchLabels"] == chosen
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    budget = postgres.one("PodDisruptionBudget").inputs["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, chosen)


def test_the_poolers_connections_fit_into_the_servers() -> None:
    pooler = _postgres().one("Pooler").inputs["spec"]
    size = int(pooler["pgbouncer"]["parameters"]["default_pool_size"])
    assert pooler["instances"] * size < 100  # PostgreSQL's default for max_connections


def test_nobody_is_superuser_from_outside() -> None:
    assert _cluster()["enableSuperuserAccess"] is False


def test_the_owners_password_is_secret_everywhere() -> None:
    postgres = _postgres()
    owner = postgres.one("Secret", "database-owner").inputs
    assert owner["type"] == "kubernetes.io/basic-auth"
    assert all(isinstance(secret.inputs["data"], Secret) for secret in postgres.of("Secret"))
    elsewhere = [r.inputs for r in postgres.resources if r.kind not in {"Secret", "RandomPassword"}]
    assert "generated" not in json.dumps(elsewhere)


def test_the_cluster_starts_with_the_generated_owner() -> None:
    assert _cluster()["bootstrap"]["initdb"]["secret"] == {"name": "database-owner"}


def test_clients_are_led_to_the_pooler() -> None:
    published = _postgres().one("ConfigMap", "database-client").inputs
    assert published["metadata"]["namespace"] == "sim-core"
    assert published["data"]["PGHOST"] == "database-pooler.sim-data.svc.cluster.local"


def test_clients_reach_the_poolers_alone() -> None:
    postgres = _postgres()
    instances = postgres.one("NetworkPolicy", "database").inputs["spec"]
    poolers = postgres.one("NetworkPolicy", "database-pooler").inputs["spec"]
    client = parts.peer("sim-core", parts.selector("engine"))
    assert poolers["ingress"] == [{"from": [client], "ports": parts.ports(5432)}]
    assert client not in [peer for rule in instances["ingress"] for peer in rule["from"]]


def test_waiting_for_readiness_is_a_choice() -> None:
    waiting = _postgres(wait=True).one("Cluster").inputs["metadata"]["annotations"]
    assert waiting["pulumi.com/waitFor"] == "condition=Ready"
    idle = _postgres().one("Cluster").inputs["metadata"]["annotations"]
    assert "pulumi.com/waitFor" not in idle


@pytest.mark.parametrize("protect", [True, False])
def test_protection_follows_the_settings(protect: bool) -> None:
    cluster = _postgres(protect=protect).one("Cluster")
    assert (cluster.protect, cluster.retain_on_delete) == (protect, protect)


def test_an_archive_that_misses_the_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^postgres: archive_timeout is 300s, .* rpo is 60s"):
        _args(objective=Objective(rpo=60, rto=180))


def test_more_copies_than_zones_are_refused() -> None:
    settings = PostgresSettings(instances=5, synchronous=3)
    with pytest.raises(ValueError, match=r"^postgres: synchronous is 3, but .* only 3 zones"):
        _args(settings=settings)
