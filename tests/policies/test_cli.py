"""What `python -m policies` prints, and that docs/policies.md is what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from policies import cli, manifests
from policies.rules import RULES

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_list_has_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "list").splitlines()
    listed = {line.split()[0] for line in lines if len(line.split()) > 1}
    assert listed - {"rule"} == RULES.keys()


def test_list_says_what_a_rule_looks_at(capsys: pytest.CaptureFixture[str]) -> None:
    line = next(each for each in printed(capsys, "list").splitlines() if "pod-not-bare" in each)
    assert line.split() == ["pod-not-bare", "high", *["mandatory"] * 4, "Pod"]


def test_page_is_what_the_rules_say(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    assert printed(capsys, "list", "--markdown") == page, (
        "run: python -m policies list --markdown > docs/policies.md"
    )


@pytest.mark.parametrize("name", RULES)
def test_explain_says_why_whence_and_how(capsys: pytest.CaptureFixture[str], name: str) -> None:
    rule = RULES[name]
    text = printed(capsys, "explain", name)
    assert rule.source in text
    assert rule.remedy in text
    assert " ".join(rule.why.split()[:5]) in text
    assert all(option in text for option in rule.options)
    assert "passes" in text
    assert "fails" in text


def test_unknown_rule_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "redis-qorum"]) == 2
    assert "did you mean redis-quorum" in capsys.readouterr().err


def test_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "policies", "explain", "redis-quorum"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("redis-quorum (critical)")


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.yaml"
    path.write_text(yaml.safe_dump_all(each for each in manifests.baseline() if "kind" in each))
    return path


def test_survival_tells_what_survives(capsys: pytest.CaptureFixture[str], baseline: Path) -> None:
    assert "goes on" in printed(capsys, "survival", str(baseline))
    assert json.loads(printed(capsys, "survival", str(baseline), "--json"))["verdicts"]


def test_parity_of_a_stack_with_itself(capsys: pytest.CaptureFixture[str], baseline: Path) -> None:
    assert printed(capsys, "parity", str(baseline), str(baseline), "--rehearsal") == ""


def test_parity_tells_what_is_missing(capsys: pytest.CaptureFixture[str], baseline: Path) -> None:
    less = baseline.with_name("less.yaml")
    kept = [each for each in manifests.baseline() if each.get("kind") not in {None, "Ingress"}]
    less.write_text(yaml.safe_dump_all(kept))
    assert cli.main(["parity", str(baseline), str(less), "--rehearsal"]) == 1
    assert "Ingress" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "a: [", "is no YAML"),
        ("a.json", '{"deployment": {"resources": [{"urn": "a"}]}}', "has no type or URN"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text)
    assert cli.main(["survival", str(tmp_path / name)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("command", ["survival", "check"])
def test_file_that_is_missing_is_named(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert cli.main([command, "none.yaml"]) == 2
    assert "none.yaml" in capsys.readouterr().err
