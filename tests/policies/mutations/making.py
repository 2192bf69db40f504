"""Making mutants: a stack as it ships, with one weakness put into one of its resources.

A `Mutation` takes a `World` and yields one `Mutant` for each place where its weakness can be put.
Most are built from two parts: what changes a resource (`put`, `drop`, `container(…)`), and which
resources are changed (`each`). A change that leaves a resource as it was makes no mutant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from policies import manifests
from policies.model import Opaque, Resource, text
from policies.rules import RULES
from policies.world import World

Props = dict[str, Any]
Change = Callable[[Props], object]
"""Changes properties in place."""
When = Callable[[Resource, World], object]
"""Whether a resource is one that the rule is about."""

CONTAINERS = "containers"
NOBODY = {"app.kubernetes.io/name": "nobody"}
"""Labels that no Pod has."""


@dataclass(frozen=True)
class Mutant:
    """A weak stack, and the resource that was made weak."""

    place: str
    resources: tuple[Resource, ...]


Mutation = Callable[[World], Iterator[Mutant]]
Table = dict[str, tuple[Mutation, ...]]
"""The mutations that a rule must catch, by the rule's name."""


# What is changed --------------------------------------------------------------------------------


def put(path: str, value: object) -> Change:
    """Set a field; what the way leads through is made where it is missing."""

    def change(props: Props) -> None:
        *way, last = path.split(".")
        for key in way:
            found = props.get(key)
            if not isinstance(found, dict):
                found = props[key] = {}
            props = found
        props[last] = copied(value)

    return change


def drop(*paths: str) -> Change:
    """Remove fields."""

    def change(props: Props) -> None:
        for path in paths:
            *way, last = path.split(".")
            holder: Any = props
            for key in way:
                holder = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(holder, dict):
                holder.pop(last, None)

    return change


def all_of(*changes: Change) -> Change:
    """Several changes at once."""

    def change(props: Props) -> None:
        for one in changes:
            one(props)

    return change


def pod(*changes: Change) -> Change:
    """Changes of the Pod's spec, whatever makes the Pods."""

    def change(props: Props) -> None:
        spec = pod_spec(props)
        for one in changes:
            one(spec)

    return change


def container(*changes: Change, at: int = 0) -> Change:
    """Changes of one of the Pod's containers."""

    def change(props: Props) -> None:
        for one in changes:
            one(pod_spec(props)[CONTAINERS][at])

    return change


def replaced(path: str, change_text: Callable[[str], str]) -> Change:
    """Rewrite a text, such as a configuration file in a ConfigMap, where there is one."""

    def change(props: Props) -> None:
        written = text(props, *path.split("/"))
        if written:
            *way, last = path.split("/")
            for key in way:
                props = props[key]
            props[last] = change_text(written)

    return change


def pod_spec(props: Props) -> Props:
    """The Pod's spec within a workload's properties."""
    spec: Props = props["spec"]
    spec = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    found: Props = spec["template"]["spec"] if "template" in spec else spec
    return found


# Where it is changed ----------------------------------------------------------------------------


def each(kinds: tuple[str, ...] | str, change: Change, when: When | None = None) -> Mutation:
    """One mutant for each resource of the kinds, changed."""

    def mutants(world: World) -> Iterator[Mutant]:
        for resource in _subjects(world, kinds, when):
            props = copied(resource.props)
            change(props)
            if not same(props, resource.props):
                yield _with(world, resource, replace(resource, props=props))

    return mutants


def removed(kinds: tuple[str, ...] | str, when: When | None = None) -> Mutation:
    """One mutant for each resource of the kinds, left out."""

    def mutants(world: World) -> Iterator[Mutant]:
        for resource in _subjects(world, kinds, when):
            yield _with(world, resource)

    return mutants


def without(
    kinds: tuple[str, ...] | str, those: Callable[[Resource, World], list[Resource]]
) -> Mutation:
    """One mutant for each resource of the kinds, without those others that belong to it."""

    def mutants(world: World) -> Iterator[Mutant]:
        for resource in _subjects(world, kinds, None):
            gone = {other.urn for other in those(resource, world)}
            if gone:
                left = (other for other in world.resources if other.urn not in gone)
                yield Mutant(resource.name, tuple(left))

    return mutants


def doubled(
    kinds: tuple[str, ...] | str, change: Change | None = None, when: When | None = None
) -> Mutation:
    """One mutant for each resource of the kinds: a second one like it, under another name."""

    def mutants(world: World) -> Iterator[Mutant]:
        for resource in _subjects(world, kinds, when):
            props = copied(resource.props)
            put("metadata.name", f"{text(props, 'metadata', 'name')}-again")(props)
            if change:
                change(props)
            second = manifests.resource(props, "mutant") if "kind" in props else resource
            yield _with(world, resource, resource, second)

    return mutants


def of_version(kinds: tuple[str, ...] | str, old: str, new: str) -> Mutation:
    """One mutant for each resource of the kinds, declared in an older version of its API."""

    def mutants(world: World) -> Iterator[Mutant]:
        for resource in _subjects(world, kinds, None):
            if f":{new}:" in resource.type:
                token = resource.type.replace(f":{new}:", f":{old}:")
                yield _with(world, resource, replace(resource, type=token))

    return mutants


def example(rule: str) -> Mutation:
    """One mutant: the objects of the rule's failing example, beside all that the stack declares.

    For kinds that no stack declares, but that other programs under the pack do.
    """

    def mutants(world: World) -> Iterator[Mutant]:
        added = (manifests.resource(one, "mutant") for one in manifests.failing(RULES[rule]))
        yield Mutant(f"example of {rule}", (*world.resources, *added))

    return mutants


def _subjects(world: World, kinds: tuple[str, ...] | str, when: When | None) -> Iterator[Resource]:
    for resource in world.of(*((kinds,) if isinstance(kinds, str) else kinds)):
        if when is None or when(resource, world):
            yield resource


def _with(world: World, old: Resource, *new: Resource) -> Mutant:
    place = next(number for number, one in enumerate(world.resources) if one.urn == old.urn)
    before, after = world.resources[:place], world.resources[place + 1 :]
    return Mutant(old.name, (*before, *new, *after))


# Values that may not be readable ----------------------------------------------------------------


def copied(value: Any) -> Any:
    """A deep copy that keeps what cannot be read as the object that it is."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; what cannot be read equals only itself."""
    if isinstance(one, Opaque) or isinstance(other, Opaque):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)
