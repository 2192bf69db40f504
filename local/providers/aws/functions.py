"""The functions (invokes): who and where we are, and policy documents."""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from local.providers.aws.clients import Aws
from local.providers.aws.resource import Values
from local.providers.protocol import ProviderError

_VERSION: Final = "2012-10-17"


def _caller(aws: Aws, _: Values) -> Values:
    found = aws.sts.get_caller_identity()
    return {
        "accountId": found["Account"],
        "arn": found["Arn"],
        "id": found["Account"],
        "userId": found["UserId"],
    }


def _region(aws: Aws, arguments: Values) -> Values:
    region = arguments.get("region") or arguments.get("name") or aws.region
    return {
        "description": region,
        "endpoint": f"ec2.{region}.amazonaws.com",
        "id": region,
        "name": region,
        "region": region,
    }


# --- policy documents -------------------------------------------------------------------------


def _policy_document(_: Aws, arguments: Values) -> Values:
    sources = [arguments.get("sourceJson"), *arguments.get("sourcePolicyDocuments", [])]
    overrides = [arguments.get("overrideJson"), *arguments.get("overridePolicyDocuments", [])]
    statements = [
        *_statements_of(sources),
        *(_statement(s) for s in arguments.get("statements", [])),
    ]
    _refuse_repeated_sids(statements)
    for statement in _statements_of(overrides):
        _override(statements, statement)
    document: Values = {"Version": arguments.get("version") or _VERSION}
    if arguments.get("policyId"):
        document["Id"] = arguments["policyId"]
    document["Statement"] = statements
    text = json.dumps(document, indent=2)
    return {
        **arguments,
        "version": document["Version"],
        "id": str(zlib.crc32(text.encode())),
        "json": text,
        "minifiedJson": json.dumps(document, separators=(",", ":")),
    }


def _statements_of(documents: list[str | None]) -> list[Values]:
    found: list[Values] = []
    for document in filter(None, documents):
        try:
            statements = json.loads(document)["Statement"]
        except (ValueError, KeyError, TypeError):
            raise ProviderError(
                f"getPolicyDocument: this is no policy document: {document}"
            ) from None
        found += statements if isinstance(statements, list) else [statements]
    return found


def _refuse_repeated_sids(statements: list[Values]) -> None:
    sids = [statement["Sid"] for statement in statements if statement.get("Sid")]
    for sid in sids:
        if sids.count(sid) > 1:
            raise ProviderError(f"getPolicyDocument: two statements have the sid {sid}")


def _override(statements: list[Values], statement: Values) -> None:
    for index, other in enumerate(statements):
        if statement.get("Sid") and other.get("Sid") == statement["Sid"]:
            statements[index] = statement
            return
    statements.append(statement)


def _statement(arguments: Values) -> Values:
    statement: Values = {}
    if arguments.get("sid"):
        statement["Sid"] = arguments["sid"]
    statement["Effect"] = arguments.get("effect") or "Allow"
    for key, name in (
        ("actions", "Action"),
        ("notActions", "NotAction"),
        ("resources", "Resource"),
        ("notResources", "NotResource"),
    ):
        if arguments.get(key):
            statement[name] = _one_or_many(_interpolated(sorted(arguments[key], reverse=True)))
    for key, name in (("principals", "Principal"), ("notPrincipals", "NotPrincipal")):
        if arguments.get(key):
            statement[name] = _principals(arguments[key])
    if arguments.get("conditions"):
        statement["Condition"] = _conditions(arguments["conditions"])
    return statement


def _principals(blocks: list[Values]) -> Any:  # noqa: ANN401 - "*" or a map
    if any(block["type"] == "*" and block["identifiers"] == ["*"] for block in blocks):
        return "*"
    merged: dict[str, list[str]] = {}
    for block in blocks:
        merged.setdefault(block["type"], []).extend(block["identifiers"])
    return {
        kind: _one_or_many(_interpolated(sorted(names, reverse=True)))
        for kind, names in merged.items()
    }


def _conditions(blocks: list[Values]) -> Values:
    merged: dict[str, dict[str, list[str]]] = {}
    for block in blocks:
        merged.setdefault(block["test"], {}).setdefault(block["variable"], []).extend(
            _interpolated(block["values"])
        )
    return {
        test: {variable: _one_or_many(values) for variable, values in variables.items()}
        for test, variables in merged.items()
    }


def _interpolated(texts: list[str]) -> list[str]:
    """IAM's variables are written `&{…}`, since `${…}` has a meaning of its own elsewhere."""
    return [text.replace("&{", "${") for text in texts]


def _one_or_many(items: list[str]) -> str | list[str]:
    return items[0] if len(items) == 1 else items


FUNCTIONS: Final[Mapping[str, Callable[[Aws, Values], Values]]] = {
    "aws:iam/getPolicyDocument:getPolicyDocument": _policy_document,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:index/getRegion:getRegion": _region,
}
