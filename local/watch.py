"""The present state of some collections of the API server, kept up to date by watching.

What a controller of the local world is built on::

    with Watched(cluster.api, ["/api/v1/pods", "/api/v1/nodes"]) as watched:
        for _ in watched.changes(10):
            reconcile(watched.objects("/api/v1/pods"), watched.objects("/api/v1/nodes"))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from local.api import Api, RefusedError
from local.errors import LocalError

Key = tuple[str, str]
"""Namespace ("" where there is none) and name."""

RETRY_SECONDS = 0.5
"""Between two attempts to list: an API server that restarts is found again this soon."""
SETTLE_SECONDS = 0.05
"""How long a burst of changes is gathered before it is told."""
END_SECONDS = 10.0
"""Limit for the threads to end; one that is just connecting ends with its request."""


class Watched:
    """Lists and then watches each collection in a thread of its own; lists anew after any error.

    A collection that the server does not know (its definition is not installed yet) counts as
    empty, until it appears.
    """

    def __init__(self, api_factory: Callable[[], Api], paths: Sequence[str]) -> None:
        self._api_factory = api_factory
        self._objects: dict[str, dict[Key, dict[str, Any]]] = {path: {} for path in paths}
        self._apis: dict[str, Api] = {}
        self._listed: set[str] = set()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._complete = threading.Event()
        self._stopping = threading.Event()
        self._threads = {
            path: threading.Thread(target=self._follow, args=[path], name=path, daemon=True)
            for path in paths
        }

    def __enter__(self) -> Watched:
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._complete.set()
        self._changed.set()
        deadline = time.monotonic() + END_SECONDS
        for path, thread in self._threads.items():
            # Again and again: a thread may be between its list and its watch.
            while thread.is_alive() and time.monotonic() < deadline:
                if path in self._apis:
                    self._apis[path].abort()
                thread.join(0.1)

    def objects(self, path: str) -> dict[Key, dict[str, Any]]:
        """What a collection holds now: a dictionary of your own; leave its objects as they are."""
        with self._lock:
            return dict(self._objects[path])

    def changes(self, longest: float) -> Iterator[None]:
        """Yield once everything is listed, then after each burst of changes.

        Args:
            longest: seconds after which to yield even though nothing changed.
        """
        self._complete.wait()
        while not self._stopping.is_set():
            self._changed.clear()
            yield
            if self._changed.wait(longest):
                self._stopping.wait(SETTLE_SECONDS)

    def _follow(self, path: str) -> None:
        while not self._stopping.is_set():
            try:
                with self._api_factory() as api:
                    self._apis[path] = api
                    self._list_and_watch(api, path)
            except (LocalError, OSError) as error:  # OSError: the cluster's files are not there yet
                if isinstance(error, RefusedError) and error.status == httpx.codes.NOT_FOUND:
                    self._replace(path, {})
            self._stopping.wait(RETRY_SECONDS)

    def _list_and_watch(self, api: Api, path: str) -> None:
        listed = api.get(path)
        self._replace(path, {_key(item): item for item in listed["items"] or []})
        for event in api.watch(path, listed["metadata"]["resourceVersion"]):
            if self._stopping.is_set():
                return
            self._apply(path, event)

    def _replace(self, path: str, objects: dict[Key, dict[str, Any]]) -> None:
        with self._lock:
            changed = _versions(self._objects[path]) != _versions(objects)
            self._objects[path] = objects
            self._listed.add(path)
            if len(self._listed) == len(self._objects):
                self._complete.set()
        if changed:
            self._changed.set()

    def _apply(self, path: str, event: Mapping[str, Any]) -> None:
        item = event["object"]
        with self._lock:
            if event["type"] == "DELETED":
                self._objects[path].pop(_key(item), None)
            else:
                self._objects[path][_key(item)] = item
        self._changed.set()


def _key(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _versions(objects: Mapping[Key, Mapping[str, Any]]) -> set[tuple[str, str]]:
    """What tells apart two states of a collection."""
    return {
        (item["metadata"]["uid"], item["metadata"]["resourceVersion"]) for item in objects.values()
    }
