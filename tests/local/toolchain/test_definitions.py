"""What is read of a file of definitions, and that it is read but once."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.toolchain import definitions

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FT_CACHE", str(tmp_path / "cache"))
    written = tmp_path / "some.yaml"
    written.write_text("kind: One\n---\n---\nkind: Two\nenum: [=, =~]\n")
    return written


def test_every_object_is_read_and_a_bare_equals_sign_is_text(file: Path) -> None:
    assert definitions.documents(file) == [{"kind": "One"}, {"kind": "Two", "enum": ["=", "=~"]}]


def test_a_file_is_parsed_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = definitions.documents(file)
    monkeypatch.delattr(definitions, "read")
    assert definitions.documents(file) == first


def test_a_file_that_changed_is_read_anew(file: Path) -> None:
    definitions.documents(file)
    file.write_text("kind: Three\n")
    assert definitions.documents(file) == [{"kind": "Three"}]
