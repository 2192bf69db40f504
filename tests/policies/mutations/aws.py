"""Buckets and managed databases."""

from __future__ import annotations

from policies.model import Resource, text
from policies.rules.aws import AURORA, BUCKET, INSTANCE
from policies.world import World
from tests.policies.mutations.making import Mutation, Table, drop, each, example, put, without

_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def _without(kind: str) -> Mutation:
    """One mutant for each bucket, without what is declared of it."""

    def those(bucket: Resource, world: World) -> list[Resource]:
        name = text(bucket.props, "bucket") if isinstance(bucket.props.get("bucket"), str) else ""
        by_name = world.with_value(kind, ("bucket",), name) if name else []
        return [*world.referring(kind, "bucket", bucket), *by_name]

    return without(BUCKET, those)


_ENCRYPTION = "aws:s3/BucketServerSideEncryptionConfiguration"
_LIFECYCLE = "aws:s3/BucketLifecycleConfiguration"
_LOCK = "aws:s3/BucketObjectLockConfiguration"
_PUBLIC = "aws:s3/BucketPublicAccessBlock"
_VERSIONING = "aws:s3/BucketVersioning"


def _encrypted(**default: str) -> Mutation:
    """Another encryption by default."""
    return each(_ENCRYPTION, put("rules", [{"applyServerSideEncryptionByDefault": default}]))


MUTATIONS: Table = {
    "bucket-versioning": (
        each(_VERSIONING, put("versioningConfiguration.status", "Suspended")),
        _without(_VERSIONING),
    ),
    "bucket-encryption": (
        _encrypted(sseAlgorithm="AES256"),
        _encrypted(sseAlgorithm="aws:kms"),
        _encrypted(sseAlgorithm="aws:kms:dsse", kmsMasterKeyId="alias/aws/s3"),
        _without(_ENCRYPTION),
    ),
    "bucket-public-access": (
        *(each(_PUBLIC, put(block, False)) for block in _BLOCKS),
        _without(_PUBLIC),
    ),
    "bucket-object-lock": (
        each(_LOCK, drop("rule")),
        each(_LOCK, put("rule.defaultRetention.mode", "GOVERNANCE")),
        _without(_LOCK),
    ),
    "bucket-lifecycle": (
        each(_LIFECYCLE, put("rules", [{"id": "expire", "status": "Disabled"}])),
        each(_LIFECYCLE, put("rules", [{"id": "expire", "status": "Enabled"}])),
        _without(_LIFECYCLE),
    ),
    "database-multi-az": (
        each(INSTANCE, put("multiAz", False)),
        example("database-multi-az"),
    ),
    "database-zones": (example("database-zones"),),
    "database-failover": (example("database-failover"),),
    "database-backup-retention": (
        each((INSTANCE, AURORA), put("backupRetentionPeriod", 0)),
        example("database-backup-retention"),
    ),
    "database-deletion-protection": (
        each((INSTANCE, AURORA), put("deletionProtection", False)),
        example("database-deletion-protection"),
    ),
}
