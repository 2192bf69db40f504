"""Command line of the local world: `python -m local up dev`. The Makefile calls it."""

from __future__ import annotations

import argparse
import errno
import sys

from local import check, run, world
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
    commands.add_parser("test", help=check.__doc__).add_argument("paths", nargs="*")
    given = parser.parse_args(arguments)
    try:
        if given.command == "test":
            return check.test(given.paths)
        code: int = getattr(run, given.command)(given.stack)
    except (LocalError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"error: no space left on the disk of {world.root()} or {run.build_folder()}: make "
            "room and run this again, it goes on where it stopped",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
