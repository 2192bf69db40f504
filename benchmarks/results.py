"""`build/bench.json`: what all benchmarks measured, each the part that it names."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.run import build_folder

Curve = Sequence[tuple[int, float]]
"""Sizes, and the seconds that each took."""


def record(
    ratios: Mapping[str, float] | None = None, growth: Mapping[str, Curve] | None = None
) -> Path:
    """Put these figures into the file, and leave those of other benchmarks as they are.

    The machine is the one of the last call: figures of two machines do not belong in one file.
    """
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    with (folder / "bench.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        measured: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        merged = {
            "ratios": {**measured.get("ratios", {}), **(ratios or {})},
            "growth": {**measured.get("growth", {}), **(growth or {})},
            "machine": machine(),
        }
        new = path.with_suffix(".new")
        new.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
        new.replace(path)
    return path


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
