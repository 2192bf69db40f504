"""YAML as nodes, which know their lines, and as plain data: what PyYAML reads, in half its time.

libyaml composes the nodes. PyYAML then asks a regular expression of every scalar, and looks the
constructor of every node up; here a scalar of a given text is looked at once, and the rest is one
walk. What a walk cannot tell (anchors, merges, tags, keys that are no scalars) PyYAML constructs.

One thing differs: a lone `=` is text, as everywhere but in PyYAML, which refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from yaml.resolver import Resolver

_MAPPING: str = Resolver.DEFAULT_MAPPING_TAG
_SEQUENCE: str = Resolver.DEFAULT_SEQUENCE_TAG
_TEXT: str = Resolver.DEFAULT_SCALAR_TAG
_PLAIN = "plain"
"""In the place of a tag: a scalar without quotes, which may be a number, a date or nothing."""
_SIMPLE = frozenset(
    f"tag:yaml.org,2002:{each}" for each in ("null", "bool", "int", "float", "timestamp", "str")
)

_DEFAULT_VALUE = "tag:yaml.org,2002:value"
"""What PyYAML takes a lone `=` for."""


class _NotSimple(Exception):  # noqa: N818 - a way out of the walk, not an error
    """A document that is left to PyYAML."""


class _Loader(yaml.CSafeLoader):
    """Leaves open what a plain scalar is: most are asked for more than once."""

    def resolve(self, kind: type[yaml.Node], _: object, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return _MAPPING if kind is yaml.MappingNode else _SEQUENCE

    # Resolvers by path, of which there are none.
    def descend_resolver(self, *_: object) -> None: ...
    def ascend_resolver(self) -> None: ...


def read(content: bytes) -> Iterator[tuple[yaml.Node, Any]]:
    """Every document that is not empty.

    Raises:
        yaml.YAMLError: if it is not YAML.
        ValueError: if a value is not of the type that it looks like.
    """
    loader = _Loader(content)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and (data := _constructed(loader, node)) is not None:
                yield node, data
    finally:
        loader.dispose()


_EXPECTED = ("did not find expected ", "expected ")
"""What follows in PyYAML's and libyaml's words is what YAML wants there, never what the file holds.
"""


def trouble(error: yaml.MarkedYAMLError) -> str:
    """What is wrong with a file, without the words of the file.

    What is quoted may be secret: an unquoted password that begins with * is an alias.
    """
    what = str(error.problem)
    if what.startswith(_EXPECTED):
        return what
    return re.sub(r"\s*'.*'", "", what, flags=re.DOTALL)


def _constructed(loader: _Loader, node: yaml.Node) -> Any:  # noqa: ANN401 - any YAML value
    try:
        return _walked(node, set())
    except _NotSimple:
        _resolve(node, set())
        return loader.construct_document(node)


def _walked(node: yaml.Node, seen: set[int]) -> Any:  # noqa: ANN401 - any YAML value
    tag = node.tag
    if tag is _TEXT:
        return node.value
    if tag is _PLAIN:
        return _value(node.value)
    if id(node) in seen:  # an alias
        raise _NotSimple
    seen.add(id(node))
    if tag is _MAPPING:
        data = {}
        for key, value in node.value:
            if key.tag is _TEXT:
                data[key.value] = _walked(value, seen)
            elif key.tag is _PLAIN:
                data[_value(key.value)] = _walked(value, seen)
            else:
                raise _NotSimple
        return data
    if tag is _SEQUENCE:
        return [_walked(each, seen) for each in node.value]
    raise _NotSimple


@lru_cache(maxsize=1 << 16)
def _value(text: str) -> Any:  # noqa: ANN401 - any scalar
    """What a scalar without quotes stands for."""
    node = yaml.ScalarNode(_tag(text), text)
    if node.tag not in _SIMPLE:
        raise _NotSimple
    try:
        return _CONSTRUCTOR.yaml_constructors[node.tag](_CONSTRUCTOR, node)
    except ValueError:
        raise _NotSimple from None


_CONSTRUCTOR = yaml.SafeLoader("")


def _tag(text: str) -> str:
    tag: str = _CONSTRUCTOR.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return _TEXT if tag == _DEFAULT_VALUE else tag


def _resolve(node: yaml.Node, seen: set[int]) -> None:
    """Give every scalar that was left open the tag that PyYAML gives it."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if node.tag is _PLAIN:
            node.tag = _tag(node.value)
        return
    for each in node.value:
        for one in each if isinstance(each, tuple) else (each,):
            _resolve(one, seen)
