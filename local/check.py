"""`make test`: provide every real program that the tests run, run the tests, and say what ran.

A tier of tests is a pytest marker. A tier whose programs cannot be had here fails with the reason;
none is skipped in silence.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from local import supplies, world
from local.errors import LocalError
from local.images import build as images
from local.nodes import host
from local.run import build_folder, say
from local.toolchain import build, packages
from local.world import PROJECT

WORKERS = 4
"""Twice the cores of a small machine: with three, its cores were not busy all the while."""
_ALL_PASSED, _NOTHING_TO_RUN = 0, 5
"""Exit codes of pytest, which is not imported for them: each command would be 0.2 s later."""


def test(paths: Sequence[str]) -> int:
    """Build and fetch what the tests need, then run them; return pytest's exit code."""
    pods = None if host.lacks(world.root()) else supplies.pod_images()
    supplies.ensure(say, pods=pods, definitions_of_all=True, more=list(build.TOOLS))
    redis = packages.ensure_redis(say)
    if pods is not None:
        images.ensure(pods, say)
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": f"{redis}:{os.environ['PATH']}"}

    def run(marker: str, *options: str) -> int:
        command = [sys.executable, "-m", "pytest", "-m", marker, *options, *paths]
        name = f"junit-{marker.replace(' ', '-')}.xml"
        report = f"--junitxml={folder / name}"
        return subprocess.run(
            [*command, report], cwd=PROJECT, env=environment, check=False
        ).returncode

    # A cluster of containers and its databases need the machine for themselves.
    # Files are dealt out in the order of tests/conftest.py.
    dealt = ("-n", str(WORKERS), "--dist=loadfile", "--no-loadscope-reorder")
    codes = [run("not alone", *dealt), run("alone")]
    return _verdict(codes, paths)


def _verdict(codes: Sequence[int], paths: Sequence[str]) -> int:
    """The exit code of all runs; one of them may well find nothing to run.

    Raises:
        LocalError: if none found any test, which is no success.
    """
    if set(codes) == {_NOTHING_TO_RUN}:
        raise LocalError(f"there is no test in {' '.join(paths) or 'tests'}: name a file or folder")
    failed = [code for code in codes if code not in {_ALL_PASSED, _NOTHING_TO_RUN}]
    return failed[0] if failed else 0
