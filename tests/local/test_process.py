"""Processes: started once, known again by pid and start time, ended for good."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from local import process as processes
from local.errors import LocalError
from local.process import Process

pytestmark = pytest.mark.unit

SLEEP = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
    "time.sleep(60)",
]


def test_a_started_process_is_known_by_its_pid(tmp_path: Path) -> None:
    process = Process("sleeper", tmp_path)
    process.start(SLEEP, os.environ)
    try:
        pid = process.pid()
        assert pid is not None
        assert Path(f"/proc/{pid}").exists()
    finally:
        process.stop()


def test_what_ended_before_its_start_time_was_known_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process("sleeper", tmp_path)
    monkeypatch.setattr(processes, "started_at", lambda _: None)
    process.start(["true"], os.environ)
    assert process.pid() is None
    assert process.was_started()
    process.stop()
    assert not process.was_started()


def test_a_process_is_known_whenever_who_started_it_is_killed(tmp_path: Path) -> None:
    """The program runs no sooner than its pid is remembered."""
    process = Process("self", tmp_path)
    process.start(["cat", str(tmp_path / "self.pid")], os.environ)
    process.wait_until(lambda: "started" in process.tail(), 60)
    saved = json.loads(process.tail())
    process.stop()
    assert saved["pid"] > 1
    assert saved["started"].isdecimal()


def test_a_program_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="gone cannot be started: there is no program /no/such"):
        Process("gone", tmp_path).start(["/no/such"], os.environ)


def test_what_cannot_be_remembered_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "lost.pid.new").mkdir()
    process = Process("lost", tmp_path)
    with pytest.raises(LocalError, match="lost.pid was not written"):
        process.start(["touch", str(tmp_path / "ran")], os.environ)
    assert not (tmp_path / "ran").exists()


def test_starting_twice_keeps_the_first(tmp_path: Path) -> None:
    process = Process("sleeper", tmp_path)
    process.start(SLEEP, os.environ)
    first = process.pid()
    process.start(SLEEP, os.environ)
    try:
        assert process.pid() == first
    finally:
        process.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may prefer a process")
@pytest.mark.parametrize("first", [True, False])
def test_only_what_is_to_come_first_is_preferred(tmp_path: Path, first: bool) -> None:
    process = Process("sleeper", tmp_path)
    process.start(SLEEP, os.environ, first=first)
    try:
        pid = process.pid()
        assert pid is not None
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pid) == (processes.FIRST if first else usual)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            assert group.read_text().endswith(f"nice {processes.FIRST if first else 0}\n")
    finally:
        process.stop()


def test_a_process_that_may_not_come_first_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    process = Process("sleeper", tmp_path)
    process.start(SLEEP, os.environ, first=True)
    try:
        assert process.pid() is not None
    finally:
        process.stop()


def test_a_pid_that_is_somebody_elses_now_is_not_ours(tmp_path: Path) -> None:
    process = Process("sleeper", tmp_path)
    (tmp_path / "sleeper.pid").write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    assert process.pid() is None
    process.stop()
    assert processes.started_at(os.getpid()) is not None


def test_stop_ends_a_process_that_ignores_the_polite_signal(tmp_path: Path) -> None:
    process = Process("stubborn", tmp_path)
    process.start(STUBBORN, os.environ)
    process.wait_until(lambda: "up" in process.tail(), 60)
    pid = process.pid()
    process.stop(limit=0.3)
    assert pid is not None
    assert processes.started_at(pid) is None


def test_a_process_that_ends_at_its_start_is_reported_with_its_log(tmp_path: Path) -> None:
    process = Process("broken", tmp_path)
    process.start([sys.executable, "-c", "raise SystemExit('no such setting')"], os.environ)
    with pytest.raises(LocalError, match="broken ended at its start(.|\n)*no such setting"):
        process.wait_until(lambda: False, 120)  # a busy machine starts Python in its own time


def test_a_process_that_is_never_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    process = Process("slow", tmp_path)
    process.start(SLEEP, os.environ)
    process.wait_until(lambda: "hello" in process.tail(), 60)
    try:
        with pytest.raises(LocalError, match="slow was not ready after 0 s(.|\n)*hello"):
            process.wait_until(lambda: False, 0)
    finally:
        process.stop()


def test_a_free_port_is_one_that_nobody_listens_on() -> None:
    assert not processes.is_listening(processes.free_port())
