"""Where `check` takes what it judges from: manifests in files, or what a cluster says it runs.

A Kubernetes object is seen as the engine would see it declared. The values of Secrets are hidden
as soon as they are read, so no rule can use or show them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from policies import declared, documents, manifests
from policies.model import SECRET, Resource
from policies.rule import ANY
from policies.rules import RULES

ENDINGS = (".yaml", ".yml", ".json")
"""Files of a folder that are read."""
STANDARD_INPUT = "-"
CLUSTER = "cluster"
"""In the place of a file, for what a cluster says it runs."""
_HIDDEN = "core/Secret"
_HIDDEN_FIELDS = ("data", "stringData")


class UnreadableError(Exception):
    """Something that cannot be judged; the message says where and why, in one line."""


@dataclass(frozen=True)
class Declared:
    """A resource and where it is written: a file and its YAML node, or a cluster and none."""

    resource: Resource
    source: str
    node: yaml.MappingNode | None = None

    def line(self, where: str) -> int | None:
        """The line of a field such as ``spec.template.spec.containers[web].image``, from 1.

        Of a field that is missing it is the line of the nearest one around it that is not.
        """
        if self.node is None:
            return None
        found: yaml.Node = _named(self.node) or self.node
        node: yaml.Node = self.node
        for word in re.findall(r"\[[^\]]*\]|[^.\[\]]+", where):
            step = _child(node, word.strip("[]"))
            if step is None:
                break
            found, node = step
        return int(found.start_mark.line) + 1


def _named(node: yaml.MappingNode) -> yaml.Node | None:
    """The key of ``metadata``: the place of an object as a whole."""
    return next((key for key, _ in node.value if key.value in ("metadata", "name")), None)


def _child(node: yaml.Node, word: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Where a step of a path stands, and what it holds."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == word), None)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            if word == str(number) or _is_called(item, word):
                return item, item
    return None


def _is_called(node: yaml.Node, name: str) -> bool:
    """Whether an item of a list has that name, host or path, as messages call it."""
    return isinstance(node, yaml.MappingNode) and any(
        key.value in ("name", "host", "path") and value.value == name for key, value in node.value
    )


# Files ------------------------------------------------------------------------------------------


def from_files(paths: Sequence[str]) -> tuple[list[Declared], list[str]]:
    """Read files, folders (with all below them) and, for ``-``, standard input.

    Returns:
        What could be read, and one line for each that could not.
    """
    found: list[Declared] = []
    mistakes: list[str] = []
    for path in paths:
        try:
            for file in _files(path):
                _read_file(file, found, mistakes)
        except UnreadableError as mistake:
            mistakes.append(str(mistake))
    return found, mistakes


def _files(path: str) -> list[str]:
    if path == STANDARD_INPUT or Path(path).is_file():
        return [path]
    if not Path(path).is_dir():
        raise UnreadableError(f"{path}: no such file or folder")
    found = sorted(str(each) for each in Path(path).rglob("*") if each.suffix in ENDINGS)
    if not found:
        raise UnreadableError(f"{path}: no file in it ends in {', '.join(ENDINGS)}")
    return found


def _read_file(path: str, found: list[Declared], mistakes: list[str]) -> None:
    try:
        if path == STANDARD_INPUT:
            found += from_text(sys.stdin.buffer.read(), "standard input")
        else:
            found += from_text(Path(path).read_bytes(), path)
    except UnreadableError as mistake:
        mistakes.append(str(mistake))
    except OSError as mistake:
        mistakes.append(f"{path}: {mistake.strerror}")


def from_text(content: bytes, source: str) -> list[Declared]:
    """Read YAML (or JSON, which is YAML): several documents, and lists of objects.

    Raises:
        UnreadableError: if it is not YAML, or a document is no object; names the line. What the
            line holds is not repeated: it may be secret.
    """
    try:
        return [
            each for node, data in documents.read(content) for each in _objects(node, data, source)
        ]
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f":{mark.line + 1}" if mark else ""
        what = documents.trouble(problem)
        raise UnreadableError(f"{source}{line}: not YAML: {what}") from None
    except yaml.YAMLError:
        raise UnreadableError(f"{source}: not YAML: not text, or with control characters") from None
    except RecursionError:
        raise UnreadableError(f"{source}: nested too deep") from None
    except (ValueError, TypeError, OverflowError):
        raise UnreadableError(f"{source}: not YAML: a value does not fit its type") from None


def _objects(node: yaml.Node, data: object, source: str) -> Iterator[Declared]:
    """A document as resources; a list of objects as several."""
    if isinstance(data, dict) and isinstance(data.get("deployment"), dict):
        yield from (Declared(each, source) for each in _state(data["deployment"], source))
        return
    if isinstance(data, dict) and isinstance(data.get("items"), list) and "kind" in data:
        _, items = _child(node, "items") or (node, node)
        for item_node, item in zip(items.value, data["items"], strict=False):
            yield from _objects(item_node, item, source)
        return
    problem = _problem(data)
    if problem or not isinstance(node, yaml.MappingNode) or not isinstance(data, dict):
        line = node.start_mark.line + 1
        raise UnreadableError(f"{source}:{line}: not a Kubernetes object: {problem}")
    yield Declared(_hidden(manifests.resource(data)), source, node)


def _state(deployment: Mapping[str, Any], source: str) -> list[Resource]:
    """The resources of a state, as ``pulumi stack export`` writes it."""
    try:
        return [
            declared.resource(each["type"], each["urn"], each.get("inputs") or {})
            for each in deployment["resources"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise UnreadableError(f"{source}: not a state of the engine") from None


def _problem(data: object) -> str:
    """Why a document is no object; empty if it is one."""
    if not isinstance(data, dict):
        return "it is no mapping"
    if isinstance(data.get("type"), str) and isinstance(data.get("name"), str):
        return "" if isinstance(data.get("properties", {}), dict) else "its properties are none"
    for key in ("apiVersion", "kind"):
        if not isinstance(data.get(key), str):
            return f"it has no {key}"
    return "" if isinstance(data.get("metadata", {}), dict) else "its metadata is no mapping"


def _hidden(resource: Resource) -> Resource:
    """A Secret without its values; anything else as it is."""
    if resource.kind != _HIDDEN:
        return resource
    hidden = {key: SECRET for key in _HIDDEN_FIELDS if key in resource.props}
    return replace(resource, props={**resource.props, **hidden})


# A cluster --------------------------------------------------------------------------------------


def from_cluster(context: str | None = None) -> list[Declared]:
    """Read, with kubectl, what a cluster says it runs; Secrets are not asked for.

    Left out is what Kubernetes itself makes, and what a controller made from an object: that is
    judged there.

    Args:
        context: of the kubeconfig; None for its current one.

    Raises:
        UnreadableError: without kubectl, or if the cluster does not answer.
    """
    target = ["--context", context] if context else []
    served = _kubectl([*target, "api-resources", "--verbs=list", "--no-headers"]).splitlines()
    wanted = _kinds() & _served(served).keys()
    names = ",".join(sorted(_served(served)[kind] for kind in wanted))
    listed = json.loads(_kubectl([*target, "get", names, "--all-namespaces", "--output=json"]))
    return [
        Declared(manifests.resource(each), CLUSTER)
        for each in listed["items"]
        if not _is_made_by_cluster(each)
    ]


def _kinds() -> set[str]:
    """Every kind that a rule looks at: the baseline has what rules compare with."""
    own = {kind for rule in RULES.values() for kind in rule.kinds if kind != ANY}
    compared = {manifests.resource(each).kind for each in manifests.baseline()}
    return (own | compared) - {_HIDDEN}


def _served(lines: Iterable[str]) -> dict[str, str]:
    """Kinds that the cluster has, and what kubectl calls them."""
    served = {}
    for line in lines:
        name, *_, version, _namespaced, kind = line.split()
        group = version.partition("/")[0] if "/" in version else ""
        served[f"{group or 'core'}/{kind}"] = f"{name}.{group}" if group else name
    return served


def _is_made_by_cluster(manifest: Mapping[str, Any]) -> bool:
    metadata = manifest["metadata"]
    labels = metadata.get("labels", {})
    namespace = metadata["name"] if manifest["kind"] == "Namespace" else metadata.get("namespace")
    return (
        any(each.get("controller") for each in metadata.get("ownerReferences", []))
        or (namespace or "").startswith("kube-")
        or "kubernetes.io/bootstrapping" in labels
        or labels.get("provider") == "kubernetes"
        or metadata["name"] == "kube-root-ca.crt"
    )


def _kubectl(arguments: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            ["kubectl", "--request-timeout=60s", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UnreadableError("--cluster needs kubectl on PATH") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no answer"]
        raise UnreadableError(f"the cluster could not be read: {said[-1]}")
    return done.stdout
