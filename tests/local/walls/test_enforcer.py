"""Loading rulesets: when something changed, again after a failure, into running nodes only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from local.process import Process
from local.walls.enforcer import Loader, into_nodes

pytestmark = pytest.mark.unit


class Node:
    """Stands for a node: appends each ruleset that it is given to a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "loaded"
        self._file.touch()
        self.command: Sequence[str] | None = self.started("first")

    def started(self, name: str) -> list[str]:
        """The command that enters it, after a start of that name."""
        return ["sh", "-c", f"cat >> {self._file}", name]

    @property
    def loaded(self) -> list[str]:
        """What it was given."""
        return self._file.read_text().splitlines()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def loader(node: Node) -> Loader:
    return Loader(lambda _: node.command)


def test_loads_only_what_changed(node: Node, loader: Loader) -> None:
    for text in ("one\n", "one\n", "two\n", "two\n"):
        loader.load({"node": text})
    assert node.loaded == ["one", "two"]


def test_a_node_that_was_started_anew_is_loaded_anew(node: Node, loader: Loader) -> None:
    loader.load({"node": "one\n"})
    node.command = node.started("second")
    loader.load({"node": "one\n"})
    assert node.loaded == ["one", "one"]


def test_a_node_that_is_down_is_loaded_once_it_is_up(node: Node, loader: Loader) -> None:
    node.command = None
    loader.load({"node": "one\n"})
    assert node.loaded == []
    node.command = node.started("second")
    loader.load({"node": "one\n"})
    assert node.loaded == ["one"]


def test_a_refused_ruleset_is_logged_once_and_tried_again(
    node: Node, loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    node.command = ["sh", "-c", "echo 'stdin:3:1-5: Error: syntax error' >&2; exit 1"]
    with caplog.at_level(logging.ERROR):
        loader.load({"node": "one\n"})
        loader.load({"node": "one\n"})
    assert [record.message.count("stdin:3:1-5") for record in caplog.records] == [1]
    node.command = node.started("second")
    loader.load({"node": "one\n"})
    assert node.loaded == ["one"]


def test_one_node_that_fails_does_not_hinder_another(node: Node) -> None:
    commands = {"broken": ["false"], "node": node.started("first")}
    Loader(commands.get).load({"broken": "one\n", "node": "one\n"})
    assert node.loaded == ["one"]


NODE_WITH_A_CHILD = """
cd "$0"
sleep 60 &
echo $! > init.pid
trap "kill $!; exit" TERM
wait
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a running node in the folder of a cluster."""
    folder = tmp_path / "nodes" / "node"
    folder.mkdir(parents=True)
    process = Process("node", folder)
    process.start(["sh", "-c", NODE_WITH_A_CHILD, str(folder)], os.environ)
    process.wait_until(lambda: bool(_read(folder / "init.pid")), 20)
    yield folder
    process.stop()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_enters_the_namespaces_of_a_running_node(folder: Path) -> None:
    pid = _read(folder / "init.pid").strip()
    command = into_nodes(folder.parent.parent)("node")
    assert command is not None
    assert command[:3] == ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt"]


def test_never_enters_a_process_that_is_no_part_of_the_node(folder: Path) -> None:
    (folder / "init.pid").write_text(str(os.getpid()))
    assert into_nodes(folder.parent.parent)("node") is None


def test_a_node_without_a_folder_is_left_alone(tmp_path: Path) -> None:
    assert into_nodes(tmp_path)("simulated") is None


def test_a_node_that_was_killed_is_down(folder: Path) -> None:
    Process("node", folder).stop()
    assert into_nodes(folder.parent.parent)("node") is None
