"""Jars of Maven Central: resolved by `mvn` itself, from wherever this machine has it fetch them.

What a definition's coordinates depend on is resolved when the image is built, and each jar must
have the digest that `<name>/jars.sha256` records, in the format of `sha256sum`. After a change of
the coordinates, `python -m local.images.maven NAME` writes that file anew.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from local.errors import LocalError
from local.images.definition import DIGESTS, FOLDER, load

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>image</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""


def install(coordinates: Sequence[str], digests: Path, target: Path) -> None:
    """Put jars, with all that they depend on at run time, into a folder.

    Args:
        coordinates: each `group:artifact:version`.
        digests: what every jar must be, and no other may be there.
        target: the folder; it need not exist.

    Raises:
        LocalError: without mvn, or if a jar cannot be had, or is not the recorded one.
    """
    resolve(coordinates, target)
    recorded = _entries(digests.read_text())
    wrong = sorted({name for name, _ in recorded ^ _entries(listed(target))})
    if wrong:
        raise LocalError(
            f"{digests} does not fit what Maven resolved: {', '.join(wrong)}. If the coordinates "
            f"changed on purpose: python -m local.images.maven {digests.parent.name}"
        )


def resolve(coordinates: Sequence[str], target: Path) -> None:
    """Fetch jars and what they depend on, whatever their digests.

    Raises:
        LocalError: without mvn, or if a jar cannot be had.
    """
    if shutil.which("mvn") is None:
        raise LocalError("jars are needed, and this machine has no mvn: install the package maven")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        pom = Path(work) / "pom.xml"
        pom.write_text(_POM.format(dependencies="".join(map(_dependency, coordinates))))
        options = ["--batch-mode", "--quiet", "--strict-checksums", f"--file={pom}"]
        done = subprocess.run(
            ["mvn", *options, _COPY, f"-DoutputDirectory={target}", "-DincludeScope=runtime"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise LocalError(f"mvn cannot fetch {', '.join(coordinates)}:\n{done.stdout[-1500:]}")
    for jar in target.glob("*.jar"):
        jar.chmod(0o644)


def listed(folder: Path) -> str:
    """The digests of a folder's jars, as `sha256sum` prints them."""
    jars = sorted(folder.glob("*.jar"))
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in jars)


def record(name: str) -> None:
    """Write down the digests of what an image's coordinates resolve to now.

    Raises:
        LocalError: if the image has no jars, or they cannot be had.
    """
    digests = FOLDER / name / DIGESTS
    digests.parent.mkdir(exist_ok=True)
    digests.touch()
    maven = load(FOLDER / f"{name}.yaml").maven
    if maven is None:
        raise LocalError(f"the image {name} has no jars")
    with tempfile.TemporaryDirectory() as folder:
        resolve(maven.jars, Path(folder))
        digests.write_text(listed(Path(folder)))


def _dependency(coordinate: str) -> str:
    group, artifact, version = map(escape, coordinate.split(":"))
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
    )


def _entries(text: str) -> set[tuple[str, str]]:
    return {(name, digest) for digest, name in (line.split() for line in text.splitlines())}


if __name__ == "__main__":
    record(sys.argv[1])
