"""Command line of the local world: `python -m local up dev`. The Makefile calls it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from local import check, run
from local.errors import LocalError
from stacks.problems import SettingsError


def main(arguments: list[str]) -> int:
    """Run one command; a mistake of the user's ends in one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m local", description=run.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "preview", "policy"):
        commands.add_parser(name, help=getattr(run, name).__doc__).add_argument("stack")
    for name in ("status", "down"):
        commands.add_parser(name, help=getattr(run, name).__doc__).add_argument("stack", nargs="?")
    for name in ("psql", "redis-cli"):
        command = commands.add_parser(name, help=_function(name).__doc__)
        command.add_argument("stack")
        command.add_argument("command_line", nargs="?", metavar="command")
    command = commands.add_parser("logs", help=run.logs.__doc__)
    command.add_argument("stack")
    command.add_argument("service")
    command = commands.add_parser("shell", help=run.shell.__doc__)
    command.add_argument("stack")
    command.add_argument("--service")
    command.add_argument("--node")
    commands.add_parser("test", help=check.__doc__).add_argument("paths", nargs="*")
    given = parser.parse_args(arguments)
    try:
        if given.command == "test":
            return check.test(given.paths)
        words = {key: value for key, value in vars(given).items() if key != "command"}
        code: int = _function(given.command)(*words.values())
    except (LocalError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {run.explained(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return code


def _function(command: str) -> Callable[..., int]:
    """The function of `run` that a command stands for."""
    found: Callable[..., int] = getattr(run, command.replace("-", "_"))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
