"""Custom resource definitions of every operator, wherever its project publishes them."""

from __future__ import annotations

from pathlib import Path

from local.toolchain import build, strimzi
from local.toolchain.build import Say


def files(say: Say, *, every: bool) -> list[Path]:
    """The definitions of what is used, or of every operator of the design.

    Raises:
        LocalError: if they cannot be fetched, or made.
    """
    return [*build.definition_files(say, every=every), *strimzi.definition_files(say)]
