"""Declared resources from YAML, and the examples of the rules.

A Kubernetes object is written as a manifest, another resource as the engine's own YAML has it:
``type``, ``name``, ``properties``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from policies.model import KUBERNETES, Resource, mapping
from policies.rule import Rule

BASELINE = Path(__file__).with_name("baseline.yaml")
"""A small platform that no rule objects to: what every example changes."""

Manifest = dict[str, Any]


def resource(
    manifest: Mapping[str, Any], stack: str = "example", project: str = "pack"
) -> Resource:
    """See a manifest as the engine would see it declared."""
    token, name, props = _identity(manifest)
    return Resource(
        type=token,
        name=name,
        urn=f"urn:pulumi:{stack}::{project}::{token}::{name}",
        props=props,
    )


def _identity(manifest: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]]:
    if "type" in manifest and "name" in manifest:
        return manifest["type"], manifest["name"], manifest.get("properties", {})
    version = str(manifest.get("apiVersion", "v1"))
    metadata = mapping(manifest, "metadata")
    module = version if "/" in version else f"core/{version}"
    name = "-".join(str(metadata.get(key)) for key in ("namespace", "name") if metadata.get(key))
    return f"{KUBERNETES}:{module}:{manifest.get('kind')}", name, manifest


def baseline() -> list[Manifest]:
    """The objects of `BASELINE`; a copy that may be changed."""
    return deepcopy(_baseline())


@cache
def _baseline() -> list[Manifest]:
    objects: list[Manifest] = yaml.safe_load(BASELINE.read_text(encoding="utf-8"))
    return objects


def passing(rule: Rule) -> list[Manifest]:
    """The rule's passing example: the baseline, changed by it."""
    return changed(baseline(), _documents(rule.passing))


def failing(rule: Rule) -> list[Manifest]:
    """The rule's failing example: the baseline, changed by it."""
    return changed(baseline(), _documents(rule.failing))


def changed(manifests: Iterable[Manifest], changes: Iterable[Manifest]) -> list[Manifest]:
    """Merge changes over the manifests of the same kind and name.

    A change of something that is not there adds it, in the namespace and version of what is. In a
    change, null removes a field and ``$delete: true`` the whole object; lists of named objects are
    merged by name, others are replaced.
    """
    result = list(manifests)
    for change in changes:
        place = next((i for i, each in enumerate(result) if _same(each, change)), None)
        if place is None:
            result.append(_completed(change, result))
        elif change.get("$delete"):
            del result[place]
        else:
            result[place] = _merged(result[place], change)
    return result


def _documents(text: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(textwrap.dedent(text)) if each]


def _key(manifest: Manifest) -> tuple[object, object]:
    if "type" in manifest:
        return manifest["type"], manifest["name"]
    return manifest["kind"], manifest["metadata"]["name"]


def _same(one: Manifest, other: Manifest) -> bool:
    return _key(one) == _key(other)


def _completed(added: Manifest, others: Iterable[Manifest]) -> Manifest:
    if "type" in added:
        return added
    model = next((each for each in others if each.get("kind") == added["kind"]), {})
    metadata = {"namespace": "games", **added["metadata"]}
    return {"apiVersion": model.get("apiVersion", "v1"), **added, "metadata": metadata}


def _merged(base: Any, change: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(base, dict) and isinstance(change, dict):
        joined = {key: _merged(base.get(key), value) for key, value in change.items()}
        return {key: value for key, value in {**base, **joined}.items() if value is not None}
    if _named(base) and _named(change):
        names = {each["name"]: each for each in base}
        for each in change:
            names[each["name"]] = _merged(names.get(each["name"], {}), each)
        return list(names.values())
    return change


def _named(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and "name" in each for each in value)
    )
