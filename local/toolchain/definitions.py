"""Custom resource definitions of every operator, wherever its project publishes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from local.files import write_whole
from local.toolchain import build, strimzi
from local.toolchain.build import Say
from policies.documents import read


def files(say: Say, *, every: bool) -> list[Path]:
    """The definitions of what is used, or of every operator of the design.

    Raises:
        LocalError: if they cannot be fetched, or made.
    """
    return [*build.definition_files(say, every=every), *strimzi.definition_files(say)]


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML file.

    What came of reading it is kept in the cache: for what is used, that takes 0.8 s of processor
    at each command, and what was kept 0.02 s.
    """
    content = path.read_bytes()
    kept = build.cache_folder() / "definitions" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps([body for _, body in read(content)], default=str))
    known: list[dict[str, Any]] = json.loads(kept.read_bytes())
    return known
