"""A levels file as `check` reads it: levels, thresholds and exemptions, held to what rules take.

The engine reads the same file for itself and hands on what it found (`policies.analyzer`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from policies import exemptions
from policies.exemptions import Exemption
from policies.rule import Level, Options, Rule

ALL = "all"
_LEVEL = "enforcementLevel"


class ConfigurationError(Exception):
    """A levels file that cannot be used; the message says where and why, in one line."""


@dataclass(frozen=True)
class Configuration:
    """Levels and thresholds by rule; where one is missing, the rule's default holds."""

    levels: Mapping[str, Level] = field(default_factory=dict)
    options: Mapping[str, Options] = field(default_factory=dict)
    exemptions: tuple[Exemption, ...] = ()
    source: str = "levels file"
    """The file."""

    def level(self, rule: Rule) -> Level:
        """The rule's level: its own, or that of all, or its default."""
        return self.levels.get(rule.name) or self.levels.get(ALL) or rule.level


def read(path: Path, rules: Mapping[str, Rule]) -> Configuration:
    """Read a levels file.

    Raises:
        ConfigurationError: if it cannot be read, or names a rule, level or option that is not.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigurationError(f"{path}: {problem.strerror}") from None
    except json.JSONDecodeError as problem:
        raise ConfigurationError(f"{path}:{problem.lineno}: not JSON: {problem.msg}") from None
    except ValueError:
        raise ConfigurationError(f"{path}: not text in UTF-8") from None
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{path}: not an object with a level for each rule")
    try:
        return replace(_read(entries, rules), source=str(path))
    except ValueError as mistake:
        raise ConfigurationError(f"{path}: {mistake}") from None


def _read(entries: Mapping[str, Any], rules: Mapping[str, Rule]) -> Configuration:
    levels: dict[str, Level] = {}
    options: dict[str, Options] = {}
    exempted: list[Exemption] = []
    for name, written in entries.items():
        entry = dict(written) if isinstance(written, dict) else {_LEVEL: written}
        if _LEVEL in entry:
            levels[name] = _level(name, entry.pop(_LEVEL))
        if name == ALL and not entry:
            continue
        if name not in rules:
            raise ValueError(f"no rule is named {name!r}{nearest(name, rules)}")
        exempted += exemptions.read(rules[name], entry.pop(exemptions.KEY, []))
        options[name] = {key: _option(rules[name], key, value) for key, value in entry.items()}
    return Configuration(levels, options, tuple(exempted))


def nearest(name: str, names: Iterable[str]) -> str:
    """A question whether a name like it was meant, to end a message with."""
    near = difflib.get_close_matches(name, names, n=3)
    return f": did you mean {' or '.join(near)}?" if near else ""


def _level(name: str, written: object) -> Level:
    try:
        return Level(str(written))
    except ValueError:
        allowed = ", ".join(Level)
        raise ValueError(f"{name}: {written!r} is not a level: {allowed}") from None


def _option(rule: Rule, name: str, value: object) -> object:
    import jsonschema  # type: ignore[import-untyped] # noqa: PLC0415 - seldom needed, and slow

    option = rule.options.get(name)
    if option is None:
        known = ", ".join([*rule.options, exemptions.KEY])
        raise ValueError(f"{rule.name}: {name!r} is not one of its options: {known}")
    try:
        jsonschema.validate(value, option.schema)
    except jsonschema.ValidationError as problem:
        raise ValueError(f"{rule.name}: {name}: {problem.message}") from None
    return value
