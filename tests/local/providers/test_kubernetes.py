"""The kubernetes stand-in, driven by the real engine against a real API server."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import automation
from pulumi.automation import CommandError

from tests.kubectl import Kubectl
from tests.local.providers.conftest import Program, Stack, declare
from tests.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.engine, pytest.mark.cluster, pytest.mark.usefixtures("namespace")]

Properties = dict[str, Any]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for the objects of one test."""
    return str(request.node.name).removeprefix("test_").replace("_", "-")[:40].strip("-")


def config_map(name: str, namespace: str = "tests", **data: str) -> Properties:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def deployment(name: str, *, replicas: int = 1, cpu: str = "1000m", **metadata: Any) -> Properties:
    container = {
        "name": "main",
        "image": "nothing",
        "env": [{"name": "EMPTY", "value": ""}],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": cpu, "memory": "1024Mi"}},
    }
    return {
        "metadata": {"name": name, "namespace": "tests", **metadata},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "hostNetwork": False},
            },
        },
    }


def declaring(token: str, name: str, properties: Properties, **options: Any) -> Program:
    def program() -> None:
        declare(token, name, properties, **options)

    return program


def failure(run: Callable[[], object]) -> str:
    with pytest.raises(CommandError) as caught:
        run()
    return str(caught.value)


def changes(result: automation.UpResult | automation.DestroyResult) -> dict[str, int]:
    found = result.summary.resource_changes or {}
    return {str(kind): count for kind, count in found.items()}


# --- create, update, replace ------------------------------------------------------------------


def test_created_object_has_the_real_plugins_id_and_outputs(stack: Stack, name: str) -> None:
    stack.up(declaring("core/v1:ConfigMap", "it", config_map(name, key="value")))
    saved = stack.resources()["it"]
    assert saved["id"] == f"tests/{name}"
    assert saved["outputs"]["data"] == {"key": "value"}
    assert saved["outputs"]["metadata"]["uid"]


def test_typed_sdk_works_unchanged(stack: Stack, name: str) -> None:
    def program() -> None:
        from pulumi_kubernetes.core.v1 import ConfigMap, Service  # noqa: PLC0415 - slow to import

        service = Service(
            "service",
            metadata={"name": name, "namespace": "tests"},
            spec={"cluster_ip": "None", "ports": [{"port": 80, "target_port": "http"}]},
        )
        found = service.spec.apply(lambda spec: str(spec.ports[0].target_port))
        ConfigMap("found", metadata={"name": name, "namespace": "tests"}, data={"port": found})

    stack.preview(program)
    stack.up(program)
    assert stack.resources()["found"]["outputs"]["data"] == {"port": "http"}


def test_generated_name_stays_over_updates(stack: Stack) -> None:
    def program(value: str) -> Program:
        properties = {"metadata": {"labels": {"l": value}}}
        return declaring("core/v1:ServiceAccount", "gen", properties)

    stack.up(program("a"))
    first = stack.resources()["gen"]["id"]
    stack.up(program("b"))
    assert stack.resources()["gen"]["id"] == first
    assert first.startswith("default/gen-")
    assert len(first.removeprefix("default/gen-")) == 8


def test_second_up_changes_nothing(stack: Stack, name: str) -> None:
    program = declaring("apps/v1:Deployment", "it", deployment(name, replicas=2))
    stack.up(program)
    again = stack.up(program, refresh=True)
    assert set(changes(again)) == {"same"}


def test_changed_field_is_updated_in_place(stack: Stack, name: str, kubectl: Kubectl) -> None:
    stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    result = stack.up(declaring("apps/v1:Deployment", "it", deployment(name, replicas=3)))
    assert changes(result)["update"] == 1
    status = kubectl.get("-n", "tests", "deployment", name)["status"]
    assert status["availableReplicas"] == 3


def test_removed_field_is_removed_from_the_object(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    labels = {"labels": {"a": "1", "b": "2"}}
    metadata: Properties = {"name": name, "namespace": "tests"}
    token = "core/v1:ServiceAccount"
    stack.up(declaring(token, "it", {"metadata": {**metadata, **labels}}))
    stack.up(declaring(token, "it", {"metadata": {**metadata, "labels": {"a": "1"}}}))
    found = kubectl.get("-n", "tests", "serviceaccount", name)
    assert found["metadata"]["labels"] == {"a": "1"}


def test_immutable_field_replaces_a_fixed_name_by_deleting_first(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    before, after = deployment(name), deployment(name)
    after["spec"]["selector"]["matchLabels"] = {"app": name, "v": "2"}
    after["spec"]["template"]["metadata"]["labels"] = {"app": name, "v": "2"}
    stack.up(declaring("apps/v1:Deployment", "it", before))
    uid = kubectl.get("-n", "tests", "deployment", name)["metadata"]["uid"]
    stack.preview(declaring("apps/v1:Deployment", "it", after))
    result = stack.up(declaring("apps/v1:Deployment", "it", after))
    assert changes(result)["replace"] == 1
    assert kubectl.get("-n", "tests", "deployment", name)["metadata"]["uid"] != uid


# --- previews ---------------------------------------------------------------------------------


def test_misspelled_field_fails_in_preview(stack: Stack, name: str) -> None:
    wrong = deployment(name)
    wrong["spec"]["replica"] = 3
    message = failure(lambda: stack.preview(declaring("apps/v1:Deployment", "it", wrong)))
    assert 'unknown field "spec.replica"' in message
    assert "Traceback" not in message


def test_misspelled_field_fails_in_preview_before_its_namespace_exists(
    stack: Stack, name: str
) -> None:
    wrong = deployment(name)
    wrong["metadata"]["namespace"] = f"{name}-new"
    wrong["spec"]["replica"] = 3

    def program() -> None:
        space = declare("core/v1:Namespace", "space", {"metadata": {"name": f"{name}-new"}})
        declare("apps/v1:Deployment", "it", wrong, depends_on=[space])

    assert 'unknown field "spec.replica"' in failure(lambda: stack.preview(program))


def test_misspelled_field_of_an_update_fails_in_preview(stack: Stack, name: str) -> None:
    stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    wrong = deployment(name)
    wrong["spec"]["replica"] = 3
    message = failure(lambda: stack.preview(declaring("apps/v1:Deployment", "it", wrong)))
    assert ".spec.replica: field not declared in schema" in message


def test_preview_leaves_nothing_behind(stack: Stack, name: str, kubectl: Kubectl) -> None:
    stack.preview(declaring("core/v1:ConfigMap", "it", config_map(name, key="value")))
    assert kubectl("-n", "tests", "get", "configmap", name, "--ignore-not-found") == ""


def test_definition_and_its_objects_come_up_together(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    schema = {"type": "object", "x_kubernetes_preserve_unknown_fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    definition = {
        "metadata": {"name": "gadgets.test.example"},
        "spec": {
            "group": "test.example",
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [version],
        },
    }

    def program() -> None:
        token = "apiextensions.k8s.io/v1:CustomResourceDefinition"
        declare(token, "definition", definition)
        gadget = {"metadata": {"name": name, "namespace": "tests"}, "spec": {"size": 3}}
        declare("test.example/v1:Gadget", "gadget", gadget)

    stack.preview(program)
    stack.up(program)
    assert kubectl.get("-n", "tests", "gadgets.test.example", name)["spec"] == {"size": 3}
    assert set(changes(stack.up(program, refresh=True))) == {"same"}


# --- drift ------------------------------------------------------------------------------------


def test_deployment_scaled_by_hand_is_shown_and_mended(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    forced = {"pulumi.com/patchForce": "true"}
    program = declaring("apps/v1:Deployment", "it", deployment(name, annotations=forced))
    stack.up(program)
    kubectl("-n", "tests", "scale", "deployment", name, "--replicas=2")
    shown = stack.preview(program, refresh=True)
    assert shown.change_summary[automation.OpType.UPDATE] == 1
    stack.up(program, refresh=True)
    assert kubectl.get("-n", "tests", "deployment", name)["spec"]["replicas"] == 1


def test_deployment_deleted_by_hand_is_shown_and_mended(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    program = declaring("apps/v1:Deployment", "it", deployment(name))
    stack.up(program)
    kubectl("-n", "tests", "delete", "deployment", name)
    shown = stack.preview(program, refresh=True)
    assert shown.change_summary[automation.OpType.CREATE] == 1
    stack.up(program, refresh=True)
    assert kubectl.get("-n", "tests", "deployment", name)["status"]["availableReplicas"] == 1


def test_field_of_another_manager_is_not_taken_without_force(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    kubectl("-n", "tests", "scale", "deployment", name, "--replicas=2")
    changed = declaring("apps/v1:Deployment", "it", deployment(name, replicas=3))
    message = failure(lambda: stack.up(changed))
    assert "pulumi.com/patchForce" in message
    assert ".spec.replicas" in message


def test_ignored_field_is_left_to_whoever_set_it(stack: Stack, name: str, kubectl: Kubectl) -> None:
    def program(label: str) -> Program:
        properties = deployment(name, labels={"v": label})
        ignored = ["spec.replicas"]
        return declaring("apps/v1:Deployment", "it", properties, ignore_changes=ignored)

    stack.up(program("1"))
    kubectl("-n", "tests", "scale", "deployment", name, "--replicas=2")
    stack.up(program("2"))
    found = kubectl.get("-n", "tests", "deployment", name)
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["labels"] == {"v": "2"}


# --- readiness --------------------------------------------------------------------------------


def unschedulable(name: str, **metadata: Any) -> Properties:
    properties = deployment(name, **metadata)
    properties["spec"]["template"]["spec"]["nodeSelector"] = {"no": "such-node"}
    return properties


def test_timeout_says_why_and_the_next_up_tries_again(stack: Stack, name: str) -> None:
    timeout = {"pulumi.com/timeoutSeconds": "8"}
    program = declaring("apps/v1:Deployment", "it", unschedulable(name, annotations=timeout))
    message = failure(lambda: stack.up(program))
    assert "timed out after 8 s: 0 of 1 replicas are available" in message
    assert "Unschedulable" in message
    assert "didn't match Pod's node affinity/selector" in message
    assert stack.resources()["it"]["initErrors"]
    mended = stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    assert changes(mended)["update"] == 1
    assert "initErrors" not in stack.resources()["it"]


def test_custom_timeout_bounds_the_wait(stack: Stack, name: str) -> None:
    limit = pulumi.CustomTimeouts(create="1s")
    program = declaring("apps/v1:Deployment", "it", unschedulable(name), custom_timeouts=limit)
    assert "timed out after 1 s" in failure(lambda: stack.up(program))


def test_skip_await_does_not_wait(stack: Stack, name: str) -> None:
    skipped = {"pulumi.com/skipAwait": "true"}
    program = declaring("apps/v1:Deployment", "it", unschedulable(name, annotations=skipped))
    assert changes(stack.up(program))["create"] == 2


def test_service_without_a_ready_pod_is_not_ready(stack: Stack, name: str) -> None:
    annotations = {"pulumi.com/timeoutSeconds": "1"}
    spec = {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}
    metadata = {"name": name, "namespace": "tests", "annotations": annotations}
    program = declaring("core/v1:Service", "it", {"metadata": metadata, "spec": spec})
    assert "no ready Pod matches its selector" in failure(lambda: stack.up(program))


def test_wait_for_holds_until_its_condition_is_met(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    wait = {"pulumi.com/waitFor": "jsonpath={.data.state}=done"}
    properties = config_map(name, state="begun")
    properties["metadata"]["annotations"] = {**wait, "pulumi.com/timeoutSeconds": "120"}
    finish = threading.Thread(target=lambda: _patch_when_there(kubectl, name))
    finish.start()
    stack.up(declaring("core/v1:ConfigMap", "it", properties))
    finish.join()
    assert stack.resources()["it"]["outputs"]["data"] == {"state": "done"}


def _patch_when_there(kubectl: Kubectl, name: str) -> None:
    _await_creation(kubectl, f"configmap/{name}")
    kubectl("-n", "tests", "patch", "configmap", name, "-p", '{"data":{"state":"done"}}')


# --- delete, import ---------------------------------------------------------------------------


def test_destroy_waits_until_all_is_gone(stack: Stack, name: str, kubectl: Kubectl) -> None:
    stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    stack.destroy()
    assert kubectl("-n", "tests", "get", "deployment", name, "--ignore-not-found") == ""


def test_delete_that_is_blocked_says_by_what(stack: Stack, name: str, kubectl: Kubectl) -> None:
    properties = config_map(name, key="value")
    properties["metadata"]["finalizers"] = ["test.example/hold"]
    properties["metadata"]["annotations"] = {"pulumi.com/timeoutSeconds": "1"}
    stack.up(declaring("core/v1:ConfigMap", "it", properties))
    message = failure(stack.destroy)
    kubectl("-n", "tests", "patch", "configmap", name, "-p", '{"metadata":{"finalizers":null}}')
    assert "finalizers not yet removed: test.example/hold" in message


def test_what_is_gone_already_is_deleted_without_error(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    stack.up(declaring("core/v1:ConfigMap", "it", config_map(name, key="value")))
    kubectl("-n", "tests", "delete", "configmap", name)
    assert changes(stack.destroy())["delete"] == 2


def test_import_takes_over_what_another_tool_applied(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    properties = deployment(name)
    template = properties["spec"]["template"]["spec"]
    del template["hostNetwork"], template["containers"][0]["env"]
    manifest = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", **properties})
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    program = declaring("apps/v1:Deployment", "it", properties, import_=f"tests/{name}")
    assert changes(stack.up(program))["import"] == 1
    assert set(changes(stack.up(program, refresh=True))) == {"same"}


def test_object_of_someone_else_is_not_taken_over(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    kubectl("-n", "tests", "create", "configmap", name, "--from-literal=key=theirs")
    program = declaring("core/v1:ConfigMap", "it", config_map(name, key="ours"))
    assert "already exists" in failure(lambda: stack.up(program))
    assert kubectl.get("-n", "tests", "configmap", name)["data"] == {"key": "theirs"}


# --- secrets ----------------------------------------------------------------------------------


def test_secret_is_neither_in_the_state_nor_in_the_output(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    password = "correct-horse-battery"
    encoded = base64.b64encode(password.encode()).decode()
    properties = {
        "metadata": {"name": name, "namespace": "tests"},
        "stringData": {"password": password},
    }
    program = declaring("core/v1:Secret", "it", properties)
    result = stack.up(program)
    stack.refresh(program)
    seen = stack.state_file().read_text() + result.stdout + result.stderr
    assert kubectl.get("-n", "tests", "secret", name)["data"] == {"password": encoded}
    assert password not in seen
    assert encoded not in seen


def test_secret_is_not_in_an_error(stack: Stack, name: str) -> None:
    def program() -> None:
        hidden = pulumi.Output.secret("correct horse battery")
        metadata = {"name": name, "namespace": "tests", "labels": {"secret": hidden}}
        declare("core/v1:ConfigMap", "it", {"metadata": metadata})

    message = failure(lambda: stack.up(program))
    assert "[secret]" in message
    assert "correct horse battery" not in message


# --- what goes wrong --------------------------------------------------------------------------


def test_unreachable_cluster_is_one_clear_error(stack: Stack, tmp_path: Path) -> None:
    config = json.loads(Path(stack.environment["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "elsewhere").write_text(json.dumps(config))
    stack.environment["KUBECONFIG"] = str(tmp_path / "elsewhere")
    message = failure(lambda: stack.preview(declaring("core/v1:ConfigMap", "it", {})))
    assert "no answer from the Kubernetes API server https://127.0.0.1:1" in message
    assert str(tmp_path / "elsewhere") in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "token", ["helm.sh/v3:Release", "yaml/v2:ConfigFile", "apps/v1:DeploymentPatch"]
)
def test_unsupported_resource_is_named(stack: Stack, token: str) -> None:
    properties = {"kind": token.rpartition(":")[2].removesuffix("Patch")}
    message = failure(lambda: stack.preview(declaring(token, "it", properties)))
    assert f"kubernetes:{token} is not supported by this stand-in" in message


def test_cancel_ends_a_wait_and_keeps_the_object(stack: Stack, name: str, kubectl: Kubectl) -> None:
    program = declaring("apps/v1:Deployment", "it", unschedulable(name))

    def cancel() -> None:
        _await_creation(kubectl, f"deployment/{name}")
        os.kill(_engine_pid(stack), signal.SIGINT)

    stopper = threading.Thread(target=cancel)
    stopper.start()
    message = failure(lambda: stack.up(program))
    stopper.join()
    assert "stopped by the user" in message
    assert stack.resources()["it"]["initErrors"]
    stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))


def test_next_up_mends_what_a_killed_provider_left(
    stack: Stack, name: str, kubectl: Kubectl
) -> None:
    program = declaring("apps/v1:Deployment", "it", unschedulable(name))

    def kill() -> None:
        _await_creation(kubectl, f"deployment/{name}")
        os.kill(_provider_pid(stack), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    failure(lambda: stack.up(program))
    killer.join()
    mended = stack.up(declaring("apps/v1:Deployment", "it", deployment(name)))
    assert mended.summary.result == "succeeded"
    assert kubectl.get("-n", "tests", "deployment", name)["status"]["availableReplicas"] == 1


def _await_creation(kubectl: Kubectl, what: str) -> None:
    limit = f"--timeout={LIMIT_SECONDS:g}s"
    kubectl("-n", "tests", "wait", "--for=create", what, limit)


def _engine_pid(stack: Stack) -> int:
    """The engine that works for this stack."""
    program = str(stack.folder / "engine" / "bin" / "pulumi").encode()

    def is_it(process: Path) -> bool:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return words[0] == program and b"up" in words

    return _pid(is_it)


def _provider_pid(stack: Stack) -> int:
    """The provider that the stack's engine started."""
    engine = str(_engine_pid(stack))

    def is_it(process: Path) -> bool:
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        command = (process / "cmdline").read_bytes()
        return parent == engine and b"local.providers.kubernetes" in command

    return _pid(is_it)


def _pid(is_it: Callable[[Path], bool]) -> int:
    """The process of which that holds; it is told by its folder in /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if is_it(process):
                return int(process.name)
    raise AssertionError("no such process runs")
