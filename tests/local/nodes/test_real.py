"""What a real node is given, without starting one; tests/e2e/test_real_nodes.py starts them."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from local.api import Api
from local.errors import LocalError
from local.nodes import Topology
from local.nodes.cgroups import Cgroup
from local.nodes.lan import Address
from local.nodes.real import (
    Node,
    RealNodes,
    Software,
    link_tree,
    members,
    running,
    stop_nodes,
    write_environment,
)
from local.pki import Pki
from tests.waiting import eventually

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A containerd folder: one unpacked file and one database."""
    layer = tmp_path / "store" / "snapshots" / "1" / "fs"
    layer.mkdir(parents=True)
    (layer / "bash").write_text("program")
    (tmp_path / "store" / "metadata").mkdir()
    (tmp_path / "store" / "metadata" / "meta.db").write_text("names")
    return tmp_path / "store"


def test_unpacked_files_take_no_space(store: Path, tmp_path: Path) -> None:
    link_tree(store, tmp_path / "node")
    original, linked = (
        folder / "snapshots" / "1" / "fs" / "bash" for folder in (store, tmp_path / "node")
    )
    assert linked.samefile(original)


def test_a_node_has_databases_of_its_own(store: Path, tmp_path: Path) -> None:
    link_tree(store, tmp_path / "node")
    (tmp_path / "node" / "metadata" / "meta.db").write_text("changed")
    assert (store / "metadata" / "meta.db").read_text() == "names"


def test_a_copy_that_was_cut_off_is_made_anew(store: Path, tmp_path: Path) -> None:
    (tmp_path / ".node.partial").mkdir()
    (tmp_path / ".node.partial" / "half").touch()
    link_tree(store, tmp_path / "node")
    assert not (tmp_path / "node" / "half").exists()


def test_addresses_of_nodes_and_pods_do_not_meet() -> None:
    first, second = Address(1), Address(2)
    assert (first.host, first.pods) == ("198.18.0.11", "198.19.1.0/24")
    assert (second.host, second.pods) == ("198.18.0.12", "198.19.2.0/24")


def test_values_reach_the_shell_as_they_are(tmp_path: Path) -> None:
    write_environment(tmp_path, NAME="it's a $(node)")
    assert (tmp_path / "node.env").read_text() == "NAME='it'\\''s a $(node)'\n"


def test_a_node_that_has_not_left_this_machine_has_no_first_process_yet(tmp_path: Path) -> None:
    node = Node("a-1", "a", Address(1), tmp_path)
    node.process.start(["sh", "-c", "sleep 60 & wait"], {"PATH": os.environ["PATH"]})
    outer = node.process.pid()
    assert outer
    try:
        children = Path(f"/proc/{outer}/task/{outer}/children")
        eventually("it has a child", children.read_text)
        assert node.init_pid is None
    finally:
        os.killpg(outer, signal.SIGKILL)


def test_a_cluster_without_real_nodes_has_none_to_stop(tmp_path: Path) -> None:
    assert (members(tmp_path), running(tmp_path)) == ([], {})
    stop_nodes(tmp_path)


def test_nodes_whose_list_cannot_be_read_are_known_by_their_folders(tmp_path: Path) -> None:
    for name in ("b-1", "a-1"):
        (tmp_path / "nodes" / name).mkdir(parents=True)
    (tmp_path / "nodes" / "members.json").write_text('[["a-1", "a"')
    assert members(tmp_path) == [
        Node("a-1", "a", Address(1), tmp_path),
        Node("b-1", "b", Address(2), tmp_path),
    ]


def test_volumes_on_the_disk_of_a_node_that_is_down_cannot_be_reached(tmp_path: Path) -> None:
    node = Node("a-1", "a", Address(1), tmp_path)
    node.folder.mkdir(parents=True)
    assert node.volumes == node.folder / "volumes"
    (node.folder / "disk").touch()
    with pytest.raises(LocalError, match="node a-1 is down, and the disk"):
        _ = node.volumes


def test_a_node_without_a_disk_of_its_own_says_so(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="node a-1 has no disk of its own"):
        Node("a-1", "a", Address(1), tmp_path).fill_disk()


def test_a_store_that_cannot_be_copied_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / ".containerd.partial").touch()
    with pytest.raises(LocalError, match="could not give target its images: cp: "):
        link_tree(tmp_path / "nothing", tmp_path / "target" / "containerd")


@pytest.mark.parametrize(("linked", "kept"), [(True, True), (False, False)])
def test_half_a_node_is_ended_before_it_is_powered_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool, kept: bool
) -> None:
    """As a run leaves it that is killed before the node is in the network."""
    node = Node("a-1", "a", Address(1), tmp_path)
    node.process.start(["sleep", "60"], os.environ)
    if linked:
        (node.folder / "linked").touch()
    left = node.process.pid()

    def refuse(_: Cgroup) -> None:
        raise LocalError("far enough")

    monkeypatch.setattr(Cgroup, "empty", refuse)
    try:
        with nullcontext() if kept else pytest.raises(LocalError, match="far enough"):
            node.start()
        assert node.process.pid() == (left if kept else None)
    finally:
        node.process.stop(0)


def test_nodes_stay_in_their_zones(tmp_path: Path) -> None:
    """Else one would run on that nobody knows of, at another's address."""
    cluster, api = tmp_path, Mock(spec=Api)
    (cluster / "nodes").mkdir()
    known = [[f"{zone}-1", zone, number] for number, zone in enumerate("abc", start=1)]
    (cluster / "nodes" / "members.json").write_text(json.dumps(known))
    moved = RealNodes(
        cluster,
        Topology("us", ("a", "b", "d")),
        Pki(tmp_path),
        Software({}, tmp_path, tmp_path, ""),
        1,
        tmp_path,
    )
    with pytest.raises(LocalError, match="c-1 would go.*make down"):
        moved.start(api)
    api.create.assert_not_called()
