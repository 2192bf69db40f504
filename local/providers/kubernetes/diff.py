"""Which changes cannot be made in place, as the real plugin sees it.

It knows some of what the API server demands. What it does not know is sent, and refused there:
whoever declares such a field names it in `replace_on_changes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pulumi.provider.experimental import provider as sdk

from local.providers.kubernetes import objects
from local.providers.protocol import UNKNOWN, Path, diff_response

_IDENTITY: Final = (("metadata", "name"), ("metadata", "namespace"), ("kind",))
_SELECTOR: Final = ("spec", "selector")
_DATA: Final = (("data",), ("binaryData",), ("stringData",), ("immutable",))

_IMMUTABLE: Final[Mapping[tuple[str, str], tuple[tuple[str, ...], ...]]] = {
    ("apps", "Deployment"): (_SELECTOR,),
    ("apps", "DaemonSet"): (_SELECTOR,),
    ("apps", "ReplicaSet"): (_SELECTOR,),
    ("apps", "StatefulSet"): (
        _SELECTOR,
        ("spec", "serviceName"),
        ("spec", "podManagementPolicy"),
        ("spec", "volumeClaimTemplates"),
        ("spec", "revisionHistoryLimit"),
    ),
    ("batch", "Job"): (
        _SELECTOR,
        ("spec", "template"),
        ("spec", "completions"),
        ("spec", "parallelism"),
    ),
    ("", "Pod"): (("spec",),),
    ("", "PersistentVolumeClaim"): (("spec",),),
    ("", "PersistentVolume"): (("spec",),),
    ("", "ResourceQuota"): (("spec", "scopes"),),
    ("", "Secret"): (("type",),),
    ("", "Service"): (("spec", "clusterIP"),),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (("provisioner",), ("parameters",)),
}

_MUTABLE: Final[Mapping[tuple[str, str], tuple[tuple[str, ...], ...]]] = {
    ("", "Pod"): (("spec", "activeDeadlineSeconds"), ("spec", "tolerations")),
    ("", "PersistentVolumeClaim"): (
        ("spec", "resources", "requests", "storage"),
        ("spec", "volumeAttributesClassName"),
    ),
    ("", "PersistentVolume"): (
        ("spec", "accessModes"),
        ("spec", "capacity"),
        ("spec", "claimRef"),
        ("spec", "mountOptions"),
        ("spec", "persistentVolumeReclaimPolicy"),
        ("spec", "storageClassName"),
    ),
}
"""Exceptions below a path of `_IMMUTABLE`."""


@dataclass(frozen=True)
class Mutability:
    """Whether configuration may change in place; both off by default, as in the real plugin.

    A changed ConfigMap or Secret is otherwise replaced, so that what refers to its generated name
    rolls out again.
    """

    config_maps: bool = False
    secrets: bool = False


def diff(
    old: Mapping[str, Any], new: Mapping[str, Any], mutability: Mutability
) -> sdk.DiffResponse:
    """Compare inputs. An object whose name the user fixed is deleted before it is replaced."""
    forcing = _forcing_paths(old, new, mutability)
    allowed = _MUTABLE.get(_group_kind(new), ())

    def replaces(path: Path) -> bool:
        steps = tuple(step for step in path if isinstance(step, str))
        if any(steps[: len(ok)] == ok for ok in allowed):
            return False
        # A whole branch that comes or goes is reported by its root, e.g. `spec`.
        return any(steps[: len(f)] == f or f[: len(steps)] == steps for f in forcing)

    return diff_response(
        old,
        new,
        replaces=replaces,
        delete_before_replace=_same_fixed_name(old, new),
        same=objects.same_quantity,
    )


def _forcing_paths(
    old: Mapping[str, Any], new: Mapping[str, Any], mutability: Mutability
) -> tuple[tuple[str, ...], ...]:
    forcing = (*_IDENTITY, *_IMMUTABLE.get(_group_kind(new), ()))
    if _group_kind(old) != _group_kind(new):
        forcing = (*forcing, ("apiVersion",))
    may_change = {"ConfigMap": mutability.config_maps, "Secret": mutability.secrets}
    kind = str(new.get("kind"))
    if _group_kind(new) == ("", kind) and kind in may_change:
        frozen = old.get("immutable") is True
        if frozen or not may_change[kind]:
            forcing = (*forcing, *(_DATA if frozen else _DATA[:-1]))
    return forcing


def _group_kind(obj: Mapping[str, Any]) -> tuple[str, str]:
    group, slash, _ = str(obj.get("apiVersion", "")).partition("/")
    return (group if slash else ""), str(obj.get("kind", ""))


def _same_fixed_name(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    if not isinstance(after, dict) or after.get("name") in (None, UNKNOWN):
        return False
    autonamed = objects.annotation(dict(new), objects.AUTONAMED) == "true"
    same = (before.get("name"), before.get("namespace")) == (
        after.get("name"),
        after.get("namespace"),
    )
    return same and not autonamed
