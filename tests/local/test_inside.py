"""Ways into a world, where there is no world to get into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from local import inside
from local.cluster import Cluster
from local.errors import LocalError
from local.world import SIMULATED, World
from stacks import loader

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "enter",
    [
        lambda world: inside.psql(world, loader.from_file("dev"), None),
        lambda world: inside.redis_cli(world, loader.from_file("dev"), None),
        lambda world: inside.logs(world, "gateway"),
        lambda world: inside.shell(world, None, None),
    ],
    ids=["psql", "redis-cli", "logs", "shell"],
)
def test_a_world_that_does_not_run_is_named(tmp_path: Path, enter: Callable[[World], int]) -> None:
    with pytest.raises(LocalError, match="stack dev does not run: `make up STACK=dev`"):
        enter(World("dev", tmp_path))


def test_simulated_nodes_have_nothing_to_look_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "running", lambda _: {"etcd": 1})
    world = World("dev", tmp_path)
    (tmp_path / "nodes").write_text(SIMULATED)
    with pytest.raises(LocalError, match="simulated, so no container runs"):
        inside.shell(world, "gateway", None)


def test_quotes_keep_a_word_for_redis_together() -> None:
    assert inside._words("set key 'two words'") == ["set", "key", "two words"]


def test_a_quote_for_redis_that_does_not_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="C is 'get \"key', in which .* No closing quotation"):
        inside.redis_cli(World("dev", tmp_path), loader.from_file("dev"), 'get "key')


def test_logs_that_cannot_all_be_had_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = [{"metadata": {"namespace": "core", "name": name}} for name in ("starts", "runs")]
    monkeypatch.setattr(inside, "_pods", lambda *_: pods)
    monkeypatch.setattr(inside, "_kubectl", lambda *words: ["test", words[3], "=", "runs"])
    assert inside.logs(World("dev", tmp_path), "gateway") == 1
