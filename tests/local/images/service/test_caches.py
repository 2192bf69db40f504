"""How long a service uses what it keeps, told by a store and a keeper that can be down."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import pytest

from components.redis import Redis
from local.images.service.caches import Caches, Limits, limits
from stacks.systems.redis import CacheSettings
from tests.components.conftest import registered_by
from tests.components.test_redis import _args

pytestmark = pytest.mark.unit


@dataclass
class Store:
    """A store and a keeper in one."""

    store_down: bool = False
    keeper_down: bool = False
    kept: dict[str, str] = field(default_factory=dict)
    expiries: list[int | None] = field(default_factory=list)

    def make(self, _: object) -> str:
        """What the store says."""
        if self.store_down:
            raise OSError("the store is down")
        return "new"

    def get(self, key: str, _: object) -> str | None:
        """What is kept."""
        self._require_keeper()
        return self.kept.get(key)

    def set(self, key: str, value: str, seconds: int | None, _: object) -> None:
        """Keep it, and note for how long."""
        self._require_keeper()
        self.expiries.append(seconds)
        self.kept[key] = value

    def _require_keeper(self) -> None:
        if self.keeper_down:
            raise OSError("the keeper is down")

    def caches(self, fresh: int | None, kept: int | None, ago: float | None = None) -> Caches:
        """Caches with these limits, and an entry that was written so many seconds ago."""
        if ago is not None:
            written = json.dumps({"value": "old", "at": time.time() - ago})
            self.kept["cache:engine:cards"] = written
        return Caches("engine", {"cards": Limits(fresh, kept)}, self, self.make)


def test_what_is_not_kept_is_made_and_kept_for_its_time() -> None:
    store = Store()
    entry = store.caches(60, 3600).read("cards", None)
    assert (entry.value, entry.stale) == ("new", False)
    assert store.expiries == [3600]
    assert store.caches(60, 3600).read("cards", None).value == "new"
    assert len(store.expiries) == 1


@pytest.mark.parametrize(("ago", "value"), [(30, "old"), (90, "new")])
def test_an_entry_is_used_while_it_is_fresh(ago: float, value: str) -> None:
    assert Store().caches(60, 3600, ago).read("cards", None).value == value


def test_without_a_limit_an_entry_is_fresh_for_ever() -> None:
    assert Store().caches(None, None, ago=10**6).read("cards", None).value == "old"


def test_an_old_entry_is_served_while_its_store_is_down() -> None:
    entry = Store(store_down=True).caches(60, 3600, ago=90).read("cards", None)
    assert (entry.value, entry.stale) == ("old", True)
    assert 90 <= entry.age < 100


def test_an_entry_that_is_too_old_is_not_served() -> None:
    with pytest.raises(OSError, match="the store is down"):
        Store(store_down=True).caches(60, 3600, ago=3601).read("cards", None)


def test_without_the_keeper_entries_are_made_anew() -> None:
    assert Store(keeper_down=True).caches(60, 3600).read("cards", None).value == "new"


def test_the_limits_are_those_that_the_component_publishes() -> None:
    caches = {"engine": {"cards": CacheSettings(ttl=60, stale_while_down=3600)}}
    redis = registered_by(lambda: Redis("cache", _args(caches=caches)))
    published = redis.one("ConfigMap", "cache-client").inputs["data"]
    assert limits(published, "engine") == {"cards": Limits(60, 3600)}
    assert limits(published, "gateway") == {}
