"""`python -m policies`: what the rules are, and why.

list [--markdown]   every rule, with its severity, and its level in each stack
explain RULE        why, source, remedy, thresholds, a passing and a failing example
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from policies.rule import Rule
from policies.rules import RULES, SUBJECTS

LEVELS = Path(__file__).with_name("levels")
STACKS = ("dev", "staging", "prod", "dr")

_MARKDOWN_HEAD = f"""\
# Policies

What the policy pack in `policies/` holds every declared resource to. The pack works on any
project:

    pulumi preview --policy-pack policies --policy-pack-config policies/levels/prod.json
    pulumi policy analyze --policy-pack policies --file state.json

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
    """Run one command; 0 if it could be done, 2 if it was not understood."""
    parser = argparse.ArgumentParser(prog="python -m policies", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the rules")
    listing.add_argument("--markdown", action="store_true", help="as docs/policies.md has it")
    explain = commands.add_parser("explain", help="explain one rule")
    explain.add_argument("rule", metavar="RULE")
    given = parser.parse_args(arguments)
    if given.command == "list":
        return _print(_markdown() if given.markdown else _table())
    if given.rule not in RULES:
        return _unknown(given.rule)
    return _print(_explanation(RULES[given.rule]))


def _print(lines: Iterator[str]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _unknown(name: str) -> int:
    near = difflib.get_close_matches(name, RULES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `python -m policies list`"
    sys.stderr.write(f"no rule is named {name!r}: {hint}\n")
    return 2


def level(rule: Rule, stack: str) -> str:
    """The rule's level in a stack: its own line, or `all`, in the levels file, or its default."""
    levels = _levels(stack)
    for key in (rule.name, "all"):
        entry = levels.get(key)
        found = entry.get("enforcementLevel") if isinstance(entry, dict) else entry
        if found:
            return str(found)
    return rule.level


@cache
def _levels(stack: str) -> dict[str, object]:
    levels: dict[str, object] = json.loads((LEVELS / f"{stack}.json").read_text(encoding="utf-8"))
    return levels


def _table() -> Iterator[str]:
    width = max(map(len, RULES))
    stacks = "  ".join(f"{stack:9}" for stack in STACKS)
    yield f"{'rule':{width}}  severity  {stacks}".rstrip()
    for subject, rules in SUBJECTS.items():
        yield f"\n{subject}"
        for rule in rules:
            levels = "  ".join(f"{level(rule, stack):9}" for stack in STACKS)
            yield f"{rule.name:{width}}  {rule.severity:8}  {levels}".rstrip()


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
