"""Volumes for claims: provisioned on the chosen node, expanded, and removed when released."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local.errors import LocalError
from local.volumes import snapshots
from local.volumes.service import (
    CLAIMS,
    PROVISIONED_BY,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Service,
    address,
    size_in_bytes,
)

_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_TOPOLOGY = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
_SHARED = {"ReadWriteMany", "ReadOnlyMany"}


def serve(service: Service) -> None:
    """Do what is due for each claim and each volume."""
    volumes = service.watched.objects(VOLUMES)
    for claim, storage_class in _claims(service):
        volume = volumes.get(("", claim["spec"].get("volumeName") or _volume_name(claim)))
        if volume is None:
            with service.reporting("PersistentVolumeClaim", claim, "ProvisioningFailed"):
                _provision(service, claim, storage_class)
        elif service.provisioned(volume):
            with service.reporting("PersistentVolumeClaim", claim, "VolumeResizeFailed"):
                _expand(service, claim, volume)
    for volume in volumes.values():
        if service.provisioned(volume) and _to_remove(volume):
            with service.reporting("PersistentVolume", volume, "VolumeFailedDelete"):
                _remove(service, volume)


def _claims(service: Service) -> Iterator[tuple[Object, Object]]:
    """The claims that ask for this service's volumes, with their class."""
    classes = service.watched.objects(STORAGE_CLASSES)
    for claim in service.watched.objects(CLAIMS).values():
        storage_class = classes.get(("", claim["spec"].get("storageClassName") or ""))
        if storage_class and storage_class["provisioner"] == service.provisioner:
            yield claim, storage_class


def _volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def _provision(service: Service, claim: Object, storage_class: Object) -> None:
    """Make a folder on the node that the scheduler chose, and the volume that stands for it."""
    metadata, spec = claim["metadata"], claim["spec"]
    if spec.get("volumeName") or "deletionTimestamp" in metadata:
        return  # bound to a volume that was lost, which nothing may replace; or unwanted
    _require_support(claim, storage_class)
    chosen = metadata.get("annotations", {}).get(_SELECTED_NODE)
    if chosen is None:
        return
    node = service.find(f"/api/v1/nodes/{chosen}")
    if node is None:  # let the scheduler choose again
        service.api.merge(
            address(CLAIMS, claim), {"metadata": {"annotations": {_SELECTED_NODE: None}}}
        )
        return
    _require_allowed(node, storage_class)
    folder = service.folders.volume(chosen, _volume_name(claim))
    service.folders.make(folder, snapshots.source_of(service, claim))
    volume = _volume(claim, storage_class, node, str(folder))
    volume["metadata"]["annotations"] = {PROVISIONED_BY: service.provisioner}
    service.api.create(VOLUMES, volume)


def _require_support(claim: Object, storage_class: Object) -> None:
    """Refuse what a folder of one node cannot be."""
    name = storage_class["metadata"]["name"]
    if storage_class.get("volumeBindingMode") != "WaitForFirstConsumer":
        raise LocalError(
            f"StorageClass {name} binds at once, but a folder is made on the node that the Pod "
            "is scheduled to: set volumeBindingMode to WaitForFirstConsumer"
        )
    if shared := _SHARED & set(claim["spec"]["accessModes"]):
        raise LocalError(
            f"{', '.join(sorted(shared))} is not possible: a volume is a folder of one node; "
            "ask for ReadWriteOnce"
        )
    if claim["spec"].get("volumeMode") == "Block":
        raise LocalError("volumeMode Block is not possible: a volume is a folder; use Filesystem")


def _require_allowed(node: Object, storage_class: Object) -> None:
    labels = node["metadata"].get("labels", {})
    allowed = storage_class.get("allowedTopologies") or []
    if allowed and not any(
        all(labels.get(e["key"]) in e["values"] for e in term.get("matchLabelExpressions", []))
        for term in allowed
    ):
        raise LocalError(
            f"node {node['metadata']['name']} is in none of the allowedTopologies of StorageClass "
            f"{storage_class['metadata']['name']}"
        )


def _volume(claim: Object, storage_class: Object, node: Object, path: str) -> dict[str, Any]:
    metadata, spec = claim["metadata"], claim["spec"]
    labels = node["metadata"].get("labels", {})
    place = [
        {"key": key, "operator": "In", "values": [labels[key]]}
        for key in _TOPOLOGY
        if key in labels
    ]
    return {
        "metadata": {"name": _volume_name(claim)},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
            "storageClassName": storage_class["metadata"]["name"],
            "mountOptions": storage_class.get("mountOptions", []),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": place}]}},
            "local": {"path": path},
        },
    }


def _expand(service: Service, claim: Object, volume: Object) -> None:
    """Grant a bound claim the larger size that it asks for: first the volume's, then its own."""
    if claim["status"]["phase"] != "Bound":
        return
    asked = claim["spec"]["resources"]["requests"]["storage"]
    grown = {"capacity": {"storage": asked}}
    if size_in_bytes(asked) > size_in_bytes(volume["spec"]["capacity"]["storage"]):
        service.api.merge(address(VOLUMES, volume), {"spec": grown})
    if size_in_bytes(asked) > size_in_bytes(claim["status"]["capacity"]["storage"]):
        service.api.merge(f"{address(CLAIMS, claim)}/status", {"status": grown})


def _to_remove(volume: Object) -> bool:
    released = volume.get("status", {}).get("phase") == "Released"
    deletable = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    return released and deletable and "deletionTimestamp" not in volume["metadata"]


def _remove(service: Service, volume: Object) -> None:
    path = address(VOLUMES, volume)
    latest = service.find(path)  # what is watched may be late, and this cannot be undone
    if latest is not None and _to_remove(latest):
        service.folders.remove(service.folders.root / latest["spec"]["local"]["path"])
        service.api.delete(path)
