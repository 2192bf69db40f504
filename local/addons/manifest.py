"""Kubernetes manifests as plain documents: read them, and find the part that has to change.

Whoever changes a manifest of somebody else's relies on its shape. So whatever is not found is an
error that names it: a silent miss would install an operator without the setting it was to get.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import yaml

from local.errors import LocalError

Document = dict[str, Any]

_DIGEST = "fault-tolerance/configuration"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there


def parse(text: str) -> list[Document]:
    """The objects of a manifest, without its custom resource definitions.

    Definitions are installed on their own, and are nine tenths of an operator's manifest: they are
    left out before they are parsed.
    """
    parts = [part for part in text.split("\n---") if not _is_definition(part)]
    return [body for part in parts for body in yaml.load_all(part, Loader=_Loader) if body]


def find(documents: Sequence[Document], kind: str, name: str) -> Document:
    """The one object of a kind and name.

    Raises:
        LocalError: if the manifest has no such object.
    """
    for body in documents:
        if body["kind"] == kind and body["metadata"]["name"] == name:
            return body
    raise LocalError(
        f"the manifest has no {kind} {name}: the pinned release has another shape than the one "
        "that local/addons was written for; compare the two and adapt it"
    )


def container(deployment: Document, name: str) -> Document:
    """The one container of a Deployment's Pods.

    Raises:
        LocalError: if there is no container of that name.
    """
    for each in deployment["spec"]["template"]["spec"]["containers"]:
        if each["name"] == name:
            body: Document = each
            return body
    raise LocalError(
        f"Deployment {deployment['metadata']['name']} has no container {name}: the pinned release "
        "has another shape than the one that local/addons was written for; adapt it"
    )


def set_variable(body: Document, name: str, value: str) -> None:
    """Give an environment variable that the container already declares a plain value.

    Raises:
        LocalError: if the container declares no such variable.
    """
    for number, variable in enumerate(body.get("env", [])):
        if variable["name"] == name:
            body["env"][number] = {"name": name, "value": value}
            return
    raise LocalError(
        f"container {body['name']} has no variable {name}: the pinned release has another shape "
        "than the one that local/addons was written for; adapt it"
    )


def restart_on_change(deployment: Document, configuration: Document) -> None:
    """Have a ConfigMap's new content start new Pods, for programs that read it only at start."""
    content = json.dumps(configuration["data"], sort_keys=True).encode()
    metadata = deployment["spec"]["template"]["metadata"]
    metadata.setdefault("annotations", {})[_DIGEST] = hashlib.sha256(content).hexdigest()[:16]


def _is_definition(part: str) -> bool:
    return "\nkind: CustomResourceDefinition\n" in part
