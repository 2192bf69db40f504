"""What a drill does to Pods; commands in them by a program that stands in kubectl's place."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from drills.faults import Pod
from drills.kube import Kube
from local.errors import LocalError

pytestmark = pytest.mark.unit

_POD = Pod("data", "redis-0", "uid", "node-1")


def kube(folder: Path, script: str) -> Kube:
    """A cluster whose kubectl is this script."""
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Kube(Mock(), program, folder / "kubeconfig")


def test_a_ctrl_c_does_not_reach_what_runs(tmp_path: Path) -> None:
    told = kube(tmp_path, "cut -d' ' -f5 /proc/$$/stat").execute(_POD, "redis", ["true"])
    assert int(told) != os.getpgrp()


def test_what_runs_shares_the_session_of_the_drill(tmp_path: Path) -> None:
    told = kube(tmp_path, "cut -d' ' -f6 /proc/$$/stat").execute(_POD, "redis", ["true"])
    assert int(told) == os.getsid(0)


def test_a_command_that_fails_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"redis-cli in data/redis-0 failed: no such file"):
        kube(tmp_path, "echo no such file >&2; exit 1").execute(_POD, "redis", ["redis-cli"])


def test_a_command_that_hangs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"redis-cli in data/redis-0 took more than 0 s"):
        kube(tmp_path, "exec sleep 60").execute(_POD, "redis", ["redis-cli"], limit=0.1)


def test_what_is_no_text_is_printed_all_the_same(tmp_path: Path) -> None:
    assert kube(tmp_path, r"printf 'a\335b'").execute(_POD, "redis", ["cat"]) == "a\ufffdb"


@pytest.mark.parametrize(("grace", "options"), [(None, ""), (0, "?gracePeriodSeconds=0")])
def test_a_pod_that_is_removed_has_the_time_that_is_said_or_its_own(
    tmp_path: Path, grace: int | None, options: str
) -> None:
    api = Mock()
    Kube(api, tmp_path / "kubectl", tmp_path / "kubeconfig").remove(_POD, grace)
    api.delete.assert_called_once_with(f"/api/v1/namespaces/data/pods/redis-0{options}")
