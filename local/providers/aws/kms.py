"""KMS: keys, replicas of multi-region keys, aliases."""

from collections.abc import Mapping
from typing import Any, Final

from local.providers.aws.clients import Aws, unless
from local.providers.aws.resource import Name, ResourceType, Values, as_list, as_map
from local.providers.protocol import ProviderError

_TAG: Final = ("TagKey", "TagValue")
_GONE: Final = ("NotFoundException",)
_POLICY: Final = "default"
_USAGE: Final = "ENCRYPT_DECRYPT"
_DELETION_DAYS: Final = 30
_ENABLED: Final = ("Enabled", "Disabled")


def _metadata(aws: Aws, key: str) -> Values | None:
    """What KMS says of a key; None if it is gone or waits to be."""
    answer = unless(_GONE, aws.kms.describe_key, KeyId=key)
    if answer is None or answer["KeyMetadata"]["KeyState"] not in _ENABLED:
        return None
    found: Values = answer["KeyMetadata"]
    return found


def _read_common(aws: Aws, key: str, metadata: Values) -> Values:
    """What every kind of key has."""
    return {
        "arn": metadata["Arn"],
        "keyId": metadata["KeyId"],
        "description": metadata.get("Description") or None,
        "keyUsage": metadata.get("KeyUsage") or _USAGE,
        "policy": aws.kms.get_key_policy(KeyId=key, PolicyName=_POLICY)["Policy"],
        "region": aws.region,
        "tagsAll": _tags(aws, key),
    }


def _tags(aws: Aws, key: str) -> Values:
    return as_map(aws.kms.list_resource_tags(KeyId=key)["Tags"], *_TAG)


def _update_common(aws: Aws, key: str, inputs: Values, *, enabled: bool) -> None:
    if "description" in inputs:
        aws.kms.update_key_description(KeyId=key, Description=inputs["description"])
    if "policy" in inputs:
        aws.kms.put_key_policy(KeyId=key, PolicyName=_POLICY, Policy=inputs["policy"])
    (aws.kms.enable_key if enabled else aws.kms.disable_key)(KeyId=key)
    surplus = sorted({*_tags(aws, key)} - {*inputs["tagsAll"]})
    if surplus:
        aws.kms.untag_resource(KeyId=key, TagKeys=surplus)
    if inputs["tagsAll"]:
        aws.kms.tag_resource(KeyId=key, Tags=as_list(inputs["tagsAll"], *_TAG))


def _delete_key(aws: Aws, key: str, state: Values) -> None:
    days = state.get("deletionWindowInDays", _DELETION_DAYS)
    if _metadata(aws, key):
        aws.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=days)


# --- keys -------------------------------------------------------------------------------------


def _create_key(aws: Aws, inputs: Values) -> str:
    arguments = {
        "KeyUsage": inputs["keyUsage"],
        "KeySpec": inputs["customerMasterKeySpec"],
        "MultiRegion": inputs["multiRegion"],
        "BypassPolicyLockoutSafetyCheck": inputs["bypassPolicyLockoutSafetyCheck"],
    }
    return str(aws.kms.create_key(**arguments)["KeyMetadata"]["KeyId"])


def _read_key(aws: Aws, key: str) -> Values | None:
    metadata = _metadata(aws, key)
    if metadata is None:
        return None
    rotation = aws.kms.get_key_rotation_status(KeyId=key)
    return {
        **_read_common(aws, key, metadata),
        "customerMasterKeySpec": metadata["KeySpec"],
        "enableKeyRotation": rotation["KeyRotationEnabled"],
        "isEnabled": metadata["Enabled"],
        "multiRegion": metadata.get("MultiRegion", False),
        "rotationPeriodInDays": rotation.get("RotationPeriodInDays"),
    }


def _update_key(aws: Aws, key: str, inputs: Values) -> None:
    aws.kms.enable_key(KeyId=key)  # rotation cannot be set while it is disabled
    if inputs["enableKeyRotation"]:
        period = inputs.get("rotationPeriodInDays")
        arguments = {"RotationPeriodInDays": period} if period else {}
        aws.kms.enable_key_rotation(KeyId=key, **arguments)
    else:
        aws.kms.disable_key_rotation(KeyId=key)
    _update_common(aws, key, inputs, enabled=inputs["isEnabled"])


# --- replicas ---------------------------------------------------------------------------------


def _create_replica(aws: Aws, inputs: Values) -> str:
    _, _, _, region, _, resource = inputs["primaryKeyArn"].split(":", 5)
    key: str = resource.partition("/")[2]
    if _metadata(aws, key) is None:
        primary = aws.elsewhere(region)
        metadata = _metadata(primary, key)
        if metadata is None or not metadata.get("MultiRegion"):
            raise ProviderError(
                f"{inputs['primaryKeyArn']} is not a multi-region key: set its multiRegion"
            )
        primary.kms.replicate_key(KeyId=key, ReplicaRegion=aws.region)
    return key


def _read_replica(aws: Aws, key: str) -> Values | None:
    metadata = _metadata(aws, key)
    if metadata is None:
        return None
    configuration: Mapping[str, Any] = metadata.get("MultiRegionConfiguration", {})
    rotation = aws.kms.get_key_rotation_status(KeyId=key)
    return {
        **_read_common(aws, key, metadata),
        "enabled": metadata["Enabled"],
        "keyRotationEnabled": rotation["KeyRotationEnabled"],
        "keySpec": metadata["KeySpec"],
        "primaryKeyArn": configuration.get("PrimaryKey", {}).get("Arn"),
    }


def _update_replica(aws: Aws, key: str, inputs: Values) -> None:
    _update_common(aws, key, inputs, enabled=inputs["enabled"])


# --- aliases ----------------------------------------------------------------------------------


def _create_alias(aws: Aws, inputs: Values) -> str:
    name: str = inputs["name"]
    found = _read_alias(aws, name)
    if found is None:
        aws.kms.create_alias(AliasName=name, TargetKeyId=inputs["targetKeyId"])
    elif inputs["targetKeyId"] not in (found["targetKeyId"], found["targetKeyArn"]):
        raise ProviderError(f"{name} exists already, for key {found['targetKeyId']}")
    return name


def _read_alias(aws: Aws, name: str) -> Values | None:
    for page in aws.kms.get_paginator("list_aliases").paginate():
        for alias in page["Aliases"]:
            if alias["AliasName"] == name and "TargetKeyId" in alias:
                key = unless(_GONE, aws.kms.describe_key, KeyId=alias["TargetKeyId"])
                return {
                    "name": name,
                    "arn": alias["AliasArn"],
                    "targetKeyId": alias["TargetKeyId"],
                    "targetKeyArn": key and key["KeyMetadata"]["Arn"],
                    "region": aws.region,
                }
    return None


def _update_alias(aws: Aws, name: str, inputs: Values) -> None:
    aws.kms.update_alias(AliasName=name, TargetKeyId=inputs["targetKeyId"])


def _delete_alias(aws: Aws, name: str, _: Values) -> None:
    unless(_GONE, aws.kms.delete_alias, AliasName=name)


def _alias_name(name: str) -> str:
    return name if name.startswith("alias/") else f"alias/{name}"


TYPES: Final[Mapping[str, ResourceType]] = {
    "aws:kms/key:Key": ResourceType(
        _create_key,
        _read_key,
        _update_key,
        _delete_key,
        optional={
            "bypassPolicyLockoutSafetyCheck": False,
            "customerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "deletionWindowInDays": None,
            "enableKeyRotation": False,
            "isEnabled": True,
            "keyUsage": _USAGE,
            "multiRegion": False,
        },
        kept=("description", "policy", "rotationPeriodInDays"),
        computed=("arn", "keyId"),
        immutable=("customerMasterKeySpec", "keyUsage", "multiRegion", "region"),
        documents=("policy",),
        bounds={"deletionWindowInDays": (7, 30), "rotationPeriodInDays": (90, 2560)},
        tagged=True,
        bare=True,
    ),
    "aws:kms/replicaKey:ReplicaKey": ResourceType(
        _create_replica,
        _read_replica,
        _update_replica,
        _delete_key,
        required=("primaryKeyArn",),
        optional={
            "bypassPolicyLockoutSafetyCheck": False,
            "deletionWindowInDays": None,
            "enabled": True,
        },
        kept=("description", "policy"),
        computed=("arn", "keyId", "keyRotationEnabled", "keySpec", "keyUsage"),
        immutable=("primaryKeyArn", "region"),
        documents=("policy",),
        bounds={"deletionWindowInDays": (7, 30)},
        tagged=True,
        bare=True,
    ),
    "aws:kms/alias:Alias": ResourceType(
        _create_alias,
        _read_alias,
        _update_alias,
        _delete_alias,
        required=("targetKeyId",),
        optional={"name": None, "namePrefix": None},
        computed=("arn", "targetKeyArn"),
        immutable=("name", "namePrefix", "region"),
        name=Name(255, shape=_alias_name),
    ),
}
