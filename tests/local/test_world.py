"""Which kind of nodes a world has, and what is said when it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.cluster import _settle_ports
from local.errors import LocalError
from local.nodes import host
from local.world import REAL, SIMULATED, World, _awaited, crowd_size, named, switched
from stacks import loader

pytestmark = pytest.mark.unit


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.delenv("NODES", raising=False)
    return World("dev", tmp_path)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc", "dev/"])
def test_only_a_plain_name_is_a_world(name: str) -> None:
    """`down` deletes the folder that it means."""
    with pytest.raises(LocalError, match="is no name of a stack"):
        named(name)


@pytest.mark.parametrize("content", [b"", b"re", b"\xff"])
def test_a_world_whose_files_were_cut_short_begins_anew(world: World, content: bytes) -> None:
    for name in ("nodes", "images.json"):
        (world.folder / name).write_bytes(content)
    assert (world.kind, world.replaced_images()) == (None, {})


@pytest.mark.parametrize("content", [b"", b'{"etcd": 2', b"\xff"])
def test_ports_that_were_cut_short_are_an_error_until_they_are_chosen_anew(
    world: World, content: bytes
) -> None:
    world.cluster.folder.mkdir()
    (world.cluster.folder / "ports.json").write_bytes(content)
    with pytest.raises(LocalError, match="ports of stack dev cannot be read: `make up STACK=dev`"):
        _ = world.cluster.port
    _settle_ports(world.cluster)
    assert world.cluster.port > 0


@pytest.mark.parametrize("asked", ["", "all", None])
def test_a_switch_has_its_one_value_or_none(
    monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    monkeypatch.delenv("CRDS", raising=False)
    if asked is not None:
        monkeypatch.setenv("CRDS", asked)
    assert switched("CRDS", "all") == (asked == "all")


def test_a_switch_with_another_value_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRDS", "some")
    with pytest.raises(LocalError, match="CRDS is 'some'; it should be all, or be left out"):
        world.start(loader.from_file("dev"), print)


def lack(monkeypatch: pytest.MonkeyPatch, *things: str) -> None:
    monkeypatch.setattr(host, "lacks", lambda _: list(things))


def test_nodes_are_real_where_the_machine_allows_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch)
    assert world._choose_kind(print) == REAL


def test_nodes_are_simulated_elsewhere_and_the_reason_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    lack(monkeypatch, "root", "nftables in the kernel")
    assert world._choose_kind(said.append) == SIMULATED
    assert said == [
        "nodes are simulated, so no container runs: this machine lacks root; nftables in the kernel"
    ]


def test_real_nodes_that_cannot_be_had_are_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch, "root")
    monkeypatch.setenv("NODES", REAL)
    with pytest.raises(LocalError, match="real nodes need root, which this machine lacks"):
        world._choose_kind(print)


def test_an_unknown_kind_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", "virtual")
    with pytest.raises(LocalError, match="NODES is 'virtual'; it should be real or simulated"):
        world._choose_kind(print)


def test_a_world_keeps_its_kind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch)
    (world.folder / "nodes").write_text(SIMULATED)
    assert world._choose_kind(print) == SIMULATED


def test_a_world_does_not_change_its_kind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "nodes").write_text(SIMULATED)
    monkeypatch.setenv("NODES", REAL)
    with pytest.raises(LocalError, match="make down STACK=dev"):
        world._choose_kind(print)


def test_a_world_of_one_kind_heeds_no_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODES", REAL)
    assert World("policy", tmp_path, SIMULATED)._choose_kind(print) == SIMULATED


@pytest.mark.parametrize(("stack", "awaited"), [("prod", True), ("dr", False)])
def test_a_standby_has_no_other_region_here_to_begin_with(stack: str, awaited: bool) -> None:
    assert ("postgres" in _awaited(loader.from_file(stack), {})) is awaited


@pytest.mark.parametrize(("asked", "size"), [(None, 0), ("", 0), ("20", 20)])
def test_a_crowd_is_as_large_as_asked(
    asked: str | None, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CROWD", raising=False)
    if asked is not None:
        monkeypatch.setenv("CROWD", asked)
    assert crowd_size() == size


@pytest.mark.parametrize("asked", ["many", "-1", "1001"])
def test_a_crowd_that_is_no_number_of_nodes_is_an_error(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROWD", asked)
    with pytest.raises(LocalError, match=f"CROWD is '{asked}'; it should be how many"):
        crowd_size()
