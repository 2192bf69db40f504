"""How settings that are right alone, but wrong together, are told.

A rule yields a `Contradiction`: where it shows, what would be right, and which other settings have
a say in it. Pydantic carries it to the loader like any other error, so that every mistake of a
stack file is found in one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Key = tuple[str | int, ...]
"""The way to a setting from the model that judges it, such as ``("replicas", "min")``."""

CONTRADICTION = "contradiction"
"""Pydantic's error type for a `Contradiction`."""


@dataclass(frozen=True)
class Contradiction:
    """Settings that cannot hold together."""

    key: Key
    """The setting to change first."""
    value: object
    """What it is now."""
    remedy: str
    """What would be right and why, in words that follow "it"."""
    others: tuple[Key, ...] = ()
    """The settings that it does not agree with."""


def refuse(title: str, found: Iterable[Contradiction]) -> NoReturn:
    """Raise all contradictions of one model as one pydantic error, each at its own key.

    Raises:
        ValidationError: always.
    """
    raise ValidationError.from_exception_data(title, [_detail(item) for item in found])


def _detail(item: Contradiction) -> InitErrorDetails:
    context: dict[str, Any] = {
        "remedy": item.remedy,
        "others": item.others,
        "depth": len(item.key),
    }
    error = PydanticCustomError(CONTRADICTION, "it {remedy}", context)
    return InitErrorDetails(type=error, loc=item.key, input=item.value)


def repeated(key: Key, names: tuple[str, ...]) -> Iterator[Contradiction]:
    """Name what a list holds twice, at its last place."""
    counts = Counter(names)
    for name in (name for name, count in counts.items() if count > 1):
        last = len(names) - 1 - names[::-1].index(name)
        yield Contradiction((*key, last), name, "should be left out: it is in the list already")
