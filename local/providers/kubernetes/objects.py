"""An object as the program declares it, as the server holds it, and the way between the two."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from pulumi.provider.experimental.property_value import PropertyValue

from local.providers.protocol import (
    UNKNOWN,
    Path,
    Plain,
    Properties,
    ProviderError,
    from_plain,
    from_plain_map,
    secret_strings,
)

Object: TypeAlias = dict[str, Any]

AUTONAMED: Final = "pulumi.com/autonamed"
_SERVER_METADATA: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)
_UNSUPPORTED: Final = ("helm.sh", "yaml", "kustomize")


# --- names ------------------------------------------------------------------------------------


def served_as(token: str) -> tuple[str, str]:
    """The apiVersion and kind of a type token, e.g. `kubernetes:apps/v1:Deployment`.

    The SDK reads the token from the resource's URN, where those of its parents stand before it
    (`parent:type$kubernetes:apps/v1:Deployment`).

    Raises:
        ProviderError: the token stands for something that is not one object of the API.
    """
    token = token.rsplit("$", 1)[-1]
    _, module, kind = token.split(":", 2)
    group, _, version = module.rpartition("/")
    if group.split("/")[0] in _UNSUPPORTED or not group or kind.endswith("List"):
        raise ProviderError(
            f"{token} is not supported by this stand-in, which knows single API objects only; "
            "install the real plugin (`pulumi plugin install resource kubernetes`)"
        )
    return (version if group == "core" else f"{group}/{version}"), kind


def object_id(obj: Object) -> str:
    """The resource id: `namespace/name`, or `name` where there is no namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def parse_id(resource_id: str) -> tuple[str | None, str]:
    """Namespace (or None) and name."""
    namespace, _, name = resource_id.rpartition("/")
    return namespace or None, name


def annotation(obj: Object, key: str) -> str | None:
    """The value of an annotation, if it is there and known."""
    value = ((obj.get("metadata") or {}).get("annotations") or {}).get(key)
    return None if value is None or value is UNKNOWN else str(value)


def field_manager(urn: str) -> str:
    """Who sets the fields, in the server's books: one name per resource, the same at every run.

    So a run that was cut short finds its own objects again, and nobody else's.
    """
    return "pulumi-kubernetes-" + hashlib.sha256(urn.encode()).hexdigest()[:8]


def managers(obj: Object) -> set[str]:
    """All who set fields of the object."""
    return {str(entry.get("manager")) for entry in obj["metadata"].get("managedFields") or []}


# --- from the engine to the server ------------------------------------------------------------


def normalised(inputs: Object) -> Object:
    """Inputs without what only the server may set."""
    metadata = inputs.get("metadata")
    if not isinstance(metadata, dict):
        return inputs
    kept = {k: v for k, v in metadata.items() if k not in _SERVER_METADATA}
    return {k: v for k, v in inputs.items() if k != "status"} | {"metadata": kept}


def body(inputs: Object) -> Object:
    """What is sent to the server for these inputs.

    `stringData` is folded into `data`: the server would do so too, but would not remove a key
    that is no longer declared.
    """
    sent: Object = _rename_keys({k: v for k, v in inputs.items() if not k.startswith("__")})
    if is_secret(sent) and "stringData" in sent:
        encoded = {
            k: base64.b64encode(str(v).encode()).decode() for k, v in sent.pop("stringData").items()
        }
        sent["data"] = {**(sent.get("data") or {}), **encoded}
    return sent


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def is_secret(obj: Object) -> bool:
    """Whether the object is a core Secret."""
    return obj.get("kind") == "Secret" and obj.get("apiVersion") == "v1"


def _rename_keys(plain: Plain) -> Plain:
    """Schema extensions are `x_kubernetes_…` in the SDK, which cannot have dashes in names."""
    if isinstance(plain, dict):
        return {
            k.replace("_", "-") if k.startswith("x_kubernetes_") else k: _rename_keys(v)
            for k, v in plain.items()
        }
    return [_rename_keys(item) for item in plain] if isinstance(plain, list) else plain


# --- from the server to the engine ------------------------------------------------------------


def outputs(live: Object, inputs: Mapping[str, PropertyValue], manager: str) -> Properties:
    """The live object as the resource's outputs, secret wherever the inputs are.

    A Secret's data is secret whether declared so or not; the annotation in which `kubectl apply`
    keeps all of it is left out, as are `managedFields`, the server's own books and half of every
    object.
    """
    metadata = {k: v for k, v in live["metadata"].items() if k != "managedFields"}
    if is_secret(live) and "annotations" in metadata:
        metadata["annotations"] = {
            k: v for k, v in metadata["annotations"].items() if k != _LAST_APPLIED
        }
    result = from_plain_map(_to_sdk_names({**live, "metadata": metadata}), like=inputs)
    if is_secret(live):
        _hide_data(result)
    result["__initialApiVersion"] = PropertyValue(str(live.get("apiVersion", "")))
    result["__fieldManager"] = PropertyValue(manager)
    return result


def secret_inputs(plain: Object, like: Mapping[str, PropertyValue]) -> Properties:
    """Plain inputs as property values, secret as in `like`, and a Secret's data always."""
    result = from_plain_map(plain, like=like)
    if is_secret(plain):
        _hide_data(result)
    return result


def _hide_data(properties: Properties) -> None:
    for key in ("data", "stringData"):
        if key in properties:
            properties[key] = properties[key].with_secret(True)


def _to_sdk_names(plain: Plain) -> Plain:
    if isinstance(plain, dict):
        return {
            k.replace("-", "_") if k.startswith("x-kubernetes-") else k: _to_sdk_names(v)
            for k, v in plain.items()
        }
    return [_to_sdk_names(item) for item in plain] if isinstance(plain, list) else plain


def secrets_of(inputs: Mapping[str, PropertyValue]) -> set[str]:
    """Strings that must not show in a message: what is marked secret, and a Secret's data.

    Each also as the server would quote it: encoded, and as JSON.
    """
    hidden = dict(inputs)
    if hidden.get("kind") == from_plain("Secret"):
        _hide_data(hidden)
    found = secret_strings(hidden)
    encoded = {base64.b64encode(text.encode()).decode() for text in found}
    return found | encoded | {json.dumps(text)[1:-1] for text in found}


# --- live state, reduced to what is declared --------------------------------------------------


def declared(live: Object, inputs: Object) -> Object:
    """The inputs as the live object has them now: what someone changed shows, nothing else does.

    Left out are defaults, status, fields that others own and were never declared, and differences
    that mean nothing (`"1000m"` for `"1"`).
    """
    if is_secret(live) and "stringData" in inputs:
        live = _with_string_data(live, inputs["stringData"])
    kept: Object = _reduce(_to_sdk_names(live), inputs, ())
    return kept


_ITEM_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "webhooks": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists that the server merges item by item, and what tells items apart: others may add items,
which are then theirs. All other lists are replaced as a whole."""


def _reduce(live: Plain, want: Plain, at: Path) -> Plain:
    if isinstance(want, dict) and isinstance(live, dict):
        pairs = {k: _reduce(live.get(k), v, (*at, k)) for k, v in want.items()}
        return {k: v for k, v in pairs.items() if v is not None}
    if isinstance(want, list) and isinstance(live, list):
        return _reduce_list(live, want, at)
    if live is None:
        # The server leaves out what is empty or false; that is no change.
        return want if want in (None, False, 0, "", [], {}) else None
    return want if same_quantity(at, live, want) else live


def same_quantity(at: Path, a: Plain, b: Plain) -> bool:
    """Whether two scalars at a path are one quantity in the API's notation: `1000m` and `1`.

    In metadata they are text.
    """
    if at[:1] == ("metadata",) or isinstance(a, bool) or isinstance(b, bool):
        return False
    first, second = _quantity(a), _quantity(b)
    return first is not None and first == second


def _reduce_list(live: list[Plain], want: list[Plain], at: Path) -> list[Plain]:
    if at == ("metadata", "finalizers"):
        return [item for item in want if item in live]
    keys = _ITEM_KEYS.get(str(at[-1])) if at else None
    if keys and all(isinstance(item, dict) for item in (*live, *want)):
        by_key = {_item_key(item, keys): item for item in live}
        pairs = [(by_key.get(_item_key(item, keys)), item) for item in want]
        return [_reduce(found, item, at) for found, item in pairs if found is not None]
    reduced = [_reduce(a, b, at) for a, b in zip(live, want, strict=False)]
    return reduced + live[len(want) :]


def _item_key(item: Mapping[str, Plain], keys: tuple[str, ...]) -> tuple[Plain, ...]:
    return tuple(item.get(key, "TCP" if key == "protocol" else None) for key in keys)


_QUANTITY: Final = re.compile(r"^([+-]?[0-9.]+)([eE][+-]?[0-9]+|[KMGTPE]i|[numkMGTPE])?$")
_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{s: Decimal(1000) ** i for i, s in enumerate(["", "k", "M", "G", "T", "P", "E"])},
    **{s: Decimal(1024) ** i for i, s in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], 1)},
}


def _quantity(value: Plain) -> Decimal | None:
    match = _QUANTITY.match(str(value)) if isinstance(value, (str, int, float)) else None
    if match is None or match[1].count(".") > 1 or match[1].strip("+-.") == "":
        return None
    suffix = match[2] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        return Decimal(match[1] + suffix)
    return Decimal(match[1]) * _SUFFIXES[suffix]


def _with_string_data(live: Object, wanted: Mapping[str, Plain]) -> Object:
    data = dict(live.get("data") or {})
    text = {k: _decoded(data.pop(k)) for k in wanted if k in data}
    return {**live, "data": data, "stringData": text}


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return encoded


# --- import -----------------------------------------------------------------------------------

_CONTROLLERS: Final = re.compile(r"^(kube-controller-manager|kube-scheduler|kubelet|kwok)")


def imported(live: Object) -> Object:
    """Inputs for an object that no program declared yet: the fields that people or tools set.

    The server records who set which field; what controllers set, and status, is left out.
    """
    kept: Object = {}
    for entry in live["metadata"].get("managedFields") or []:
        if not entry.get("subresource") and not _CONTROLLERS.match(entry.get("manager", "")):
            kept = _merge(kept, _select(live, entry.get("fieldsV1") or {}))
    metadata = kept.get("metadata") or {}
    identity = {k: live["metadata"][k] for k in ("name", "namespace") if k in live["metadata"]}
    head = {"apiVersion": live["apiVersion"], "kind": live["kind"]}
    return normalised({**kept, **head, "metadata": {**metadata, **identity}})


def _select(live: Plain, fields: Mapping[str, Any]) -> Plain:
    """The part of a live value that a `fieldsV1` tree names."""
    named = {k: v for k, v in fields.items() if k != "."}
    if not named:
        return live
    if isinstance(live, list):
        return [item for item in (_select_item(i, named) for i in live) if item is not None]
    if not isinstance(live, dict):
        return live
    return {
        k[2:]: _select(live[k[2:]], v)
        for k, v in named.items()
        if k.startswith("f:") and k[2:] in live
    }


def _select_item(item: Plain, named: Mapping[str, Any]) -> Plain:
    for key, fields in named.items():
        kind, _, text = key.partition(":")
        value = json.loads(text)
        if kind == "v" and item == value:
            return item
        if kind == "k" and isinstance(item, dict) and value.items() <= item.items():
            return _select(item, fields)
    return None


def _merge(a: Plain, b: Plain) -> Plain:
    if isinstance(a, dict) and isinstance(b, dict):
        return {**a, **{k: _merge(a[k], v) if k in a else v for k, v in b.items()}}
    if isinstance(a, list) and isinstance(b, list):
        return a if len(a) >= len(b) else b
    return b


def taken_over(inputs: Object, live: Object, paths: list[str]) -> Object:
    """Inputs with the live values at the given dotted paths, where they have one."""
    result: Object = json.loads(json.dumps(inputs))
    for path in paths:
        steps = path.split(".")
        target: Plain = result
        source: Plain = live
        for step in steps[:-1]:
            target = target.get(step) if isinstance(target, dict) else None
            source = source.get(step) if isinstance(source, dict) else None
        if isinstance(target, dict) and isinstance(source, dict) and steps[-1] in source:
            target[steps[-1]] = source[steps[-1]]
    return result
