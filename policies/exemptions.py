"""Exemptions: one resource that may break one rule, because somebody answers for it, until a day.

They stand in the levels file, under the rule's name, so that the engine and `check` read the same:

    "container-limits": {
      "exemptions": [
        {
          "resource": "Deployment/games/legacy-*",
          "owner": "team-matchmaking",
          "reason": "The vendor's image counts CPUs wrongly under a limit.",
          "expires": "2027-01-31"
        }
      ]
    }

A rule that does not fit at all is set to another level, not exempted from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Any

from policies.model import Resource, Undecided
from policies.rule import Finding, Level, Rule, Violation

KEY = "exemptions"
"""Beside a rule's level and thresholds in the levels file."""

FIELDS = {
    "resource": "which resources: Kind/namespace/name, where * stands for any text",
    "owner": "who answers for it",
    "reason": "why the rule may be broken there",
    "expires": "the last day that it holds, as YYYY-MM-DD",
}

SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "description": "Resources that may break the rule, by owner and reason, until a day.",
    "items": {
        "type": "object",
        "properties": {
            name: {"type": "string", "minLength": 1, "description": about}
            for name, about in FIELDS.items()
        },
        "required": list(FIELDS),
        "additionalProperties": False,
    },
}
"""What the engine holds the levels file to."""


@dataclass(frozen=True, eq=False)
class Exemption:
    """One resource, or several of like names, and one rule; `expires` is the last day."""

    rule: Rule
    resource: str
    owner: str
    reason: str
    expires: date

    def covers(self, violation: Violation) -> bool:
        """Whether it is about this violation."""
        return violation.rule.name == self.rule.name and fnmatchcase(
            address(violation.resource), self.resource
        )


def address(resource: Resource) -> str:
    """How exemptions name a resource: ``Deployment/games/web``, ``Namespace/games``.

    What is not an object of Kubernetes goes by its name in the program: ``Bucket/backup``.
    """
    kind = resource.kind.rpartition("/")[2]
    if resource.is_kubernetes:
        try:
            names = (resource.props["metadata"].get("namespace"), resource.object_name)
            return "/".join([kind, *(each for each in names if each)])
        except (Undecided, KeyError, TypeError, AttributeError):
            pass
    return f"{kind}/{resource.name}"


def read(rule: Rule, entries: object) -> list[Exemption]:
    """Read what stands under a rule in the levels file.

    Raises:
        ValueError: if an entry is not complete; names the rule, the entry and what is missing.
    """
    if not isinstance(entries, list):
        raise ValueError(f"{rule.name}: {KEY} is not a list")  # noqa: TRY004 - a user's mistake
    return [_read(rule, number, entry) for number, entry in enumerate(entries)]


def _read(rule: Rule, number: int, entry: object) -> Exemption:
    where = f"{rule.name}: {KEY}[{number}]"
    entry = entry if isinstance(entry, Mapping) else {}
    for name in entry:
        if name not in FIELDS:
            raise ValueError(f"{where}: {name!r} is not one of {', '.join(FIELDS)}")
    for name, about in FIELDS.items():
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise ValueError(f"{where} has no {name} ({about})")
    try:
        expires = date.fromisoformat(entry["expires"])
    except ValueError:
        raise ValueError(
            f"{where}: expires is {entry['expires']!r}, which is no date as YYYY-MM-DD"
        ) from None
    return Exemption(rule, entry["resource"], entry["owner"], entry["reason"], expires)


def today() -> date:
    """The day in UTC, so that an exemption ends at one moment everywhere."""
    return datetime.now(UTC).date()


class Exemptions:
    """The exemptions of one run, and which of them were needed."""

    def __init__(self, exemptions: Iterable[Exemption], day: date) -> None:
        self._all = tuple(exemptions)
        self._day = day
        self._needed: set[Exemption] = set()

    def applied(self, violations: Iterable[Violation]) -> Iterator[Violation]:
        """Leave out what an exemption covers that has not expired."""
        for violation in violations:
            covering = [each for each in self._all if each.covers(violation)]
            self._needed.update(covering)
            if all(self._expired(each) for each in covering):
                yield violation

    def remarks(self, about: Resource) -> Iterator[Violation]:
        """What is wrong with the exemptions, once all violations were seen.

        One that has expired is mandatory to mend, whatever the rule's level; one that covered
        nothing is pointed out. `about` stands for the levels file: what the remarks are shown at.
        """
        for each in self._all:
            if self._expired(each):
                yield _remark(
                    each,
                    about,
                    Level.MANDATORY,
                    f"expired on {each.expires}",
                    "Mend the resource and delete the exemption, or let its owner set a later "
                    "day in the levels file.",
                )
            elif each not in self._needed:
                yield _remark(
                    each,
                    about,
                    Level.ADVISORY,
                    "covers no violation",
                    "Delete it from the levels file, or correct its resource.",
                )

    def _expired(self, exemption: Exemption) -> bool:
        return exemption.expires < self._day


def _remark(
    exemption: Exemption, about: Resource, level: Level, found: str, remedy: str
) -> Violation:
    where = f"exemption of {exemption.resource} from {exemption.rule.name}"
    answers = f"{found} (owner: {exemption.owner}; reason: {exemption.reason})"
    return Violation(exemption.rule, about, Finding(where, answers, remedy), fixed_level=level)
