"""Watching collections: what changes is seen, and nothing that breaks stays broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local import watch
from local.api import Api, RefusedError
from local.cluster import Cluster
from local.errors import LocalError
from local.watch import Watched
from tests.waiting import LIMIT_SECONDS, eventually

PATH = "/api/v1/namespaces/watched/configmaps"


def config_map(name: str, version: str = "1", **data: str) -> dict[str, Any]:
    metadata = {"namespace": "watched", "name": name, "uid": name, "resourceVersion": version}
    return {"metadata": metadata, "data": data}


def listing(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1"}, "items": list(items)}


class ScriptedApi(Api):
    """Answers each list and each watch with the next of what it was given, then stays silent."""

    def __init__(self, *lists: dict[str, Any] | Exception, watches: list[Any]) -> None:
        self.lists, self.watches = list(lists), watches
        self.aborted = threading.Event()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, path: str) -> dict[str, Any]:  # noqa: ARG002
        """Scripted."""
        answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def watch(self, path: str, version: str) -> Iterator[dict[str, Any]]:  # noqa: ARG002
        """Scripted."""
        for event in self.watches.pop(0) if self.watches else []:
            if isinstance(event, Exception):
                raise event
            yield event
        if not self.watches:
            self.aborted.wait(LIMIT_SECONDS)

    def abort(self) -> None:
        """Scripted."""
        self.aborted.set()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.01)


def names(watched: Watched) -> set[str]:
    return {name for _, name in watched.objects(PATH)}


def test_the_first_turn_comes_when_everything_is_listed() -> None:
    api = ScriptedApi(LocalError("not up"), listing(config_map("a")), watches=[])
    with Watched(lambda: api, [PATH]) as watched:
        next(watched.changes(LIMIT_SECONDS))
        assert names(watched) == {"a"}


@pytest.mark.parametrize(
    "failure",
    [RefusedError("expired", 410), LocalError("broken"), None],
    ids=["410", "broken", "EOF"],
)
def test_a_watch_that_ends_is_followed_by_a_new_list(failure: Exception | None) -> None:
    events = [] if failure is None else [failure]
    api = ScriptedApi(listing(config_map("a")), listing(config_map("b")), watches=[events, []])
    with Watched(lambda: api, [PATH]) as watched:
        eventually("the new list is seen", lambda: names(watched) == {"b"})


def test_an_unknown_collection_is_empty_until_it_appears() -> None:
    appeared = threading.Event()

    class Late(ScriptedApi):
        def get(self, path: str) -> dict[str, Any]:
            if not appeared.is_set():
                raise RefusedError("no such collection", 404)
            return super().get(path)

    api = Late(listing(config_map("a")), watches=[])
    with Watched(lambda: api, [PATH]) as watched:
        next(watched.changes(LIMIT_SECONDS))
        assert names(watched) == set()
        appeared.set()
        eventually("it is seen", lambda: names(watched) == {"a"})


def test_a_new_list_that_says_the_same_is_no_change() -> None:
    api = ScriptedApi(listing(config_map("a")), watches=[[], [], []])
    with Watched(lambda: api, [PATH]) as watched:
        changes = watched.changes(0.5)
        next(changes)
        eventually("all watches have ended", lambda: not api.watches)
        start = time.monotonic()
        next(changes)
        assert time.monotonic() - start > 0.4


def test_a_turn_comes_after_the_longest_time_without_changes() -> None:
    api = ScriptedApi(listing(), watches=[])
    with Watched(lambda: api, [PATH]) as watched:
        turns = watched.changes(0.1)
        for _ in range(3):
            next(turns)


def test_a_burst_of_changes_is_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 2)
    go = threading.Event()

    def burst() -> Iterator[dict[str, Any]]:
        go.wait(LIMIT_SECONDS)
        for number in range(100):
            yield {"type": "MODIFIED", "object": config_map("a", str(number))}

    api = ScriptedApi(listing(), watches=[burst()])
    with Watched(lambda: api, [PATH]) as watched:
        turns = watched.changes(LIMIT_SECONDS)
        next(turns)
        go.set()
        next(turns)
        assert watched.objects(PATH)["watched", "a"]["metadata"]["resourceVersion"] == "99"
        assert not watched._changed.is_set()


def test_the_end_ends_turns_and_threads() -> None:
    api = ScriptedApi(listing(), watches=[])
    with Watched(lambda: api, [PATH]) as watched:
        turns = watched.changes(LIMIT_SECONDS)
        next(turns)
    assert next(turns, "ended") == "ended"
    assert not any(thread.is_alive() for thread in watched._threads.values())


@pytest.mark.cluster
def test_a_real_collection_is_followed(cluster: Cluster) -> None:
    with cluster.api() as api:
        api.create("/api/v1/namespaces", {"metadata": {"name": "watched"}})
        api.create(PATH, {"metadata": {"name": "a"}, "data": {"x": "1"}})
        with Watched(cluster.api, [PATH]) as watched:
            eventually("it is seen", lambda: names(watched) >= {"a"})
            api.create(PATH, {"metadata": {"name": "b"}})
            eventually("a new one is seen", lambda: names(watched) >= {"b"})
            api.merge(f"{PATH}/a", {"data": {"x": "2"}})
            eventually(
                "a change is seen",
                lambda: watched.objects(PATH)["watched", "a"]["data"] == {"x": "2"},
            )
            api.delete(f"{PATH}/b")
            eventually("its end is seen", lambda: "b" not in names(watched))
            start = time.monotonic()
    assert time.monotonic() - start < watch.END_SECONDS / 2
    assert not any(thread.is_alive() for thread in watched._threads.values())


def answering(*events: dict[str, Any]) -> Api:
    """An API whose every answer is these events, in chunks that do not end with a line's end."""
    text = "\n".join(json.dumps(event) for event in events).encode()

    class Stream:
        def get_extra_info(self, _: str) -> None:
            """There is no socket."""

    def answer(_: httpx.Request) -> httpx.Response:
        halves = iter([text[: len(text) // 2], text[len(text) // 2 :]])
        return httpx.Response(200, content=halves, extensions={"network_stream": Stream()})

    api = Api.__new__(Api)
    api._http = httpx.Client(base_url="http://api", transport=httpx.MockTransport(answer))
    return api


def test_bookmarks_are_no_events() -> None:
    added = {"type": "ADDED", "object": config_map("a")}
    with answering({"type": "BOOKMARK", "object": {}}, added) as api:
        assert list(api.watch(PATH, "1")) == [added]


def test_a_version_that_the_server_forgot_is_refused_as_gone() -> None:
    status = {"kind": "Status", "code": 410, "message": "too old resource version"}
    gone = {"type": "ERROR", "object": status}
    with answering(gone) as api, pytest.raises(RefusedError, match="too old") as refused:
        next(api.watch(PATH, "1"))
    assert refused.value.status == 410


@pytest.mark.cluster
def test_a_watch_that_the_server_refuses_raises_its_status(cluster: Cluster) -> None:
    with cluster.api() as api, pytest.raises(RefusedError) as refused:
        next(api.watch("/api/v1/namespaces/watched/unknown", "1"))
    assert refused.value.status == 404
