"""A containerd folder that holds a set of images, unpacked: made once, linked into every node.

Importing and unpacking takes a minute for all images; a node that starts with links to a folder
where that was done takes a second and no space.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from local.images.build import Image
from local.nodes.real import TOOLS, Node, isolated, write_environment, write_runtime
from local.process import Process
from local.toolchain.build import Say, cache_folder

IMPORT_SECONDS = 600.0
KEPT = 2
"""Older sets of images are removed; nodes keep what they have linked."""


def ensure(
    images: Sequence[Image], image: Path, tools: Mapping[str, Path], pause: str, say: Say
) -> Path:
    """Return the folder with exactly these images, made if need be.

    Raises:
        LocalError: if containerd refuses an image, with the end of the log.
    """
    content = hashlib.sha256("\n".join(sorted(i.reference for i in images)).encode())
    content.update(str(tools["containerd"]).encode())
    root = cache_folder() / "stores"
    root.mkdir(parents=True, exist_ok=True)
    target = root / content.hexdigest()[:12]
    with FileLock(root / ".lock"):
        if not target.exists():
            say(f"unpacking {len(images)} images for the nodes, once for this set")
            _make(target, images, image, tools, pause)
            _forget_old(root)
        os.utime(target)
    return target


def deliver(nodes: Iterable[Node], images: Sequence[Image], say: Say) -> None:
    """Give every node the images that it lacks: those that changed since it got its folder.

    Raises:
        LocalError: if a node is down, or its containerd refuses an image.
    """
    ctr = ("ctr", "--namespace", "k8s.io", "images")
    for node in nodes:
        held = set(node.run([*ctr, "list", "--quiet"]).split())
        for image in images:
            if image.reference not in held:
                say(f"giving {node.name} the image {image.name}")
                with image.archive.open("rb") as archive:
                    node.run([*ctr, "import", "--local", "-"], stdin=archive)


def _make(
    target: Path, images: Sequence[Image], image: Path, tools: Mapping[str, Path], pause: str
) -> None:
    partial, folder = target.with_name("partial"), target.with_name("work")
    for path in (partial, folder):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    write_runtime(folder, "198.19.255.0/24", pause)
    write_environment(
        folder,
        NAME="store",
        FOLDER=str(folder),
        IMAGE=str(image),
        TOOLS=" ".join(str(tools[name]) for name in TOOLS),
        CORES="1",
        CGROUPS="",
        STORE=str(partial),
        ARCHIVES=" ".join(str(each.archive) for each in images),
    )
    maker = Process("store", folder)
    maker.start(isolated(folder), {"PATH": os.environ["PATH"]})
    try:
        maker.wait_until((folder / "done").exists, IMPORT_SECONDS)
    finally:
        maker.stop(0)
    partial.rename(target)
    shutil.rmtree(folder)


def _forget_old(root: Path) -> None:
    stores = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for path in stores[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
