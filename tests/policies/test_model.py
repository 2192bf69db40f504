"""A resource as plain data: its kind, and what may not be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies import model
from policies.model import SECRET, UNKNOWN, Opaque, Resource, Undecided

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("kubernetes:apps/v1:Deployment", "apps/Deployment"),
        ("kubernetes:core/v1:Service", "core/Service"),
        ("kubernetes:postgresql.cnpg.io/v1:Cluster", "postgresql.cnpg.io/Cluster"),
        ("aws:s3/bucketVersioning:BucketVersioning", "aws:s3/BucketVersioning"),
        ("aws:s3/bucketV2:BucketV2", "aws:s3/Bucket"),
        ("pulumi:pulumi:Stack", "pulumi:pulumi/Stack"),
    ],
)
def test_kind_has_no_version(token: str, kind: str) -> None:
    assert Resource(token, "x", "u", {}).kind == kind


USES: dict[str, Callable[[Opaque], object]] = {
    "compare": lambda value: value == "x",
    "order": lambda value: value < 3,
    "truth": bool,
    "print": lambda value: f"{value}",
    "text": str,
    "iterate": list,
    "search": lambda value: "x" in value,
    "count": len,
    "add": lambda value: value + 1,
    "hash": hash,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("value", [UNKNOWN, SECRET], ids=["unknown", "secret"])
def test_any_use_of_what_cannot_be_read_is_refused(
    value: Opaque, use: Callable[[Opaque], object]
) -> None:
    with pytest.raises(Undecided):
        use(value)


READERS = [model.at, model.mapping, model.mappings, model.listing, model.text, model.number]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize("props", [{"a": UNKNOWN}, {"a": {"b": UNKNOWN}}], ids=["way", "end"])
def test_reading_an_unknown_is_refused(
    read: Callable[..., object], props: dict[str, object]
) -> None:
    with pytest.raises(Undecided):
        read(props, "a", "b")


@pytest.mark.parametrize(
    ("read", "absent"),
    [(model.mapping, {}), (model.mappings, []), (model.listing, []), (model.text, "")],
)
@pytest.mark.parametrize("value", [None, 3, True, "text", ["x"], {"x": 1}])
def test_a_wrong_type_reads_as_absent(
    read: Callable[..., object], absent: object, value: object
) -> None:
    found = read({"a": value}, "a")
    assert isinstance(found, type(absent))


def test_a_boolean_is_no_number() -> None:
    assert model.number({"a": True}, "a") is None
