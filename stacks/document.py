"""Read a YAML file together with the line of every value.

The reading follows YAML 1.2: `no` and `on` are words, not booleans. The engine's parser does so
too, but takes more for numbers and times; what it would read otherwise is refused in the files that
it reads. Aliases are refused: the engine writes stack files anew, and spells them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import SecretStr

from policies.documents import trouble
from stacks.problems import Problem, SettingsError, show

Place = tuple[str | int, ...]
"""The way to a value from the top of the file, such as ``("config", "aws:region")``."""


class Unreadable:
    """Stands for a value that has been reported as a problem of the file already."""


@dataclass(frozen=True)
class Document:
    """A file's content, and where in the file each part of it stands."""

    name: str
    """The file as a person names it."""
    value: Mapping[str, object] = field(default_factory=dict)
    lines: Mapping[Place, int] = field(default_factory=dict)
    """Line of each value, from 1; a mapping's entry has the line of its key."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the file, although the rest of it could be read."""


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_DIGITS = "-+0123456789."
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), None)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]{0,17})$"), list(_DIGITS)
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?$"),
    list(_DIGITS),
)

_ENGINES: Final = re.compile(
    r"""
    [-+]? 0 (x[0-9a-f]+ | b[01]+ | o[0-7]+)
    | [-+]? (\.[0-9]+ | [0-9]+(\.[0-9]*)?) (e[-+]?[0-9]+)?
    | [-+]? \.(inf|nan)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}
      ([t\ ] [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2} ([.,][0-9]+)? (z|[-+][0-9]{2}:[0-9]{2})?)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Numbers and times of the engine (yaml.v3), once the underscores in them are gone."""


def plain(text: str) -> Any:  # noqa: ANN401, whatever the file holds
    """A file's content read in the same way, for whoever writes it anew."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506, it constructs what a SafeLoader does


def read(path: Path, name: str, *, engine: bool = False) -> Document:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: where it is.
        name: the file as a person names it.
        engine: whether the engine reads it too, and must find the same in it.

    Raises:
        SettingsError: if the file cannot be read, is not YAML, or holds something else.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise _refused(name, f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise _refused(name, "cannot be read: it is not text in UTF-8") from None
    except RecursionError:
        raise _refused(name, "is nested too deeply") from None
    except yaml.YAMLError as error:
        raise _refused(name, *_syntax(error)) from None
    if node is None:
        return Document(name)
    if not isinstance(node, yaml.MappingNode):
        raise _refused(name, "should be a mapping of keys to values", _line(node))
    return _Reading(name, engine=engine).document(node)


def _refused(name: str, what: str, line: int | None = None) -> SettingsError:
    return SettingsError([Problem(name, line, "", what)])


def _syntax(error: yaml.YAMLError) -> tuple[str, int | None]:
    if not isinstance(error, yaml.MarkedYAMLError):
        return "is not YAML: it has characters that are no text", None
    line = error.problem_mark.line + 1 if error.problem_mark is not None else None
    if "'\\t'" in str(error.problem):
        return "is not YAML: a tab is used to indent; use spaces", line
    return f"is not YAML: {trouble(error)}", line


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line + 1
    return line


class _Reading:
    """One pass over the nodes of a file, gathering values, lines and problems."""

    def __init__(self, name: str, *, engine: bool) -> None:
        self._name = name
        self._engine = engine
        self._lines: dict[Place, int] = {}
        self._problems: list[Problem] = []
        self._seen: set[int] = set()
        self._constructor = _Loader("")

    def document(self, top: yaml.MappingNode) -> Document:
        value = dict(self._entries(top, ()))
        return Document(self._name, value, self._lines, tuple(self._problems))

    def _value(self, node: yaml.Node, place: Place) -> object:
        if id(node) in self._seen:
            self._report(self._lines[place], place, "is a YAML alias (*): write the value out")
            return Unreadable()
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return _encrypted(dict(self._entries(node, place)))
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _item(self, node: yaml.Node, place: Place) -> object:
        self._lines[place] = _line(node)
        return self._value(node, place)

    def _entries(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, object]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(_line(key_node), place, "has a key that is not a word")
                continue
            key = key_node.value
            entry = (*place, key)
            if entry in self._lines:
                first = self._lines[entry]
                self._report(
                    _line(key_node), entry, f"is given twice, first on line {first}: keep one"
                )
                continue
            self._lines[entry] = _line(key_node)
            yield key, self._value(value_node, entry)

    def _scalar(self, node: yaml.Node, place: Place) -> object:
        known = ("null", "bool", "int", "float", "str")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in known:
            self._report(
                self._lines[place], place, f"has the YAML tag {show(node.tag)}: leave it out"
            )
            return Unreadable()
        if self._engine and _read_otherwise(node):
            shown = show(node.value, spell(place))
            self._report(
                self._lines[place],
                place,
                f"is {shown} without quotes, which the engine takes for a number or a time: "
                "write a text in quotes, and a number in decimal digits alone",
            )
            return Unreadable()
        try:
            return self._constructor.construct_object(node)
        except (ValueError, KeyError):
            self._report(
                self._lines[place], place, f"has a YAML tag that does not fit {show(node.value)}"
            )
            return Unreadable()

    def _report(self, line: int, place: Place, what: str) -> None:
        self._problems.append(Problem(self._name, line, spell(place), what))


def _read_otherwise(node: yaml.Node) -> bool:
    """Whether a scalar without quotes is text to us, and a number or a time to the engine."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return False
    is_text = node.tag == "tag:yaml.org,2002:str"
    return is_text and _ENGINES.fullmatch(node.value.replace("_", "")) is not None


def spell(place: Place) -> str:
    """Write a way through a stack file as its key: ``fault-tolerance:zones[0]``."""
    shown = place[1:] if place[:1] == ("config",) and len(place) > 1 else place
    words = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in shown)
    return "".join(words).removeprefix(".")


def _encrypted(value: dict[str, object]) -> object:
    """Tell the engine's form of a secret, ``{secure: ciphertext}``, from a plain mapping."""
    match value:
        case {"secure": str(ciphertext)} if len(value) == 1:
            return SecretStr(ciphertext)
    return value
