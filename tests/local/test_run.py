"""What commands do with a world that another run works on, or that is not there."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from local import run, world
from local.__main__ import main
from local.engine import Engine
from local.errors import LocalError
from local.inventory import Workload
from local.world import Access, World
from stacks.problems import SettingsError
from stacks.settings import Role, Settings

pytestmark = pytest.mark.unit


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Worlds in a folder of the test; which of them were stopped."""
    monkeypatch.setenv("WORLD", str(tmp_path))
    found: list[str] = []
    monkeypatch.setattr(World, "stop", lambda world: found.append(world.folder.name))
    return found


def test_a_refused_policy_run_leaves_the_one_at_work_alone(stopped: list[str]) -> None:
    with (
        run._policy_world("all").locked(),
        pytest.raises(LocalError, match="another run"),
    ):
        run.policy("dev")
    assert stopped == []


@pytest.mark.parametrize(
    ("stack", "judged"),
    [
        ("prod", [("prod", Role.ACTIVE)]),
        ("dr", [("dr", Role.STANDBY), ("dr-promoted", Role.ACTIVE)]),
    ],
)
def test_a_standby_is_judged_as_promoted_too(
    stopped: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stack: str,
    judged: list[tuple[str, Role]],
) -> None:
    found: list[tuple[str, Role]] = []

    def passes(_: str, wanted: Settings, title: str, __: object) -> bool:
        found.append((title, wanted.role))
        return True

    monkeypatch.setattr(run, "_passes", passes)
    assert run.policy(stack) == 0
    assert found == judged


def test_the_engine_is_told_the_role_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the file's: that of `dr` says that it stands by."""
    monkeypatch.setattr(World, "start", lambda *_: Access({}, {"fault-tolerance:operators": {}}))
    monkeypatch.setattr(Engine, "prepare", lambda _, access, __: access)
    promoted = run.load("dr").model_copy(update={"role": Role.ACTIVE})
    started = run._start(run._policy_world("dr"), promoted, run.Phases())
    assert vars(started)["config"] == {
        "fault-tolerance:operators": {},
        "fault-tolerance:role": "active",
    }


def test_down_waits_for_nobody_and_removes_under_its_lock(
    stopped: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("dev", tmp_path / "dev")
    with world.locked(), pytest.raises(LocalError, match="another run"):
        run.down("dev")
    assert (world.folder.exists(), stopped) == (True, [])

    def held(_: World) -> None:
        with pytest.raises(LocalError, match="another run"), world.locked():
            pass
        stopped.append("dev")

    monkeypatch.setattr(World, "stop", held)
    assert run.down("dev") == 0
    assert (world.folder.exists(), stopped) == (False, ["dev"])


def test_down_of_a_stack_that_has_no_world_says_so(
    stopped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.down("dve") == 0
    assert "dve has no local world" in capsys.readouterr().out
    assert stopped == []


def test_down_says_so_where_no_world_is(
    stopped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.down(None) == 0
    assert "there is no local world" in capsys.readouterr().out
    assert stopped == []


@pytest.mark.parametrize("command", [run.down, run.status])
def test_an_empty_stack_does_not_mean_all(
    stopped: list[str], tmp_path: Path, command: Callable[[str | None], int]
) -> None:
    with World("dev", tmp_path / "dev").locked():
        pass
    with pytest.raises(LocalError, match="STACK is empty; it should name a stack"):
        command("")
    assert stopped == []


def test_the_status_of_a_stack_that_there_is_not_names_those_that_there_are(
    stopped: list[str],
) -> None:
    with pytest.raises(SettingsError, match='no stack "nonsense": there are dev, dr, prod'):
        run.status("nonsense")


def test_a_stack_without_a_world_runs_nothing(
    stopped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.status("dev") == 0
    assert "dev runs nothing" in capsys.readouterr().out


def test_giving_up_names_what_is_not_ready_and_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redis = Workload("sim-dev-data", "StatefulSet", "redis", 2, 3, (), (), ())
    assert run._gave_up(World("dev", tmp_path), [redis]) == 1
    said = capsys.readouterr().out
    assert "error not ready after 300 s: StatefulSet sim-dev-data/redis (2/3)" in said
    assert "`make logs SERVICE=… STACK=dev` shows more" in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_error(stopped: list[str], tmp_path: Path, number: int) -> None:
    said = run.explained(OSError(number, "full"))
    assert said.startswith(f"no space left on the disk of {tmp_path} or ")


@pytest.mark.parametrize("name", ["WORLD", "BUILD"])
def test_a_folder_that_is_a_file_is_one_error(
    stopped: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, str(tmp_path / "file"))

    def fail(_: str) -> int:
        if name == "BUILD":
            run._write("up-dev.json", {})
        with World("dev", world.root() / "dev").locked():
            return 0

    monkeypatch.setattr(run, "up", fail)
    assert main(["up", "dev"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/file")
    assert f"{name} ({tmp_path}/file)" in said


def test_other_errors_of_the_system_are_told_as_they_are(stopped: list[str]) -> None:
    with pytest.raises(ConnectionRefusedError):
        run.explained(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))


def test_unknown_providers_are_refused_before_anything_is_started(
    stopped: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDERS", "reel")
    with pytest.raises(LocalError, match="PROVIDERS is 'reel'; it should be real, or be left out"):
        run.preview("dev")


def test_down_deletes_nothing_but_worlds(stopped: list[str], tmp_path: Path) -> None:
    """`WORLD` may be a folder in which somebody keeps more."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with World("dev", tmp_path / "dev").locked():
        pass
    assert run.down(None) == 0
    assert run.down("photos") == 0
    assert stopped == ["dev"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_no_world_is_made_among_other_files(stopped: list[str], tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "thesis.tex").touch()
    with (
        pytest.raises(LocalError, match="dev holds something else.*set WORLD"),
        World("dev", tmp_path / "dev").locked(),
    ):
        pytest.fail("it was taken")
