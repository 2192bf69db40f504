"""Layers and archives of the OCI image format, the same bytes for the same content.

https://github.com/opencontainers/image-spec: `image-layout.md` for the archive, `layer.md` for the
layers, which are not compressed here: they are read once, on the machine that wrote them.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"

Owners = Mapping[str, tuple[int, int]]
"""User and group by path, without the first slash; root owns everything else."""


@dataclass(frozen=True)
class Blob:
    """A layer's file and what names it."""

    path: Path
    digest: str
    """In hexadecimal, SHA-256."""
    size: int
    """In bytes."""


def pack(tree: Path, target: Path, owners: Owners) -> Blob:
    """Write a folder as a layer: in order, without times, owned as said.

    Programs lose their set-user-ID and set-group-ID bits: the groups that packages mean do not
    exist in images, and nothing in a container should gain rights by running a program.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as layer:
        for path in sorted(tree.rglob("*")):
            name = path.relative_to(tree).as_posix()
            entry = layer.gettarinfo(path, name)
            entry.uid, entry.gid = owners.get(name, (0, 0))
            entry.uname = entry.gname = ""
            entry.mtime = 0
            if entry.isfile():
                entry.mode &= 0o777
                with path.open("rb") as content:
                    layer.addfile(entry, content)
            else:
                layer.addfile(entry)
    return blob(target)


def blob(path: Path) -> Blob:
    """A layer that was written before."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Blob(path, digest, path.stat().st_size)


def write(target: Path, prefix: str, layers: Sequence[Blob], config: Mapping[str, object]) -> str:
    """Write an archive that `ctr images import` takes; return the image's reference.

    Args:
        target: the archive's path.
        prefix: what the reference begins with; it ends with the start of the image's digest.
        layers: from the lowest to the highest.
        config: how a container starts, in the keys of the format (`Entrypoint`, `User`, …).
    """
    built_for = {"architecture": _architecture(), "os": "linux"}
    diff_ids = [f"sha256:{layer.digest}" for layer in layers]
    image = _json(
        {**built_for, "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, _digest(image), len(image)),
            "layers": [_descriptor(_LAYER, layer.digest, layer.size) for layer in layers],
        }
    )
    reference = prefix + _digest(manifest)[:12]
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                **_descriptor(_MANIFEST, _digest(manifest), len(manifest)),
                "platform": built_for,
                "annotations": {
                    "io.containerd.image.name": reference,
                    "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[1],
                },
            }
        ],
    }
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json(index))
        for content in (image, manifest):
            _add(archive, f"blobs/sha256/{_digest(content)}", content)
        for layer in layers:
            entry = tarfile.TarInfo(f"blobs/sha256/{layer.digest}")
            entry.size = layer.size
            with layer.path.open("rb") as file:
                archive.addfile(entry, file)
    return reference


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
