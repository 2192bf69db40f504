"""A declared resource as plain data, and safe ways to read it.

Rules see resources only through this module, so the same rules judge what the engine was told, a
file of manifests, or what a cluster says it runs. A value that cannot be read, because it is
unknown before the update or secret, is an `Opaque`. To use one in any way raises `Undecided`: a
rule can neither guess what it is nor print it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

KUBERNETES = "kubernetes"


class Undecided(Exception):  # noqa: N818 - an outcome of a rule, not an error of the program
    """A rule needed a value that cannot be read, so it can say neither yes nor no."""


class Opaque:
    """A value that exists but cannot be read; any use of it raises `Undecided`."""

    def __init__(self, reason: str, *, is_secret: bool = False) -> None:
        self.reason = reason
        self.is_secret = is_secret

    def __repr__(self) -> str:
        return f"<{self.reason}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise Undecided(self.reason)

    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __str__ = __format__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __int__ = __float__ = __index__ = __add__ = __sub__ = __mul__ = _refuse


UNKNOWN = Opaque("not known before the update")
SECRET = Opaque("a secret value", is_secret=True)


@dataclass(frozen=True, eq=False)
class Resource:
    """One declared resource.

    `type` is the engine's token, such as ``kubernetes:apps/v1:Deployment``; `references` maps a
    property to the URNs that its value comes from, which is all that is known of a reference to a
    resource that does not exist yet.
    """

    type: str
    name: str
    urn: str
    props: Mapping[str, Any]
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_namespace: str = "default"
    """Where the provider puts an object that names no namespace."""

    @cached_property
    def kind(self) -> str:
        """Group and kind without the version: ``apps/Deployment``, ``core/Service``.

        An AWS resource is ``aws:s3/Bucket``; the "V2" that some releases append is dropped.
        """
        package, _, rest = self.type.partition(":")
        module, _, name = rest.rpartition(":")
        group = module.partition("/")[0]
        if package == KUBERNETES:
            return f"{group}/{name}"
        return f"{package}:{group}/{name.removesuffix('V2')}"

    @property
    def is_kubernetes(self) -> bool:
        """Whether it is an object of a Kubernetes API."""
        return self.type.startswith(f"{KUBERNETES}:") and "kind" in self.props

    @property
    def api_version(self) -> str:
        """``apps/v1``; the core group reads ``core/v1``."""
        return self.type.partition(":")[2].rpartition(":")[0]

    @cached_property
    def object_name(self) -> str:
        """``metadata.name``, which others refer to it by."""
        return text(self.props, "metadata", "name")

    @cached_property
    def namespace(self) -> str:
        """``metadata.namespace``, or where the provider puts it."""
        return text(self.props, "metadata", "namespace") or self.default_namespace

    @cached_property
    def labels(self) -> Mapping[str, Any]:
        """``metadata.labels``."""
        return mapping(self.props, "metadata", "labels")


# Reading ----------------------------------------------------------------------------------------
# A value of the wrong type reads as absent: refusing it is the API server's task, and a rule must
# not fall over it.


def at(value: object, *path: str | int) -> Any:  # noqa: ANN401 - any JSON value
    """The value at a path, None where there is none.

    Raises:
        Undecided: if the way leads through, or ends in, a value that cannot be read.
    """
    for key in path:
        if isinstance(value, Opaque):
            raise Undecided(value.reason)
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    if isinstance(value, Opaque):
        raise Undecided(value.reason)
    return value


def mapping(value: object, *path: str | int) -> Mapping[str, Any]:
    """The object at a path; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, dict) else {}


def mappings(value: object, *path: str | int) -> list[Mapping[str, Any]]:
    """The list of objects at a path; empty where there is none."""
    return [item for _, item in numbered(value, *path)]


def numbered(value: object, *path: str | int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of the list at a path, with their places in it."""
    for index, item in enumerate(listing(value, *path)):
        if isinstance(item, Opaque):
            raise Undecided(item.reason)
        if isinstance(item, dict):
            yield index, item


def listing(value: object, *path: str | int) -> list[Any]:
    """The list at a path; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def texts(value: object, *path: str | int) -> list[str]:
    """The strings of the list at a path."""
    found = listing(value, *path)
    for item in found:
        at(item)
    return [item for item in found if isinstance(item, str)]


def text(value: object, *path: str | int) -> str:
    """The string at a path; empty where there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def number(value: object, *path: str | int) -> float | None:
    """The number at a path; a boolean is none, nor is what is not finite."""
    found = at(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return found


def is_true(value: object, *path: str | int) -> bool:
    """Whether the path holds true."""
    return at(value, *path) is True
