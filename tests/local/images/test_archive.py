"""The same bytes for the same content, in the format that container runtimes import."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.images import archive

pytestmark = pytest.mark.unit

FILES = {"b": "second", "a": "first", "folder/c": "third"}


def tree(folder: Path, names: list[str], time: int) -> Path:
    """A folder with these files, made in this order and at this time."""
    folder.mkdir(mode=0o755)
    for name in names:
        (folder / name).parent.mkdir(mode=0o755, exist_ok=True)
        (folder / name).write_text(FILES[name])
        os.utime(folder / name, (time, time))
    return folder


def entries(layer: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer) as opened:
        return {entry.name: entry for entry in opened}


def content(path: Path, name: str) -> bytes:
    with tarfile.open(path) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read()


def index_of(path: Path) -> dict[str, Any]:
    image: dict[str, Any] = json.loads(content(path, "index.json"))["manifests"][0]
    return image


@pytest.fixture
def layer(tmp_path: Path) -> archive.Blob:
    return archive.pack(tree(tmp_path / "tree", list(FILES), 1), tmp_path / "layer.tar", {})


def test_a_layer_does_not_depend_on_times_and_order(tmp_path: Path) -> None:
    one = archive.pack(tree(tmp_path / "one", sorted(FILES), 1), tmp_path / "one.tar", {})
    two = archive.pack(tree(tmp_path / "two", list(FILES), 2), tmp_path / "two.tar", {})
    assert one.digest == two.digest


def test_a_layer_changes_with_its_content(tmp_path: Path, layer: archive.Blob) -> None:
    (tmp_path / "tree" / "a").write_text("other")
    assert archive.pack(tmp_path / "tree", tmp_path / "other.tar", {}).digest != layer.digest


def test_root_owns_what_nobody_else_is_said_to_own(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree", list(FILES), 1)
    packed = archive.pack(folder, tmp_path / "layer.tar", {"folder": (26, 27)})
    owners = {name: (entry.uid, entry.gid) for name, entry in entries(packed.path).items()}
    assert owners == {"a": (0, 0), "b": (0, 0), "folder": (26, 27), "folder/c": (0, 0)}


def test_a_program_gives_no_rights_to_who_runs_it(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree", list(FILES), 1)
    (folder / "a").chmod(0o4755)
    assert entries(archive.pack(folder, tmp_path / "layer.tar", {}).path)["a"].mode == 0o755


def test_a_folder_keeps_the_bit_that_protects_files_of_others(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree", list(FILES), 1)
    (folder / "folder").chmod(0o1777)
    assert entries(archive.pack(folder, tmp_path / "l.tar", {}).path)["folder"].mode == 0o1777


def test_the_tag_is_the_start_of_the_images_digest(tmp_path: Path, layer: archive.Blob) -> None:
    reference = archive.write(tmp_path / "image.tar", "node.local/x:", [layer], {})
    digest = index_of(tmp_path / "image.tar")["digest"]
    assert reference == f"node.local/x:{digest.removeprefix('sha256:')[:12]}"


def test_the_archive_says_what_the_runtime_shall_call_it(
    tmp_path: Path, layer: archive.Blob
) -> None:
    reference = archive.write(tmp_path / "image.tar", "node.local/x:1-", [layer], {})
    annotations = index_of(tmp_path / "image.tar")["annotations"]
    assert annotations["io.containerd.image.name"] == reference


def test_every_blob_is_what_its_name_says(tmp_path: Path, layer: archive.Blob) -> None:
    archive.write(tmp_path / "image.tar", "node.local/x:", [layer], {"User": "1:1"})
    names = [name for name in entries(tmp_path / "image.tar") if name.startswith("blobs/")]
    digests = [hashlib.sha256(content(tmp_path / "image.tar", n)).hexdigest() for n in names]
    assert [name.removeprefix("blobs/sha256/") for name in names] == digests


def test_another_entry_point_is_another_image(tmp_path: Path, layer: archive.Blob) -> None:
    one, two = (
        archive.write(tmp_path / "image.tar", "node.local/x:", [layer], {"Entrypoint": [program]})
        for program in ("/one", "/two")
    )
    assert one != two
