"""Files that are written in full or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.files import write_whole


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_whole(file, "old")

    def full(_path: Path, _content: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(file, "new")
    assert file.read_text() == "old"


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, b"secret", mode=0o600)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"secret", 0o600)
