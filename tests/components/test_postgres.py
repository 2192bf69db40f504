"""PostgreSQL: what keeps acknowledged writes, and the ways back when everything is lost."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from psycopg2.extensions import parse_dsn

from components import parts
from components.parts import Client
from components.postgres import Postgres, PostgresArgs
from stacks.systems.postgres import ISOLATION, PostgresSettings
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


def _postgres(settings: PostgresSettings = SETTINGS, **changes: Any) -> Registry:
    return _registered(settings.model_dump_json(), **changes)


@cache
def _registered(settings: str, **changes: Any) -> Registry:
    args = _args(settings=PostgresSettings.model_validate_json(settings), **changes)
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


def test_a_primary_that_only_crashed_may_come_back_before_another_is_chosen() -> None:
    assert 2 <= _cluster()["failoverDelay"] <= 5


def test_an_isolated_primary_is_stopped_before_another_can_have_the_lease() -> None:
    spec = _cluster()
    liveness = spec["probes"]["liveness"]
    answered = 0.5 + 1  # seconds: CloudNativePG asks the API server, then an instance
    assert answered < liveness["timeoutSeconds"]
    failed = liveness["failureThreshold"] * liveness["periodSeconds"] + answered
    assert failed + liveness["terminationGracePeriodSeconds"] <= ISOLATION
    node_lost = 8  # at the soonest: `local/cluster.py`
    lease = spec["primaryLease"]["leaseDurationSeconds"]
    assert node_lost + spec["failoverDelay"] + lease > ISOLATION


def test_an_isolated_primary_has_no_time_to_archive_what_nobody_else_has() -> None:
    spec = _cluster()
    assert spec["probes"]["liveness"]["terminationGracePeriodSeconds"] == 1
    assert spec["smartShutdownTimeout"] > 1


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


@pytest.mark.parametrize(
    ("volume", "between", "kept"), [("1Gi", "256MB", "128MB"), ("20Gi", "1024MB", "512MB")]
)
def test_the_log_fits_into_a_small_volume_too(volume: str, between: str, kept: str) -> None:
    settings = PostgresSettings(wal_storage=volume)
    parameters = _cluster(settings=settings)["postgresql"]["parameters"]
    assert (parameters["max_wal_size"], parameters["wal_keep_size"]) == (between, kept)


def test_the_log_is_archived_as_often_as_the_settings_say() -> None:
    spec = _cluster(settings=PostgresSettings(archive_timeout=120))
    assert spec["postgresql"]["parameters"]["archive_timeout"] == "120s"
    [plugin] = spec["plugins"]
    assert plugin["isWALArchiver"]
    store = _postgres().one("ObjectStore").inputs["metadata"]["name"]
    assert plugin["parameters"] == {"barmanObjectName": store, "serverName": "postgres"}


@pytest.mark.parametrize("jobs", [1, 4])
def test_as_many_segments_are_archived_side_by_side_as_set(jobs: int) -> None:
    store = _postgres(settings=PostgresSettings(archive_jobs=jobs)).one("ObjectStore")
    assert store.inputs["spec"]["configuration"]["wal"]["maxParallel"] == jobs


def test_backups_are_encrypted_kept_and_need_no_stored_key() -> None:
    spec = (
        _postgres(settings=PostgresSettings(retention=20 * DAY)).one("ObjectStore").inputs["spec"]
    )
    assert spec["retentionPolicy"] == "20d"
    configuration = spec["configuration"]
    assert configuration["destinationPath"] == "s3://sim-backups/database"
    assert configuration["s3Credentials"] == {"inheritFromIAMRole": True}
    # Else S3 would take AWS's own key, and not the bucket's.
    assert not any("encryption" in configuration[k] for k in ("data", "wal"))


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


@pytest.mark.parametrize("further", [0, 3])
def test_the_poolers_connections_fit_into_the_servers(further: int) -> None:
    """A pooler keeps a pool of that size for each database."""
    databases: dict[str, object] = {f"cards-{number}": {} for number in range(further)}
    postgres = _postgres(PostgresSettings.model_validate({"databases": databases}))
    pooler = postgres.one("Pooler").inputs["spec"]
    size = int(pooler["pgbouncer"]["parameters"]["default_pool_size"])
    parameters = postgres.one("Cluster").inputs["spec"]["postgresql"]["parameters"]
    assert pooler["instances"] * size * (1 + further) < int(parameters["max_connections"])


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


def test_clients_leave_what_is_silent() -> None:
    data = _postgres().one("ConfigMap", "database-client").inputs["data"]
    assert int(data["PGCONNECT_TIMEOUT"]) <= 10
    uri = urlsplit(data["POSTGRES_URI"])
    assert (uri.hostname, str(uri.port), uri.path) == (data["PGHOST"], data["PGPORT"], "/app")
    told = dict(parse_qsl(uri.query))
    assert (told["sslmode"], told["tcp_user_timeout"]) == ("require", "5000")
    kept_alive = [int(told[f"keepalives_{key}"]) for key in ("idle", "interval", "count")]
    assert kept_alive[0] + kept_alive[1] * kept_alive[2] <= 8


def test_no_client_asks_a_pooler_whether_it_takes_writes() -> None:
    """It would answer what it heard when it began: read-only, for ever, after a promotion."""
    data = _postgres().one("ConfigMap", "database-client").inputs["data"]
    assert "PGTARGETSESSIONATTRS" not in data
    assert "target_session_attrs" not in data["POSTGRES_URI"]


def test_libpq_knows_every_option_of_the_connection_string() -> None:
    uri = _postgres().one("ConfigMap", "database-client").inputs["data"]["POSTGRES_URI"]
    known = parse_dsn(uri)
    assert known["dbname"] == "app"
    assert "password" not in known


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
    settings = PostgresSettings(archive_timeout=300)
    with pytest.raises(ValueError, match=r"^postgres: archive_timeout is 300s, .* rpo is 60s"):
        _args(settings=settings, objective=Objective(rpo=60, rto=180))


@pytest.mark.parametrize(("rpo", "timeout"), [(60, "60s"), (3600, "300s")])
def test_unless_set_the_log_is_archived_as_often_as_the_objective_asks(
    rpo: int, timeout: str
) -> None:
    spec = _postgres(objective=Objective(rpo=rpo, rto=180)).one("Cluster").inputs["spec"]
    assert spec["postgresql"]["parameters"]["archive_timeout"] == timeout


def test_more_copies_than_zones_are_refused() -> None:
    settings = PostgresSettings(instances=5, synchronous=3)
    with pytest.raises(ValueError, match=r"^postgres: synchronous is 3, but .* only 3 zones"):
        _args(settings=settings)


# The way back in time ---------------------------------------------------------------------------

RECOVERED = PostgresSettings.model_validate(
    {"archive": "postgres-2", "recovery": {"target_time": "2026-03-01T12:00:00+01:00"}}
)


def _external(spec: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {each["name"]: each["plugin"]["parameters"] for each in spec["externalClusters"]}


def test_a_cluster_is_recovered_from_the_archive_to_a_chosen_moment() -> None:
    spec = _cluster(settings=RECOVERED)
    [bootstrap] = spec["bootstrap"].items()
    assert bootstrap == (
        "recovery",
        {
            "source": "lost",
            "recoveryTarget": {"targetTime": "2026-03-01T12:00:00+01:00"},
            "database": "app",
            "owner": "app",
            "secret": {"name": "database-owner"},
        },
    )
    assert _external(spec) == {
        "lost": {"barmanObjectName": "database-backups", "serverName": "postgres"}
    }


def test_without_a_moment_all_of_the_archive_is_recovered() -> None:
    settings = PostgresSettings.model_validate({"archive": "postgres-2", "recovery": {}})
    assert "recoveryTarget" not in _cluster(settings=settings)["bootstrap"]["recovery"]


def test_what_was_recovered_archives_under_a_name_of_its_own() -> None:
    [plugin] = _cluster(settings=RECOVERED)["plugins"]
    assert plugin["isWALArchiver"]
    assert plugin["parameters"]["serverName"] == "postgres-2"


def test_a_copy_of_the_archive_is_read_where_it_is() -> None:
    settings = PostgresSettings.model_validate({"recovery": {"bucket": "games-copy"}})
    postgres = _postgres(settings)
    store = postgres.one("ObjectStore", "database-lost").inputs["spec"]["configuration"]
    assert store["destinationPath"] == "s3://games-copy/database"
    external = _external(postgres.one("Cluster").inputs["spec"])
    assert external["lost"]["barmanObjectName"] == "database-lost"


def test_an_archive_is_never_read_and_written_under_one_name() -> None:
    settings = PostgresSettings.model_validate({"recovery": {"bucket": "sim-backups"}})
    with pytest.raises(ValueError, match=r"^postgres: recovery names bucket sim-backups and"):
        _args(settings=settings)


# The other region -------------------------------------------------------------------------------

FOLLOWS = PostgresSettings.model_validate({"source": {"bucket": "games-copy", "server": "cards"}})
TOKEN = base64.b64encode(
    json.dumps(
        {
            "databaseSystemIdentifier": "7420000000000000000",
            "latestCheckpointREDOLocation": "0/6000028",
            "latestCheckpointTimelineID": "1",
            "operatorVersion": "1.30.0",
            "redoWalFile": "000000010000000000000006",
            "timeOfLatestCheckpoint": "Tue Nov 24 08:00:00 2026",
        }
    ).encode()
).decode()


def test_a_standby_begins_with_and_follows_the_other_regions_archive() -> None:
    spec = _postgres(FOLLOWS, standby=True).one("Cluster").inputs["spec"]
    assert spec["bootstrap"]["recovery"]["source"] == "there"
    assert spec["replica"] == {"self": "here", "primary": "there", "source": "there"}
    assert _external(spec) == {
        "here": {"barmanObjectName": "database-backups", "serverName": "postgres"},
        "there": {"barmanObjectName": "database-source", "serverName": "cards"},
    }


def test_a_standby_archives_into_its_own_bucket() -> None:
    postgres = _postgres(FOLLOWS, standby=True)
    paths = {
        each.inputs["metadata"]["name"]: each.inputs["spec"]["configuration"]["destinationPath"]
        for each in postgres.of("ObjectStore")
    }
    assert paths == {
        "database-backups": "s3://sim-backups/database",
        "database-source": "s3://games-copy/database",
    }
    [plugin] = postgres.one("Cluster").inputs["spec"]["plugins"]
    assert plugin["parameters"]["barmanObjectName"] == "database-backups"


def test_an_active_cluster_with_a_source_is_the_primary_of_the_two() -> None:
    spec = _cluster(settings=FOLLOWS)
    assert spec["replica"] == {"self": "here", "primary": "here", "source": "there"}
    assert "initdb" in spec["bootstrap"]


def test_a_planned_switchover_hands_the_token_over() -> None:
    source = {"bucket": "games-copy", "promotion_token": TOKEN}
    settings = PostgresSettings.model_validate({"source": source})
    assert _cluster(settings=settings)["replica"]["promotionToken"] == TOKEN


def test_a_cluster_of_one_region_knows_no_other() -> None:
    assert not {"replica", "externalClusters"} & _cluster().keys()


def test_only_a_standby_is_watched_for_being_behind() -> None:
    behind = _postgres(FOLLOWS, standby=True, region_rpo=1200)
    rules = behind.one("PrometheusRule", "database-standby").inputs["spec"]["groups"][0]["rules"]
    assert "> 1200" in rules[0]["expr"]
    names = [r.inputs["metadata"]["name"] for r in _postgres(FOLLOWS).of("PrometheusRule")]
    assert names == ["database"]


def test_a_standby_without_a_source_is_refused() -> None:
    with pytest.raises(ValueError, match="^postgres: standby is set, but source is not"):
        _args(standby=True)


# Further databases ------------------------------------------------------------------------------

FURTHER = PostgresSettings.model_validate(
    {"databases": {"cards": {"extensions": ["pg_trgm"]}, "scores": {"owner": "cards"}}}
)


def test_every_further_database_is_declared_and_outlives_its_object() -> None:
    specs = {
        r.inputs["metadata"]["name"]: r.inputs["spec"] for r in _postgres(FURTHER).of("Database")
    }
    assert specs["database-cards"] == {
        "cluster": {"name": "database"},
        "name": "cards",
        "owner": "cards",
        "databaseReclaimPolicy": "retain",
        "extensions": [{"name": "pg_trgm", "ensure": "present"}],
    }
    assert specs["database-scores"]["owner"] == "cards"


def test_a_role_has_one_secret_however_much_it_owns() -> None:
    postgres = _postgres(FURTHER)
    [role] = postgres.one("Cluster").inputs["spec"]["managed"]["roles"]
    assert role == {
        "name": "cards",
        "ensure": "present",
        "login": True,
        "passwordSecret": {"name": "database-role-cards"},
    }
    secret = postgres.one("Secret", "database-role-cards").inputs
    assert secret["type"] == "kubernetes.io/basic-auth"
    assert secret["metadata"]["labels"]["cnpg.io/reload"] == "true"


def test_clients_are_told_each_database_under_its_name() -> None:
    postgres = _postgres(FURTHER)
    for database in ("cards", "scores"):
        told = postgres.one("ConfigMap", f"database-{database}-client").inputs
        assert (told["metadata"]["namespace"], told["data"]["PGDATABASE"]) == ("sim-core", database)
        keys = postgres.one("Secret", f"database-{database}-client").manifest["data"]
        assert base64.b64decode(keys["username"]) == b"cards"


def test_a_cluster_without_further_databases_manages_no_roles() -> None:
    assert "managed" not in _cluster()
