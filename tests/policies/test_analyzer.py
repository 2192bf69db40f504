"""What the analyzer does with levels, thresholds, unknown values and secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]
from pulumi.runtime.proto import analyzer_pb2 as pb

from local.engine import LAUNCHERS
from policies import manifests
from policies.rule import Scope
from policies.rules import RULES
from tests.policies.analyzer_session import UNKNOWN, Diagnostic, Session, secret
from tests.policies.conftest import PACK
from tests.waiting import eventually

pytestmark = pytest.mark.unit

MARK = "hunter2-never-shown"


def deployment(**spec: object) -> list[manifests.Manifest]:
    """The baseline with another spec of Deployment web."""
    change = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    return manifests.changed(manifests.baseline(), [change])


def container(**fields: object) -> list[manifests.Manifest]:
    """The baseline with other fields of the container of Deployment web."""
    return deployment(template={"spec": {"containers": [{"name": "web", **fields}]}})


def outcome(found: list[Diagnostic]) -> set[tuple[str, str]]:
    return {(each.rule, each.level) for each in found}


def test_every_rule_is_a_policy_of_its_own(analyzer: Session) -> None:
    policies = {each.name: each for each in analyzer.info().policies}
    assert policies.keys() == RULES.keys()
    for name, rule in RULES.items():
        assert policies[name].description == rule.why
        assert policies[name].url == rule.source
        stack = policies[name].policy_type == pb.POLICY_TYPE_STACK
        assert stack == (rule.scope is Scope.STACK)


def test_thresholds_are_declared_with_defaults(analyzer: Session) -> None:
    (replicas,) = (each for each in analyzer.info().policies if each.name == "workload-replicas")
    assert replicas.configSchema.properties["minimum"]["default"] == 2


@pytest.mark.parametrize("level", ["advisory", "mandatory"])
def test_level_is_taken_from_the_configuration(analyzer: Session, level: str) -> None:
    analyzer.configure(RULES.values(), {"workload-replicas": level})
    assert outcome(analyzer.judge(deployment(replicas=1))) == {("workload-replicas", level)}


def test_disabled_rule_is_silent(analyzer: Session) -> None:
    analyzer.configure(RULES.values(), {"workload-replicas": "disabled"})
    assert analyzer.judge(deployment(replicas=1)) == []


def test_threshold_is_taken_from_the_configuration(analyzer: Session) -> None:
    analyzer.configure(RULES.values(), {"workload-replicas": {"minimum": 4}})
    found = analyzer.judge(manifests.baseline())
    assert {each.rule for each in found} == {"workload-replicas"}
    assert "remedy: Set spec.replicas to 4 or more." in found[0].message


def test_unknown_value_is_undecided_and_advisory(analyzer: Session) -> None:
    (found,) = analyzer.judge(deployment(replicas=UNKNOWN, strategy={"type": "RollingUpdate"}))[:1]
    assert found.level == "advisory"
    assert "not known before the update" in found.message


def test_unknown_value_alarms_no_rule(analyzer: Session) -> None:
    found = analyzer.judge(container(image=UNKNOWN))
    assert outcome(found) == {
        ("container-image-tag", "advisory"),
        ("container-image-digest", "advisory"),
    }


def test_unknown_that_no_rule_needs_is_not_mentioned(analyzer: Session) -> None:
    assert analyzer.judge(container(workingDir=UNKNOWN)) == []


def test_known_violation_counts_beside_an_unknown_elsewhere(analyzer: Session) -> None:
    declared = container(image=UNKNOWN, livenessProbe=None)
    assert ("container-liveness-probe", "mandatory") in outcome(analyzer.judge(declared))


def test_budget_with_unknown_selector_may_be_the_one(analyzer: Session) -> None:
    budget = {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": UNKNOWN}},
    }
    found = analyzer.judge(manifests.changed(manifests.baseline(), [budget]))
    assert found
    assert {each.level for each in found} == {"advisory"}


def test_secret_in_an_environment_is_found_by_its_mark_and_not_shown(analyzer: Session) -> None:
    env = [{"name": "GREETING", "value": secret(MARK)}]
    (found,) = analyzer.judge(container(env=env))
    assert found.rule == "container-no-secret-env"
    assert MARK not in found.message


@pytest.mark.parametrize("field", ["image", "name", "readinessProbe", "ports", "resources", "env"])
def test_secret_is_never_shown(analyzer: Session, field: str) -> None:
    declared = manifests.baseline()
    web: dict[str, Any] = next(each for each in declared if each["kind"] == "Deployment")
    spec = web["spec"]["template"]["spec"]["containers"][0]
    spec[field] = secret([{"name": MARK, "value": MARK}] if field == "env" else MARK)
    assert MARK not in "".join(each.message for each in analyzer.judge(declared))


def test_structure_around_a_secret_is_still_judged(analyzer: Session) -> None:
    declared = container(readinessProbe=secret({"httpGet": {"path": "/x", "port": "http"}}))
    assert ("container-readiness-probe", "mandatory") not in outcome(analyzer.judge(declared))


def test_declared_inputs_win_over_what_the_server_filled_in(analyzer: Session) -> None:
    """The API server sets replicas: 1 under an autoscaler; nobody declared that."""
    api = manifests.resource(
        next(each for each in manifests.baseline() if each["metadata"]["name"] == "api"), "outputs"
    )
    inputs, outputs = Struct(), Struct()
    inputs.update(api.props)
    outputs.update({**api.props, "spec": {**api.props["spec"], "replicas": 1}})
    analyzer.stub.Analyze(
        pb.AnalyzeRequest(properties=inputs, type=api.type, name=api.name, urn=api.urn)
    )
    request = pb.AnalyzeStackRequest()
    request.resources.add(properties=outputs, type=api.type, name=api.name, urn=api.urn)
    rules = {each.policyName for each in analyzer.stub.AnalyzeStack(request).diagnostics}
    assert "workload-replicas" in rules
    assert "workload-no-static-replicas" not in rules


def test_provider_may_set_the_namespace(analyzer: Session) -> None:
    props, provider = Struct(), Struct()
    props.update({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})
    request = pb.AnalyzeRequest(
        type="kubernetes:core/v1:ConfigMap", name="settings", urn="u", properties=props
    )
    assert [each.policyName for each in analyzer.stub.Analyze(request).diagnostics] == [
        "resource-namespace"
    ]
    provider.update({"namespace": "games"})
    request.provider.properties.CopyFrom(provider)
    assert list(analyzer.stub.Analyze(request).diagnostics) == []


def test_ends_when_the_engine_dies_without_a_word() -> None:
    """The engine is played by a process that starts the analyzer and is then killed."""
    script = textwrap.dedent("""
        import json, subprocess, sys, time
        command, pack = json.loads(sys.argv[1])
        child = subprocess.Popen(command, cwd=pack, stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(600)
    """)
    launcher = [str(LAUNCHERS / "pulumi-analyzer-policy-python"), "127.0.0.1:1", "."]
    engine = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps([launcher, str(PACK)])],
        env={**os.environ, "FT_PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert engine.stdout is not None
    analyzer = Path("/proc") / engine.stdout.readline().strip()
    assert analyzer.exists()
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    eventually("it ends", lambda: not _runs(analyzer))


def _runs(process: Path) -> bool:
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_no_module_hides_one_of_the_standard_library() -> None:
    """The engine runs the pack with its folder first on the path."""
    names = {each.stem for each in PACK.iterdir()}
    assert names.isdisjoint(sys.stdlib_module_names)
