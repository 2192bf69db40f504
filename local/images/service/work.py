"""A unit of work: how long its caller waits, what is tried twice, and whom it calls."""

from __future__ import annotations

import http.client
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 2.0

BUDGET_SECONDS, MOST_BUDGET_SECONDS = 5.0, 60.0
"""For a unit of work whose caller names no deadline; and the most that a caller can name. Enough to
wait for one silent address and to succeed with the next."""

MOST_DEPTH = 4
"""Calls in a row; from there nobody is called, so a cycle in the catalogue ends."""

DICE = random.SystemRandom()

T = TypeVar("T")


class LateError(Exception):
    """The caller no longer waits, so work that has not begun is not begun."""


@dataclass(frozen=True)
class Work:
    """One unit of work, as the caller asked for it."""

    id: uuid.UUID
    depth: int
    ends: float
    """On the monotonic clock; nobody waits for the answer after it."""

    @property
    def left(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.ends - time.monotonic()

    def at_most(self, seconds: float) -> float:
        """Seconds for one step: its own limit, or what is left."""
        if self.left <= 0:
            raise LateError
        return min(seconds, self.left)


def retried(work: Work, attempt: Callable[[], T], passing: tuple[type[Exception], ...]) -> T:
    """Make an attempt that may safely be made twice, and a second one if the first may pass.

    One retry finds the next address after a failover. More would multiply the load on whatever is
    struggling; the pause is random, so that clients which failed together do not return together.
    """
    try:
        return attempt()
    except passing:
        pause = DICE.uniform(0.05, 0.25)
        if work.left <= pause:
            raise
        time.sleep(pause)
        return attempt()


def call(url: str, work: Work) -> None:
    """Ask another service to do its work; a new connection each, for these are what is balanced.

    Raises:
        OSError: if it does not answer in time, or does not answer 200. An answer is not asked for
            again, only a connection: whoever answered has already retried what could be.
    """
    if work.depth >= MOST_DEPTH:
        return
    target = urlsplit(url)
    status = 0

    def attempt() -> None:
        nonlocal status
        connection = http.client.HTTPConnection(
            target.hostname or "", target.port, timeout=work.at_most(CONNECT_SECONDS)
        )
        try:
            connection.connect()
            connection.sock.settimeout(work.at_most(MOST_BUDGET_SECONDS))
            headers = {
                "X-Request-Id": str(work.id),
                "X-Call-Depth": str(work.depth + 1),
                "X-Deadline-Ms": str(int(work.left * 1000)),
            }
            connection.request("GET", "/", headers=headers)
            status = connection.getresponse().status
        finally:
            connection.close()

    retried(work, attempt, (OSError,))
    if status != HTTPStatus.OK:
        raise OSError(f"answered {status}")
