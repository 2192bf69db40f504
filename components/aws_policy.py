"""Pieces of AWS policies, as they are written in JSON."""

from __future__ import annotations

from stacks.values import partition


def arn(bucket: str, region: str) -> str:
    """The ARN of a bucket."""
    return f"arn:{partition(region)}:s3:::{bucket}"


def statement(effect: str, action: str | list[str], **rest: object) -> dict[str, object]:
    """One statement of a policy."""
    return {"Effect": effect, "Action": action, **rest}


def document(*statements: dict[str, object]) -> dict[str, object]:
    """A policy."""
    return {"Version": "2012-10-17", "Statement": list(statements)}
