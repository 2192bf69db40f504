"""The bucket that holds every backup of a stack, and its copy in another region.

What is in it cannot be changed, nor deleted before its time, by anybody, or by administrators alone
where data is not protected: object lock keeps it, versioning keeps what was overwritten, and the
copy outlives the region.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pulumi
from pulumi_aws import iam, kms, s3

from components.aws_policy import arn, document, statement
from stacks.fault_domains import REGION_COPY
from stacks.settings import BackupSettings
from stacks.values import MINUTE

_DAY = 86_400

_COPY_MINUTES = REGION_COPY // MINUTE

_KEY_GRACE_DAYS = 30
"""The longest that KMS allows: whoever deletes a key by mistake loses every backup with it."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,53}[a-z0-9]")
"""Shorter than S3 lets it be: the role of each system is named after the bucket and the system."""

_LONGEST_ROLE = 64
"""Of IAM."""

_UPLOAD_DAYS = 1
"""Parts of an upload that was never finished are of no use, but cost as much."""


@dataclass(frozen=True)
class BackupArgs:
    """Settings, and what the names are made of.

    Raises:
        ValueError: if the copy would be in the same region, or AWS takes no such name.
    """

    settings: BackupSettings
    region: str
    stack: str
    prefix: str
    protect: bool

    def __post_init__(self) -> None:
        if self.settings.replica_region == self.region:
            raise ValueError(
                f"backup: replica_region is {self.region}, the stack's own region: "
                "a copy there falls with it; name another, or leave it out"
            )
        self._judge_names()

    def _judge_names(self) -> None:
        """Refuse here what AWS would refuse in the middle of an update."""
        if not _BUCKET.fullmatch(self.bucket_name):
            raise ValueError(
                f"backup: bucket is missing, and {self.bucket_name}, made of prefix, stack and "
                "region, should have 3 to 55 lower-case letters, digits and dashes: set it to a "
                "name that has, or name the stack otherwise"
            )
        if self.replica_name is not None and len(self.replication_role) > _LONGEST_ROLE:
            raise ValueError(
                f"backup: the role {self.replication_role}, made of prefix and stack, should have "
                f"at most {_LONGEST_ROLE} characters: make one of the two shorter"
            )

    @property
    def bucket_name(self) -> str:
        """Of the bucket in the stack's region."""
        return self.settings.bucket or f"{self.prefix}-{self.stack}-backups-{self.region}"

    @property
    def replica_name(self) -> str | None:
        """Of the bucket in the other region, if there is one."""
        if self.settings.replica_region is None:
            return None
        if self.settings.bucket:
            return f"{self.settings.bucket}-replica"
        return f"{self.prefix}-{self.stack}-backups-{self.settings.replica_region}"

    @property
    def replication_role(self) -> str:
        """Of the role that copies from one to the other."""
        return f"{self.prefix}-{self.stack}-backup-replication"


@dataclass(frozen=True)
class _Vault:
    """A bucket that is ready to take backups, and the key that encrypts them."""

    name: str
    region: str
    key: kms.Key
    versioning: s3.BucketVersioning

    @property
    def arn(self) -> str:
        return arn(self.name, self.region)


class Backup(pulumi.ComponentResource):
    """A locked, versioned, encrypted bucket, and one like it in `replica_region` if that is set.

    Nothing that is deleted here is deleted in the copy: that has a lifecycle of its own.

    Example:
        A program of its own::

            backup = Backup(
                "backup",
                BackupArgs(
                    settings=BackupSettings(replica_region="us-west-2"),
                    region="us-east-1",
                    stack="prod",
                    prefix="games",
                    protect=True,
                ),
            )
            pulumi.export("bucket", backup.bucket)
    """

    bucket: pulumi.Output[str]
    """Name of the bucket, once it is there."""
    bucket_name: str
    """The same, known beforehand."""
    replica_name: str | None
    """Name of the bucket in the other region."""

    def __init__(
        self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:backup:Backup", name, None, opts)
        settings = args.settings
        self.bucket_name, self.replica_name = args.bucket_name, args.replica_name
        source = self._vault(name, self.bucket_name, args.region, args)
        if self.replica_name is not None and settings.replica_region is not None:
            replica = self._vault(
                f"{name}-replica", self.replica_name, settings.replica_region, args
            )
            self._replication(name, source, replica, args, settings.replica_region)
        self.bucket = source.versioning.bucket
        self.register_outputs({"bucket": self.bucket})

    def _vault(self, name: str, bucket_name: str, region: str, args: BackupArgs) -> _Vault:
        """Create a bucket with its key, and everything that guards what is in it."""
        child = pulumi.ResourceOptions(parent=self)
        kept = pulumi.ResourceOptions(
            parent=self, protect=args.protect, retain_on_delete=args.protect
        )
        key = kms.Key(
            f"{name}-key",
            description=f"Encrypts {bucket_name}",
            enable_key_rotation=True,
            deletion_window_in_days=_KEY_GRACE_DAYS,
            region=region,
            opts=kept,
        )
        kms.Alias(
            f"{name}-key-alias",
            name=f"alias/{bucket_name}",
            target_key_id=key.key_id,
            region=region,
            opts=child,
        )
        bucket = s3.Bucket(
            f"{name}-bucket",
            bucket=bucket_name,
            object_lock_enabled=True,
            force_destroy=not args.protect,
            region=region,
            opts=kept,
        )
        # By name, which is known in a preview; hence the explicit dependency.
        inside = pulumi.ResourceOptions(parent=self, depends_on=[bucket])
        versioning = s3.BucketVersioning(
            f"{name}-versioning",
            bucket=bucket_name,
            versioning_configuration={"status": "Enabled"},
            region=region,
            opts=inside,
        )
        s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket_name,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": key.arn,
                    },
                    "bucket_key_enabled": True,
                }
            ],
            region=region,
            opts=inside,
        )
        s3.BucketPublicAccessBlock(
            f"{name}-public-access",
            bucket=bucket_name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            region=region,
            opts=inside,
        )
        s3.BucketOwnershipControls(
            f"{name}-ownership",
            bucket=bucket_name,
            rule={"object_ownership": "BucketOwnerEnforced"},
            region=region,
            opts=inside,
        )
        s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket_name,
            policy=_only_encrypted_transport(arn(bucket_name, region)),
            region=region,
            opts=inside,
        )
        versioned = pulumi.ResourceOptions(parent=self, depends_on=[versioning])
        s3.BucketObjectLockConfiguration(
            f"{name}-lock",
            bucket=bucket_name,
            rule={
                "default_retention": {
                    # Governance lets an administrator take down what is not protected.
                    "mode": "COMPLIANCE" if args.protect else "GOVERNANCE",
                    "days": args.settings.lock // _DAY,
                }
            },
            region=region,
            opts=versioned,
        )
        s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket_name,
            rules=_lifecycle(args.settings),
            region=region,
            opts=versioned,
        )
        return _Vault(bucket_name, region, key, versioning)

    def _replication(
        self, name: str, source: _Vault, replica: _Vault, args: BackupArgs, replica_region: str
    ) -> None:
        child = pulumi.ResourceOptions(parent=self)
        role_name = args.replication_role
        role = iam.Role(
            f"{name}-replication-role",
            name=role_name,
            assume_role_policy=_trust_in_s3(),
            opts=child,
        )
        permissions = iam.RolePolicy(
            f"{name}-replication-permissions",
            name="replicate",
            role=role_name,
            policy=pulumi.Output.json_dumps(
                _replication_permissions(source, replica, args.region, replica_region)
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role]),
        )
        s3.BucketReplicationConfig(
            f"{name}-replication",
            bucket=source.name,
            role=role.arn,
            rules=[_replication_rule(replica)],
            region=args.region,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[permissions, source.versioning, replica.versioning]
            ),
        )


def _only_encrypted_transport(bucket_arn: str) -> str:
    return json.dumps(
        document(
            statement(
                "Deny",
                "s3:*",
                Sid="OnlyEncryptedTransport",
                Principal="*",
                Resource=[bucket_arn, f"{bucket_arn}/*"],
                Condition={"Bool": {"aws:SecureTransport": "false"}},
            )
        )
    )


def _lifecycle(settings: BackupSettings) -> list[s3.BucketLifecycleConfigurationRuleArgsDict]:
    """Delete what has expired, then its versions, then the markers that are left.

    Versions stay as long as the lock, so whoever overwrites a backup destroys nothing.
    """
    return [
        {
            "id": "expire",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "expiration": {"days": settings.retention // _DAY},
            "noncurrent_version_expiration": {"noncurrent_days": settings.lock // _DAY},
            "abort_incomplete_multipart_upload": {"days_after_initiation": _UPLOAD_DAYS},
        },
        {
            "id": "remove-delete-markers",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "expiration": {"expired_object_delete_marker": True},
        },
    ]


def _trust_in_s3() -> str:
    return json.dumps(
        document(statement("Allow", "sts:AssumeRole", Principal={"Service": "s3.amazonaws.com"}))
    )


def _replication_permissions(
    source: _Vault, replica: _Vault, region: str, replica_region: str
) -> dict[str, object]:
    """Read here, lock included; write there; and use either key for just that."""
    return document(
        statement(
            "Allow",
            ["s3:GetReplicationConfiguration", "s3:ListBucket"],
            Resource=source.arn,
        ),
        statement(
            "Allow",
            [
                "s3:GetObjectVersionForReplication",
                "s3:GetObjectVersionAcl",
                "s3:GetObjectVersionTagging",
                "s3:GetObjectRetention",
                "s3:GetObjectLegalHold",
            ],
            Resource=f"{source.arn}/*",
        ),
        statement(
            "Allow",
            ["s3:ReplicateObject", "s3:ReplicateTags"],
            Resource=f"{replica.arn}/*",
        ),
        statement("Allow", "kms:Decrypt", Resource=source.key.arn, **_through_s3(region)),
        statement(
            "Allow",
            ["kms:Encrypt", "kms:GenerateDataKey"],
            Resource=replica.key.arn,
            **_through_s3(replica_region),
        ),
    )


def _through_s3(region: str) -> dict[str, object]:
    return {"Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}}}


def _replication_rule(replica: _Vault) -> s3.BucketReplicationConfigRuleArgsDict:
    return {
        "id": "every-backup",
        "priority": 0,
        "status": "Enabled",
        "filter": {"prefix": ""},
        "delete_marker_replication": {"status": "Disabled"},
        # Without this, S3 leaves out everything that KMS encrypts, and says nothing.
        "source_selection_criteria": {"sse_kms_encrypted_objects": {"status": "Enabled"}},
        "destination": {
            "bucket": replica.arn,
            "encryption_configuration": {"replica_kms_key_id": replica.key.arn},
            "replication_time": {"status": "Enabled", "time": {"minutes": _COPY_MINUTES}},
            # Time control needs the metrics; they tell how far the copy is behind.
            "metrics": {"status": "Enabled", "event_threshold": {"minutes": _COPY_MINUTES}},
        },
    }
