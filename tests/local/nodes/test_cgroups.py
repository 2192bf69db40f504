"""Control groups of both versions, on trees of plain files that look as the kernel's do."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.nodes.cgroups import NEEDED, Cgroup, lacking

CLUSTER = Path("/somewhere/cluster")


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    for name in (*NEEDED, "freezer"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0\n")
    return tmp_path


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    for level in ("", *_levels()):
        (tmp_path / level).mkdir(exist_ok=True)
        (tmp_path / level / "cgroup.controllers").write_text("cpu cpuset io memory pids\n")
    return tmp_path


def _levels() -> tuple[str, str]:
    path = Cgroup(CLUSTER, "a-1").path.strip("/")
    return path.split("/")[0], path


def test_a_node_has_a_group_in_every_hierarchy_of_version_1(version_1: Path) -> None:
    group = Cgroup(CLUSTER, "a-1", version_1)
    group.create()
    assert [file.parent.is_dir() for file in group.adopt_files()] == [True] * 5


def test_a_group_of_version_1_may_use_the_cpus_of_its_parent(version_1: Path) -> None:
    group = Cgroup(CLUSTER, "a-1", version_1)
    own = version_1 / "cpuset" / group.path.strip("/")
    own.mkdir(parents=True)
    for level in (own.parent, own):
        (level / "cpuset.cpus").write_text("\n")
    group.create()
    assert (own / "cpuset.cpus").read_text() == "0-1\n"


def test_groups_of_version_2_hand_their_controllers_down(version_2: Path) -> None:
    group = Cgroup(CLUSTER, "a-1", version_2)
    group.create()
    for level in ("", *_levels()):
        handed = (version_2 / level / "cgroup.subtree_control").read_text()
        assert handed == "+cpu +cpuset +memory +pids"


def test_a_node_of_version_2_lives_in_one_tree(version_2: Path) -> None:
    group = Cgroup(CLUSTER, "a-1", version_2)
    assert group.adopt_files() == [version_2 / group.path.strip("/") / "system" / "cgroup.procs"]


def made(request: pytest.FixtureRequest, version: str, file: str) -> tuple[Cgroup, Path]:
    """A node's groups in the tree of a version, and one of their files; `{}` is the node's path."""
    root: Path = request.getfixturevalue(version)
    group = Cgroup(CLUSTER, "a-1", root)
    group.create()
    return group, root / file.format(group.path).lstrip("/")


@pytest.mark.parametrize(
    ("version", "file", "frozen", "thawed"),
    [
        ("version_1", "freezer{}/freezer.state", "FROZEN", "THAWED"),
        ("version_2", "{}/cgroup.freeze", "1", "0"),
    ],
)
def test_a_node_freezes_and_thaws(
    request: pytest.FixtureRequest, version: str, file: str, frozen: str, thawed: str
) -> None:
    group, switch = made(request, version, file)
    group.freeze(frozen=True)
    assert switch.read_text() == frozen
    group.freeze(frozen=False)
    assert switch.read_text() == thawed


@pytest.mark.parametrize(
    ("version", "file", "lifted"),
    [
        ("version_1", "memory{}/memory.limit_in_bytes", "-1"),
        ("version_2", "{}/memory.max", "max"),
    ],
)
def test_memory_is_capped_and_the_cap_lifted(
    request: pytest.FixtureRequest, version: str, file: str, lifted: str
) -> None:
    group, limit = made(request, version, file)
    group.limit_memory(2**30)
    assert limit.read_text() == str(2**30)
    group.limit_memory(None)
    assert limit.read_text() == lifted


@pytest.mark.parametrize(
    ("version", "file", "last", "usual"),
    [
        ("version_1", "cpu{}/cpu.shares", "2", "1024"),
        ("version_2", "{}/cpu.weight", "1", "100"),
    ],
)
def test_a_node_comes_last_for_the_cpu_and_then_as_all_others(
    request: pytest.FixtureRequest, version: str, file: str, last: str, usual: str
) -> None:
    group, weight = made(request, version, file)
    weight.write_text(usual)  # the kernel's own
    group.yield_cpu(last=True)
    assert weight.read_text() == last
    group.yield_cpu(last=False)
    assert weight.read_text() == usual


def test_two_clusters_have_groups_of_their_own() -> None:
    assert Cgroup(CLUSTER, "a-1").path != Cgroup(CLUSTER / "other", "a-1").path


def test_removing_takes_what_pods_left_behind(tmp_path: Path) -> None:
    for name in NEEDED:
        (tmp_path / name).mkdir()
    group = Cgroup(CLUSTER, "a-1", tmp_path)
    group.create()
    (tmp_path / "memory" / group.path.strip("/") / "kubepods" / "pod1").mkdir(parents=True)
    group.remove()
    assert [list(tree.iterdir()) for tree in sorted(tmp_path.iterdir())] == [[]] * len(NEEDED)


def test_a_missing_controller_is_named(version_1: Path) -> None:
    (version_1 / "pids").rmdir()
    assert lacking(version_1) == ["pids"]
