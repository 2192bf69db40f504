"""`python -m policies check`: what it reads, what it finds where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies import cli, manifests
from policies.cli import LEVELS
from policies.rules import RULES
from policies.sources import from_cluster, from_text

pytestmark = pytest.mark.unit

SECRET = "hunter2-never-shown"
WEAK = """\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: games
spec:
  type: NodePort
---
# nothing here
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: games}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: web}}
"""


def wrote(path: Path, objects: list[manifests.Manifest]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(objects))
    return path


class Run:
    """One run of the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = cli.main(["check", *map(str, arguments)])
        self.out, self.err = capsys.readouterr()

    @property
    def found(self) -> list[dict[str, Any]]:
        """What `--format json` wrote."""
        listed: list[dict[str, Any]] = json.loads(self.out)
        return listed


Capture = pytest.CaptureFixture[str]


def test_baseline_is_clean(capsys: Capture, tmp_path: Path) -> None:
    run = Run(capsys, wrote(tmp_path / "all.yaml", manifests.baseline()))
    assert (run.code, run.err) == (0, "")
    assert " 0 mandatory and 0 advisory violations" in run.out


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_failing_example_fails_by_its_rule(capsys: Capture, tmp_path: Path, rule: Any) -> None:
    path = wrote(tmp_path / "all.yaml", manifests.failing(rule))
    run = Run(capsys, path, "--format", "json")
    assert rule.name in {each["rule"] for each in run.found}
    assert run.code == any(each["level"] == "mandatory" for each in run.found)


def test_finds_file_and_line_of_the_field(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEAK)
    found = {each["rule"]: each for each in Run(capsys, path, "--format", "json").found}
    assert found["service-no-node-port"]["line"] == 7
    assert found["disruption-budget-selects"]["line"] == 16
    missing = found["disruption-budget-unhealthy-eviction"]
    assert (missing["source"], missing["line"]) == (str(path), 14)
    assert missing["resource"] == "PodDisruptionBudget/games/web"


def test_line_of_a_named_item_of_a_list() -> None:
    content = b"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n  - name: b\n    x: 1"
    (pod,) = from_text(content, "pod.yaml")
    assert pod.line("spec.containers[b].x") == 7
    assert pod.line("spec.containers[b].y") == 6
    assert pod.line("spec.containers[0].image") == 5
    assert pod.line("PodDisruptionBudgets that select its Pods") == 1


def test_folder_is_read_with_all_below_it(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "web.yml"
    path.parent.mkdir(parents=True)
    path.write_text(WEAK)
    (tmp_path / "README.md").write_text("not: [read")
    run = Run(capsys, tmp_path, "--format", "json")
    assert (run.err, {each["source"] for each in run.found}) == ("", {str(path)})


def test_list_of_objects_is_read_with_lines(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    items = [each for each in yaml.safe_load_all(WEAK) if each]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    found = {each["rule"]: each["line"] for each in Run(capsys, path, "--format", "json").found}
    line = 1 + path.read_text().splitlines().index('    "type": "NodePort"')
    assert found["service-no-node-port"] == line


def test_standard_input(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WEAK.encode())))
    run = Run(capsys, "-")
    assert run.code == 1
    assert "standard input:7: mandatory service-no-node-port" in run.out


def test_state_of_the_engine_is_read(capsys: Capture, tmp_path: Path) -> None:
    (budget,) = (each for each in yaml.safe_load_all(WEAK) if each and "Budget" in each["kind"])
    seen = manifests.resource(budget)
    resources = [{"type": seen.type, "urn": seen.urn, "inputs": budget}]
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"version": 3, "deployment": {"resources": resources}}))
    found = Run(capsys, path, "--format", "json").found
    assert "disruption-budget-unhealthy-eviction" in {each["rule"] for each in found}


def test_levels_are_kept(capsys: Capture, tmp_path: Path) -> None:
    path = wrote(tmp_path / "all.yaml", manifests.failing(RULES["workload-replicas"]))
    assert Run(capsys, path, "--levels", LEVELS / "dev.json").code == 0
    assert Run(capsys, path, "--levels", LEVELS / "prod.json").code == 1


@pytest.mark.parametrize(("expires", "code"), [("2999-12-31", 0), ("2020-01-01", 1)])
def test_exemptions_are_kept(capsys: Capture, tmp_path: Path, expires: str, code: int) -> None:
    path = wrote(tmp_path / "all.yaml", manifests.failing(RULES["workload-replicas"]))
    entry = {"resource": "Deployment/games/*", "owner": "a", "reason": "b", "expires": expires}
    levels = tmp_path / "levels.json"
    levels.write_text(json.dumps({"workload-replicas": {"exemptions": [entry]}}))
    run = Run(capsys, path, "--levels", levels)
    assert run.code == code
    assert (f"{levels}: mandatory workload-replicas" in run.out) == bool(code)


def test_namespace_of_objects_that_name_none(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n")
    assert Run(capsys, path).code == 1
    assert Run(capsys, path, "--namespace", "games").code == 0


def test_same_object_twice_is_judged_twice(capsys: Capture, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(WEAK)
    found = Run(capsys, tmp_path, "--format", "json").found
    ports = [each["source"] for each in found if each["rule"] == "service-no-node-port"]
    assert ports == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def test_output_goes_to_a_file(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEAK)
    target = tmp_path / "found.sarif"
    run = Run(capsys, tmp_path, "--format", "sarif", "--output", target)
    assert (run.code, run.out) == (1, "")
    assert json.loads(target.read_text())["version"] == "2.1.0"


# Mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kind: A\n  b: [", "bad.yaml:2: not YAML: mapping values are not allowed"),
        ("a: {b: c", "not YAML: did not find expected ',' or '}'"),
        (f"kind: &a\nb: *{SECRET.partition('-')[0]}\n", "bad.yaml:2: not YAML: found undefined"),
        (f"password: !{SECRET} x\n", "bad.yaml:1: not YAML: could not determine a constructor"),
        (f"password: !!int {SECRET}\n", "bad.yaml: not YAML: a value does not fit its type"),
        ("when: 2026-13-45\n", "bad.yaml: not YAML: a value does not fit its type"),
        (f"{SECRET}\n", "bad.yaml:1: not a Kubernetes object: it is no mapping"),
        ("a: 1\n---\nb: 2\n", "bad.yaml:1: not a Kubernetes object: it has no apiVersion"),
        ("apiVersion: v1\n", "bad.yaml:1: not a Kubernetes object: it has no kind"),
        ("{apiVersion: v1, kind: Pod, metadata: 5}", "its metadata is no mapping"),
        ("{type: a:b:C, name: d, properties: 5}", "bad.yaml:1: not a Kubernetes object"),
        ("{deployment: {resources: [1]}}", "bad.yaml: not a state of the engine"),
        ("\0", "bad.yaml: not YAML: not text, or with control characters"),
        ("[" * 5000, "bad.yaml"),
    ],
)
def test_unreadable_file_is_one_line_and_code_2(
    capsys: Capture, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    run = Run(capsys, path)
    assert run.code == 2
    assert message in run.err
    assert len(run.err.splitlines()) == 1
    assert SECRET not in run.err


def test_each_unreadable_file_has_its_line_and_the_others_are_judged(
    capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "web.yaml").write_text(WEAK)
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("a: [")
    run = Run(capsys, tmp_path, tmp_path / "gone.yaml")
    assert run.code == 2
    assert [line.split(":")[0] for line in run.err.splitlines()] == [
        str(tmp_path / name) for name in ("one.yaml", "two.yaml", "gone.yaml")
    ]
    assert "service-no-node-port" in run.out


@pytest.mark.parametrize("arguments", [[], ["--cluster", "x.yaml"]])
def test_files_or_a_cluster(capsys: Capture, arguments: list[str]) -> None:
    run = Run(capsys, *arguments)
    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1


def test_folder_without_manifests(capsys: Capture, tmp_path: Path) -> None:
    run = Run(capsys, tmp_path)
    assert run.code == 2
    assert "no file in it ends in .yaml, .yml, .json" in run.err


def test_wrong_levels_file(capsys: Capture, tmp_path: Path) -> None:
    levels = tmp_path / "levels.json"
    levels.write_text('{"redis-qorum": "advisory"}')
    run = Run(capsys, tmp_path, "--levels", levels)
    assert run.code == 2
    assert run.err == (f"{levels}: no rule is named 'redis-qorum': did you mean redis-quorum?\n")


def test_output_that_cannot_be_written(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEAK)
    run = Run(capsys, tmp_path, "--output", tmp_path / "none" / "x.txt")
    assert run.code == 2
    assert "none/x.txt: No such file or directory" in run.err


def test_control_characters_do_not_reach_the_terminal(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    name = '"we\\e[31mb\\nb"'
    path.write_text(WEAK.replace("name: web\n", f"name: {name}\n"))
    assert "\x1b" not in Run(capsys, path).out


@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit"])
def test_secrets_are_hidden_as_they_are_read(capsys: Capture, tmp_path: Path, form: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "stringData": {"password": SECRET, "redis.conf": f"requirepass {SECRET}"},
    }
    variable = {"name": "DB_PASSWORD", "value": SECRET}
    pod = {"spec": {"containers": [{"name": "a", "env": [variable]}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"template": pod},
    }
    run = Run(capsys, wrote(tmp_path / "a.yaml", [secret, deployment]), "--format", form)
    assert "container-no-secret-env" in run.out
    assert SECRET not in run.out + run.err


# A cluster --------------------------------------------------------------------------------------

API_RESOURCES = """\
namespaces     ns       v1       false   Namespace
services       svc      v1       true    Service
secrets                 v1       true    Secret
nodes          no       v1       false   Node
deployments    deploy   apps/v1  true    Deployment
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that answers from files, and writes down what it was asked."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    (tmp_path / "api-resources").write_text(API_RESOURCES)
    program.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$@" >> asked\n'
        'case "$*" in *api-resources*) cat api-resources;; *) cat get;; esac\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def served(kind: str, name: str, **metadata: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **metadata}}


def test_cluster_is_asked_for_what_rules_look_at_and_never_for_secrets(kubectl: Path) -> None:
    (kubectl / "get").write_text('{"items": []}')
    from_cluster("east")
    first, second = (kubectl / "asked").read_text().splitlines()
    assert "--context east api-resources" in first
    assert " get deployments.apps,namespaces,services --all-namespaces" in second


def test_what_the_cluster_makes_itself_is_left_out(kubectl: Path) -> None:
    owner = [{"kind": "ReplicaSet", "name": "a", "controller": True}]
    items = [
        served("Service", "web", namespace="games"),
        served("Service", "dns", namespace="kube-system"),
        served("Service", "made", namespace="games", ownerReferences=owner),
        served("Service", "kubernetes", namespace="default", labels={"provider": "kubernetes"}),
        served("ConfigMap", "kube-root-ca.crt", namespace="games"),
        served("Namespace", "kube-system"),
        served("ClusterRole", "edit", labels={"kubernetes.io/bootstrapping": "rbac-defaults"}),
    ]
    (kubectl / "get").write_text(json.dumps({"items": items}))
    assert [each.resource.object_name for each in from_cluster()] == ["web"]


def test_cluster_that_does_not_answer(
    capsys: Capture, kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kubectl / "bin" / "kubectl").write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
    run = Run(capsys, "--cluster")
    assert (run.code, run.err) == (2, "the cluster could not be read: refused\n")


def test_without_kubectl(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run = Run(capsys, "--cluster")
    assert (run.code, run.err) == (2, "--cluster needs kubectl on PATH\n")


@pytest.mark.cluster
def test_real_cluster_is_judged(
    capsys: Capture,
    kubeconfig: Path,
    tools: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{tools['kubectl'].parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    namespace = wrote(tmp_path / "ns.yaml", [served("Namespace", "judged")])
    subprocess.run(["kubectl", "apply", "-f", str(namespace)], check=True)
    try:
        found = Run(capsys, "--cluster", "--format", "json").found
    finally:
        subprocess.run(["kubectl", "delete", "-f", str(namespace)], check=True)
    broken = {(each["rule"], each["resource"]) for each in found}
    assert ("namespace-pod-security", "Namespace/judged") in broken
    assert not any("kube-system" in resource for _, resource in broken)
