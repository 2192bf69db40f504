"""Debian's packages without installing them: servers for tests, and what images are made of.

apt works with lists, cache and package database in a folder of ours, so neither root nor the
system's package database is involved, and from the sources that the machine has configured, of its
own release of Debian or of another. Of the servers for tests, one on PATH is used instead where
there is one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from local.errors import LocalError
from local.toolchain.build import Say, cache_folder

REDIS_PROGRAMS = ("redis-server", "redis-sentinel", "redis-cli", "redis-check-rdb")
_REDIS_PACKAGES = (
    "redis-server",
    "redis-sentinel",
    "redis-tools",
    "libjemalloc2",
    "liblzf1",
)
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TO_INSTALL = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.MULTILINE)
"""A package in what apt-get says that it would install: name, version, architecture."""


@dataclass(frozen=True)
class Package:
    """One version of a Debian package."""

    name: str
    version: str
    architecture: str

    @property
    def file(self) -> str:
        """What apt calls its archive."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def __str__(self) -> str:
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Apt:
    """apt-get in a folder of its own, where nothing counts as installed.

    Only one process at a time may use a folder: its user holds a lock.
    """

    folder: Path
    release: str | None = None
    """Of Debian, by its code name; None: the one that the machine runs."""

    def update(self) -> None:
        """Learn which packages there are.

        Raises:
            LocalError: without apt-get, or when it cannot reach its sources.
        """
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise LocalError(
                "Debian's packages are needed, and this machine has no apt-get and dpkg-deb: "
                "install the packages apt and dpkg (most distributions have them)"
            )
        for path in ("lists/partial", "cache/archives/partial"):
            (self.folder / path).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        if self.release:
            source = f"deb [signed-by={_KEYRING}] {_archive()} {self.release} main\n"
            (self.folder / "sources.list").write_text(source)
        self._run("update")

    def closure(self, packages: Sequence[str]) -> list[Package]:
        """The packages and all that they depend on, by name; recommended ones are left out."""
        answer = self._run("install", "--simulate", *packages)
        found = [Package(*match) for match in _TO_INSTALL.findall(answer)]
        return sorted(found, key=lambda package: package.name)

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """The archives of a closure, in the same order; apt checks their digests."""
        if packages:
            self._run("install", "--download-only", "--yes", *map(str, packages))
        return [self.folder / "cache" / "archives" / package.file for package in packages]

    def download(self, packages: Sequence[str], target: Path) -> list[Path]:
        """The archives of exactly these packages, in a folder that need not exist yet."""
        target.mkdir(parents=True, exist_ok=True)
        self._run("download", *packages, folder=target)
        return sorted(target.glob("*.deb"))

    def _run(self, *arguments: str, folder: Path | None = None) -> str:
        options = [
            f"-oDir::State::lists={self.folder / 'lists'}",
            f"-oDir::State::status={self.folder / 'status'}",
            f"-oDir::Cache={self.folder / 'cache'}",
            "-oAPT::Install-Recommends=false",
            "-oAPT::Sandbox::User=",
            "-oDebug::NoLocking=1",
            "-q",
        ]
        if self.release:
            options += [
                f"-oDir::Etc::sourcelist={self.folder / 'sources.list'}",
                "-oDir::Etc::sourceparts=/dev/null",
            ]
        return _run(["apt-get", *options, *arguments], folder or self.folder)


def _archive() -> str:
    """Where this machine gets Debian from: it holds every release.

    Raises:
        LocalError: on a machine that gets its packages elsewhere.
    """
    listed = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)"], Path("/"))
    for line in listed.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    raise LocalError(
        "Debian's packages are needed, and this machine's apt has no source of them: add one"
    )


def ensure_redis(say: Say) -> Path:
    """Return the folder that holds Redis' programs.

    Raises:
        LocalError: if they are neither on PATH nor can be fetched.
    """
    on_path = [shutil.which(program) for program in REDIS_PROGRAMS]
    if all(on_path):
        return Path(str(on_path[0])).parent
    return _ensure("redis", _REDIS_PACKAGES, REDIS_PROGRAMS, say)


def _ensure(name: str, packages: Sequence[str], programs: Sequence[str], say: Say) -> Path:
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        launchers = folder / "bin"
        if not all((launchers / program).exists() for program in programs):
            say(f"fetching {', '.join(packages)}")
            apt = Apt(folder)
            apt.update()
            for archive in apt.download(packages, folder / "archives"):
                _run(["dpkg-deb", "--extract", str(archive), str(folder / "root")], folder)
            _write_launchers(folder, programs)
    return launchers


def _write_launchers(folder: Path, programs: Sequence[str]) -> None:
    usr = folder / "root" / "usr"
    libraries = ":".join(str(path) for path in sorted((usr / "lib").glob("*-linux-gnu")))
    partial = folder / ".bin.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for program in programs:
        launcher = partial / program
        launcher.write_text(
            "#!/bin/sh\n"
            f'export LD_LIBRARY_PATH="{libraries}"\n'
            f'exec "{usr / "bin" / program}" "$@"\n'
        )
        launcher.chmod(0o755)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    partial.rename(folder / "bin")


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"{command[0]} failed:\n{(done.stderr or done.stdout)[-1500:]}")
    return done.stdout
