"""Jars are what was recorded, or the image is not built."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from local.errors import LocalError
from local.images import maven
from local.images.definition import DIGESTS, FOLDER

pytestmark = pytest.mark.unit

SMALL = "org.slf4j:slf4j-api:1.7.36"
JAR = "slf4j-api-1.7.36.jar"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What Maven finds, without asking it."""
    content = b"a jar"

    def resolve(_: object, target: Path) -> None:
        target.mkdir()
        (target / JAR).write_bytes(content)

    monkeypatch.setattr(maven, "resolve", resolve)
    return content


def recorded(folder: Path, *lines: str) -> Path:
    """A file of digests."""
    path = folder / DIGESTS
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_recorded_jars_are_taken(resolved: bytes, tmp_path: Path) -> None:
    digests = recorded(tmp_path, f"{digest(resolved)}  {JAR}")
    maven.install([SMALL], digests, tmp_path / "libs")
    assert (tmp_path / "libs" / JAR).read_bytes() == resolved


@pytest.mark.parametrize(
    "lines", [[f"{digest(b'another')}  {JAR}"], [], [f"{digest(b'a jar')}  more.jar"]]
)
def test_a_jar_that_differs_from_the_record_is_refused(
    resolved: bytes, tmp_path: Path, lines: list[str]
) -> None:
    with pytest.raises(LocalError, match=JAR):
        maven.install([SMALL], recorded(tmp_path, *lines), tmp_path / "libs")


def test_a_machine_without_maven_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalError, match="install the package maven"):
        maven.resolve([SMALL], tmp_path)


def test_kafka_records_its_server() -> None:
    assert "kafka_2.13-" in (FOLDER / "kafka" / DIGESTS).read_text()
