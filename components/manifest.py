"""Kubernetes manifests as plain documents: read them, and find the part that has to change.

Whoever changes a manifest of somebody else's relies on its shape. So whatever is not found is an
error that names it: a silent miss would install an operator without the setting it was to get.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Document = dict[str, Any]


class ManifestError(ValueError):
    """A manifest cannot be had, or is not what it was taken for."""


_READ_SECONDS: Final = 60.0
_DIGEST = "fault-tolerance/configuration"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there


def read(location: str, sha256: str) -> str:
    """The text of a manifest, which is exactly the one that was pinned.

    Args:
        location: a URL beginning with `https://`, or the path of a file.
        sha256: the digest of its bytes, in hexadecimal.

    Raises:
        ManifestError: if it cannot be read, or is another one.
    """
    try:
        content = _bytes(location)
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {location}: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ManifestError(
            f"the manifest {location} has the SHA-256 {found}; it should be {sha256}: "
            "this is not the release that was pinned"
        )
    return content.decode()


def _bytes(location: str) -> bytes:
    if not location.startswith("https://"):
        return Path(location).read_bytes()
    with urllib.request.urlopen(location, timeout=_READ_SECONDS) as answer:  # noqa: S310, HTTPS
        content: bytes = answer.read()
        return content


def parse(text: str) -> list[Document]:
    """The objects of a manifest, without its custom resource definitions.

    Definitions are nine tenths of an operator's manifest: they are left out before they are parsed.
    """
    return _documents(part for part in _parts(text) if not _is_definition(part))


def definitions(text: str) -> list[Document]:
    """The custom resource definitions of a manifest."""
    return _documents(part for part in _parts(text) if _is_definition(part))


def _parts(text: str) -> list[str]:
    return f"\n{text}".split("\n---")


def _documents(parts: Iterable[str]) -> list[Document]:
    return [body for part in parts for body in yaml.load_all(part, Loader=_Loader) if body]


def find(documents: Sequence[Document], kind: str, name: str) -> Document:
    """The one object of a kind and name.

    Raises:
        ManifestError: if the manifest has no such object.
    """
    for body in documents:
        if body["kind"] == kind and body["metadata"]["name"] == name:
            return body
    raise ManifestError(
        f"the manifest has no {kind} {name}: the pinned release has another shape than the one "
        "that components/releases.py was written for; compare the two and adapt it"
    )


def container(deployment: Document, name: str) -> Document:
    """The one container of a Deployment's Pods.

    Raises:
        ManifestError: if there is no container of that name.
    """
    for each in deployment["spec"]["template"]["spec"]["containers"]:
        if each["name"] == name:
            body: Document = each
            return body
    raise ManifestError(
        f"Deployment {deployment['metadata']['name']} has no container {name}: the pinned release "
        "has another shape than the one that components/releases.py was written for; adapt it"
    )


def set_variable(body: Document, name: str, value: str) -> None:
    """Give an environment variable that the container already declares a plain value.

    Raises:
        ManifestError: if the container declares no such variable.
    """
    for number, variable in enumerate(body.get("env", [])):
        if variable["name"] == name:
            body["env"][number] = {"name": name, "value": value}
            return
    raise ManifestError(
        f"container {body['name']} has no variable {name}: the pinned release has another shape "
        "than the one that components/releases.py was written for; adapt it"
    )


def restart_on_change(deployment: Document, configuration: Document) -> None:
    """Have a ConfigMap's new content start new Pods, for programs that read it only at start."""
    content = json.dumps(configuration["data"], sort_keys=True).encode()
    metadata = deployment["spec"]["template"]["metadata"]
    metadata.setdefault("annotations", {})[_DIGEST] = hashlib.sha256(content).hexdigest()[:16]


def _is_definition(part: str) -> bool:
    return "\nkind: CustomResourceDefinition\n" in part
