"""A role for the Pods of a system that keeps something in the buckets of the backups."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import eks, iam

from components.aws_policy import arn, document, statement
from stacks.values import partition


@dataclass(frozen=True)
class BucketAccessArgs:
    """Who may write to a system's folder of the bucket, and what else it reads."""

    system: str
    """Name of the system, and of its folder in every bucket."""
    role: str
    """Name of the role; of an account, so unique in it."""
    namespace: str
    account: str
    """The ServiceAccount of the system's Pods."""
    writes: str
    """The stack's own bucket."""
    reads: tuple[str, ...]
    """Buckets of other stacks, whose folder of the same system is read."""
    region: str
    """Where all these buckets are."""
    eks_cluster: str | None
    """Whose Pod Identity lends the role; None: whoever runs the stack does."""
    also: tuple[tuple[str, str], ...] = ()
    """Namespace and name of other ServiceAccounts that get the role: an operator's. EKS lends each
    ServiceAccount of a cluster one role, so no other stack there can lend it another."""


class BucketAccess(pulumi.ComponentResource):
    """A role for one system's Pods: its own folder, and the keys of the buckets that it is in.

    Buckets and keys are known by name (a key by the alias that `Backup` gives it), so all of it is
    known before anything runs.

    Example:
        A program of its own::

            BucketAccess(
                "database-backup-access",
                BucketAccessArgs(
                    system="database",
                    role="games-prod-database",
                    namespace="games-data",
                    account="database",
                    writes="games-prod-backups-us-east-1",
                    reads=(),
                    region="us-east-1",
                    eks_cluster="games-prod",
                ),
            )
    """

    def __init__(
        self, name: str, args: BucketAccessArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:backup:BucketAccess", name, None, opts)
        role = iam.Role(
            f"{name}-role",
            name=args.role,
            assume_role_policy=_trust_in_pods((args.namespace, args.account), *args.also),
            opts=pulumi.ResourceOptions(parent=self),
        )
        lasting = pulumi.ResourceOptions(parent=self, depends_on=[role])
        iam.RolePolicy(
            f"{name}-writing",
            name="writing",
            role=args.role,
            policy=json.dumps(_access(args, [args.writes], _WRITING)),
            opts=lasting,
        )
        if args.reads:
            iam.RolePolicy(
                f"{name}-reading",
                name="reading",
                role=args.role,
                policy=json.dumps(_access(args, sorted(set(args.reads)), _READING)),
                opts=lasting,
            )
        identities = {
            f"{name}-identity": (args.namespace, args.account),
            **{f"{name}-identity-{account}": (space, account) for space, account in args.also},
        }
        if args.eks_cluster is not None:
            for resource, (namespace, account) in identities.items():
                eks.PodIdentityAssociation(
                    resource,
                    cluster_name=args.eks_cluster,
                    namespace=namespace,
                    service_account=account,
                    role_arn=role.arn,
                    region=args.region,
                    opts=pulumi.ResourceOptions(parent=self),
                )
        self.register_outputs({})


def _trust_in_pods(*accounts: tuple[str, str]) -> str:
    """Let EKS Pod Identity lend the role to these ServiceAccounts alone, each in its namespace."""
    return json.dumps(
        document(
            *(
                statement(
                    "Allow",
                    ["sts:AssumeRole", "sts:TagSession"],
                    Principal={"Service": "pods.eks.amazonaws.com"},
                    Condition={
                        "StringEquals": {
                            "aws:RequestTag/kubernetes-namespace": namespace,
                            "aws:RequestTag/kubernetes-service-account": account,
                        }
                    },
                )
                for namespace, account in accounts
            )
        )
    )


_READING = ["s3:GetObject"]
_WRITING = [
    *_READING,
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
]


def _access(
    args: BucketAccessArgs, buckets: Sequence[str], actions: Sequence[str]
) -> dict[str, object]:
    """Do this to one folder of each bucket, with the buckets' keys, through S3 alone."""
    arns = [arn(bucket, args.region) for bucket in buckets]
    return document(
        statement("Allow", ["s3:GetBucketLocation", "s3:ListBucket"], Resource=arns),
        statement("Allow", [*actions], Resource=[f"{each}/{args.system}/*" for each in arns]),
        statement(
            "Allow",
            ["kms:Decrypt", "kms:GenerateDataKey"],
            Resource=f"arn:{partition(args.region)}:kms:*:*:key/*",
            Condition={
                "StringEquals": {"kms:ViaService": f"s3.{args.region}.amazonaws.com"},
                "ForAnyValue:StringEquals": {
                    "kms:ResourceAliases": [f"alias/{bucket}" for bucket in buckets]
                },
            },
        ),
    )
