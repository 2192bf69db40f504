"""Waiting for what comes in its own time: one limit, which only a mistake reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 180.0
_POLL_SECONDS = 0.05

Found = TypeVar("Found")


def eventually(
    what: str, find: Callable[[], Found], otherwise: Callable[[], object] | None = None
) -> Found:
    """Look until something is found, or holds, and return it.

    Args:
        what: what is waited for, in the words that a failure names it with.
        find: looks for it.
        otherwise: tells what there is instead, once it is too late.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (found := find()):
        if time.monotonic() > deadline:
            instead = f": {otherwise()}" if otherwise else ""
            raise AssertionError(f"not within {LIMIT_SECONDS:g} s: {what}{instead}")
        time.sleep(_POLL_SECONDS)
    return found
