"""The soak tells what is wrong before it does anything, and notices what is left behind."""

from __future__ import annotations

import subprocess
from dataclasses import fields, replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from drills import leftovers, soak
from drills.leftovers import Host
from local import world
from local.errors import LocalError
from stacks.problems import SettingsError

pytestmark = pytest.mark.unit

CLEAN = Host(**{field.name: frozenset() for field in fields(Host)})


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mock:
    """What runs in the place of `up` and `down`; each succeeds, and no port is taken."""
    ran = Mock(return_value=[])
    monkeypatch.setenv("WORLD", str(tmp_path / "worlds"))
    monkeypatch.setenv("BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(soak, "_command", ran)
    monkeypatch.setattr(soak, "_ports", lambda _: [])
    return ran


def looks(monkeypatch: pytest.MonkeyPatch, *seen: Host) -> None:
    monkeypatch.setattr(leftovers, "look", Mock(side_effect=seen))


def test_a_stack_that_there_is_not_is_told(commands: Mock) -> None:
    with pytest.raises(SettingsError, match="no stack"):
        soak.soak("nowhere", 1)
    commands.assert_not_called()


def test_a_world_that_somebody_uses_is_let_be(commands: Mock) -> None:
    kept = world.named("dev").folder
    kept.mkdir(parents=True)
    with pytest.raises(LocalError, match="make down STACK=dev"):
        soak.soak("dev", 1)
    commands.assert_not_called()
    assert kept.exists()


def test_it_goes_up_and_down_as_often_as_it_is_told(
    commands: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, CLEAN, CLEAN, CLEAN)
    assert soak.soak("dev", 2) == 0
    assert [call.args[0] for call in commands.call_args_list] == ["up", "down", "up", "down"]


def test_it_stops_at_what_is_left_behind(commands: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, CLEAN, replace(CLEAN, links=frozenset({"veth7"})))
    assert soak.soak("dev", 2) == 1
    assert commands.call_count == 2


def test_a_command_that_fails_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "no room", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert soak._command("up", "dev", 1) == ["up failed: no room"]
