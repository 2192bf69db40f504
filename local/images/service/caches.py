"""What a service keeps in Redis: each kind of entry for as long as the catalogue says.

`REDIS_CACHES` holds, as JSON, for each service and kind how many seconds an entry is `fresh`, and
how many it is `kept`: an entry between the two is served only while the store that it comes from is
down. Redis may be away too: then entries are made anew each time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol


class Keeper(Protocol):
    """Redis, as far as entries need it; it may fail in any way."""

    def get(self, key: str, work: Any, /) -> str | None:  # noqa: ANN401
        """What is kept; None if nothing is."""

    def set(self, key: str, value: str, seconds: int | None, work: Any, /) -> None:  # noqa: ANN401
        """Keep it for so long; None: until it is evicted."""


@dataclass(frozen=True)
class Limits:
    """How long one kind of entry may be used, in seconds; None: for ever."""

    fresh: int | None
    kept: int | None


@dataclass(frozen=True)
class Entry:
    """What was asked for, and how old it is."""

    value: str
    age: float
    stale: bool
    """Whether it is older than it should be, because its store is down."""


def limits(environment: Mapping[str, str], service: str) -> dict[str, Limits]:
    """The kinds of entries that a service keeps."""
    told = json.loads(environment.get("REDIS_CACHES", "{}"))
    return {kind: Limits(**own) for kind, own in told.get(service, {}).items()}


@dataclass(frozen=True)
class Caches:
    """All kinds of entries of a service."""

    service: str
    limits: Mapping[str, Limits]
    keeper: Keeper
    make: Callable[[Any], str]
    """Asks the store; fails in any way while that is down."""

    def read(self, kind: str, work: Any) -> Entry:  # noqa: ANN401
        """The entry: kept and fresh, or made anew, or stale while it cannot be made.

        Raises:
            KeyError: if there is no such kind.
            Exception: the store's, if it is down and nothing is kept that may be used.
        """
        limit, key = self.limits[kind], f"cache:{self.service}:{kind}"
        kept = self._kept(key, work)
        if kept is not None and _younger(kept.age, limit.fresh):
            return kept
        try:
            value = self.make(work)
        except Exception:
            if kept is not None and _younger(kept.age, limit.kept):
                return Entry(kept.value, kept.age, stale=True)
            raise
        with suppress(Exception):  # the entry is good, kept or not
            written = json.dumps({"value": value, "at": time.time()})
            self.keeper.set(key, written, limit.kept, work)
        return Entry(value, 0.0, stale=False)

    def _kept(self, key: str, work: Any) -> Entry | None:  # noqa: ANN401
        with suppress(Exception):  # whatever is wrong with Redis, the store is asked
            if written := self.keeper.get(key, work):
                found = json.loads(written)
                return Entry(found["value"], max(0.0, time.time() - found["at"]), stale=False)
        return None


def _younger(age: float, limit: int | None) -> bool:
    return limit is None or age < limit
