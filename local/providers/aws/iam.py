"""IAM: roles, their policies, and what attaches the two."""

import json
from collections.abc import Mapping
from typing import Any, Final

from local.providers.aws.clients import Aws, unless
from local.providers.aws.resource import Name, ResourceType, Values, as_list, as_map, same
from local.providers.protocol import ProviderError

_GONE: Final = ("NoSuchEntity",)
_EXISTS: Final = ("EntityAlreadyExists",)
_VERSIONS_KEPT: Final = 5
"""How many versions of a policy IAM keeps before it refuses another one."""


def _document(value: Any) -> str:  # noqa: ANN401 - boto3 decodes documents
    return value if isinstance(value, str) else json.dumps(value)


def _retag(wanted: Values, actual: Values, tag: Any, untag: Any, **on: str) -> None:  # noqa: ANN401
    surplus = sorted({*actual} - {*wanted})
    if surplus:
        untag(TagKeys=surplus, **on)
    if wanted:
        tag(Tags=as_list(wanted), **on)


# --- roles ------------------------------------------------------------------------------------


def _create_role(aws: Aws, inputs: Values) -> str:
    name: str = inputs["name"]
    arguments: Values = {
        "RoleName": name,
        "AssumeRolePolicyDocument": inputs["assumeRolePolicy"],
        "Path": inputs["path"],
        "MaxSessionDuration": inputs["maxSessionDuration"],
        "Tags": as_list(inputs["tagsAll"]),
    }
    if "description" in inputs:
        arguments["Description"] = inputs["description"]
    if "permissionsBoundary" in inputs:
        arguments["PermissionsBoundary"] = inputs["permissionsBoundary"]
    if unless(_EXISTS, aws.iam.create_role, **arguments) is None:
        found = _read_role(aws, name) or {}
        compared = {"assumeRolePolicy", "path", "maxSessionDuration", "tagsAll", "description"}
        if not all(same(inputs.get(k), found.get(k)) for k in compared):
            raise ProviderError(f"role {name} exists already, and is not what is asked for here")
    return name


def _read_role(aws: Aws, name: str) -> Values | None:
    answer = unless(_GONE, aws.iam.get_role, RoleName=name)
    if answer is None:
        return None
    role = answer["Role"]
    return {
        "name": name,
        "arn": role["Arn"],
        "uniqueId": role["RoleId"],
        "createDate": role["CreateDate"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "assumeRolePolicy": _document(role["AssumeRolePolicyDocument"]),
        "description": role.get("Description") or None,
        "maxSessionDuration": role["MaxSessionDuration"],
        "path": role["Path"],
        "permissionsBoundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "tagsAll": as_map(aws.iam.list_role_tags(RoleName=name)["Tags"]),
    }


def _update_role(aws: Aws, name: str, inputs: Values) -> None:
    aws.iam.update_assume_role_policy(RoleName=name, PolicyDocument=inputs["assumeRolePolicy"])
    aws.iam.update_role(
        RoleName=name,
        Description=inputs.get("description", ""),
        MaxSessionDuration=inputs["maxSessionDuration"],
    )
    if "permissionsBoundary" in inputs:
        aws.iam.put_role_permissions_boundary(
            RoleName=name, PermissionsBoundary=inputs["permissionsBoundary"]
        )
    else:
        aws.iam.delete_role_permissions_boundary(RoleName=name)
    actual = as_map(aws.iam.list_role_tags(RoleName=name)["Tags"])
    _retag(inputs["tagsAll"], actual, aws.iam.tag_role, aws.iam.untag_role, RoleName=name)


def _delete_role(aws: Aws, name: str, state: Values) -> None:
    if state.get("forceDetachPolicies"):
        for policy in aws.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            aws.iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
        for inline in aws.iam.list_role_policies(RoleName=name)["PolicyNames"]:
            aws.iam.delete_role_policy(RoleName=name, PolicyName=inline)
    aws.iam.delete_role(RoleName=name)


# --- policies inside a role -------------------------------------------------------------------


def _create_role_policy(aws: Aws, inputs: Values) -> str:
    identity = f"{inputs['role']}:{inputs['name']}"
    _update_role_policy(aws, identity, inputs)
    return identity


def _read_role_policy(aws: Aws, identity: str) -> Values | None:
    role, name = identity.split(":", 1)
    found = unless(_GONE, aws.iam.get_role_policy, RoleName=role, PolicyName=name)
    if found is None:
        return None
    return {"role": role, "name": name, "policy": _document(found["PolicyDocument"])}


def _update_role_policy(aws: Aws, identity: str, inputs: Values) -> None:
    role, name = identity.split(":", 1)
    aws.iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=inputs["policy"])


def _delete_role_policy(aws: Aws, identity: str, _: Values) -> None:
    role, name = identity.split(":", 1)
    aws.iam.delete_role_policy(RoleName=role, PolicyName=name)


# --- policies of their own --------------------------------------------------------------------


def _create_policy(aws: Aws, inputs: Values) -> str:
    arguments: Values = {
        "PolicyName": inputs["name"],
        "PolicyDocument": inputs["policy"],
        "Path": inputs["path"],
        "Tags": as_list(inputs["tagsAll"]),
    }
    if "description" in inputs:
        arguments["Description"] = inputs["description"]
    created: Values | None = unless(_EXISTS, aws.iam.create_policy, **arguments)
    if created:
        return str(created["Policy"]["Arn"])
    account = aws.sts.get_caller_identity()["Account"]
    arn = f"arn:aws:iam::{account}:policy{inputs['path']}{inputs['name']}"
    found = _read_policy(aws, arn) or {}
    if not all(same(inputs.get(k), found.get(k)) for k in ("policy", "tagsAll", "description")):
        raise ProviderError(f"policy {arn} exists already, and is not what is asked for here")
    return arn


def _read_policy(aws: Aws, arn: str) -> Values | None:
    answer = unless(_GONE, aws.iam.get_policy, PolicyArn=arn)
    if answer is None:
        return None
    policy = answer["Policy"]
    version = aws.iam.get_policy_version(PolicyArn=arn, VersionId=policy["DefaultVersionId"])
    return {
        "arn": arn,
        "name": policy["PolicyName"],
        "path": policy["Path"],
        "policy": _document(version["PolicyVersion"]["Document"]),
        "policyId": policy["PolicyId"],
        "attachmentCount": policy["AttachmentCount"],
        "description": policy.get("Description") or None,
        "tagsAll": as_map(aws.iam.list_policy_tags(PolicyArn=arn)["Tags"]),
    }


def _update_policy(aws: Aws, arn: str, inputs: Values) -> None:
    found = _read_policy(aws, arn)
    if found is None:
        raise ProviderError(f"policy {arn} is gone; `pulumi refresh` notices")
    if not same(inputs["policy"], found["policy"]):
        versions = _old_versions(aws, arn)
        for version in versions[_VERSIONS_KEPT - 2 :]:
            aws.iam.delete_policy_version(PolicyArn=arn, VersionId=version)
        aws.iam.create_policy_version(
            PolicyArn=arn, PolicyDocument=inputs["policy"], SetAsDefault=True
        )
    tag, untag = aws.iam.tag_policy, aws.iam.untag_policy
    _retag(inputs["tagsAll"], found["tagsAll"], tag, untag, PolicyArn=arn)


def _old_versions(aws: Aws, arn: str) -> list[str]:
    """The versions that are not in force, newest first."""
    versions = aws.iam.list_policy_versions(PolicyArn=arn)["Versions"]
    versions.sort(key=lambda version: int(version["VersionId"].lstrip("v")), reverse=True)
    return [version["VersionId"] for version in versions if not version["IsDefaultVersion"]]


def _delete_policy(aws: Aws, arn: str, _: Values) -> None:
    for version in _old_versions(aws, arn):
        aws.iam.delete_policy_version(PolicyArn=arn, VersionId=version)
    aws.iam.delete_policy(PolicyArn=arn)


# --- attachments ------------------------------------------------------------------------------


def _attach(aws: Aws, inputs: Values) -> str:
    aws.iam.attach_role_policy(RoleName=inputs["role"], PolicyArn=inputs["policyArn"])
    return f"{inputs['role']}/{inputs['policyArn']}"


def _read_attachment(aws: Aws, identity: str) -> Values | None:
    role, arn = identity.split("/", 1)
    attached = unless(_GONE, aws.iam.list_attached_role_policies, RoleName=role)
    if attached is None or arn not in (p["PolicyArn"] for p in attached["AttachedPolicies"]):
        return None
    return {"role": role, "policyArn": arn}


def _update_attachment(aws: Aws, identity: str, inputs: Values) -> None:
    """Nothing of an attachment can change."""


def _detach(aws: Aws, identity: str, _: Values) -> None:
    role, arn = identity.split("/", 1)
    aws.iam.detach_role_policy(RoleName=role, PolicyArn=arn)


TYPES: Final[Mapping[str, ResourceType]] = {
    "aws:iam/role:Role": ResourceType(
        _create_role,
        _read_role,
        _update_role,
        _delete_role,
        required=("assumeRolePolicy",),
        optional={
            "description": None,
            "forceDetachPolicies": False,
            "maxSessionDuration": 3600,
            "name": None,
            "namePrefix": None,
            "path": "/",
            "permissionsBoundary": None,
        },
        computed=("arn", "createDate", "uniqueId"),
        immutable=("name", "namePrefix", "path"),
        documents=("assumeRolePolicy",),
        bounds={"maxSessionDuration": (3600, 43200)},
        name=Name(64),
        tagged=True,
        regional=False,
    ),
    "aws:iam/rolePolicy:RolePolicy": ResourceType(
        _create_role_policy,
        _read_role_policy,
        _update_role_policy,
        _delete_role_policy,
        required=("policy", "role"),
        optional={"name": None, "namePrefix": None},
        immutable=("name", "namePrefix", "role"),
        documents=("policy",),
        name=Name(128),
        regional=False,
    ),
    "aws:iam/policy:Policy": ResourceType(
        _create_policy,
        _read_policy,
        _update_policy,
        _delete_policy,
        required=("policy",),
        optional={"description": None, "name": None, "namePrefix": None, "path": "/"},
        computed=("arn", "attachmentCount", "policyId"),
        immutable=("description", "name", "namePrefix", "path"),
        documents=("policy",),
        name=Name(128),
        tagged=True,
        regional=False,
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": ResourceType(
        _attach,
        _read_attachment,
        _update_attachment,
        _detach,
        required=("policyArn", "role"),
        immutable=("policyArn", "role"),
        regional=False,
    ),
}
