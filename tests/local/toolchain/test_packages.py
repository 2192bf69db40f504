"""What apt-get is asked, and how its answers are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.toolchain.packages import Apt, Package

pytestmark = pytest.mark.unit

ANSWER = """\
Reading package lists...
The following NEW packages will be installed:
  zlib1g
Inst zlib1g (1:1.2.13.dfsg-1 Debian:12.15/oldstable [amd64])
Inst tzdata (2026f-0+deb12u1 Debian:12.15/oldstable, Debian-Security:12 [all])
Conf zlib1g (1:1.2.13.dfsg-1 Debian:12.15/oldstable [amd64])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs, which are all there is on PATH but the system's own."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    return tmp_path


def put_apt(folder: Path, script: str) -> None:
    for name in ("apt-get", "dpkg-deb"):
        program = folder / "path" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


def test_a_closure_is_what_apt_would_install_in_order(folder: Path) -> None:
    (folder / "answer").write_text(ANSWER)
    put_apt(folder, f'while read -r line; do echo "$line"; done <{folder / "answer"}')
    assert Apt(folder).closure(["zlib1g"]) == [
        Package("tzdata", "2026f-0+deb12u1", "all"),
        Package("zlib1g", "1:1.2.13.dfsg-1", "amd64"),
    ]


def test_an_epoch_is_escaped_in_the_name_of_an_archive() -> None:
    assert Package("zlib1g", "1:1.2.13", "amd64").file == "zlib1g_1%3a1.2.13_amd64.deb"


def test_nothing_counts_as_installed(folder: Path) -> None:
    put_apt(folder, "exit 0")
    Apt(folder).update()
    assert (folder / "status").read_text() == ""


def test_what_apt_says_when_it_fails_is_shown(folder: Path) -> None:
    put_apt(folder, "echo 'E: Unable to locate package sheep' >&2; exit 100")
    with pytest.raises(LocalError, match="locate package sheep"):
        Apt(folder).closure(["sheep"])


def test_a_machine_without_apt_is_told_what_to_install(folder: Path) -> None:
    with pytest.raises(LocalError, match="install the packages apt and dpkg"):
        Apt(folder).update()
