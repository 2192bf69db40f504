"""Build the images that are missing, once for the same inputs, and find them again.

An image lies in the cache under a digest of all that decides what is in it: its definition, its
files, its programs and the code of this package. Which versions of Debian's packages it got is
settled when it is built, and written beside it in `image.json`: an image that is there is not
built anew because Debian published something.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from local.errors import LocalError
from local.images import archive, maven, root
from local.images.archive import Blob, Owners
from local.images.definition import DIGESTS, FOLDER, Definition, definitions
from local.toolchain import build
from local.toolchain.build import Say, cache_folder
from local.toolchain.packages import Apt, Package

__all__ = ["Image", "definitions", "ensure", "ensure_root", "replacements", "stand_ins"]

RELEASE = "trixie"
"""Of Debian, whatever this machine runs: its PostgreSQL and Redis are those that stacks name."""

BASE_PACKAGES = (
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debianutils",
    "findutils",
    "grep",
    "libc-bin",
    "libstdc++6",
    "mawk",
    "openssl",
    "sed",
    "tzdata",
    "zlib1g",
)
"""Of the layer that all images of base `debian` share."""

WAIT_SECONDS = 15.0
"""Between two words to a person who waits for another run."""

KEPT = 2
"""Builds of an image that stay in the cache as archives: several checkouts share it."""

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image that can be imported into a node."""

    name: str
    reference: str
    """What Pods call it; the tag comes from its content."""
    archive: Path
    """In the OCI format."""


def ensure(names: Sequence[str], say: Say) -> dict[str, Image]:
    """Return each named image, building those that are not in the cache.

    Raises:
        LocalError: if a definition is wrong, or something that an image needs cannot be had.
    """
    return {
        name: Image(name, _record(folder)["reference"], folder / "image.tar")
        for name, folder in _ensure(names, say, "archive").items()
    }


def ensure_root(name: str, say: Say) -> Path:
    """Return an image's root file system, unpacked: to be read, not to be written to.

    Raises:
        LocalError: as for `ensure`.
    """
    return _ensure([name], say, "root")[name] / "root"


def stand_ins(wanted: Iterable[str]) -> dict[str, str]:
    """Which local image, by name, stands for each upstream image; left out if none does.

    Args:
        wanted: upstream references: `repository:tag`, with or without `@digest`.
    """
    patterns = [
        (pattern, name)
        for name, definition in definitions().items()
        for pattern in definition.replaces
    ]
    found = {}
    for reference in sorted(wanted):
        names = (name for pattern, name in patterns if _matches(reference, pattern))
        if name := next(names, None):
            found[reference] = name
    return found


def replacements(images: Mapping[str, Image], wanted: Iterable[str]) -> dict[str, str]:
    """The reference of the local image that stands for each upstream image, if it is there.

    Args:
        images: those there are, by name.
        wanted: as for `stand_ins`.
    """
    return {
        upstream: images[name].reference
        for upstream, name in stand_ins(wanted).items()
        if name in images
    }


def _matches(reference: str, pattern: str) -> bool:
    """Whether a pattern means an image, by its repository alone or with the tag."""
    tagged = reference.split("@", maxsplit=1)[0]
    return any(fnmatch.fnmatchcase(name, pattern) for name in (_repository(reference), tagged))


def _repository(reference: str) -> str:
    """A reference without digest and tag; the colon of a registry's port is no tag."""
    folder, slash, last = reference.split("@", maxsplit=1)[0].rpartition("/")
    return folder + slash + last.split(":")[0]


def _ensure(names: Sequence[str], say: Say, kind: str) -> dict[str, Path]:
    """The folder of each image in the cache, which holds it as an archive or as a root folder."""
    known = definitions()
    wanted = {name: known[name] for name in names}
    tools = sorted({tool for definition in wanted.values() for tool in definition.programs})
    programs = build.ensure(tools, say)
    folders = {
        name: _cache() / kind / f"{name}-{_key(name, definition, programs)}"
        for name, definition in wanted.items()
    }
    if any(not folder.exists() for folder in folders.values()):
        with _lock(say):
            builder = _Builder(programs, say)
            for name, folder in folders.items():
                if not folder.exists():
                    builder.build(name, wanted[name], folder)
    for folder in folders.values():
        folder.touch()  # used just now: see _forget_old
    return folders


def _key(name: str, definition: Definition, programs: Mapping[str, Path]) -> str:
    content = hashlib.sha256(definition.model_dump_json().encode())
    for file in [*sorted(definition.files), *([DIGESTS] if definition.maven else [])]:
        content.update((FOLDER / name / file).read_bytes())
    for tool in sorted(definition.programs):
        content.update(str(programs[tool]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        content.update(source.read_bytes())
    return content.hexdigest()[:12]


class _Builder:
    """Builds images one after the other, with one look at what Debian has for all of them."""

    def __init__(self, programs: Mapping[str, Path], say: Say) -> None:
        self._programs = programs
        self._say = say
        self._apt = Apt(_cache() / f"apt-{RELEASE}", RELEASE)
        self._is_updated = False

    def build(self, name: str, definition: Definition, target: Path) -> None:
        """Make an image's folder: complete, or not at all."""
        start = time.monotonic()
        self._say(f"building the image {name}")
        work = _empty(_cache() / "work")
        result = work / "result"
        result.mkdir()
        layers, packages = self._layers(name, definition, work)
        record: dict[str, object] = {
            "packages": [str(package) for package in packages],
            "python": definition.python,
            "jars": definition.maven.jars if definition.maven else (),
            "layers": [{"digest": layer.digest, "size": layer.size} for layer in layers],
            "lacks": definition.lacks,
        }
        if target.parent.name == "root":
            _extract(layers, result / "root")
        else:
            version = f"{definition.version}-" if definition.version else ""
            prefix = f"node.local/{name}:{version}"
            record["reference"] = archive.write(
                result / "image.tar", prefix, layers, _config(definition)
            )
        (result / "image.json").write_text(json.dumps(record, indent=2) + "\n")
        target.parent.mkdir(exist_ok=True)
        result.rename(target)
        shutil.rmtree(work)
        if target.parent.name == "archive":
            _forget_old(target.parent, name)
        self._say(f"built the image {name} in {time.monotonic() - start:.0f} s")

    def _layers(
        self, name: str, definition: Definition, work: Path
    ) -> tuple[list[Blob], list[Package]]:
        """The base, the image's own packages, and what else its definition names."""
        layers: list[Blob] = []
        packages: list[Package] = []
        base: Path | None = None
        if definition.base == "debian":
            base_packages = self._base_packages
            shared = self._base(base_packages)
            base = shared / "root"
            layers.append(archive.blob(shared / "layer.tar"))
            packages = self._closure([*BASE_PACKAGES, *definition.packages])
            added = [package for package in packages if package not in base_packages]
        else:
            added = [p for p in self._closure(definition.packages) if p.name in definition.packages]
            packages = added
        unpacked, own = work / "packages", work / "own"
        if added:
            root.unpack(self._fetch(packages, added), unpacked, definition.omits)
            if base:
                root.without_merged_folders(unpacked)
                _compile(unpacked, unpacked, base)
            layers.append(archive.pack(unpacked, work / "packages.tar", {}))
        own.mkdir()
        if not base and not added:
            root.merge_folders(own)  # some of upstream's Pods call their program in /bin
        root.add_own(own, definition, FOLDER / name, self._programs)
        if base and definition.python:
            root.install_python(definition.python, _python_of(name, unpacked), own)
            _compile(own, unpacked, base)
        root.install_wheels(definition.wheels, work / "wheels", own)
        if definition.maven:
            folder = own / definition.maven.folder[1:]
            root.make_folder(folder)
            maven.install(definition.maven.jars, FOLDER / name / DIGESTS, folder)
        layers.append(archive.pack(own, work / "own.tar", _owners(definition)))
        return layers, packages

    def _base(self, packages: Sequence[Package]) -> Path:
        """The folder of the shared layer: its `root`, and `layer.tar`."""
        content = hashlib.sha256("\n".join(map(str, packages)).encode())
        for module in (root, archive):
            content.update(Path(str(module.__file__)).read_bytes())
        target = _cache() / "base" / content.hexdigest()[:12]
        if not target.exists():
            partial = _empty(_cache() / "partial")
            root.unpack(self._fetch(packages, packages), partial / "root")
            root.finish_base(partial / "root")
            archive.pack(partial / "root", partial / "layer.tar", {})
            target.parent.mkdir(exist_ok=True)
            partial.rename(target)
        return target

    @cached_property
    def _base_packages(self) -> list[Package]:
        return self._closure(BASE_PACKAGES)

    def _closure(self, packages: Sequence[str]) -> list[Package]:
        if not packages:
            return []
        if not self._is_updated:
            self._say("asking Debian for the newest packages")
            self._apt.update()
            self._is_updated = True
        return self._apt.closure(packages)

    def _fetch(self, packages: Sequence[Package], wanted: Sequence[Package]) -> list[Path]:
        """The archives of some packages of a closure."""
        archives = dict(zip(packages, self._apt.fetch(packages), strict=True))
        return [archives[package] for package in wanted]


def _compile(tree: Path, interpreter: Path, base: Path) -> None:
    if root.python_version(interpreter):
        root.compile_python(tree, interpreter, base)


def _python_of(name: str, tree: Path) -> str:
    version = root.python_version(tree)
    if version is None:
        raise LocalError(f"the image {name} names packages of PyPI: add python3 to its packages")
    return version


def _owners(definition: Definition) -> Owners:
    users = definition.users
    return {
        path[1:]: (users[folder.owner].uid, users[folder.owner].gid)
        for path, folder in definition.folders.items()
        if folder.owner
    }


def _config(definition: Definition) -> dict[str, object]:
    environment = {"PATH": _DEFAULT_PATH, **definition.environment}
    return {
        "User": definition.user,
        "WorkingDir": "/",
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Entrypoint": list(definition.entrypoint),
        "Cmd": list(definition.command),
    }


def _extract(layers: Sequence[Blob], target: Path) -> None:
    target.mkdir()
    for layer in layers:
        command = ["tar", "--extract", f"--file={layer.path}", f"--directory={target}"]
        command += ["--keep-directory-symlink", "--preserve-permissions", "--numeric-owner"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LocalError(f"could not unpack a layer: {done.stderr[-500:]}")


def _forget_old(folder: Path, name: str) -> None:
    """Remove the archives that were not used for longest; a root folder may be a running node's."""
    built = (path for path in folder.iterdir() if path.name.rpartition("-")[0] == name)
    for path in sorted(built, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _record(folder: Path) -> dict[str, str]:
    record: dict[str, str] = json.loads((folder / "image.json").read_text())
    return record


def _cache() -> Path:
    return cache_folder() / "images"


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _lock(say: Say) -> Iterator[None]:
    """Hold the cache, so that of several runs one builds; say so while it is another."""
    _cache().mkdir(parents=True, exist_ok=True)
    lock = FileLock(_cache() / ".lock")
    while True:
        try:
            lock.acquire(timeout=WAIT_SECONDS)
        except Timeout:
            say("waiting for another run that builds images")
        else:
            break
    try:
        yield
    finally:
        lock.release()
