"""What `python -m policies` prints, and that docs/policies.md is what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policies import cli
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
