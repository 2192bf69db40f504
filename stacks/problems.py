"""Mistakes in a stack's configuration, and how a person is told of them.

Detection fills in a `Problem`; everything about wording, order and what must not be shown is here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

_LONGEST_VALUE: Final = 60

_SECRET_KEY: Final = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|private|api[-_]?key|access[-_]?key",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"-----BEGIN|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{10,}\.|\bgh[pousr]_\w{20,}|\bxox[a-z]-"
    r"|://[^/\s:@]+:[^/\s@]+@"
    r"|^(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{32,}$"
)


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what it is, and what would be right."""

    file: str
    """The file as a person names it, such as ``stacks/Pulumi.dev.yaml``; empty if there is none."""
    line: int | None
    """Line in the file, from 1; None where the value did not come from it."""
    key: str
    """The full key, such as ``fault-tolerance:zones``; empty if the whole file is meant."""
    what: str
    """The finding and the remedy, in words that follow the key."""

    def __str__(self) -> str:
        """One line that editors and terminals can follow: ``file:line: key …``."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = (place and f"{place}:", self.key, self.what)
        return printable(" ".join(part for part in parts if part))


class SettingsError(Exception):
    """Everything that is wrong with a stack's settings, found in one pass."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda p: (p.file, p.line or 0, p.key, p.what))
        super().__init__(render(self.problems))


def render(problems: Sequence[Problem]) -> str:
    """Write all problems for a person, one a line."""
    if len(problems) == 1:
        return str(problems[0])
    return "\n".join([f"{len(problems)} settings are wrong:", *(f"  {p}" for p in problems)])


def show(value: object, key: str = "") -> str:
    """Write a value as a stack file would have it, on one short line; never what looks secret."""
    match value:
        case SecretStr():
            text = "(encrypted)"
        case None:
            text = "empty"
        case dict():
            text = "a mapping" if value else "an empty mapping"
        case list():
            text = f"[{', '.join(_plain(item, key) for item in value)}]"
        case _ if hidden(key, str(value)):
            text = "(not shown: it looks like a secret)"
        case _:
            text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"a list of {len(value)}" if isinstance(value, list) else f"{text[:_LONGEST_VALUE]}…"


def hidden(key: str, value: str) -> bool:
    """Whether key or value looks like a secret, which no log may hold."""
    return bool(_SECRET_KEY.search(key) or _SECRET_VALUE.search(value))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if one is near."""
    found = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all there are."""
    known = sorted(known)
    if meant := nearest(word, known):
        return f"did you mean {prefix}{meant}?"
    return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"


def printable(text: str) -> str:
    """Text that any terminal takes: control characters and lone surrogates are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _plain(item: object, key: str) -> str:
    return item if isinstance(item, str) and not hidden(key, item) else show(item, key)
