"""Real servers for the tests of the data plane, from Debian's packages, without installing them.

A package is fetched with apt (lists, cache and locks in our own folder, so neither root nor the
system's package database is involved) and unpacked into the cache; a launcher beside it sets the
library path. A server on PATH is used instead where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from local.errors import LocalError
from local.toolchain.build import Say, cache_folder

REDIS_PROGRAMS = ("redis-server", "redis-sentinel", "redis-cli")
_REDIS_PACKAGES = (
    "redis-server",
    "redis-sentinel",
    "redis-tools",
    "libjemalloc2",
    "liblzf1",
)


def ensure_redis(say: Say) -> Path:
    """Return the folder that holds redis-server, redis-sentinel and redis-cli.

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
        if not launchers.exists():
            say(f"fetching {', '.join(packages)}")
            _fetch(folder, packages)
            _write_launchers(folder, programs)
    return launchers


def _fetch(folder: Path, packages: Sequence[str]) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise LocalError(
            f"{packages[0]} is neither on PATH nor can it be fetched, because this machine has no "
            f"apt-get: install {packages[0]} yourself"
        )
    archives = folder / "archives"
    for path in ("lists/partial", "cache/archives/partial", "archives"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    options = [
        f"-oDir::State::lists={folder / 'lists'}",
        f"-oDir::Cache={folder / 'cache'}",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
        "-q",
    ]
    _run(["apt-get", *options, "update"], archives)
    _run(["apt-get", *options, "download", *packages], archives)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(folder / "root")], archives)


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
    partial.rename(folder / "bin")


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"{' '.join(command[:1])} failed:\n{(done.stderr or done.stdout)[-1500:]}")
