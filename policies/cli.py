"""`python -m policies`: judge manifests, states or a cluster; what the rules are, and why.

check FILE|FOLDER|-…   judge manifests, or states; --cluster: judge what a cluster runs
list [--markdown]      every rule: severity, level in each stack, kinds of resources
explain RULE           why, source, remedy, options, a passing and a failing example
survival FILE…         what survives the loss of a server, a node, a zone, the region [--json]
parity FIRST SECOND    whether SECOND mirrors FIRST [--rehearsal: at any size, in any region]

A FILE is manifests (YAML, JSON) or a state (`pulumi stack export --file prod.json`).

Exit code: 0; 1 if a mandatory rule is broken, or SECOND does not mirror FIRST; 2 if the command was
not understood, or something could not be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from policies import coverage, declared, parity, survival
from policies.check import check
from policies.configuration import Configuration, ConfigurationError, nearest, read
from policies.exemptions import today
from policies.formats import FORMATS
from policies.rule import Level, Rule
from policies.rules import RULES, SUBJECTS
from policies.sources import UnreadableError, from_cluster, from_files
from policies.world import World

LEVELS = Path(__file__).with_name("levels")
STACKS = ("dev", "staging", "prod", "dr")

_MARKDOWN_HEAD = f"""\
# Policies

What the policy pack in `policies/` holds every declared resource to. The pack works on any
project:

    pulumi preview --policy-pack policies --policy-pack-config policies/levels/prod.json
    pulumi policy analyze --policy-pack policies --file state.json
    python -m policies check manifests/ --levels policies/levels/prod.json
    python -m policies check --cluster

[ci.md](ci.md) has ready workflows, SARIF and JUnit, and how to exempt a resource from a rule until
a day; [checkers.md](checkers.md) compares with other checkers.

`mandatory` stops the update, `advisory` is shown; the levels and thresholds of each stack are in
`policies/levels/`. `python -m policies explain RULE` shows the reason, the remedy, a passing and
a failing example.

- Rules marked *resource* are judged before the resource is created; those marked *stack* once all
  resources are declared, because they compare several. Both see what the program declares, not
  what the API server fills in.
- What a preview cannot know yet, or must not show because it is secret, is never guessed and never
  printed. A rule that needs such a value says so, as advisory, in the preview. The update judges
  again with what is known then: per resource before it is created, per stack at the end.

This page is made by `python -m policies list --markdown`: {len(RULES)} rules.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if it could be done; for `check`, 1 if a mandatory rule is broken; 2 if it was not
        understood, or something could not be read.
    """
    given = _parser().parse_args(arguments)
    commands = {"check": _check, "survival": _survival, "parity": _parity}
    if given.command in commands:
        try:
            return commands[given.command](given)
        except (OSError, ValueError) as mistake:
            return _refuse([str(mistake)])
    if given.command == "list":
        return _print(_markdown() if given.markdown else _table())
    if given.rule not in RULES:
        hint = nearest(given.rule, RULES) or ": see `python -m policies list`"
        return _refuse([f"no rule is named {given.rule!r}{hint}"])
    return _print(_explanation(RULES[given.rule]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m policies", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    check_command = commands.add_parser("check", help="judge manifests or a cluster")
    add = check_command.add_argument
    add("paths", metavar="PATH", nargs="*", help="a file, a folder, or - for standard input")
    add("--cluster", action="store_true", help="what a cluster runs, read with kubectl")
    add("--context", help="of the kubeconfig, for --cluster; its current one if not given")
    add("--namespace", default="default", help="of objects that name none")
    add("--levels", type=Path, metavar="FILE", help="levels, thresholds and exemptions")
    add("--format", choices=FORMATS, default="text")
    add("--output", type=Path, metavar="FILE", help="write there instead of to standard output")
    listing = commands.add_parser("list", help="list the rules")
    listing.add_argument("--markdown", action="store_true", help="as docs/policies.md has it")
    explain = commands.add_parser("explain", help="explain one rule")
    explain.add_argument("rule", metavar="RULE")
    survive = commands.add_parser("survival", help="what survives which loss")
    survive.add_argument("files", metavar="FILE", nargs="+", type=Path)
    survive.add_argument(
        "--json", action="store_true", help="as build/survival-<stack>.json has it"
    )
    mirror = commands.add_parser("parity", help="whether one stack mirrors another")
    mirror.add_argument("first", metavar="FIRST", type=Path)
    mirror.add_argument("second", metavar="SECOND", type=Path)
    mirror.add_argument("--rehearsal", action="store_true", help="at any size, in any region")
    return parser


def _survival(given: argparse.Namespace) -> int:
    world = World(each for file in given.files for each in declared.from_file(file))
    if given.json:
        return _print(iter([json.dumps(survival.written(world), indent=2)]))
    return _print(survival.table(world))


def _parity(given: argparse.Namespace) -> int:
    first, second = (
        parity.Side.read(path, declared.from_file(path)) for path in (given.first, given.second)
    )
    relation = parity.Relation.REHEARSAL if given.rehearsal else parity.Relation.STANDBY
    found = parity.differences(first, second, relation)
    _print(line for each in found for line in each.lines())
    return 1 if found else 0


def _check(given: argparse.Namespace) -> int:
    if bool(given.paths) == given.cluster:
        return _refuse(["check: name files or folders (- for standard input), or give --cluster"])
    try:
        configuration = read(given.levels, RULES) if given.levels else Configuration()
        found, mistakes = from_files(given.paths)
        if given.cluster:
            found += from_cluster(given.context)
    except (ConfigurationError, UnreadableError) as mistake:
        return _refuse([str(mistake)])
    if mistakes and not found:
        return _refuse(mistakes)
    report = check(found, RULES.values(), configuration, today(), given.namespace)
    written = FORMATS[given.format](report)
    try:
        if given.output:
            given.output.write_text(written, encoding="utf-8")
        else:
            sys.stdout.write(written)
    except OSError as problem:
        return _refuse([f"{given.output}: {problem.strerror}"])
    if mistakes:
        return _refuse(mistakes)
    return 1 if report.mandatory else 0


def _print(lines: Iterator[str]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _refuse(mistakes: Sequence[str]) -> int:
    sys.stderr.writelines(f"{each}\n" for each in mistakes)
    return 2


def level(rule: Rule, stack: str) -> Level:
    """The rule's level in a stack: its own line, or `all`, in the levels file, or its default."""
    return _configuration(stack).level(rule)


@cache
def _configuration(stack: str) -> Configuration:
    return read(LEVELS / f"{stack}.json", RULES)


def _table() -> Iterator[str]:
    width = max(map(len, RULES))
    stacks = "  ".join(f"{stack:9}" for stack in STACKS)
    yield f"{'rule':{width}}  severity  {stacks}  kinds"
    for subject, rules in SUBJECTS.items():
        yield f"\n{subject}"
        for rule in rules:
            levels = "  ".join(f"{level(rule, stack):9}" for stack in STACKS)
            kinds = ", ".join(each.rpartition("/")[2] for each in rule.kinds)
            yield f"{rule.name:{width}}  {rule.severity:8}  {levels}  {kinds}"


def _markdown() -> Iterator[str]:
    yield from _MARKDOWN_HEAD.splitlines()
    for subject, rules in SUBJECTS.items():
        yield f"\n## {subject.capitalize()}\n"
        yield f"| rule | severity | judged per | {' | '.join(STACKS)} | why | remedy |"
        yield "|---" * (5 + len(STACKS)) + "|"
        for rule in rules:
            levels = " | ".join(level(rule, stack) for stack in STACKS)
            why = f"{_cell(rule.why)} [source]({rule.source})"
            yield (
                f"| `{rule.name}` | {rule.severity} | {rule.scope} | {levels} "
                f"| {why} | {_cell(rule.remedy)} |"
            )
    yield from coverage.markdown()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _explanation(rule: Rule) -> Iterator[str]:
    yield f"{rule.name} ({rule.severity})"
    yield from textwrap.wrap(rule.why, 98)
    yield f"\nSource:  {rule.source}"
    yield f"Remedy:  {rule.remedy}"
    yield f"Levels:  {', '.join(f'{stack} {level(rule, stack)}' for stack in STACKS)}"
    for name, option in rule.options.items():
        yield f"Option:  {name} = {json.dumps(option.default)}: {option.about}"
    yield "\nExamples, as changes to policies/baseline.yaml:"
    yield "\n  passes\n"
    yield from _indented(rule.passing)
    yield "\n  fails\n"
    yield from _indented(rule.failing)


def _indented(text: str) -> list[str]:
    return textwrap.indent(textwrap.dedent(text).strip(), "    ").splitlines()
