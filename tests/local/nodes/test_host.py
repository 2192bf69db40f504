"""What this machine lacks for real nodes is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from local.nodes import cgroups, host

pytestmark = pytest.mark.unit


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that lacks nothing, for a test to take something from."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(cgroups, "lacking", list)
    monkeypatch.setattr(host, "_has_nftables", lambda: True)
    monkeypatch.setattr(host, "_works", lambda *_: True)
    return monkeypatch


def test_a_machine_that_lacks_nothing_lacks_nothing(
    able: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert host.lacks(tmp_path) == []


def test_somebody_else_than_root_is_told_so(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(os, "geteuid", lambda: 1000)
    assert host.lacks(tmp_path) == ["root (it makes namespaces and mounts)"]


def test_a_missing_command_is_named(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(shutil, "which", lambda name: None if name == "nsenter" else name)
    assert host.lacks(tmp_path) == ["the command nsenter"]


def test_a_missing_control_group_is_named(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(cgroups, "lacking", lambda: ["pids"])
    assert host.lacks(tmp_path) == ["the control group pids"]


def test_a_kernel_without_nftables_is_named(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(host, "_has_nftables", lambda: False)
    assert host.lacks(tmp_path) == ["nftables in the kernel"]


def test_what_was_tried_and_failed_is_named(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(host, "_works", lambda command, _: "overlay" not in command)
    assert host.lacks(tmp_path) == ["overlay file systems in the world's folder"]


def test_a_machine_without_loop_devices_lacks_disks_alone(
    able: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    able.setattr(host, "_works", lambda command, _: "loop" not in command)
    assert host.lacks(tmp_path) == []
    assert host.lacks_disks(tmp_path) == ["loop devices with ext4"]


def test_a_machine_that_cannot_make_file_systems_lacks_disks(
    able: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    able.setattr(shutil, "which", lambda name: None if name == "mkfs.ext4" else name)
    assert host.lacks_disks(tmp_path) == ["the command mkfs.ext4"]
