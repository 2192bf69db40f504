"""What the Makefile makes of what a person types."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local.world import PROJECT

pytestmark = pytest.mark.unit

Make = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path) -> Make:
    """Each word that a goal passes on, where nothing is set up or run."""
    (tmp_path / "ready").touch()

    def make(*arguments: str, **environment: str) -> list[str]:
        settings = [f"VENV={tmp_path}", "RUN=printf '%s\\n'"]
        own = {"STACK", "C", "MAKEFLAGS"}  # the last: of a `make test` that runs this
        inherited = {key: value for key, value in os.environ.items() if key not in own}
        done = subprocess.run(
            ["make", "--silent", *settings, *arguments],
            cwd=PROJECT,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    return make


@pytest.mark.parametrize("goal", ["down", "status"])
def test_a_goal_is_about_all_stacks_where_none_is_named(words: Make, goal: str) -> None:
    assert words(goal) == ["local", goal]


@pytest.mark.parametrize("goal", ["down", "status"])
@pytest.mark.parametrize("stack", ["staging", ""])
def test_a_stack_counts_from_the_command_line(words: Make, goal: str, stack: str) -> None:
    assert words(goal, f"STACK={stack}") == ["local", goal, stack]


@pytest.mark.parametrize("goal", ["down", "status"])
@pytest.mark.parametrize("stack", ["staging", ""])
def test_a_stack_counts_from_the_environment(words: Make, goal: str, stack: str) -> None:
    assert words(goal, STACK=stack) == ["local", goal, stack]


def test_other_goals_are_about_dev_where_no_stack_is_named(words: Make) -> None:
    assert words("up") == ["local", "up", "dev"]


@pytest.mark.parametrize("goal", ["psql", "redis-cli"])
@pytest.mark.parametrize("command", ["select 1", """get "$(C) `id` $1" '\\'""", "eval ';#' 0"])
def test_a_command_is_passed_on_as_it_was_typed(words: Make, goal: str, command: str) -> None:
    assert words(goal, f"C={command}") == ["local", goal, "dev", command]


@pytest.mark.parametrize("goal", ["psql", "redis-cli"])
def test_a_client_opens_where_no_command_is_given(words: Make, goal: str) -> None:
    assert words(goal) == ["local", goal, "dev"]
