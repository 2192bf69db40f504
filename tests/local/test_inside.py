"""Ways into a world, where there is no world to get into."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import inside
from local.cluster import Cluster
from local.errors import LocalError
from local.world import SIMULATED, World

pytestmark = pytest.mark.unit


def test_a_world_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="stack dev does not run: `make up STACK=dev`"):
        inside.logs(World("dev", tmp_path), "gateway")


def test_simulated_nodes_have_nothing_to_look_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "running", lambda _: {"etcd": 1})
    world = World("dev", tmp_path)
    (tmp_path / "nodes").write_text(SIMULATED)
    with pytest.raises(LocalError, match="simulated, so no container runs"):
        inside.shell(world, "gateway", None)
