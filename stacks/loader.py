"""Read a stack's settings: from its file and the catalogue, or from a given configuration.

The configuration is a flat mapping of full keys, as in a stack file: `fault-tolerance:zones`. The
region is the one setting with a key outside our namespace: `aws:region`, which the provider reads
too. Services and topics come from the catalogue; a stack file's own `services` and `topics` are
merged over it, one by one and key by key, and every other section over its defaults in the same
way. A list or a plain value replaces what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stacks.contradictions import Contradiction, Key
from stacks.document import Document, Place, Unreadable, read, spell
from stacks.problems import Problem, SettingsError, nearest, show, suggestion
from stacks.settings import Settings
from stacks.validation import Schema, expected, holds, mistakes, schema

NAMESPACE: Final = "fault-tolerance"
"""Name of the project in Pulumi.yaml, and so the namespace of its configuration."""

ROOT: Final = Path(__file__).resolve().parent.parent
"""The project's folder, which holds Pulumi.yaml."""

FOLDER: Final = "stacks"
REGION: Final = "aws:region"
CATALOGUE: Final = "catalogue"
DEFAULT_CATALOGUE: Final = "catalogue.yaml"

_SHARED: Final = ("services", "topics")
"""What the catalogue holds; services it must hold."""

_CATALOGUE_SCHEMA: Final[Schema] = {
    "type": "string",
    "default": DEFAULT_CATALOGUE,
    "description": "File in stacks/ with the services and topics of every stack.",
    "expects": "a YAML file in stacks/ with services and topics, such as catalogue.yaml",
}

_SECTIONS: Final = ("config", "environment", "secretsprovider", "encryptedkey", "encryptionsalt")
"""What the engine knows at the top of a stack file."""

_NAMESPACES: Final = (NAMESPACE, "aws", "kubernetes", "pulumi", "random")
"""Namespaces of which a near miss is a slip, not somebody else's."""


def stack_file(stack: str, root: Path = ROOT) -> Path:
    """Where the engine looks for a stack's configuration."""
    return root / FOLDER / f"Pulumi.{stack}.yaml"


def file_name(stack: str) -> str:
    """A stack's file as a person names it."""
    return f"{FOLDER}/Pulumi.{stack}.yaml"


def stacks(root: Path = ROOT) -> list[str]:
    """Names of the stacks that have a file, sorted."""
    files = (root / FOLDER).glob("Pulumi.*.yaml")
    return sorted(file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in files)


def require(stack: str, root: Path = ROOT) -> None:
    """Refuse a stack that has no file.

    Raises:
        SettingsError: naming those that have one.
    """
    known = stacks(root)
    if stack not in known:
        what = f"no stack {show(stack)}: there are {', '.join(known) or 'none'}"
        meant = nearest(stack, known)
        raise SettingsError(
            [Problem("", None, "", f"{what}; did you mean {meant}?" if meant else what)]
        )


def from_file(stack: str, root: Path = ROOT) -> Settings:
    """Read the settings of a stack from its file, without the engine.

    Raises:
        SettingsError: with everything that is wrong, if anything is.
    """
    require(stack, root)
    document = read(stack_file(stack, root), file_name(stack), engine=True)
    return load(document.value.get("config") or {}, document, root)


def load(config: object, document: Document, root: Path = ROOT) -> Settings:
    """Judge a configuration and make settings of it.

    Args:
        config: full keys and their values, as under `config` in a stack file.
        document: the stack file, for the lines that errors name and for what is wrong in it
            beside the configuration; without content where there is no such file.
        root: the project's folder, where the catalogue is looked up.

    Raises:
        SettingsError: with everything that is wrong, if anything is.
    """
    problems = [*document.problems, *_sections(document)]
    if isinstance(config, Unreadable):
        raise SettingsError(problems)
    if not isinstance(config, Mapping):
        what = f"is {show(config)}; it should be a mapping from keys such as {NAMESPACE}:zones"
        line = document.lines.get(("config",))
        raise SettingsError([*problems, Problem(document.name, line, "config", what)])
    try:
        catalogue = _catalogue(config, document, root)
    except SettingsError as error:
        problems += error.problems
        catalogue = None
    sources = _Sources(document, catalogue or Document(""))
    problems += [*sources.catalogue.problems, *_keys(config, sources)]
    draft = _draft(config, catalogue)
    problems += [sources.problem(each.key, each.what, each.others) for each in mistakes(draft)]
    if problems:
        raise SettingsError(problems)
    return Settings.model_validate(draft)


def refusal(
    found: Iterable[Contradiction],
    config: Mapping[str, object],
    document: Document,
    root: Path = ROOT,
) -> SettingsError:
    """Tell contradictions that show only beside something else, as `load` tells its own.

    Args:
        found: with keys of the whole stack.
        config: the configuration that was loaded.
        document: the stack file, as for `load`.
        root: the project's folder.
    """
    sources = _Sources(document, _catalogue(config, document, root))
    return SettingsError(
        sources.problem(
            item.key,
            f"is {'missing' if item.value is None else show(item.value)}; it {item.remedy}",
            item.others,
        )
        for item in found
    )


def declared() -> dict[str, Schema]:
    """Every key of our namespace, and the JSON schema of its value."""
    known = {name: part for name, part in schema()["properties"].items() if name != "region"}
    return {**known, CATALOGUE: _CATALOGUE_SCHEMA}


@dataclass(frozen=True)
class _Sources:
    """The files that a configuration came from, to say where each setting stands."""

    stack: Document
    catalogue: Document

    def problem(self, key: Key, what: str, others: tuple[Key, ...] = ()) -> Problem:
        """Place a finding about a setting in the file and line that it came from.

        One that no file says is a default: then the line is that of another which does not agree.
        """
        own = _own(key)
        depth, line = _deepest(self.stack.lines, own, top=2)
        shared_depth, shared_line = _deepest(self.catalogue.lines, key, top=2)
        if shared_line is not None and shared_depth > depth - 1:
            return Problem(self.catalogue.name, shared_line, spell(key), what)
        if line is None:
            said = (self.stack.lines.get(_own(other)) for other in others)
            line = next(filter(None, said), None)
        return Problem(self.stack.name, line, spell(own), what)


def _own(key: Key) -> Place:
    """Where a stack file says a setting."""
    return ("config", REGION if key[0] == "region" else f"{NAMESPACE}:{key[0]}", *key[1:])


def _deepest(lines: Mapping[Place, int], place: Place, top: int) -> tuple[int, int | None]:
    """How far into a place a file reaches, at least to `top`, and the line there."""
    for depth in range(len(place), top - 1, -1):
        if place[:depth] in lines:
            return depth, lines[place[:depth]]
    return 0, None


def _sections(document: Document) -> Iterator[Problem]:
    for key in document.value:
        if key not in _SECTIONS:
            what = f"is not known at the top of a stack file; {suggestion(key, _SECTIONS)}"
            yield Problem(document.name, document.lines.get((key,)), key, what)


def _keys(config: Mapping[str, object], sources: _Sources) -> Iterator[Problem]:
    """Keys that nobody would read."""
    for key in config:
        namespace, colon, name = key.partition(":")
        if not colon:
            what = f"should have a namespace: {_meant(key)}"
        elif namespace == NAMESPACE and name == "region":
            what = f"is not known; the region is {REGION}, which the provider reads too"
        elif namespace == NAMESPACE and name not in declared():
            what = f"is not known; {_meant(name)}"
        elif namespace not in _NAMESPACES and (meant := nearest(namespace, _NAMESPACES)):
            what = f"is in a namespace that nobody reads; did you mean {meant}:{name}?"
        else:
            continue
        line = sources.stack.lines.get(("config", key))
        yield Problem(sources.stack.name, line, key, what)


def _meant(name: str) -> str:
    return suggestion(name, declared(), prefix=f"{NAMESPACE}:")


def _draft(config: Mapping[str, object], catalogue: Document | None) -> dict[str, object]:
    """The configuration as the models take it. Unknown keys are left out: they are told apart."""
    draft: dict[str, object] = {}
    for name, part in schema()["properties"].items():
        full = REGION if name == "region" else f"{NAMESPACE}:{name}"
        if full in config:
            draft[name] = _merged(part.get("default"), _typed(part, config[full]))
    if catalogue is None:
        return {**draft, "services": {}}
    return {
        **draft,
        **{part: _merged(catalogue.value.get(part, {}), draft.get(part, {})) for part in _SHARED},
    }


def _typed(part: Schema, value: object) -> object:
    """The engine writes plain values as strings: ``protect: "false"`` means false."""
    if holds(part, "boolean") and isinstance(value, str):
        return {"true": True, "false": False}.get(value, value)
    return value


def _merged(base: object, over: object) -> object:
    """Lay a value over another: mappings key by key, so that a file says only what differs."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    both = {key: _merged(base[key], over[key]) for key in base.keys() & over.keys()}
    return {**base, **over, **both}


def _catalogue(config: Mapping[str, object], document: Document, root: Path) -> Document:
    """Read the catalogue that a configuration names.

    Raises:
        SettingsError: if there is no such file, or it holds no catalogue.
    """
    key = f"{NAMESPACE}:{CATALOGUE}"
    name = config.get(key, DEFAULT_CATALOGUE)
    if isinstance(name, Unreadable):
        raise SettingsError(())  # told already
    if not isinstance(name, str) or not _is_file(root / FOLDER / name):
        what = f"is {show(name)}; it should be {expected(_CATALOGUE_SCHEMA)}"
        line = document.lines.get(("config", key))
        raise SettingsError([Problem(document.name, line, key, what)])
    found = read(root / FOLDER / name, f"{FOLDER}/{name}")
    problems = [
        Problem(
            found.name, found.lines[(other,)], other, f"is not known; {suggestion(other, _SHARED)}"
        )
        for other in found.value
        if other not in _SHARED
    ]
    for part in _SHARED:
        named = found.value.get(part, None if part == "services" else {})
        if not isinstance(named, Mapping | Unreadable):
            what = f"is {show(named)}; it should be a mapping of names to {part}"
            problems.append(Problem(found.name, found.lines.get((part,)), part, what))
    if problems:
        raise SettingsError([*found.problems, *problems])
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
