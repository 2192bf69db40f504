"""Values of a stack file, read and written."""

from __future__ import annotations

import pytest

from stacks.values import size, size_in_bytes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("quantity", "canonical"),
    [("1024Mi", "1Gi"), ("1536Mi", "1536Mi"), ("1024Gi", "1Ti"), ("1Ki", "1Ki")],
)
def test_size_is_canonical(quantity: str, canonical: str) -> None:
    assert size(size_in_bytes(quantity)) == canonical


def test_no_size_has_no_unit() -> None:
    assert size(0) == "0"
