"""What a stack declares, from files and from the engine's events.

A file is a state (``pulumi stack export``, JSON) or manifests (YAML). Secrets and values that are
not known yet become `Opaque`, as over the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from policies import documents, manifests
from policies.model import SECRET, UNKNOWN, Resource
from policies.wire import SIGNATURE, UNKNOWN_MARKS

_MASKED = "[secret]"
"""What the engine writes into its events in place of a secret."""


def resource(type_: str, urn: str, inputs: Mapping[str, Any]) -> Resource:
    """See a resource of a state or an event as rules do."""
    props: dict[str, Any] = _plain(dict(inputs))
    return Resource(type=type_, name=urn.rpartition("::")[2], urn=urn, props=props)


def from_file(path: Path) -> list[Resource]:
    """Read a file of declared resources.

    Raises:
        ValueError: if it holds neither a state nor manifests.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        state = json.loads(text)
        listed = state.get("deployment", {}).get("resources") if isinstance(state, dict) else None
        if not isinstance(listed, list):
            raise ValueError(f"{path} is no state: write one with `pulumi stack export --file`")
        try:
            return [
                resource(each["type"], each["urn"], each.get("inputs") or {}) for each in listed
            ]
        except (KeyError, TypeError):
            raise ValueError(f"{path} is no state: a resource has no type or URN") from None
    try:
        found = [data for _, data in documents.read(text.encode()) if data]
    except yaml.YAMLError as problem:
        raise ValueError(f"{path} is no YAML: {' '.join(str(problem).split())}") from None
    objects = [each for document in found for each in _items(document)]
    if not objects or not all(isinstance(each, dict) and "kind" in each for each in objects):
        raise ValueError(f"{path} holds no manifests: each document needs a kind")
    return [manifests.resource(each, path.stem) for each in objects]


def _items(document: object) -> Iterable[Any]:
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        return list(document["items"])
    return document if isinstance(document, list) else [document]


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        if SIGNATURE in value:
            return SECRET
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and value in UNKNOWN_MARKS:
        return UNKNOWN
    return SECRET if value == _MASKED else value
