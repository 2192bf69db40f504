"""Bring a whole environment up and down, many times in a row: `python -m drills.soak --times 10`.

Each time everything must become Ready, and afterwards the machine must be as it was before: no
process, mount, control group, link, route or named namespace more, and both ports free again. What
each time took is left in `build/soak.json`. Stops at the first time that is not all well.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from dataclasses import fields

from drills import leftovers
from drills.arguments import repetitions
from drills.leftovers import Host
from local import aws, world
from local.errors import LocalError
from local.run import build_folder, load, say
from local.world import World
from stacks.problems import SettingsError

_UP_SECONDS = 1800
_DOWN_SECONDS = 120


def soak(stack: str, times: int) -> int:
    """Go up and down so many times; 0 if all went well.

    Raises:
        SettingsError: if there is no such stack, or its file is wrong.
        LocalError: if its world exists already: it would be lost.
    """
    load(stack)
    target = world.named(stack)
    if target.folder.exists():
        raise LocalError(
            f"stack {stack} has a world, which would be lost: end it first, with "
            f"`make down STACK={stack}`"
        )
    before = leftovers.look(target.cluster.folder)
    done: list[dict[str, object]] = []
    problems: list[str] = []
    for number in range(1, times + 1):
        start = time.monotonic()
        problems = _command("up", stack, _UP_SECONDS)
        up = time.monotonic() - start
        ports = [] if problems else _ports(target)
        problems += _command("down", stack, _DOWN_SECONDS)
        problems += _left(before, target) + [f"port {port} is taken" for port in _taken(ports)]
        done.append({"up_seconds": round(up, 1), "problems": problems})
        say(f"{number} of {times}: up in {up:.0f} s; {'; '.join(problems) or 'all well'}")
        if problems:
            break
    build_folder().mkdir(parents=True, exist_ok=True)
    (build_folder() / "soak.json").write_text(json.dumps({"stack": stack, "runs": done}, indent=1))
    return 1 if problems else 0


def _command(name: str, stack: str, limit: float) -> list[str]:
    """Run a command of the project; what is wrong, if anything is."""
    command = [sys.executable, "-m", "local", name, stack]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return [f"{name} took longer than {limit:.0f} s"]
    if ended.returncode == 0:
        return []
    return [f"{name} failed: {(ended.stdout + ended.stderr)[-2000:]}"]


def _ports(target: World) -> list[int]:
    """The ports of this machine that a world takes."""
    return [target.cluster.port, int(aws.port_file(target.aws).read_text())]


def _taken(ports: list[int]) -> list[int]:
    """Those on which somebody still listens."""

    def answers(port: int) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    return [port for port in ports if answers(port)]


def _left(before: Host, target: World) -> list[str]:
    """What there is now and was not before."""
    now = leftovers.look(target.cluster.folder)
    return [
        f"left behind, {field.name}: {', '.join(sorted(more))}"
        for field in fields(Host)
        if (more := getattr(now, field.name) - getattr(before, field.name))
    ]


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m drills.soak", description=__doc__)
    parser.add_argument("--times", type=repetitions, default=10)
    parser.add_argument("--stack", default="dev")
    given = parser.parse_args()
    try:
        return soak(given.stack, given.times)
    except (LocalError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
