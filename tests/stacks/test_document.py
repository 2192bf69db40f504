"""Reading YAML with its lines, as the engine reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from stacks.document import Document, plain, read
from stacks.problems import SettingsError

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.yaml"


def parse(file: Path, text: str, *, engine: bool = False) -> Document:
    file.write_text(text, encoding="utf-8")
    return read(file, "file.yaml", engine=engine)


def refused(file: Path, text: str | bytes) -> str:
    """The one error about a file that cannot be read at all."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as caught:
        read(file, "file.yaml")
    return str(caught.value)


def test_every_value_has_its_line(file: Path) -> None:
    document = parse(file, "a: 1\nb:\n  c:\n    - x\n    - y\n")
    assert document.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("'5'", "5"),
        ("'010'", "010"),
        ("'2026-01-02'", "2026-01-02"),
        ("5m", "5m"),
        ("7.4.6", "7.4.6"),
        ("0x1G", "0x1G"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2026-01-31T042500Z.rdb", "2026-01-31T042500Z.rdb"),
    ],
)
def test_a_plain_value_is_read_as_the_engine_does(file: Path, text: str, value: object) -> None:
    document = parse(file, f"key: {text}\n", engine=True)
    assert (document.value, document.problems) == ({"key": value}, ())


ENGINES = [
    *("010", "089", "1_000", "0x1F", "-0o17", "0b11", "9" * 20, "1_0.5", ".inf", "-.INF", ".nan"),
    *("2026-01-02", "2026-1-2", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.6"),
]


@pytest.mark.parametrize("text", ENGINES)
def test_what_the_engine_takes_for_a_number_or_a_time_wants_quotes(file: Path, text: str) -> None:
    (problem,) = parse(file, f"key: {text}\n", engine=True).problems
    assert str(problem) == (
        f'file.yaml:1: key is "{text}" without quotes, which the engine takes for a number or a '
        "time: write a text in quotes, and a number in decimal digits alone"
    )


@pytest.mark.parametrize("text", [*ENGINES, "9" * 5000])
def test_it_is_text_in_a_file_that_the_engine_does_not_read(file: Path, text: str) -> None:
    assert parse(file, f"key: {text}\n").value == {"key": text}


@pytest.mark.parametrize(
    "text", ["{no: {}}", "{a: 12:30}", "{a: =}", "{a: 2026-02-30}", "{a: {secure: 'v1:x'}}"]
)
def test_a_file_that_is_written_anew_means_the_same(file: Path, text: str) -> None:
    before = parse(file, text).value
    assert parse(file, yaml.safe_dump(plain(text))).value == before


def test_an_encrypted_value_is_told_from_a_mapping(file: Path) -> None:
    document = parse(file, "a: {secure: cipher}\nb: {secure: cipher, more: 1}\n")
    assert document.value == {"a": SecretStr("cipher"), "b": {"secure": "cipher", "more": 1}}


def test_an_empty_file_is_an_empty_mapping(file: Path) -> None:
    assert parse(file, "# nothing\n").value == {}


def test_a_key_given_twice_is_told_with_both_lines(file: Path) -> None:
    (problem,) = parse(file, "a:\n  b: 1\n  c: 2\n  b: 3\n").problems
    assert str(problem) == "file.yaml:4: a.b is given twice, first on line 2: keep one"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: &x 1\nb: *x\n", "file.yaml:2: b is a YAML alias (*): write the value out"),
        ("a: !!python/name:os.system x\n", "file.yaml:1: a has the YAML tag"),
        ("a: !!int soon\n", 'file.yaml:1: a has a YAML tag that does not fit "soon"'),
        ("a: !!bool soon\n", 'file.yaml:1: a has a YAML tag that does not fit "soon"'),
        ("a:\n  ? [1, 2]\n  : 3\n", "file.yaml:2: a has a key that is not a word"),
    ],
)
def test_yaml_that_hides_what_it_means_is_told(file: Path, text: str, what: str) -> None:
    (problem,) = parse(file, text).problems
    assert str(problem).startswith(what)


def test_an_alias_of_itself_ends(file: Path) -> None:
    (problem,) = parse(file, "a: &x [*x]\n").problems
    assert "is a YAML alias" in str(problem)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "a:\n\tb: 1\n",
            "file.yaml:2: is not YAML: a tab is used to indent; use spaces",
        ),
        ("a: [1, 2\n", "file.yaml:2: is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "file.yaml:1: is not YAML: mapping values are not allowed here"),
        ("a: *Sup3rSecret\n", "file.yaml:1: is not YAML: found undefined alias"),
        ("- a\n- b\n", "file.yaml:1: should be a mapping of keys to values"),
        ("just words\n", "file.yaml:1: should be a mapping of keys to values"),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: is not YAML: but found another document"),
        (b"a: \xff\xfe\n", "file.yaml: cannot be read: it is not text in UTF-8"),
        (b"a: \x00\n", "file.yaml: is not YAML: it has characters that are no text"),
        ("[" * 5000, "file.yaml: is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_gives_one_error(
    file: Path, text: str | bytes, error: str
) -> None:
    assert refused(file, text) == error


def test_a_file_that_is_a_folder_gives_one_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^here: cannot be read: Is a directory$"):
        read(tmp_path, "here")
