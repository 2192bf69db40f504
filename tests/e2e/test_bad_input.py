"""A person's mistakes: one clear message, exit code 1, and nothing begun."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout

pytestmark = pytest.mark.e2e

DEV = "stacks/Pulumi.dev.yaml"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.copied(tmp_path)


def refused(checkout: Checkout, *arguments: str) -> str:
    """Run a command that must be refused before anything begins; return its message."""
    done = checkout.run(*arguments)
    message = done.stderr
    assert done.returncode == 1, done.stdout + message
    assert message.startswith("error: ")
    assert "Traceback" not in done.stdout + message
    assert not checkout.worlds.exists()
    return message


@pytest.mark.parametrize("command", ["up", "preview", "policy"])
def test_a_missing_stack_is_named_with_those_that_there_are(
    checkout: Checkout, command: str
) -> None:
    message = refused(checkout, command, "prdo")
    assert "prdo" in message
    assert "prod" in message


def test_a_file_that_is_not_yaml_is_named_with_the_line(checkout: Checkout) -> None:
    checkout.change(DEV, "config:", "config: [")
    assert "stacks/Pulumi.dev.yaml:" in refused(checkout, "up", "dev")


def test_everything_wrong_is_told_at_once(checkout: Checkout) -> None:
    checkout.change(DEV, "[us-east-1a, us-east-1b, us-east-1c]", "[us-east-1a]")
    checkout.change(DEV, "gateway: {replicas: {max: 3}", "gateway: {replicas: {min: 1000000}")
    checkout.change(
        DEV,
        "fault-tolerance:backup:",
        "fault-tolerance:objectives: {postgres: {rpo: soon}}\n  fault-tolerance:backup:",
    )
    message = refused(checkout, "up", "dev")
    assert "fault-tolerance:zones" in message
    assert "fault-tolerance:services.gateway.replicas.min is 1000000" in message
    assert 'fault-tolerance:objectives.postgres.rpo is "soon"' in message


def test_a_stack_that_names_its_own_cluster_is_left_to_pulumi(checkout: Checkout) -> None:
    checkout.change(DEV, "  aws:region", "  kubernetes:context: production\n  aws:region")
    message = refused(checkout, "up", "dev")
    assert "kubernetes:context" in message
    assert "pulumi up -s dev" in message


def test_an_unknown_command_is_explained(checkout: Checkout) -> None:
    done = checkout.run("upp", "dev")
    assert done.returncode == 2
    assert "invalid choice: 'upp'" in done.stderr


def test_make_lists_the_commands(checkout: Checkout) -> None:
    listed = subprocess.run(
        ["make"], cwd=checkout.source, capture_output=True, text=True, check=True
    )
    assert "make up" in listed.stdout
    assert "make policy" in listed.stdout
