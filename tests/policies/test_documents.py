"""The fast way to read YAML gives what PyYAML gives, types included, and lines of every node."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import documents
from policies.manifests import BASELINE

pytestmark = pytest.mark.unit

WRITTEN = {
    "plain scalars": "[yes, No, on, ~, null, '', 1, 0x1f, 0o7, 017, 1_000, 1:30, 1.5, .inf, 1e3]",
    "quoted scalars": "['yes', \"1\", '~', ! 1, |\n  text\n]".replace("|\n  text\n", "'|'"),
    "dates": "{day: 2026-01-31, moment: 2026-01-31T10:00:00Z}",
    "block scalars": "a: |\n  one\n  two\nb: >-\n  three\n  four\n",
    "keys that are no text": "{on: 1, 2: two, ~: none, 1.5: x}",
    "a key twice": "{a: 1, a: 2}",
    "tags": "{a: !!str 1, b: !!set {x, y}, c: !!binary aGk=, d: !!int '3'}",
    "aliases": "base: &base {a: [1]}\nother: *base\nthird: [*base, *base]\nword: &w yes\nlast: *w",
    "merges": "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\n",
    "several documents": "---\na: 1\n---\n---\nb: 2\n...\n# nothing\n",
    "a scalar": "just text",
    "nothing": "",
}


def of_pyyaml(content: str) -> list[Any]:
    return [each for each in yaml.load_all(content.encode(), yaml.CSafeLoader) if each is not None]


def typed(data: Any) -> Any:
    """True and 1 are equal in Python, and not the same."""
    if isinstance(data, dict):
        return [(typed(key), typed(value)) for key, value in data.items()]
    if isinstance(data, list):
        return [typed(each) for each in data]
    return type(data), repr(data)


@pytest.mark.parametrize("what", WRITTEN)
def test_reads_what_pyyaml_reads(what: str) -> None:
    read = [data for _, data in documents.read(WRITTEN[what].encode())]
    assert typed(read) == typed(of_pyyaml(WRITTEN[what]))


def test_reads_the_baseline_as_pyyaml_does() -> None:
    content = BASELINE.read_text(encoding="utf-8")
    assert typed([data for _, data in documents.read(content.encode())]) == typed(
        of_pyyaml(content)
    )


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(values, st.booleans())
def test_reads_any_value_as_pyyaml_does(value: Any, flow: bool) -> None:
    content = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert typed([data for _, data in documents.read(content.encode())]) == typed(
        of_pyyaml(content)
    )


@pytest.mark.parametrize(
    "content",
    ["a: 2026-13-45", "&a [*a]: 1", "a: !unknown x", "a: [", "{[]: 1}", "a: *nobody"],
)
def test_refuses_what_pyyaml_refuses(content: str) -> None:
    with pytest.raises((yaml.YAMLError, ValueError, TypeError)) as ours:
        list(documents.read(content.encode()))
    with pytest.raises((yaml.YAMLError, ValueError, TypeError)) as theirs:
        of_pyyaml(content)
    assert ours.type is theirs.type
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("content", ["a: =", "b: &b =\na: *b", "{a: =, b: &b [1], c: *b}"])
def test_an_equals_sign_is_text(content: str) -> None:
    ((_, data),) = documents.read(content.encode())
    assert data["a"] == "="


def test_aliases_within_aliases_are_shared_and_not_multiplied() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    ((_, data),) = documents.read("\n".join(lines).encode())
    assert data["a59"][0] is data["a59"][1]


def test_every_node_knows_its_line() -> None:
    ((node, _),) = documents.read(b"a: 1\nb:\n  - c: 2\n")
    (_, (_, items)) = node.value
    assert items.value[0].value[0][0].start_mark.line == 2
