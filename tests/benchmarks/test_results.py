"""One file holds what all benchmarks measured."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import record

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    return found


def test_a_benchmark_leaves_the_figures_of_others_alone(folder: Path) -> None:
    record(ratios={"one": 1.5}, growth={"walk": [(10, 0.1)]})
    record(ratios={"two": 2.0})
    assert written(folder)["ratios"] == {"one": 1.5, "two": 2.0}
    assert written(folder)["growth"] == {"walk": [[10, 0.1]]}


def test_a_benchmark_that_runs_again_replaces_its_own_figures(folder: Path) -> None:
    record(growth={"walk": [(10, 0.1), (20, 0.2)]})
    record(growth={"walk": [(10, 0.3)]})
    assert written(folder)["growth"] == {"walk": [[10, 0.3]]}


def test_benchmarks_that_end_together_lose_nothing(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: record(ratios={f"r{number}": number}), range(40)))
    assert len(written(folder)["ratios"]) == 40


def test_the_machine_is_named(folder: Path) -> None:
    record()
    assert written(folder)["machine"]["cores"] > 0
