"""MongoDB: what keeps acknowledged writes, and the ways back when everything is lost."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import yaml

from components import parts
from components.mongodb import Mongodb, MongodbArgs
from components.parts import Client
from stacks.systems.mongodb import MongodbSettings
from stacks.values import DAY, HOUR, Objective
from tests.components.conftest import Registry, Secret, registered_by

pytestmark = pytest.mark.unit

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
SETTINGS = MongodbSettings()
ISSUED = MongodbSettings(issuer="platform")
OBJECTIVE = Objective(rpo=300, rto=180)
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def _args(**changes: Any) -> MongodbArgs:
    usual: dict[str, Any] = {
        "namespace": "sim-data",
        "settings": SETTINGS,
        "objective": OBJECTIVE,
        "region": "us-east-1",
        "zones": ZONES,
        "priority_class": "sim-data",
        "storage_class": "gp3",
        "backup_bucket": "sim-backups",
        "clients": (Client("sim-core", "replay"),),
        "protect": True,
    }
    return MongodbArgs(**{**usual, **changes})


@cache
def _mongodb(
    settings: MongodbSettings = SETTINGS,
    protect: bool = True,
    wait: bool = False,
    objective: Objective = OBJECTIVE,
) -> Registry:
    args = _args(settings=settings, protect=protect, wait=wait, objective=objective)
    return registered_by(lambda: Mongodb("documents", args))


def _spec(settings: MongodbSettings = SETTINGS, objective: Objective = OBJECTIVE) -> dict[str, Any]:
    registry = _mongodb(settings, objective=objective)
    spec: dict[str, Any] = registry.one("PerconaServerMongoDB").inputs["spec"]
    return spec


def _members(settings: MongodbSettings = SETTINGS) -> dict[str, Any]:
    [members] = _spec(settings)["replsets"]
    assert isinstance(members, dict)
    return members


def _tasks(settings: MongodbSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in _spec(settings)["backup"]["tasks"]}


def test_example_of_the_docstring_runs() -> None:
    def program() -> None:
        Mongodb(
            "documents",
            MongodbArgs(
                namespace="games-data",
                settings=MongodbSettings(),
                objective=Objective(rpo=300, rto=180),
                region="us-east-1",
                zones=ZONES,
                priority_class="games-data",
                storage_class="gp3",
                backup_bucket="games-backups",
                clients=(Client("games-core", "replay"),),
                protect=True,
            ),
        )

    assert registered_by(program).one("PerconaServerMongoDB", "documents")


# Members ----------------------------------------------------------------------------------------


def test_every_voter_holds_data() -> None:
    members = _members(MongodbSettings(members=5))
    assert members["size"] == 5
    assert members["arbiter"]["enabled"] is False


def test_members_are_spread_over_zones_by_the_spread_alone() -> None:
    members = _members()
    assert members["affinity"] == {"antiAffinityTopologyKey": "none"}
    zones, _ = members["topologySpreadConstraints"]
    assert (zones["topologyKey"], zones["whenUnsatisfiable"]) == (parts.ZONE, "DoNotSchedule")
    assert zones["maxSkew"] == 1
    assert zones["labelSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "documents"


def test_members_are_drained_one_by_one() -> None:
    assert _members()["podDisruptionBudget"] == {"maxUnavailable": 1}


def test_members_leave_a_silent_node_soon() -> None:
    assert _members()["tolerations"] == parts.tolerations()


def test_versions_change_with_the_program_alone() -> None:
    spec = _spec()
    assert spec["crVersion"] == "1.22.0"
    assert spec["upgradeOptions"] == {"apply": "disabled"}


def test_volumes_grow_with_the_settings() -> None:
    assert _spec()["storageScaling"] == {"enableVolumeScaling": True}


def test_no_check_of_the_operator_is_switched_off() -> None:
    assert "unsafeFlags" not in _spec()


def test_connections_are_encrypted_and_members_verify_each_other() -> None:
    assert _spec()["tls"] == {"mode": "requireTLS", "allowInvalidCertificates": False}


def test_an_issuer_signs_what_members_show() -> None:
    assert _spec(ISSUED)["tls"] == {
        "mode": "requireTLS",
        "allowInvalidCertificates": False,
        "issuerConf": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "platform"},
    }


def test_clients_need_no_certificate_and_backups_no_key() -> None:
    configuration = yaml.safe_load(_members()["configuration"])
    assert configuration["net"]["tls"] == {"allowConnectionsWithoutCertificates": True}
    assert configuration["security"] == {"enableEncryption": False}


def test_containers_run_under_the_restricted_standard() -> None:
    spec, members = _spec(), _members()
    contexts = [
        spec["initContainerSecurityContext"],
        spec["backup"]["containerSecurityContext"],
        members["containerSecurityContext"],
        *(sidecar["securityContext"] for sidecar in members["sidecars"]),
    ]
    for context in contexts:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert members["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_every_container_says_what_it_needs() -> None:
    members = _members()
    for resources in (
        members["resources"],
        _spec()["backup"]["resources"],
        *(sidecar["resources"] for sidecar in members["sidecars"]),
    ):
        assert resources["limits"]["memory"] == resources["requests"]["memory"]


@pytest.mark.parametrize("protect", [True, False])
def test_protection_follows_the_settings(protect: bool) -> None:
    cluster = _mongodb(protect=protect).one("PerconaServerMongoDB")
    assert (cluster.protect, cluster.retain_on_delete) == (protect, protect)


def test_nothing_deletes_the_volumes() -> None:
    metadata = _mongodb(protect=False).one("PerconaServerMongoDB").inputs["metadata"]
    assert "finalizers" not in metadata


def test_waiting_for_readiness_is_a_choice() -> None:
    waiting = _mongodb(wait=True).one("PerconaServerMongoDB").inputs["metadata"]["annotations"]
    assert json.loads(waiting["pulumi.com/waitFor"]) == [
        "condition=ready",
        "jsonpath={.status.state}=ready",
    ]
    idle = _mongodb().one("PerconaServerMongoDB").inputs["metadata"]["annotations"]
    assert "pulumi.com/waitFor" not in idle


# Backups ----------------------------------------------------------------------------------------


def test_backups_go_to_one_storage_without_a_stored_key() -> None:
    backup = _spec()["backup"]
    [(name, storage)] = backup["storages"].items()
    assert storage["s3"] == {"bucket": "sim-backups", "prefix": "documents", "region": "us-east-1"}
    assert {task["storageName"] for task in backup["tasks"]} == {name}


def test_full_incremental_and_logical_backups_are_scheduled_at_different_times() -> None:
    tasks = _tasks(MongodbSettings(incremental_every=6 * HOUR))
    assert {task["type"]: task["schedule"] for task in tasks.values()} == {
        "incremental-base": "0 0 * * 0",
        "incremental": "40 */6 * * *",
        "logical": "20 0 * * *",
    }
    assert all(task["enabled"] for task in tasks.values())


def test_retention_becomes_a_number_of_backups() -> None:
    tasks = _tasks(MongodbSettings(retention=14 * DAY))
    assert tasks["base"]["retention"] == {"type": "count", "count": 3, "deleteFromStorage": True}
    assert tasks["logical"]["retention"]["count"] == 15
    assert "retention" not in tasks["incremental"]


@pytest.mark.parametrize(("rpo", "minutes"), [(300, 2), (60, 1)])
def test_the_oplog_is_archived_within_the_objective(rpo: int, minutes: float) -> None:
    pitr = _spec(objective=Objective(rpo=rpo, rto=180))["backup"]["pitr"]
    assert (pitr["enabled"], pitr["oplogOnly"], pitr["oplogSpanMin"]) == (True, False, minutes)


def test_the_first_full_backup_follows_at_once() -> None:
    registry = _mongodb(wait=True)
    first = registry.one("PerconaServerMongoDBBackup")
    assert first.inputs["spec"] == {
        "clusterName": "documents",
        "storageName": "bucket",
        "type": "logical",
    }
    assert registry.one("PerconaServerMongoDB").urn in first.dependencies


def test_no_backup_is_asked_of_what_nobody_awaits() -> None:
    kinds = {resource.kind for resource in _mongodb().resources}
    assert "PerconaServerMongoDBBackup" not in kinds


# Users and clients ------------------------------------------------------------------------------


def test_every_user_of_the_operator_has_a_generated_password() -> None:
    registry = _mongodb()
    name = _spec()["secrets"]["users"]
    data = registry.one("Secret", name).manifest["data"]
    users = {key.removesuffix("_USER") for key in data if key.endswith("_USER")}
    assert users == {
        f"MONGODB_{user}"
        for user in ("BACKUP", "CLUSTER_ADMIN", "CLUSTER_MONITOR", "DATABASE_ADMIN", "USER_ADMIN")
    }
    assert set(data) == {f"{user}_{part}" for user in users for part in ("USER", "PASSWORD")}


def test_the_application_may_use_its_own_database_alone() -> None:
    users = {user["name"]: user for user in _spec()["users"]}
    assert users["app"]["roles"] == [{"name": "readWrite", "db": "app"}]
    reference = users["app"]["passwordSecretRef"]
    assert reference["key"] in _mongodb().one("Secret", reference["name"]).manifest["data"]


def test_passwords_are_secret_everywhere() -> None:
    registry = _mongodb()
    assert all(isinstance(secret.inputs["data"], Secret) for secret in registry.of("Secret"))
    elsewhere = [
        resource.inputs
        for resource in registry.resources
        if resource.kind not in {"Secret", "RandomPassword"}
    ]
    assert "generated" not in json.dumps(elsewhere)


def test_clients_are_told_every_member() -> None:
    published = _mongodb().one("ConfigMap", "documents-client").inputs
    assert published["metadata"]["namespace"] == "sim-core"
    assert published["data"]["MONGODB_HOSTS"].split(",") == [
        f"documents-rs0-{ordinal}.documents-rs0.sim-data.svc.cluster.local:27017"
        for ordinal in range(3)
    ]


def _options(settings: MongodbSettings = SETTINGS) -> dict[str, str]:
    data = _mongodb(settings).one("ConfigMap", "documents-client").inputs["data"]
    return dict(parse_qsl(data["MONGODB_OPTIONS"], strict_parsing=True))


def test_clients_verify_members_whose_certificates_they_know() -> None:
    verified, unverified = _options(ISSUED), _options()
    # Go's driver passes over `tlsAllowInvalidCertificates`, and verifies.
    assert unverified.items() - verified.items() == {("tlsInsecure", "true")}
    assert verified["tls"] == "true"
    assert not {key for key in verified if "Insecure" in key or "Invalid" in key}


def test_clients_write_to_a_majority_within_a_time_limit_and_over_tls() -> None:
    options = _options()
    assert options["replicaSet"] == _members()["name"]
    assert (options["w"], options["journal"], options["retryWrites"]) == (
        "majority",
        "true",
        "true",
    )
    assert int(options["wtimeoutMS"]) > 0
    assert (options["retryReads"], options["readPreference"]) == ("true", "primaryPreferred")
    assert int(options["serverSelectionTimeoutMS"]) > 12_000
    assert options["tls"] == "true"


def test_members_let_in_each_other_clients_and_the_operator() -> None:
    policy = _mongodb().one("NetworkPolicy", "documents").inputs["spec"]
    servers, scraped = policy["ingress"]
    assert servers["ports"] == parts.ports(27_017)
    assert parts.peer("sim-core", parts.selector("replay")) in servers["from"]
    assert parts.peer("psmdb-operator") in servers["from"]
    assert scraped == {"from": [parts.peer("monitoring")], "ports": parts.ports(9216)}


# Metrics and alerts -----------------------------------------------------------------------------


def test_metrics_come_from_a_container_beside_each_member() -> None:
    [exporter] = _members()["sidecars"]
    assert exporter["image"] == SETTINGS.exporter_image
    monitor = _mongodb().one("PodMonitor").inputs["spec"]
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == exporter["ports"][0]["name"]


def _alerts(settings: MongodbSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    [group] = _mongodb(settings).one("PrometheusRule").inputs["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_a_lost_primary_and_an_archive_that_stands_still_call_a_person() -> None:
    critical = {
        name for name, rule in _alerts().items() if rule["labels"]["severity"] == "critical"
    }
    assert critical == {
        "MongodbNoPrimary",
        "MongodbOplogNotArchived",
        "MongodbIncrementalBackupOverdue",
        "MongodbLogicalBackupOverdue",
    }


def test_a_certificate_that_is_not_renewed_is_told_where_an_issuer_signs() -> None:
    [more] = _alerts(ISSUED).keys() - _alerts().keys()
    assert 'name="documents-ssl"' in _alerts(ISSUED)[more]["expr"]


def test_as_many_members_are_missed_as_there_should_be() -> None:
    expr = _alerts(MongodbSettings(members=5))["MongodbMemberDown"]["expr"]
    answering, reached = expr.split(" or count(")
    assert answering.endswith("< 5")
    assert reached.endswith("< 5")


def test_a_member_that_the_primary_does_not_reach_is_missed() -> None:
    expr = _alerts()["MongodbMemberDown"]["expr"]
    assert re.search(r"count\(mongodb_members_health\{.+\} == 1 and on \(pod\) .+_my_state", expr)


def test_a_backup_is_overdue_by_its_own_interval() -> None:
    expr = _alerts(MongodbSettings(incremental_every=6 * HOUR))["MongodbIncrementalBackupOverdue"]
    assert expr["expr"].endswith(f"> {12 * HOUR}")


def test_a_backup_that_never_succeeded_is_missed_too() -> None:
    for kind in ("Incremental", "Logical"):
        expr = _alerts()[f"Mongodb{kind}BackupOverdue"]["expr"]
        assert "or kube_statefulset_created{namespace=" in expr


@pytest.mark.parametrize("alert", sorted(_alerts(ISSUED)))
def test_every_alert_has_its_section_in_the_runbook(alert: str) -> None:
    runbook = _alerts(ISSUED)[alert]["annotations"]["runbook"]
    page, _, section = runbook.rpartition("/")[2].partition("#")
    headings = re.findall(r"^## (.+)$", (RUNBOOKS / page).read_text(), re.MULTILINE)
    assert section in {heading.lower().replace(" ", "-") for heading in headings}


# Mistakes ---------------------------------------------------------------------------------------


def test_an_archive_that_misses_the_objective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^mongodb: oplog_span is 360s, .* rpo is 300s"):
        _args(settings=MongodbSettings(oplog_span=360))


def test_two_zones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^mongodb: zones is us-east-1a, us-east-1b, but"):
        _args(zones=ZONES[:2])
