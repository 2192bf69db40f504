"""Ctrl-C during a drill: once it stops, and then it is not stopped from cleaning up."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from drills import stop
from local.errors import LocalError

pytestmark = pytest.mark.unit

PROGRAM = """
import signal, time
from drills import stop
signal.signal(signal.SIGHUP, signal.{hangup})
stop.once(lambda words: print(words, flush=True))
try:
    print("running", flush=True)
    time.sleep(60)
finally:
    print("cleaning", flush=True)
    time.sleep(3)
    print("clean", flush=True)
"""
"""Tests may be run under nohup themselves."""


@contextmanager
def running(hangup: str = "SIG_DFL") -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A program that has got to its work, and what it prints from then on."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(hangup=hangup)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process, process.stdout


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_stop_the_cleaning_up(first: signal.Signals) -> None:
    with running() as (process, printed):
        process.send_signal(first)
        assert printed.readline() == "cleaning\n"
        process.send_signal(signal.SIGINT)
        assert printed.readline().startswith("stopping: ")
        assert printed.readline() == "clean\n"
        assert process.wait(30) != 0


def test_what_nohup_started_outlives_its_terminal() -> None:
    with running("SIG_IGN") as (process, printed):
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert printed.read() == "cleaning\nclean\n"


def test_an_error_while_cleaning_up_is_known_for_one() -> None:
    error: BaseException | None = None
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise LocalError("the node is down")
    except LocalError as raised:
        error = raised
    assert stop.was_asked(error)
    assert not stop.was_asked(LocalError("alone"))
