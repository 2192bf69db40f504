"""Snapshots of volumes: taken, offered to claims as their source, and removed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.errors import LocalError
from local.volumes.service import (
    CLAIMS,
    CONTENTS,
    SNAPSHOT_CLASSES,
    SNAPSHOTS,
    VOLUMES,
    Object,
    Service,
    address,
    size,
    size_in_bytes,
    timestamp,
)

_API_VERSION = "snapshot.storage.k8s.io/v1"
_KIND = "VolumeSnapshot"
_DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"


def serve(service: Service) -> None:
    """Do what is due for each snapshot and each content."""
    contents = service.watched.objects(CONTENTS)
    for snapshot in service.watched.objects(SNAPSHOTS).values():
        if _is_served(snapshot):
            continue
        with service.reporting(_KIND, snapshot, "SnapshotFailed"):
            try:
                _take_or_bind(service, snapshot, contents)
            except LocalError as error:
                _tell_error(service, snapshot, str(error))
                raise
    for content in contents.values():
        if content["spec"]["driver"] == service.provisioner and _to_remove(content):
            with service.reporting("VolumeSnapshotContent", content, "SnapshotDeleteFailed"):
                _remove(service, content)


def source_of(service: Service, claim: Object) -> Path | None:
    """The folder whose content a claim's volume begins with; None if it begins empty.

    Raises:
        LocalError: when the claim's source cannot be used, or not yet.
    """
    source = claim["spec"].get("dataSourceRef") or claim["spec"].get("dataSource")
    if source is None:
        return None
    if source["kind"] != _KIND:
        raise LocalError(f"a volume begins empty or from a VolumeSnapshot, not a {source['kind']}")
    namespace = claim["metadata"]["namespace"]
    snapshot = service.watched.objects(SNAPSHOTS).get((namespace, source["name"]), {})
    status = snapshot.get("status", {})
    if not status.get("readyToUse"):
        raise LocalError(f"waiting for VolumeSnapshot {source['name']} to be ready to use")
    asked = claim["spec"]["resources"]["requests"]["storage"]
    needed = status.get("restoreSize", "0")
    if size_in_bytes(asked) < size_in_bytes(needed):
        raise LocalError(
            f"VolumeSnapshot {source['name']} needs {needed}, but {asked} is asked for"
        )
    content = service.api.get(f"{CONTENTS}/{status['boundVolumeSnapshotContentName']}")
    return service.folders.snapshot(_handle(content))


def _handle(content: Object) -> str:
    """The name of the folder: given by whoever prepared the content, else the content's own."""
    handle: str = content["spec"]["source"].get("snapshotHandle") or content["metadata"]["name"]
    return handle


def _is_served(snapshot: Object) -> bool:
    ready = snapshot.get("status", {}).get("readyToUse", False)
    return ready or "deletionTimestamp" in snapshot["metadata"]


def _take_or_bind(service: Service, snapshot: Object, contents: Mapping[Any, Object]) -> None:
    prepared = snapshot["spec"]["source"].get("volumeSnapshotContentName")
    if prepared is None:
        _take(service, snapshot)
        return
    content = contents.get(("", prepared))
    if content is None:
        raise LocalError(f"waiting for VolumeSnapshotContent {prepared}")
    if content["spec"]["driver"] == service.provisioner:
        handle = _handle(content)
        if not service.folders.snapshot(handle).is_dir():
            raise LocalError(f"there is no snapshot {handle}")
        needed = content.get("status", {}).get("restoreSize", 0)
        _tell_ready(service, snapshot, content, needed)


def _take(service: Service, snapshot: Object) -> None:
    """Copy the volume of the snapshot's claim; begun again from the start if interrupted."""
    snapshot_class = _class_of(service, snapshot)
    if snapshot_class is None or snapshot_class["driver"] != service.provisioner:
        return
    metadata = snapshot["metadata"]
    volume = _volume_of(service, snapshot)
    name = f"snapcontent-{metadata['uid']}"
    service.folders.make(service.folders.snapshot(name), Path(volume["spec"]["local"]["path"]))
    content = {
        "apiVersion": _API_VERSION,
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name},
        "spec": {
            "deletionPolicy": snapshot_class["deletionPolicy"],
            "driver": service.provisioner,
            "source": {"volumeHandle": volume["metadata"]["name"]},
            "sourceVolumeMode": "Filesystem",
            "volumeSnapshotClassName": snapshot_class["metadata"]["name"],
            "volumeSnapshotRef": {
                "apiVersion": _API_VERSION,
                "kind": _KIND,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }
    service.api.create(CONTENTS, content)
    _tell_ready(service, snapshot, content, size_in_bytes(volume["spec"]["capacity"]["storage"]))


def _class_of(service: Service, snapshot: Object) -> Object | None:
    """The class that a snapshot names, or else the default one of this service."""
    classes = service.watched.objects(SNAPSHOT_CLASSES)
    name = snapshot["spec"].get("volumeSnapshotClassName")
    if name:
        return classes.get(("", name))
    for candidate in classes.values():
        annotations = candidate["metadata"].get("annotations", {})
        if annotations.get(_DEFAULT_CLASS) == "true" and candidate["driver"] == service.provisioner:
            return candidate
    return None


def _volume_of(service: Service, snapshot: Object) -> Object:
    name = snapshot["spec"]["source"]["persistentVolumeClaimName"]
    claims = service.watched.objects(CLAIMS)
    claim = claims.get((snapshot["metadata"]["namespace"], name))
    if claim is None or claim["status"]["phase"] != "Bound":
        raise LocalError(f"waiting for PersistentVolumeClaim {name} to be bound")
    volume = service.find(f"{VOLUMES}/{claim['spec']['volumeName']}")
    if volume is None or not service.provisioned(volume):
        raise LocalError(f"the volume of {name} is not one of {service.provisioner}")
    return volume


def _tell_ready(service: Service, snapshot: Object, content: Object, needed: int) -> None:
    name = content["metadata"]["name"]
    content_status = {
        "readyToUse": True,
        "creationTime": time.time_ns(),
        "restoreSize": needed,
        "snapshotHandle": _handle(content),
    }
    snapshot_status = {
        "readyToUse": True,
        "creationTime": timestamp(),
        "restoreSize": size(needed),
        "boundVolumeSnapshotContentName": name,
        "error": None,
    }
    service.api.merge(f"{CONTENTS}/{name}/status", {"status": content_status})
    service.api.merge(f"{address(SNAPSHOTS, snapshot)}/status", {"status": snapshot_status})


def _tell_error(service: Service, snapshot: Object, message: str) -> None:
    if snapshot.get("status", {}).get("error", {}).get("message") != message:
        status = {"readyToUse": False, "error": {"message": message, "time": timestamp()}}
        service.api.merge(f"{address(SNAPSHOTS, snapshot)}/status", {"status": status})


def _to_remove(content: Object) -> bool:
    wanted = content["spec"]["deletionPolicy"] == "Delete"
    return wanted and "uid" in content["spec"]["volumeSnapshotRef"]


def _remove(service: Service, content: Object) -> None:
    """Remove the copy whose snapshot is gone; asked for at this moment, as it cannot be undone."""
    path = f"{CONTENTS}/{content['metadata']['name']}"
    reference = content["spec"]["volumeSnapshotRef"]
    snapshot = service.find(address(SNAPSHOTS, {"metadata": reference}))
    if snapshot is not None and snapshot["metadata"]["uid"] == reference["uid"]:
        return
    latest = service.find(path)
    if latest is not None and _to_remove(latest):
        service.folders.remove(service.folders.snapshot(_handle(latest)))
        service.api.delete(path)
