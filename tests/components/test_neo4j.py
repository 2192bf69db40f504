"""Neo4j: a cluster that outlives a zone, or one server that says that it does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components import neo4j_alerts, neo4j_server, parts
from components.neo4j import Neo4j
from components.neo4j_server import Neo4jArgs, configuration
from components.parts import Client
from stacks.systems.neo4j import Neo4jSettings
from stacks.values import Objective
from tests.components.conftest import Registered, Registry, registered_by

pytestmark = pytest.mark.unit

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
ENTERPRISE = Neo4jSettings(accept_license=True)
ENCRYPTED = Neo4jSettings(accept_license=True, issuer="platform")
COMMUNITY = Neo4jSettings.model_validate(
    {"edition": "community", "servers": 1, "image": "neo4j:5.26.12-community"}
)
ENCRYPTED_COMMUNITY = Neo4jSettings.model_validate(COMMUNITY.model_dump() | {"issuer": "platform"})
SCRIPTS = Path("components/neo4j_files").resolve()
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "neo4j.md"


def _args(settings: Neo4jSettings = ENTERPRISE, **changes: Any) -> Neo4jArgs:
    usual: dict[str, Any] = {
        "namespace": "games-data",
        "settings": settings,
        "objective": Objective(rpo=3600, rto=180),
        "zones": ZONES,
        "priority_class": "games-data",
        "storage_class": "gp3",
        "scratch_class": "scratch",
        "backup_bucket": "games-backups",
        "clients": (Client("games-core", "decks"),),
        "protect": True,
    }
    return Neo4jArgs(**{**usual, **changes})


@cache
def _neo4j(settings: Neo4jSettings = ENTERPRISE, wait: bool = True) -> Registry:
    return registered_by(lambda: Neo4j("cards", _args(settings, wait=wait)))


def _servers(settings: Neo4jSettings = ENTERPRISE) -> list[Registered]:
    return sorted(
        _neo4j(settings).of("StatefulSet"), key=lambda each: str(each.inputs["metadata"]["name"])
    )


def _pods(settings: Neo4jSettings = ENTERPRISE) -> list[dict[str, Any]]:
    sets = _servers(settings)
    return [each.inputs["spec"]["template"]["spec"] for each in sets]


def _configuration(settings: Neo4jSettings = ENTERPRISE) -> dict[str, str]:
    return neo4j_server.configuration("cards", _args(settings))


def test_each_server_is_a_set_of_its_own() -> None:
    sets = _servers()
    assert [each.inputs["metadata"]["name"] for each in sets] == ["cards-1", "cards-2", "cards-3"]
    assert {each.inputs["spec"]["replicas"] for each in sets} == {1}
    selectors = [tuple(each.inputs["spec"]["selector"]["matchLabels"].items()) for each in sets]
    assert len(set(selectors)) == 3


def test_several_servers_are_restarted_by_hand_and_one_by_itself() -> None:
    """Each set would roll by itself, and so all at once."""
    found = {
        settings: {each.inputs["spec"]["updateStrategy"]["type"] for each in _servers(settings)}
        for settings in (ENTERPRISE, COMMUNITY)
    }
    assert found == {ENTERPRISE: {"OnDelete"}, COMMUNITY: {"RollingUpdate"}}


def test_servers_reach_the_store_that_a_database_is_seeded_from() -> None:
    rules = neo4j_server.network("cards", _args(ENTERPRISE))["egress"]
    assert all(rule in rules for rule in parts.allow_to_store())
    assert "egress" not in neo4j_server.network("cards", _args(COMMUNITY))


def test_metrics_are_not_written_beside_the_program() -> None:
    assert _configuration()["server.metrics.csv.enabled"] == "false"


def test_every_database_has_a_copy_on_each_server() -> None:
    assert _configuration()["initial.dbms.default_primaries_count"] == "3"


def test_no_two_servers_share_a_zone() -> None:
    for pod in _pods():
        (term,) = pod["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert term["topologyKey"] == parts.ZONE
        assert term["labelSelector"]["matchLabels"] == parts.selector("cards")


def test_one_budget_guards_all_servers() -> None:
    budget = _neo4j().one("PodDisruptionBudget").inputs["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == parts.selector("cards")


def test_servers_know_where_all_of_them_are() -> None:
    endpoints = _configuration()["dbms.cluster.discovery.v2.endpoints"].split(",")
    assert endpoints == [
        f"cards-{number}-0.cards-servers.games-data.svc.cluster.local:6000" for number in (1, 2, 3)
    ]
    for number, pod in enumerate(_pods(), start=1):
        own = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        assert f"{own['ADDRESS']}:6000" == endpoints[number - 1]


def test_heap_and_page_cache_fit_into_the_memory() -> None:
    """Of 8 GiB: 4 for the heap, 2 for the page cache."""
    found = _configuration()
    assert found["server.memory.heap.max_size"] == found["server.memory.heap.initial_size"]
    assert (found["server.memory.heap.max_size"], found["server.memory.pagecache.size"]) == (
        "4096m",
        "2048m",
    )


def test_a_server_that_replays_its_log_is_not_killed() -> None:
    probe = _pods()[0]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800


@pytest.mark.parametrize(
    ("name", "kind", "schedule"),
    [("full", "FULL", "10 0 * * *"), ("change", "AUTO", "50 */1 * * *")],
)
def test_backups_are_full_or_of_what_changed(name: str, kind: str, schedule: str) -> None:
    job = next(
        each.inputs["spec"]
        for each in _neo4j().of("CronJob")
        if each.inputs["metadata"]["name"] == f"cards-{name}"
    )
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert job["schedule"] == schedule
    assert f"--type={kind}" in command
    assert "--to-path=s3://games-backups/cards/" in command
    [config] = [each["configMap"] for each in pod["volumes"] if each["name"] == "config"]
    assert command[1] == f"/etc/neo4j/{config['items'][0]['path']}"


def _asked(
    tmp_path: Path, answering: Sequence[int], silent: int
) -> subprocess.CompletedProcess[str]:
    """Run a backup's script against ports of this machine; it prints what upstream's is told."""
    program = tmp_path / "neo4j-admin"
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    servers = " ".join(f"127.0.0.1:{port}" for port in (*answering, silent))
    return subprocess.run(
        ["bash", str(SCRIPTS / "backup.sh"), "--type=FULL"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SERVERS": servers},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_backup_asks_only_the_servers_that_answer(tmp_path: Path) -> None:
    """Upstream's program takes the backup from the others, and fails all the same."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            silent = closed.getsockname()[1]
        answering = [each.getsockname()[1] for each in (one, two)]
        done = _asked(tmp_path, answering, silent)
    servers = ",".join(f"127.0.0.1:{port}" for port in answering)
    assert done.stdout == f"database backup * --from={servers} --type=FULL\n"
    assert f"127.0.0.1:{silent} does not answer" in done.stderr


def test_a_backup_fails_if_nobody_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        silent = closed.getsockname()[1]
    done = _asked(tmp_path, (), silent)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_database_is_seeded_from_the_chain_by_the_servers_own_role() -> None:
    """5.26's first provider for s3:// wants keys in the command."""
    told = configuration("cards", _args())
    assert told["dbms.databases.seed_from_uri_providers"] == "CloudSeedProvider"


def _recovered(**changes: str) -> Registered:
    recovery = {"file": "neo4j-2026-01-31T10-50-36.backup", **changes}
    settings = Neo4jSettings.model_validate({"accept_license": True, "recovery": recovery})
    return registered_by(lambda: Neo4j("cards", _args(settings))).one("Job")


def _told(job: Registered) -> dict[str, str]:
    [container] = job.inputs["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def test_a_moment_is_restored_as_a_dump_beside_the_backups() -> None:
    told = _told(_recovered(target_time="2026-01-31T12:30:15.5+02:00"))
    assert told["BACKUP"] == "s3://games-backups/cards/neo4j-2026-01-31T10-50-36.backup"
    assert told["UNTIL"] == "2026-01-31 10:30:15"
    assert told["TARGET"] == "s3://games-backups/cards/recovered/"


def test_without_a_moment_the_whole_chain_is_restored() -> None:
    assert _told(_recovered(bucket="lost-backups"))["UNTIL"] == ""
    assert _told(_recovered(bucket="lost-backups"))["BACKUP"].startswith("s3://lost-backups/")


def test_another_recovery_is_another_job() -> None:
    one, same, other = _recovered(), _recovered(), _recovered(database="cards")
    names = [each.inputs["metadata"]["name"] for each in (one, same, other)]
    assert names[0] == names[1] != names[2]


def _ephemeral(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """What is claimed for the volumes that come and go with a Pod."""
    return [
        each["ephemeral"]["volumeClaimTemplate"]["spec"]
        for each in pod["volumes"]
        if "ephemeral" in each
    ]


def _rooms(pod: dict[str, Any]) -> list[str]:
    return [each["resources"]["requests"]["storage"] for each in _ephemeral(pod)]


def test_nothing_of_a_backup_or_a_recovery_is_kept() -> None:
    """A volume of the class for data would outlive its claim: fifty gigabytes, every hour."""
    jobs = [each.inputs["spec"]["jobTemplate"]["spec"] for each in _neo4j().of("CronJob")]
    assert all(0 < each["ttlSecondsAfterFinished"] <= 3600 for each in jobs)
    for job in (*jobs, _recovered().inputs["spec"]):
        claims = _ephemeral(job["template"]["spec"])
        assert [each["storageClassName"] for each in claims] == ["scratch"]


def test_a_recovery_stays_declared() -> None:
    """Gone after its end, it would be made again, and restore again, by the next refresh."""
    assert "ttlSecondsAfterFinished" not in _recovered().inputs["spec"]


def test_a_recovery_has_room_for_the_chain_and_the_database() -> None:
    pod = _recovered().inputs["spec"]["template"]["spec"]
    assert (ENTERPRISE.storage, _rooms(pod)) == ("50Gi", ["100Gi"])


def test_a_backup_has_room_for_the_database_in_an_empty_folder() -> None:
    for job in _neo4j().of("CronJob"):
        pod = job.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert _rooms(pod) == [ENTERPRISE.storage]
        [container] = pod["containers"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "scratch"]
        assert f"--temp-path={mount['mountPath']}" in container["command"]
        assert mount["subPath"]


def test_without_the_setting_nothing_is_restored() -> None:
    assert "Job" not in {each.kind for each in _neo4j().resources}


def test_community_has_no_chain_to_restore() -> None:
    given = COMMUNITY.model_dump() | {"recovery": {"file": "neo4j.backup"}}
    with pytest.raises(ValidationError, match="the Community edition has dumps instead"):
        Neo4jSettings.model_validate(given)


def test_data_is_neither_deleted_nor_replaced_in_passing() -> None:
    for each in _neo4j().of("StatefulSet"):
        assert (each.protect, each.retain_on_delete) == (True, True)
        assert each.inputs["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == (
            "Retain"
        )


def test_a_cluster_is_reached_through_its_routing_table() -> None:
    published = _neo4j().one("ConfigMap", "cards-client").inputs["data"]
    assert published["NEO4J_URI"] == "neo4j://cards.games-data.svc.cluster.local:7687"


def test_one_server_is_reached_directly() -> None:
    published = _neo4j(COMMUNITY).one("ConfigMap", "cards-client").inputs["data"]
    assert published["NEO4J_URI"].startswith("bolt://")


def test_one_certificate_holds_every_name_that_is_connected_to() -> None:
    asked = _neo4j(ENCRYPTED).one("Certificate").inputs["spec"]
    assert asked["issuerRef"]["name"] == "platform"
    servers = {
        each.partition(":")[0]
        for each in _configuration(ENCRYPTED)["dbms.cluster.discovery.v2.endpoints"].split(",")
    }
    assert set(asked["dnsNames"]) == servers | {"cards.games-data.svc.cluster.local"}
    assert {"server auth", "client auth"} <= set(asked["usages"])


@pytest.mark.parametrize(
    ("settings", "scheme"), [(ENCRYPTED, "neo4j+s"), (ENCRYPTED_COMMUNITY, "bolt+s")]
)
def test_clients_verify_the_servers(settings: Neo4jSettings, scheme: str) -> None:
    published = _neo4j(settings).one("ConfigMap", "cards-client").inputs["data"]
    assert published["NEO4J_URI"] == f"{scheme}://cards.games-data.svc.cluster.local:7687"
    assert _configuration(settings)["server.bolt.tls_level"] == "REQUIRED"


@pytest.mark.parametrize("scope", ["cluster", "backup"])
def test_servers_and_backups_take_nobody_without_a_certificate(scope: str) -> None:
    told = _configuration(ENCRYPTED)
    assert told[f"dbms.ssl.policy.{scope}.enabled"] == "true"
    assert told[f"dbms.ssl.policy.{scope}.client_auth"] == "REQUIRE"
    assert told[f"dbms.ssl.policy.{scope}.verify_hostname"] == "true"


def test_servers_find_the_files_that_they_are_told() -> None:
    told = _configuration(ENCRYPTED)
    for pod in _pods(ENCRYPTED):
        [volume] = [each["secret"] for each in pod["volumes"] if each["name"] == "tls"]
        mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        files = {each["path"] for each in volume["items"]}
        assert (
            volume["secretName"]
            == _neo4j(ENCRYPTED).one("Certificate").inputs["spec"]["secretName"]
        )
        assert mounted["tls"] == told["dbms.ssl.policy.cluster.base_directory"]
        assert {
            told["dbms.ssl.policy.cluster.private_key"],
            told["dbms.ssl.policy.cluster.public_certificate"],
            f"{told['dbms.ssl.policy.cluster.trusted_dir']}/ca.crt",
        } == files


def test_backups_are_told_as_the_servers_are() -> None:
    """Their program reads `neo4j-admin.conf` of the folder that it is told, and no other."""
    told = _neo4j(ENCRYPTED).one("ConfigMap", "cards").inputs["data"]
    assert told["neo4j-admin.conf"].splitlines() == [
        line
        for line in told["neo4j.conf"].splitlines()
        if "ssl.policy.backup" in line or "server.jvm" in line
    ]
    for job in _neo4j(ENCRYPTED).of("CronJob"):
        pod = job.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        [config] = [each["configMap"] for each in pod["volumes"] if each["name"] == "config"]
        assert {each["key"] for each in config["items"]} == {"backup.sh", "neo4j-admin.conf"}
        own = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        assert own["NEO4J_CONF"] == mounted["config"]
        assert "tls" in mounted


def test_readiness_speaks_as_clients_do() -> None:
    for settings, script in ((ENTERPRISE, "ready.sh"), (ENCRYPTED, "ready-tls.sh")):
        [container] = _pods(settings)[0]["containers"]
        assert container["readinessProbe"]["exec"]["command"][1].endswith(f"/{script}")


def test_without_an_issuer_nothing_is_encrypted() -> None:
    assert [key for key in _configuration() if "ssl" in key or "tls" in key] == []
    assert "Certificate" not in {each.kind for each in _neo4j().resources}


def test_community_is_told_nothing_of_clusters() -> None:
    """It refuses to start on settings that it does not know."""
    for settings in (COMMUNITY, ENCRYPTED_COMMUNITY):
        known = _configuration(settings)
        assert known
        assert not [k for k in known if "cluster" in k or "backup" in k or "metrics" in k]


def test_community_is_dumped_within_the_objective() -> None:
    (pod,) = _pods(COMMUNITY)
    own = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    assert own["DUMP_SECONDS"] == "3600"


def test_only_backups_reach_the_backup_port() -> None:
    policy = _neo4j().one("NetworkPolicy", "cards").inputs["spec"]
    (rule,) = [
        each for each in policy["ingress"] if {"port": 6362, "protocol": "TCP"} in each["ports"]
    ]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == parts.selector("cards-backup")


def test_nothing_waits_for_servers_that_cannot_run() -> None:
    for each in _neo4j(wait=False).of("StatefulSet"):
        assert each.inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


def test_the_way_in_waits_for_the_servers_and_not_they_for_it() -> None:
    entrance = _neo4j().one("Service", "cards")
    assert {each.urn for each in _servers()} <= entrance.dependencies
    assert not any(entrance.urn in each.dependencies for each in _servers())


def test_more_servers_than_zones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"neo4j: servers is 5, but there are only 3 zones"):
        _args(Neo4jSettings(accept_license=True, servers=5))


def test_a_certificate_is_watched_where_there_is_one() -> None:
    watched = {
        settings: {alert.name for alert in neo4j_alerts.of("cards", "data", settings, 3600)}
        for settings in (ENTERPRISE, ENCRYPTED)
    }
    assert watched[ENCRYPTED] - watched[ENTERPRISE] == {
        "Neo4jCertificateNotTaken",
        "Neo4jCertificateNotRenewed",
    }


@pytest.mark.parametrize(
    "settings", [ENTERPRISE, COMMUNITY, ENCRYPTED], ids=["enterprise", "community", "encrypted"]
)
def test_every_alert_has_its_section_in_the_runbook(settings: Neo4jSettings) -> None:
    text = RUNBOOK.read_text()
    sections = {
        re.sub(r"[^a-z0-9]+", "-", line[3:].lower())
        for line in text.splitlines()
        if line.startswith("## ")
    }
    found = neo4j_alerts.of("cards", "games-data", settings, 3600)
    assert {alert.runbook.split("#")[1] for alert in found} <= sections
