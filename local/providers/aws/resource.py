"""What a type of resource is to this provider: one entry of a table.

Values are plain Python with the names of the wire (`bucketPrefix`), as in the real provider.
"""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from local.providers.aws.clients import Aws
from local.providers.protocol import UNKNOWN

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Name:
    """The input that names a resource; made up from the program's name when it is left out."""

    longest: int
    input: str = "name"
    prefix: str = "namePrefix"
    shape: Callable[[str], str] = lambda name: name


@dataclass(frozen=True)
class ResourceType:
    """A type of resource.

    `update` makes the resource what complete inputs say, whatever it is now, so it may be repeated
    after a failure.
    """

    create: Callable[[Aws, Values], str]
    """From complete inputs to the id. Takes a resource that is already so for its own."""
    read: Callable[[Aws, str], Values | None]
    """All that can be observed (None: not set) under the names of inputs and outputs; None when
    the resource is gone."""
    update: Callable[[Aws, str, Values], None]
    delete: Callable[[Aws, str, Values], None]
    required: tuple[str, ...] = ()
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Inputs that may be left out, with what they then are (None: nothing)."""
    kept: tuple[str, ...] = ()
    """Inputs that, left out, stay as they are or as AWS chooses."""
    computed: tuple[str, ...] = ()
    immutable: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    """Inputs that are JSON documents."""
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    name: Name | None = None
    tagged: bool = False
    regional: bool = True
    bare: bool = False
    """Whether `create` makes only the thing itself, so that `update` must follow."""

    @property
    def inputs(self) -> frozenset[str]:
        """The names of all inputs."""
        tags = ("tags",) if self.tagged else ()
        region = ("region",) if self.regional else ()
        return frozenset((*self.required, *self.optional, *self.kept, *tags, *region))

    def complete(self, inputs: Mapping[str, Any]) -> Values:
        """The inputs with what those left out are."""
        given = {k: v for k, v in inputs.items() if not k.startswith("__") and v is not None}
        return {**{k: v for k, v in self.optional.items() if v is not None}, **given}


# --- comparing --------------------------------------------------------------------------------

_CHOSEN_BY_AWS: Final = ("id", "priority")
"""Nested names that AWS fills in where the program says nothing."""


def canonical(document: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON document in one spelling; what is none stays as it is."""
    try:
        return json.dumps(json.loads(document), sort_keys=True)
    except (TypeError, ValueError):
        return document


def same(wanted: Any, actual: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether AWS's answer means what the program said."""
    if _blank(wanted) and _blank(actual):
        return True
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return all(
            same(wanted.get(k), actual.get(k)) or (k in _CHOSEN_BY_AWS and k not in wanted)
            for k in {*wanted, *actual}
        )
    if isinstance(wanted, list) and isinstance(actual, list):
        return len(wanted) == len(actual) and all(map(same, wanted, actual))
    if isinstance(wanted, str) and isinstance(actual, str):
        return canonical(wanted) == canonical(actual) or _same_thing(wanted, actual)
    return bool(wanted == actual)


def _blank(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return all(map(_blank, value.values()))
    return value in (None, False, 0, "", [])


def _same_thing(one: str, other: str) -> bool:
    """Whether one is the ARN of what the other names by its id, as in `…:key/<id>`."""
    longer, shorter = sorted((one, other), key=len, reverse=True)
    return longer.startswith("arn:") and longer.endswith(f"/{shorter}")


def observed_inputs(kind: ResourceType, old: Mapping[str, Any], found: Values) -> Values:
    """The inputs that would make the resource what it was found to be.

    `old` are the inputs at its last update, none at an import: an input that is still so keeps its
    spelling, one that cannot be observed is trusted, and one that was left out appears only if
    what was found is not what leaving it out means.
    """
    inputs: Values = {k: v for k, v in old.items() if k.startswith("__")}
    for name in sorted(kind.inputs):
        if name not in found:
            if name in old:
                inputs[name] = old[name]
        elif name in old and same(old[name], found[name]):
            inputs[name] = old[name]
        elif name in old or (name in kind.kept and not old) or _unexpected(kind, name, found):
            inputs[name] = found[name]
    return {k: v for k, v in inputs.items() if v is not None}


def _unexpected(kind: ResourceType, name: str, found: Values) -> bool:
    if name in kind.kept or name == "region":
        return False
    return not same(kind.optional.get(name), found[name])


# --- tags -------------------------------------------------------------------------------------


def all_tags(tags: Any, defaults: Mapping[str, str]) -> Any:  # noqa: ANN401 - may be unknown
    """A resource's own tags over the provider's."""
    if tags is UNKNOWN:
        return UNKNOWN
    return {**defaults, **(tags or {})}


def own_tags(every: Mapping[str, str], old: Any, defaults: Mapping[str, str]) -> Values:  # noqa: ANN401
    """The tags that the provider's own do not account for, or that the program repeated."""
    repeated = old if isinstance(old, dict) else {}
    return {k: v for k, v in every.items() if k in repeated or defaults.get(k) != v}


def as_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[Values]:
    """Tags in the shape of AWS's requests."""
    return [{key: k, value: v} for k, v in sorted(tags.items())]


def as_map(tags: Sequence[Mapping[str, str]], key: str = "Key", value: str = "Value") -> Values:
    """Tags from the shape of AWS's answers."""
    return {tag[key]: tag[value] for tag in tags}


# --- shapes -----------------------------------------------------------------------------------


def to_api(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    """The provider's names in the shape of AWS's requests: `storageClass` is `StorageClass`.

    `names` has the exceptions. Maps of tags become lists.
    """
    if isinstance(value, dict):
        return {
            names.get(k, k[:1].upper() + k[1:]): (
                as_list(v) if k == "tags" and isinstance(v, dict) else to_api(v, names)
            )
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [to_api(item, names) for item in value]
    return value


def from_api(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    """The inverse of `to_api`."""
    back = {theirs: ours for ours, theirs in names.items()}
    if isinstance(value, dict):
        return {
            back.get(k, k[:1].lower() + k[1:]): as_map(v) if k == "Tags" else from_api(v, names)
            for k, v in value.items()
            if k != "ResponseMetadata"
        }
    if isinstance(value, list):
        return [from_api(item, names) for item in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value
