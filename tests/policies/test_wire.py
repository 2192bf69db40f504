"""From the engine's wire format to plain data."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]

from policies.model import SECRET, UNKNOWN, Opaque
from policies.wire import plain
from tests.policies.analyzer_session import UNKNOWN as UNKNOWN_STRING
from tests.policies.analyzer_session import secret

pytestmark = pytest.mark.unit

SIGNATURE = "4dabf18193072939515e22adb298388d"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
ASSET = "c44067f5952c0a294b673a41bacd8c17"


def read(value: object) -> Any:
    struct = Struct()
    struct.update({"value": value})
    return plain(struct)["value"]


@pytest.mark.parametrize("value", ["text", True, 1.5, None, [], {}, [{"a": ["b"]}]])
def test_plain_values_stay(value: object) -> None:
    assert read(value) == value


def test_whole_numbers_are_whole() -> None:
    assert repr(read(3)) == "3"


def test_unknown_is_opaque() -> None:
    assert read(UNKNOWN_STRING) is UNKNOWN


def test_secret_is_opaque() -> None:
    assert read(secret("hunter2")) is SECRET


def test_structure_of_a_secret_stays_and_its_leaves_are_opaque() -> None:
    found = read(secret({"a": ["b", {"c": 1}]}))
    assert found["a"][0] is SECRET
    assert found["a"][1]["c"] is SECRET


def test_unknown_within_a_secret_is_unknown() -> None:
    assert read(secret(UNKNOWN_STRING)) is UNKNOWN


def test_output_with_a_value_is_that_value() -> None:
    assert read({SIGNATURE: OUTPUT, "value": "x"}) == "x"


def test_output_that_is_secret_is_opaque() -> None:
    assert read({SIGNATURE: OUTPUT, "value": "x", "secret": True}) is SECRET


def test_output_without_a_value_is_unknown() -> None:
    assert read({SIGNATURE: OUTPUT}) is UNKNOWN


def test_asset_is_opaque() -> None:
    assert isinstance(read({SIGNATURE: ASSET, "text": "x"}), Opaque)
