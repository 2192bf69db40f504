"""What the stand-in makes of declared objects, and when it says that they are ready."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from local.strimzi.operator import DEPLOYMENTS, JOBS, SECRETS, SETS
from tests.local.strimzi import declared
from tests.local.strimzi.declared import NAME, NAMESPACE, Object, Recorder

pytestmark = pytest.mark.unit

POOLS = (
    declared.pool("broker", "broker"),
    declared.pool("controller", "controller", first=100),
)
KAFKA = f"/apis/kafka.strimzi.io/v1/namespaces/{NAMESPACE}/kafkas/{NAME}/status"
TOPIC = f"/apis/kafka.strimzi.io/v1/namespaces/{NAMESPACE}/kafkatopics/events/status"


def made(folder: Path, *more: Object, **seen: Any) -> Recorder:
    return declared.reconciled(folder, declared.kafka(), *POOLS, *more, **seen)


def properties(recorder: Recorder, server: str) -> dict[str, str]:
    """One server's file."""
    config = recorder.applied["ConfigMap", f"{NAME}-kafka-config"]["data"]
    parser = configparser.RawConfigParser(delimiters="=")
    parser.read_string("[all]\n" + config[f"{server}.properties"])
    return dict(parser["all"])


def ready(recorder: Recorder, path: str) -> str:
    """What an object's status says."""
    (condition,) = recorder.said[path]["conditions"]
    status: str = condition["status"]
    return status


def test_each_pool_is_a_set_numbered_as_it_says(tmp_path: Path) -> None:
    sets = made(tmp_path).of("StatefulSet")
    found = {each["metadata"]["name"]: each["spec"]["ordinals"]["start"] for each in sets}
    assert found == {"kafka-broker": 0, "kafka-controller": 100}


def test_every_controller_votes(tmp_path: Path) -> None:
    voters = properties(made(tmp_path), "kafka-broker-1")["controller.quorum.voters"]
    assert [voter.split("@")[0] for voter in voters.split(",")] == ["100", "101", "102"]


def test_a_cluster_whose_id_begins_with_a_dash_is_formatted_too(tmp_path: Path) -> None:
    kafka = declared.kafka()
    kafka["metadata"]["uid"] = "f8000000-0000-4000-8000-000000000000"
    first, *_ = declared.reconciled(tmp_path, kafka, *POOLS).of("StatefulSet")
    formats = first["spec"]["template"]["spec"]["initContainers"][-1]
    (word,) = [word for word in formats["command"] if "cluster-id" in word]
    assert word.startswith("--cluster-id=-")


def test_a_broker_takes_over_the_declared_configuration(tmp_path: Path) -> None:
    found = properties(made(tmp_path), "kafka-broker-0")
    assert (found["min.insync.replicas"], found["auto.create.topics.enable"]) == ("2", "false")


def test_a_controller_opens_no_listener_for_clients(tmp_path: Path) -> None:
    listeners = properties(made(tmp_path), "kafka-controller-100")["listeners"]
    assert listeners == "CONTROLPLANE-9090://0.0.0.0:9090"


def test_a_client_finds_each_broker_by_its_own_name(tmp_path: Path) -> None:
    advertised = properties(made(tmp_path), "kafka-broker-2")["advertised.listeners"]
    assert f"TLS-9093://kafka-broker-2.kafka-kafka-brokers.{NAMESPACE}.svc:9093" in advertised


def test_a_pod_keeps_what_the_pool_says_of_its_place(tmp_path: Path) -> None:
    pool = declared.pool("broker", "broker", template={"pod": {"priorityClassName": "data"}})
    recorder = declared.reconciled(tmp_path, declared.kafka(), pool)
    (only,) = recorder.of("StatefulSet")
    assert only["spec"]["template"]["spec"]["priorityClassName"] == "data"


def test_keys_stay_the_same_from_one_look_to_the_next(tmp_path: Path) -> None:
    secrets = [made(tmp_path).of("Secret") for _ in range(2)]
    assert secrets[0] == secrets[1]


def test_a_cluster_is_not_ready_before_its_servers(tmp_path: Path) -> None:
    assert ready(made(tmp_path), KAFKA) == "False"


def test_a_cluster_is_ready_with_its_servers(tmp_path: Path) -> None:
    status = {"readyReplicas": 3, "updatedReplicas": 3}
    sets = [
        {**declared.thing("StatefulSet", f"{NAME}-{name}", {}), "status": status}
        for name in ("broker", "controller")
    ]
    assert ready(made(tmp_path, **{SETS: sets}), KAFKA) == "True"


def test_a_topic_is_ready_once_its_job_is_done(tmp_path: Path) -> None:
    first = made(tmp_path, declared.topic())
    (job,) = first.of("Job")
    assert ready(first, TOPIC) == "False"
    done = {**job, "status": {"succeeded": 1}}
    assert ready(made(tmp_path, declared.topic(), **{JOBS: [done]}), TOPIC) == "True"


def test_another_password_is_another_job(tmp_path: Path) -> None:
    jobs = []
    for password in ("YQ==", "Yg=="):
        secret = {**declared.passwords(), "data": {declared.USER: password}}
        seen = {SECRETS: [secret]}
        jobs += made(tmp_path, declared.user(), **seen).of("Job")
    assert jobs[0]["metadata"]["name"] != jobs[1]["metadata"]["name"]


def test_what_is_not_possible_is_said_in_the_status(tmp_path: Path) -> None:
    pool = declared.pool("broker", "broker", storage={"type": "ephemeral"})
    recorder = declared.reconciled(tmp_path, declared.kafka(), pool)
    assert "storage must be jbod" in recorder.said[KAFKA]["conditions"][0]["message"]


def test_a_real_strimzi_is_left_alone(tmp_path: Path) -> None:
    real = declared.thing("Deployment", "strimzi-cluster-operator", {})
    recorder = made(tmp_path, **{DEPLOYMENTS: [real]})
    assert (recorder.applied, recorder.said) == ({}, {})
