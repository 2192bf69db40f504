"""A whole environment: brought up, left alone, changed by hand, interrupted, taken down."""

from __future__ import annotations

import base64
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from local.world import PROJECT
from tests.e2e.checkout import Checkout, assert_whole, kill, processes_with, read_until
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

ZONES = 3
SERVICES = "/apis/apps/v1/namespaces/sim-dev-core/deployments"
ONE_REPLICA = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 1}}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout.of_this_project(tmp_path_factory.mktemp("environment"))
    try:
        yield made
    finally:
        made.run("down")


@pytest.fixture(scope="module")
def first_up(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    done = checkout.run("up", "dev")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def report(checkout: Checkout, first_up: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = checkout.result("up-dev.json")
    return found


def servers(report: dict[str, Any]) -> dict[tuple[str, str], list[int]]:
    """Of each workload that stays: Ready Pods, and all. A CronJob's Pods come at their own time."""
    return {
        (workload["namespace"], workload["name"]): [workload["ready"], workload["total"]]
        for workload in report["workloads"]
        if workload["kind"] != "Job"
    }


def git_status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout


def test_up_creates_every_resource(report: dict[str, Any]) -> None:
    assert report["stack"] == "dev"
    assert report["changes"]["create"] == report["resources"] > 100


def test_up_ends_with_every_pod_ready(report: dict[str, Any]) -> None:
    assert report["pods"]["ready"] == report["pods"]["total"] >= 27


def test_every_replicated_workload_spans_three_zones(report: dict[str, Any]) -> None:
    replicated = [workload for workload in report["workloads"] if workload["total"] > 1]
    assert len(replicated) == 9
    assert [w["name"] for w in replicated if len(w["zones"]) < ZONES] == []


def test_the_report_has_what_others_read(report: dict[str, Any]) -> None:
    assert set(report["changes"]) == {"create", "update", "replace", "delete", "same"}
    assert {"cluster", "engine", "preview", "up"} <= report["seconds"].keys()
    assert report["total_seconds"] >= sum(report["seconds"].values()) - 0.1  # each is rounded
    assert len(report["zones"]) == ZONES
    assert report["nodes"] == {"real": 0, "simulated": 6}
    assert report["policies"]["rules"] > 50
    assert report["policies"]["mandatory_violations"] == 0


def test_up_prints_what_runs_where(first_up: subprocess.CompletedProcess[str]) -> None:
    assert "Deployment gateway" in first_up.stdout
    assert "StatefulSet redis-sentinel" in first_up.stdout


def test_no_password_lies_in_clear_anywhere(checkout: Checkout, report: dict[str, Any]) -> None:
    with checkout.api("dev") as api:
        secrets = api.items("/api/v1/namespaces/sim-dev-data/secrets")
    passwords = {
        value
        for secret in secrets
        for key, encoded in (secret.get("data") or {}).items()
        if "password" in key
        for value in [base64.b64decode(encoded)]
    }
    assert passwords
    needles = passwords | {base64.b64encode(password) for password in passwords}
    files = [path for path in checkout.folder.rglob("*") if path.is_file()]
    leaks = [p for p in files for content in [p.read_bytes()] if any(n in content for n in needles)]
    assert leaks == []


def test_the_state_has_no_notes_beside_it_that_could_be_half_written(
    checkout: Checkout, report: dict[str, Any]
) -> None:
    kept = [path.name for path in checkout.world("dev").engine.joinpath("state").rglob("*.json*")]
    assert any(name.startswith("dev.json") for name in kept)
    assert not [name for name in kept if name.endswith(".attrs")]


def test_a_second_up_changes_nothing(checkout: Checkout, report: dict[str, Any]) -> None:
    before = git_status()
    again = checkout.run("up", "dev")
    assert again.returncode == 0, again.stdout
    second = checkout.result("up-dev.json")
    assert second["changes"]["same"] == second["resources"] == report["resources"]
    assert git_status() == before


@pytest.fixture(scope="module")
def changed_by_hand(
    checkout: Checkout, first_up: subprocess.CompletedProcess[str]
) -> dict[str, Any]:
    """Three Deployments are not what was declared; returns what was reported when they were."""
    before: dict[str, Any] = checkout.result("up-dev.json")
    with checkout.api("dev") as api:
        api.merge(f"{SERVICES}/gateway/scale", ONE_REPLICA)
        api.delete(f"{SERVICES}/ai-inference")
        api.delete(f"{SERVICES}/simulation-engine")
    return before


def test_what_a_hand_changed_is_shown(checkout: Checkout, changed_by_hand: dict[str, Any]) -> None:
    shown = checkout.run("preview", "dev")
    assert "~ update Deployment gateway-deployment (spec.replicas)" in shown.stdout
    assert "+ create Deployment ai-inference-deployment" in shown.stdout
    assert "+ create Deployment simulation-engine-deployment" in shown.stdout


def test_a_provider_that_dies_in_mid_update_is_told_without_a_traceback(
    checkout: Checkout, changed_by_hand: dict[str, Any]
) -> None:
    running = checkout.start("up", "dev")
    read_until(running, "up …")
    provider = ("local.providers.kubernetes", str(checkout.folder))
    kill(eventually("the provider runs", lambda: processes_with(*provider)))
    output = running.communicate(timeout=300)[0]
    assert running.returncode == 1, output
    assert "Traceback" not in output


def test_ctrl_c_stops_cleanly(checkout: Checkout, changed_by_hand: dict[str, Any]) -> None:
    running = checkout.start("up", "dev")
    read_until(running, "up …")
    provider = ("local.providers.kubernetes", str(checkout.folder))
    eventually("the provider runs", lambda: processes_with(*provider))
    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=300)[0]
    assert running.returncode == 1, output
    assert "was stopped" in output
    assert "Traceback" not in output
    assert (
        list((checkout.world("dev").engine / "state" / ".pulumi" / "locks").rglob("*.json")) == []
    )


def test_the_next_up_mends_what_was_changed_and_interrupted(
    checkout: Checkout, changed_by_hand: dict[str, Any]
) -> None:
    with checkout.api("dev") as api:  # whether an interrupted update came so far is its own affair
        api.merge(f"{SERVICES}/gateway/scale", ONE_REPLICA)
    mended = checkout.run("up", "dev")
    assert mended.returncode == 0, mended.stdout
    assert "~ update Deployment gateway-deployment (spec.replicas)" in mended.stdout
    assert servers(checkout.result("up-dev.json")) == servers(changed_by_hand)
    with checkout.api("dev") as api:
        assert api.get(f"{SERVICES}/gateway")["spec"]["replicas"] == 3


def test_a_second_run_on_the_same_stack_is_refused(
    checkout: Checkout, report: dict[str, Any]
) -> None:
    with checkout.world("dev").locked():
        refused = checkout.run("up", "dev")
    assert refused.returncode == 1
    assert "is at work on stack dev" in refused.stderr


@pytest.mark.parametrize("stack", ["prod", "dr"])
def test_other_stacks_come_up_beside_dev(
    checkout: Checkout, report: dict[str, Any], stack: str
) -> None:
    try:
        done = checkout.run("up", stack)
        assert done.returncode == 0, done.stdout + done.stderr
        found = checkout.result(f"up-{stack}.json")
    finally:
        checkout.run("down", stack)
    assert_whole(found)


def test_down_leaves_no_process_behind(checkout: Checkout, report: dict[str, Any]) -> None:
    assert len(processes_with(str(checkout.folder))) >= 6
    down = checkout.run("down")
    assert down.returncode == 0
    assert processes_with(str(checkout.folder)) == []
    assert list(checkout.worlds.iterdir()) == []
