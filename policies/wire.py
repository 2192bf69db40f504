"""From the engine's wire format to plain data that rules can read.

The engine marks what a preview cannot know, and what is secret, inside the JSON it sends. Both
become `Opaque`; the structure around a secret stays readable, only its leaves are hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policies.model import SECRET, UNKNOWN, Opaque

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct, Value  # type: ignore[import-untyped]

# Source of the marks: sdk/go/common/resource/properties.go and resource/plugin/rpc.go.
SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a mark, not a secret
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_MARKS = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # string
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)


def plain(struct: Struct) -> dict[str, Any]:
    """Read a resource's properties.

    Whole numbers become `int`, so that a message says "2", not "2.0".
    """
    return {key: _value(value, hidden=False) for key, value in struct.fields.items()}


def _value(value: Value, *, hidden: bool) -> Any:  # noqa: ANN401 - any JSON value
    match value.WhichOneof("kind"):
        case "struct_value":
            return _object(value.struct_value, hidden=hidden)
        case "list_value":
            return [_value(item, hidden=hidden) for item in value.list_value.values]
        case "string_value":
            return _text(value.string_value, hidden=hidden)
        case "number_value":
            return SECRET if hidden else _number(value.number_value)
        case "bool_value":
            return SECRET if hidden else value.bool_value
        case _:
            return None


def _text(value: str, *, hidden: bool) -> str | Opaque:
    if value in UNKNOWN_MARKS:
        return UNKNOWN
    return SECRET if hidden else value


def _number(value: float) -> float:
    return int(value) if value.is_integer() else value


def _object(struct: Struct, *, hidden: bool) -> Any:  # noqa: ANN401 - any JSON value
    fields = struct.fields
    if SIGNATURE not in fields:
        return {key: _value(value, hidden=hidden) for key, value in fields.items()}
    signature = fields[SIGNATURE].string_value
    if signature == _SECRET:
        return _value(fields["value"], hidden=True)
    if signature == _OUTPUT:
        hidden = hidden or ("secret" in fields and fields["secret"].bool_value)
        return _value(fields["value"], hidden=hidden) if "value" in fields else UNKNOWN
    return Opaque("an asset or a reference to a resource")
