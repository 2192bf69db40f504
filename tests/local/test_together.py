"""Work side by side: all of it is done, or the first error ends the rest."""

from __future__ import annotations

import threading
import time
from typing import NoReturn

import pytest

from local import together
from local.together import StoppedError, side_by_side
from local.toolchain.build import Say

pytestmark = pytest.mark.unit

LIMIT_SECONDS = 20


def test_works_go_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=LIMIT_SECONDS)
    side_by_side([lambda _: both.wait(), lambda _: both.wait()], print)


def test_what_each_says_is_told() -> None:
    said: list[str] = []
    side_by_side([lambda say: say("one"), lambda say: say("two")], said.append)
    assert sorted(said) == ["one", "two"]


class Endless:
    """Work that ends only if it is stopped, and speaks all the time."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.was_stopped = False

    def work(self, say: Say) -> None:
        """Go on until it is stopped, or far longer than that should take."""
        deadline = time.monotonic() + LIMIT_SECONDS
        try:
            while time.monotonic() < deadline:
                say("still at it")
                self.begun.set()
        except StoppedError:
            self.was_stopped = True
            raise


def test_an_error_is_raised_and_stops_the_others() -> None:
    other = Endless()

    def fail(_: Say) -> None:
        assert other.begun.wait(LIMIT_SECONDS)
        raise ValueError("no such package")

    with pytest.raises(ValueError, match="no such package"):
        side_by_side([other.work, fail], lambda _: None)
    assert other.was_stopped


def test_an_interrupt_stops_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C arrives: while the main thread waits for the works."""
    others = [Endless(), Endless()]

    def interrupted(_: object) -> NoReturn:
        assert all(each.begun.wait(LIMIT_SECONDS) for each in others)
        raise KeyboardInterrupt

    monkeypatch.setattr(together, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side([each.work for each in others], lambda _: None)
    assert [each.was_stopped for each in others] == [True, True]
