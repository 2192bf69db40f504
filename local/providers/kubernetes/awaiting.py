"""Wait until objects are ready, or gone: one watch for all that wait in the same collection."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from local.providers.kubernetes.api import Api, ApiError, Kind, Unreachable
from local.providers.kubernetes.readiness import Failed, Ready, Surroundings, verdict

Object: TypeAlias = dict[str, Any]
Note: TypeAlias = Callable[[str], Awaitable[None]]
"""Shows a person what is being waited for."""
Events: TypeAlias = asyncio.Queue[tuple[str, Object] | None]
"""Changes `(type, object)` to an object; None: the user wants to stop."""

RESYNC_SECONDS: Final = 10.0
"""After so much silence the object is read anew: a watch that broke may have missed its end."""
RECONNECT_SECONDS: Final = 1.0
_SERVICE_LABEL: Final = "kubernetes.io/service-name"
_SLICES: Final = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", namespaced=True)
_CLASSES: Final = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)


@dataclass
class NotReady(Exception):  # noqa: N818 - a state more than an error
    """Waiting ended without the object being ready: its last state, and why."""

    obj: Object
    reason: str
    by_user: bool = False
    """The user ended it, so there is nothing to explain."""


class Cancelled(Exception):  # noqa: N818 - no error at all
    """The user wants to stop."""


@dataclass(frozen=True, eq=False)
class Inbox:
    """What one waiter wants to hear of, and where."""

    wants: Callable[[Object], bool]
    events: Events


class _Stream:
    """One watch and those who wait for it."""

    def __init__(self, api: Api, kind: Kind, namespace: str | None) -> None:
        self.inboxes: list[Inbox] = []
        self._api, self._kind, self._namespace = api, kind, namespace
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                async for event, obj in self._api.watch(self._kind, self._namespace):
                    self._deliver(event, obj)
            except (ApiError, Unreachable):
                pass  # each waiter has a deadline of its own, and reads anew meanwhile
            await asyncio.sleep(RECONNECT_SECONDS)

    def _deliver(self, event: str, obj: Object) -> None:
        if event in ("ADDED", "MODIFIED", "DELETED"):
            for inbox in self.inboxes:
                if inbox.wants(obj):
                    inbox.events.put_nowait((event, obj))


class Watches:
    """Shared watches, one per collection, each alive as long as someone waits for it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._streams: dict[str, _Stream] = {}
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """End every wait, now and later."""
        self._cancelled.set()
        for stream in self._streams.values():
            for inbox in stream.inboxes:
                inbox.events.put_nowait(None)

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the user wants to stop.

        Raises:
            Cancelled: they do.
        """
        try:
            await asyncio.wait_for(self._cancelled.wait(), seconds)
        except TimeoutError:
            return
        raise Cancelled

    @asynccontextmanager
    async def follow(
        self,
        kind: Kind,
        namespace: str | None,
        wants: Callable[[Object], bool],
        events: Events | None = None,
    ) -> AsyncIterator[Events]:
        """A queue of events of the wanted objects from now on, or the given one, added to.

        What exists already may come first, as `ADDED`.
        """
        inbox = Inbox(wants, events or asyncio.Queue())
        if self._cancelled.is_set():
            inbox.events.put_nowait(None)
        path = kind.path(namespace)
        if path not in self._streams:
            self._streams[path] = _Stream(self._api, kind, namespace)
        stream = self._streams[path]
        stream.inboxes.append(inbox)
        try:
            yield inbox.events
        finally:
            stream.inboxes.remove(inbox)
            if not stream.inboxes:
                del self._streams[path]
                stream.task.cancel()


@asynccontextmanager
async def following(
    watches: Watches, kind: Kind, namespace: str | None, name: str
) -> AsyncIterator[Events]:
    """The events that decide whether an object is ready; enter before the change is made.

    For a Service these are also its endpoints'.
    """
    async with watches.follow(kind, namespace, _named(name)) as events:
        if (kind.api_version, kind.kind) != ("v1", "Service"):
            yield events
            return
        async with watches.follow(_SLICES, namespace, _slice_of(name), events):
            yield events


def _named(name: str) -> Callable[[Object], bool]:
    return lambda obj: obj["metadata"]["name"] == name


def _slice_of(service: str) -> Callable[[Object], bool]:
    return lambda obj: (obj["metadata"].get("labels") or {}).get(_SERVICE_LABEL) == service


class Wait:
    """One object's way to readiness."""

    def __init__(self, api: Api, kind: Kind, obj: Object, note: Note) -> None:
        self._api, self._kind, self.obj, self._note = api, kind, obj, note
        self._around = Surroundings()
        self._slices: dict[str, int] = {}

    async def until_ready(self, events: Events, seconds: float) -> Object:
        """The object once it is ready.

        Raises:
            NotReady: it failed, was deleted, took longer than `seconds`, or the user stopped.
        """
        await self._look_around()
        reason = ""
        deadline = time.monotonic() + seconds
        while True:
            now = verdict(self.obj, self._around)
            if isinstance(now, Ready):
                return self.obj
            if isinstance(now, Failed):
                raise NotReady(self.obj, now.reason)
            if now.reason != reason:
                reason = now.reason
                await self._note(reason)
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReady(self.obj, f"timed out after {seconds:g} s: {reason}")
            try:
                event = await asyncio.wait_for(events.get(), min(left, RESYNC_SECONDS))
            except TimeoutError:
                event = ("MODIFIED", await self._read() or self.obj)
            if event is None:
                raise NotReady(self.obj, f"stopped by the user: {reason}", by_user=True)
            self._take(*event)

    async def is_ready_now(self) -> Object:
        """The object if it is ready; no waiting.

        Raises:
            NotReady: it is not.
        """
        await self._look_around()
        now = verdict(self.obj, self._around)
        if isinstance(now, Ready):
            return self.obj
        raise NotReady(self.obj, now.reason)

    def _take(self, event: str, obj: Object) -> None:
        if obj["kind"] == "EndpointSlice":
            gone = event == "DELETED"
            self._slices[obj["metadata"]["name"]] = 0 if gone else _ready_addresses(obj)
            self._around = replace(self._around, ready_endpoints=sum(self._slices.values()))
        elif event == "DELETED":
            if obj["metadata"]["uid"] == self.obj["metadata"]["uid"]:
                raise NotReady(self.obj, "it was deleted by someone else")
        elif _version(obj) >= _version(self.obj):
            self.obj = obj

    async def _read(self) -> Object | None:
        metadata = self.obj["metadata"]
        try:
            return await self._api.get(self._kind, metadata.get("namespace"), metadata["name"])
        except (ApiError, Unreachable):
            return None  # a passing fault; the deadline stands

    async def _look_around(self) -> None:
        """Read what readiness depends on besides the object."""
        metadata = self.obj["metadata"]
        match self._kind.kind:
            case "Service":
                label = f"{_SERVICE_LABEL}={metadata['name']}"
                found = await self._api.list(_SLICES, metadata["namespace"], labelSelector=label)
                self._slices = {s["metadata"]["name"]: _ready_addresses(s) for s in found}
                self._around = Surroundings(ready_endpoints=sum(self._slices.values()))
            case "PersistentVolumeClaim":
                self._around = Surroundings(binds_on_first_use=await self._binds_on_first_use())

    async def _binds_on_first_use(self) -> bool:
        name = self.obj["spec"].get("storageClassName")
        found = await self._api.get(_CLASSES, None, name) if name else None
        return (found or {}).get("volumeBindingMode") == "WaitForFirstConsumer"


def _ready_addresses(endpoint_slice: Object) -> int:
    return sum(
        len(endpoint["addresses"])
        for endpoint in endpoint_slice.get("endpoints") or []
        # Absent means ready, by the API's own words.
        if (endpoint.get("conditions") or {}).get("ready", True)
    )


def _version(obj: Object) -> int:
    # Comparable for every built-in and custom resource since Kubernetes 1.35.
    return int(obj["metadata"]["resourceVersion"])


async def until_gone(
    api: Api, watches: Watches, kind: Kind, obj: Object, *, seconds: float, note: Note
) -> None:
    """Return once the object, of which a deletion was asked, is gone.

    Raises:
        NotReady: it is still there after `seconds`, or the user stopped.
    """
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    deadline = time.monotonic() + seconds
    async with watches.follow(kind, namespace, _named(name)) as events:
        await note("waiting until it is gone")
        while True:
            found = await api.get(kind, namespace, name)
            if found is None or found["metadata"]["uid"] != metadata["uid"]:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReady(found, f"still there after {seconds:g} s")
            if await _next_deletion(events, min(left, RESYNC_SECONDS)) is None:
                raise NotReady(found, "stopped by the user", by_user=True)


async def _next_deletion(events: Events, seconds: float) -> bool | None:
    """Whether a deletion came within `seconds`; None: the user wants to stop."""
    try:
        async with asyncio.timeout(seconds):
            while event := await events.get():
                if event[0] == "DELETED":
                    return True
            return None
    except TimeoutError:
        return False
