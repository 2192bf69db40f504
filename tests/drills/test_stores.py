"""What the two stores say of themselves, read from canned answers of a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from drills.client import Place, manifest
from drills.faults import Pod
from drills.kube import Kube, is_ready
from drills.stores import Kafka, Postgres, Redis, all_ready, is_rolled_out
from local.errors import LocalError

CLUSTER: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "instances": 3,
        "postgresql": {"synchronous": {"method": "any", "number": 1}, "parameters": {}},
    },
    "status": {"readyInstances": 3, "currentPrimary": "postgres-2", "targetPrimary": "postgres-2"},
}


SERVICES = [
    {"metadata": {"name": name}, "spec": {"clusterIP": address}}
    for name, address in (("redis", "None"), ("redis-0", "10.96.0.70"), ("redis-1", "10.96.0.71"))
]


def servers(**status: int) -> dict[str, Any]:
    """A StatefulSet of three, rolled out but for what its status is given."""
    now = {"observedGeneration": 5, "readyReplicas": 3, "updatedReplicas": 3, **status}
    return {"metadata": {"generation": 5}, "spec": {"replicas": 3}, "status": now}


def kube(answer: str = "", objects: dict[str, Any] | None = None) -> Mock:
    fake = Mock(spec=Kube, api=Mock())
    fake.api.items.return_value = SERVICES
    fake.execute.return_value = answer
    fake.pod.side_effect = lambda namespace, name: Pod(namespace, name, "uid", "a-1")
    fake.api.get.return_value = objects if objects is not None else CLUSTER
    fake.ready_pods.side_effect = lambda namespace, labels: [
        Pod(namespace, f"{labels.partition('=')[2]}-{number}", "uid", "a-1") for number in range(3)
    ]
    return fake


def test_the_leader_of_postgres_is_the_current_primary() -> None:
    assert Postgres(kube(), "data", "postgres").leader().name == "postgres-2"


def test_a_cluster_amid_a_failover_is_not_whole() -> None:
    status = {**CLUSTER["status"], "targetPrimary": "pending"}
    assert all_ready(CLUSTER)
    assert not all_ready({**CLUSTER, "status": status})


def test_a_cluster_with_an_instance_missing_is_not_whole() -> None:
    assert not all_ready({**CLUSTER, "status": {**CLUSTER["status"], "readyInstances": 2}})


@pytest.mark.parametrize(("streaming", "whole"), [("2\n", True), ("1\n", False)])
def test_postgres_is_whole_once_every_standby_streams(streaming: str, whole: bool) -> None:
    assert Postgres(kube(streaming), "data", "postgres").is_whole() is whole


@pytest.mark.parametrize(("restarted", "whole"), [("today", True), ("never", False)])
def test_postgres_is_not_whole_before_all_have_restarted(restarted: str, whole: bool) -> None:
    """An operator that has not begun yet leaves every instance ready and streaming."""
    stamp = "kubectl.kubernetes.io/restartedAt"
    asked = {**CLUSTER, "metadata": {"annotations": {stamp: "today"}}}
    fake = kube("2\n", asked)
    fake.api.items.return_value = [
        {"metadata": {"annotations": {stamp: each}}} for each in ("today", restarted)
    ]
    assert Postgres(fake, "data", "postgres").is_whole() is whole


def test_postgres_gets_its_synchronous_standbys_back_after_an_error() -> None:
    fake = kube()
    with pytest.raises(LocalError), Postgres(fake, "data", "postgres").weakened():
        raise LocalError("a drill that failed")
    values = [
        call.args[1]["spec"]["postgresql"]["synchronous"] for call in fake.api.merge.mock_calls
    ]
    assert values == [None, {"method": "any", "number": 1}]


def test_the_leader_of_redis_is_the_pod_that_a_sentinel_names() -> None:
    fake = kube("10.96.0.71\n6379\n")
    assert Redis(fake, "data", "redis").leader().name == "redis-1"


def test_an_address_that_no_service_has_is_no_leader() -> None:
    with pytest.raises(LocalError, match="names a master"):
        Redis(kube("10.96.0.99\n6379\n"), "data", "redis").leader()


def test_redis_without_a_sentinel_has_no_leader_that_is_known() -> None:
    fake = kube()
    fake.ready_pods.side_effect = lambda _namespace, _labels: []
    with pytest.raises(LocalError, match="no Sentinel"):
        Redis(fake, "data", "redis").leader()


@pytest.mark.parametrize(("replicas", "whole"), [(2, True), (1, False)])
def test_redis_is_whole_once_every_replica_is_in_step(replicas: int, whole: bool) -> None:
    fake = kube(objects=servers())
    answers = {
        "sentinel": "10.96.0.70\n6379\n",
        "replication": "".join(f"slave{n}:ip=x,state=online,lag=0\n" for n in range(replicas)),
    }
    fake.execute.side_effect = lambda _pod, _container, command: next(
        answer for word, answer in answers.items() if f" {word}" in command[-1]
    )
    assert Redis(fake, "data", "redis").is_whole() is whole


def test_redis_that_misses_a_sentinel_is_not_whole() -> None:
    missing = {"redis": servers(), "redis-sentinel": servers(readyReplicas=2)}
    fake = kube()
    fake.api.get.side_effect = lambda path: missing[path.rpartition("/")[2]]
    assert not Redis(fake, "data", "redis").is_whole()


def test_kafka_amid_a_rolling_restart_is_not_whole_though_all_are_ready() -> None:
    fake = kube(json.dumps({"t": [(0, [0, 1, 2], [0, 1, 2])]}))
    amid = [servers(), servers(updatedReplicas=1)]
    for sets, whole in ((amid[:1], True), (amid, False)):
        fake.api.items.return_value = sets
        assert Kafka(fake, "data", "kafka").is_whole() is whole


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, True),
        ({"readyReplicas": 2}, False),
        ({"updatedReplicas": 2}, False),
        ({"observedGeneration": 4}, False),
    ],
)
def test_servers_are_rolled_out_once_all_are_ready_and_as_declared(
    status: dict[str, int], done: bool
) -> None:
    assert is_rolled_out(servers(**status)) is done


def test_redis_gets_back_the_replicas_that_it_needed() -> None:
    fake = kube(objects=servers())
    deaf = {"redis-2"}

    def answer(pod: Pod, _container: str, command: Sequence[str]) -> str:
        if "config get" in command[-1]:
            return "min-replicas-to-write\n1\n"
        if "config set" in command[-1]:
            heard = pod.name not in deaf
            deaf.discard(pod.name)
            return "OK\n" if heard else ""
        return "10.96.0.70\n6379\n"

    fake.execute.side_effect = answer
    with Redis(fake, "data", "redis").weakened():
        deaf.add("redis-2")  # once: a server that is busy answers nothing
        fake.execute.reset_mock()
    restored = [call.args[0].name for call in fake.execute.mock_calls]
    assert {call.args[2][-1].rpartition(" ")[2] for call in fake.execute.mock_calls} == {"1"}
    assert restored.count("redis-2") == 2


def test_redis_is_not_weakened_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drills.stores._TELL_SECONDS", 0.0)
    fake = kube(objects=servers())
    fake.execute.side_effect = lambda _pod, _container, command: (
        "min-replicas-to-write\n1\n" if "config get" in command[-1] else "10.96.0.70\n6379\n"
    )
    with (
        pytest.raises(LocalError, match="only none of data/redis could be told"),
        Redis(fake, "data", "redis").weakened(),
    ):
        pytest.fail("nobody was told")


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert is_ready({"metadata": {}, "status": ready})
    assert not is_ready({"metadata": {"deletionTimestamp": "now"}, "status": ready})


def test_the_client_takes_no_requests_meant_for_the_service_whose_label_it_bears() -> None:
    store = Postgres(kube(), "data", "postgres")
    pod = manifest(Place("core", "engine", "image:1"), "b-1", store, ())
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/name": "engine"}
    (container,) = pod["spec"]["containers"]
    assert container["readinessProbe"] == {"exec": {"command": ["false"]}}
