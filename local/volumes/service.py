"""What the services of claims and of snapshots share: their view, and how failures are told."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from local.api import Api, RefusedError
from local.errors import LocalError
from local.volumes.folders import Folders
from local.watch import Watched

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SNAPSHOT_API = "/apis/snapshot.storage.k8s.io/v1"
SNAPSHOTS = f"{SNAPSHOT_API}/volumesnapshots"
CONTENTS = f"{SNAPSHOT_API}/volumesnapshotcontents"
SNAPSHOT_CLASSES = f"{SNAPSHOT_API}/volumesnapshotclasses"
WATCHED = (CLAIMS, VOLUMES, STORAGE_CLASSES, SNAPSHOTS, CONTENTS, SNAPSHOT_CLASSES)

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"

_UNITS: dict[str, int] = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)} | {
    letter: 1000**power for power, letter in enumerate("kMGTPE", 1)
}
_log = logging.getLogger("volumes")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Service:
    """What a turn works with."""

    api: Api
    watched: Watched
    folders: Folders
    provisioner: str
    """The name by which classes of storage and of snapshots ask for this service."""

    def provisioned(self, volume: Object) -> bool:
        """Whether a volume is one of ours."""
        annotations: Object = volume["metadata"].get("annotations", {})
        return annotations.get(PROVISIONED_BY) == self.provisioner

    def find(self, path: str) -> dict[str, Any] | None:
        """An object as it is at this moment; None if it is gone."""
        try:
            return self.api.get(path)
        except RefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    @contextlib.contextmanager
    def reporting(self, kind: str, item: Object, reason: str) -> Iterator[None]:
        """Log whatever goes wrong with one object and tell it as an event of that object.

        It ends there: the next turn tries again, and the other objects are served meanwhile.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001
            name = item["metadata"]["name"]
            _log.warning("%s %s: %s", kind, name, error, exc_info=not _explained(error))
            with contextlib.suppress(LocalError):  # logged it is; the API server may be away
                self._event(kind, item, reason, str(error))

    def _event(self, kind: str, item: Object, reason: str, message: str) -> None:
        """Create an event; the same again is the same object, so repetition adds nothing."""
        metadata = item["metadata"]
        namespace = metadata.get("namespace", "default")
        digest = hashlib.sha256(f"{metadata['uid']} {reason} {message}".encode()).hexdigest()[:16]
        now = timestamp()
        event = {
            "metadata": {"name": f"volumes.{digest}", "namespace": namespace},
            "involvedObject": {
                "kind": kind,
                "name": metadata["name"],
                "uid": metadata["uid"],
                **({"namespace": namespace} if "namespace" in metadata else {}),
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": self.provisioner},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self.api.create(f"/api/v1/namespaces/{namespace}/events", event)


def address(collection: str, item: Object) -> str:
    """The path of one object of a watched collection."""
    metadata = item["metadata"]
    group, plural = collection.rsplit("/", 1)
    inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{group}{inside}/{plural}/{metadata['name']}"


def size_in_bytes(quantity: str) -> int:
    """Read a size as the API server writes it: a whole number with a unit or none."""
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * factor
    return int(quantity)


def size(amount: int) -> str:
    """Write a size as Kubernetes does: in the largest binary unit that leaves no fraction."""
    for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _UNITS[unit] == 0:
            return f"{amount // _UNITS[unit]}{unit}"
    return str(amount)


def timestamp() -> str:
    """The present time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _explained(error: Exception) -> bool:
    return isinstance(error, (LocalError, OSError))
