"""Judge a configuration by the models, and say in plain words what each value should be.

Pydantic stops at the first layer that fails: while one value has the wrong type, rules that span
values do not run. `mistakes` therefore mends what it has found and looks again, so that a person
sees everything at once. What a mended value has a say in is not judged.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from stacks.contradictions import CONTRADICTION, Key
from stacks.document import Unreadable
from stacks.problems import show, suggestion
from stacks.settings import Settings
from stacks.values import duration, seconds

_LAYERS: Final = 8
"""Rounds of mending: types, then each level of the models, with some to spare."""

_STAND_INS: Final[Mapping[str, object]] = {
    "region": "us-east-1",
    "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "services": {},
    "tier": "core",
    "image": "example.com/stand-in:1",
    "key": "stand-in",
    "rpo": "1d",
    "rto": "1d",
}
"""Values for settings without a default, while the rest is judged."""

_DURATIONS: Final = ("30s", "5m", "1h", "7d", "30d")
"""Examples for messages; those within the bounds are shown."""

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a configuration."""

    key: Key
    """The way to it from the top of `Settings`."""
    what: str
    """The finding and the remedy, in words that follow the key."""
    others: tuple[Key, ...] = ()
    """Settings that it does not agree with."""


def mistakes(config: Mapping[str, object]) -> Iterator[Mistake]:
    """Everything that `Settings` refuses about a configuration, also what hides behind it."""
    draft = copy.deepcopy(dict(config))
    mended: set[Key] = set()
    for _ in range(_LAYERS):
        try:
            Settings.model_validate(draft)
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            return
        for detail in details:
            if not any(_related(key, other) for key in _involved(detail) for other in mended):
                value = _value(config, detail)
                if not isinstance(value, Unreadable):
                    _, *others = _involved(detail)
                    yield Mistake(_key(detail), _what(detail, value), tuple(others))
        for detail in details:
            for key in _involved(detail):
                mended.add(_mend(draft, key))


def _key(detail: ErrorDetails) -> Key:
    """Where the error is; an error about a mapping's key is at the entry itself."""
    loc = detail["loc"]
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _involved(detail: ErrorDetails) -> list[Key]:
    key = _key(detail)
    if detail["type"] != CONTRADICTION:
        return [key]
    context = detail["ctx"]
    base = key[: -context["depth"]]
    return [key, *((*base, *other) for other in context["others"])]


def _related(one: Key, other: Key) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _value(config: Mapping[str, object], detail: ErrorDetails) -> object:
    """The value as it was written, before any reading: ``"5m"``, not 300."""
    value: object = config
    for part in _key(detail):
        try:
            value = value[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return detail["input"]
    return value


def _mend(draft: dict[str, Any], key: Key) -> Key:
    """Replace what is wrong by its default, or by a stand-in, and tell what was replaced.

    A list is replaced as a whole.
    """
    cut = next((i for i, part in enumerate(key) if isinstance(part, int)), len(key))
    way = key[:cut]
    parent: Any = draft
    for part in way[:-1]:
        parent = parent.get(part) if isinstance(parent, dict) else None
    if isinstance(parent, dict) and way:
        _replace(parent, way)
    return way


def _replace(parent: dict[str, Any], way: Key) -> None:
    name = str(way[-1])
    if way[:-1] in {("services",), ("topics",)}:
        parent.pop(name, None)
    elif name in _STAND_INS:
        parent[name] = copy.deepcopy(_STAND_INS[name])
    else:
        parent.pop(name, None)


def _what(detail: ErrorDetails, value: object) -> str:
    key = _key(detail)
    if detail["type"] == "extra_forbidden":
        known = _at(key[:-1]).get("properties", {})
        return f"is not known; {suggestion(str(key[-1]), known)}"
    if detail["type"] == "missing":
        return f"is missing; it should be {expected(_at(key))}"
    if detail["type"] == CONTRADICTION:
        return f"is {_shown(detail, value)}; it {detail['ctx']['remedy']}"
    if isinstance(value, SecretStr):
        return (
            "is encrypted, but this setting is no secret: "
            "what is made of it can be read in the state; write it in clear"
        )
    if detail["loc"][-1:] == ("[key]",):
        return f"is not a name that can be used; it should be {expected(_name(key[:-1]))}"
    return f"is {_shown(detail, value)}; it should be {expected(_at(key))}"


def _shown(detail: ErrorDetails, value: object) -> str:
    """The value; a default that is part of a contradiction is written as a stack file would."""
    schema = _at(_key(detail))
    if schema.get("form") == "duration" and type(value) is int:
        return f"{duration(value)}" if value >= 0 else show(value)
    if value is None and detail["type"] == CONTRADICTION:
        return "missing"
    return show(value, ".".join(str(part) for part in _key(detail)))


@cache
def schema() -> Schema:
    """The JSON schema of `Settings`, with the words of its types."""
    return Settings.model_json_schema()


def _at(key: Iterable[str | int]) -> Schema:
    """The schema of the setting at a key; empty if there is none."""
    found = resolve(schema())
    for part in key:
        if isinstance(part, int):
            found = found.get("items", {})
        elif "properties" in found:
            found = found["properties"].get(part, {})
        else:
            found = _values(found)
        found = resolve(found)
    return found


def _values(mapping: Schema) -> Schema:
    """The schema of a mapping's values, whatever their keys."""
    patterns = mapping.get("patternProperties", {})
    values: Schema | bool = next(iter(patterns.values()), mapping.get("additionalProperties", {}))
    return values if isinstance(values, Mapping) else {}


def _name(key: Iterable[str | int]) -> Schema:
    names: Schema = _at(key).get("propertyNames", {})
    return names


def resolve(part: Schema) -> Schema:
    """Follow a reference, and take the one real choice of an optional value."""
    for choice in part.get("anyOf", ()):
        if choice.get("type") != "null":
            return {**resolve(choice), **{k: v for k, v in part.items() if k != "anyOf"}}
    if "$ref" not in part:
        return part
    target: Schema = schema()["$defs"][part["$ref"].rpartition("/")[2]]
    return {**target, **{k: v for k, v in part.items() if k != "$ref"}}


def expected(part: Schema) -> str:
    """Say in plain words what a value of this schema looks like."""
    part = resolve(part)
    match part:
        case {"expects": str(given)}:
            words = given
        case {"form": "duration"}:
            words = _amount_of_time(part)
        case {"enum": choices}:
            words = f"one of {', '.join(choices)}"
        case {"type": "integer"}:
            words = "a whole number from {} to {}".format(*_bounds(part))
        case {"type": "boolean"}:
            words = "true or false"
        case {"type": "array", "items": items}:
            words = f"a list; each item {expected(items)}"
        case {"type": "object", "properties": properties}:
            words = f"a mapping with keys out of {', '.join(properties)}"
        case {"type": "object"}:
            words = "a mapping"
        case _:
            words = "text, in quotes where it looks like a number"
    return words


def _amount_of_time(part: Schema) -> str:
    low, high = _bounds(part)
    whole_days = bool({"multipleOf", "multiple_of"} & part.keys())
    units = "d" if whole_days else "smhd"
    examples = [e for e in _DURATIONS if low <= seconds(e) <= high and e[-1] in units]
    such = f", such as {_either(examples)}" if examples else ""
    kind = "a time in whole days" if whole_days else "a time"
    return f"{kind} from {duration(low)} to {duration(high)}{such}"


def _either(words: Sequence[str]) -> str:
    """``30s, 5m or 1h``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _bounds(part: Schema) -> tuple[int, int]:
    """Lowest and highest number; pydantic names them otherwise where a value is read first."""
    low = part.get("minimum", part.get("ge"))
    high = part.get("maximum", part.get("le"))
    if low is None or high is None:
        raise ValueError(f"a number without bounds: {part}")
    return low, high


def holds(part: Schema, kind: str) -> bool:
    """Whether a top-level setting has this JSON type."""
    return resolve(part).get("type") == kind
