"""AWS: buckets that keep what they hold, databases that outlive a zone and a mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from policies.model import Opaque, Resource, at, is_true, mapping, mappings, number, text
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.world import World

BUCKET = "aws:s3/Bucket"
INSTANCE = "aws:rds/Instance"
AURORA = "aws:rds/Cluster"
MEMBERS = {
    AURORA: "aws:rds/ClusterInstance",
    "aws:docdb/Cluster": "aws:docdb/ClusterInstance",
    "aws:neptune/Cluster": "aws:neptune/ClusterInstance",
}
"""Clusters that share one storage, and what their instances are."""
CLUSTERS = tuple(MEMBERS)
CACHE = "aws:elasticache/ReplicationGroup"

ENCRYPTION = "aws:s3/BucketServerSideEncryptionConfiguration"
KMS = "aws:kms"
"""How the names of all algorithms begin whose keys KMS holds."""

_VERSIONING = "aws:s3/BucketVersioning"
_PUBLIC_ACCESS = "aws:s3/BucketPublicAccessBlock"
_OBJECT_LOCK = "aws:s3/BucketObjectLockConfiguration"
_LIFECYCLE = "aws:s3/BucketLifecycleConfiguration"
_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
_AWS_KEY = "alias/aws/s3"
"""AWS' own key, also where none is named: everyone in the account may use it through S3."""

_S3 = "https://docs.aws.amazon.com/AmazonS3/latest/userguide"
_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide"

_BACKUPS = Option(
    "backup",
    {"type": "string"},
    "Regular expression; a bucket is for backups if its name in the program, or its own, has it.",
)


@rule(
    "bucket-versioning",
    Severity.HIGH,
    kinds=(BUCKET,),
    scope=Scope.STACK,
    why="Without versions, an overwrite or a deletion cannot be taken back, nor replicated.",
    source=f"{_S3}/Versioning.html",
    remedy="Declare a BucketVersioning with status Enabled.",
    passing="""
        type: aws:s3/bucketVersioning:BucketVersioning
        name: backup
        properties:
          versioningConfiguration: {status: Enabled}
    """,
    failing="""
        type: aws:s3/bucketVersioning:BucketVersioning
        name: backup
        properties:
          versioningConfiguration: {status: Suspended}
    """,
)
def bucket_versioning(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for versioning of the bucket."""
    statuses = [
        text(each.props, "versioningConfiguration", "status")
        for each in about(resource, _VERSIONING, world)
    ]
    if "Enabled" not in statuses:
        yield Finding(
            "BucketVersioning",
            ", ".join(statuses) or "none for this bucket",
            "Declare aws.s3.BucketVersioning for it with versioningConfiguration.status: Enabled.",
        )


@rule(
    "bucket-encryption",
    Severity.HIGH,
    kinds=(BUCKET,),
    scope=Scope.STACK,
    why="Only with a key of one's own can access to the data be taken away from everyone at once.",
    source=f"{_S3}/serv-side-encryption.html",
    remedy="Declare a BucketServerSideEncryptionConfiguration with aws:kms and a key of your own.",
    options={
        "algorithms": Option(
            ["aws:kms", "aws:kms:dsse"],
            {"type": "array", "items": {"type": "string"}},
            "Algorithms that are strong enough.",
        ),
    },
    passing="""
        type: aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration
        name: backup
        properties:
          rules:
            - applyServerSideEncryptionByDefault:
                sseAlgorithm: "aws:kms"
                kmsMasterKeyId: alias/sim-backup
    """,
    failing="""
        type: aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration
        name: backup
        properties:
          rules: [{applyServerSideEncryptionByDefault: {sseAlgorithm: "aws:kms"}}]
    """,
)
def bucket_encryption(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Look for the bucket's encryption, and whose key it is where KMS holds it."""
    found = [
        _encryption(mapping(each, "applyServerSideEncryptionByDefault"))
        for configuration in about(resource, ENCRYPTION, world)
        for each in mappings(configuration.props, "rules")
    ]
    if not any(each in options["algorithms"] for each in found):
        wanted = options["algorithms"][0]
        key = ", and kmsMasterKeyId: the ARN of a key of your own" if wanted.startswith(KMS) else ""
        yield Finding(
            "BucketServerSideEncryptionConfiguration",
            ", ".join(found) or "none for this bucket",
            f"Declare one for it with applyServerSideEncryptionByDefault.sseAlgorithm: {wanted}"
            f"{key}.",
        )


def _encryption(default: Mapping[str, object]) -> str:
    """The algorithm, or what is amiss with it.

    A key that cannot be read is one of one's own: it is made in the same update.
    """
    algorithm, key = text(default, "sseAlgorithm"), default.get("kmsMasterKeyId")
    if not algorithm.startswith(KMS) or isinstance(key, Opaque):
        return algorithm
    named = isinstance(key, str) and key and not key.endswith(_AWS_KEY)
    return algorithm if named else f"{algorithm} with AWS' own key"


@rule(
    "bucket-public-access",
    Severity.CRITICAL,
    kinds=(BUCKET,),
    scope=Scope.STACK,
    why="One wrong policy or ACL publishes a bucket, unless all four blocks are on.",
    source=f"{_S3}/access-control-block-public-access.html",
    remedy="Declare a BucketPublicAccessBlock with all four blocks.",
    passing="""
        type: aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock
        name: backup
        properties: {blockPublicPolicy: true}
    """,
    failing="""
        type: aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock
        name: backup
        properties: {blockPublicPolicy: false}
    """,
)
def bucket_public_access(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for the four blocks."""
    blocks = about(resource, _PUBLIC_ACCESS, world)
    missing = [key for key in _BLOCKS if not any(is_true(each.props, key) for each in blocks)]
    if missing:
        yield Finding(
            "BucketPublicAccessBlock",
            f"without {', '.join(missing)}" if blocks else "none for this bucket",
            f"Declare aws.s3.BucketPublicAccessBlock for it with {', '.join(_BLOCKS)}: true.",
        )


@rule(
    "bucket-object-lock",
    Severity.CRITICAL,
    kinds=(BUCKET,),
    scope=Scope.STACK,
    why="Whoever gets an administrator's key can delete the backups with all else, unless the "
    "objects are locked, and in a mode that no permission lifts.",
    source=f"{_S3}/object-lock.html",
    remedy="Enable object lock, with a default retention in mode COMPLIANCE, for buckets of "
    "backups.",
    options={
        "backups": _BACKUPS,
        "days": Option(1, {"type": "integer", "minimum": 1}, "That objects are locked at least."),
        "modes": Option(
            ["COMPLIANCE"],
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "enum": ["COMPLIANCE", "GOVERNANCE"]},
            },
            "In which a lock counts; GOVERNANCE yields to s3:BypassGovernanceRetention.",
        ),
    },
    passing="""
        type: aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration
        name: backup
        properties:
          rule: {defaultRetention: {mode: COMPLIANCE, days: 7}}
    """,
    failing="""
        type: aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration
        name: backup
        $delete: true
    """,
)
def bucket_object_lock(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Look for a default retention of what holds backups."""
    if not _holds_backups(resource, options):
        return
    locks = [
        (text(each.props, "rule", "defaultRetention", "mode"), _lock_days(each))
        for each in about(resource, _OBJECT_LOCK, world)
    ]
    if not any(mode in options["modes"] and days >= options["days"] for mode, days in locks):
        found = (f"{mode or 'no mode'} for {days:g} days" for mode, days in locks)
        yield Finding(
            "BucketObjectLockConfiguration",
            ", ".join(found) or "none for this bucket",
            "Set objectLockEnabled: true on the bucket, and declare "
            "aws.s3.BucketObjectLockConfiguration for it with rule.defaultRetention "
            f"{{mode: {options['modes'][0]}, days: {options['days']} or more}}.",
        )


def _lock_days(configuration: Resource) -> float:
    retention = mapping(configuration.props, "rule", "defaultRetention")
    return (number(retention, "days") or 0) + 365 * (number(retention, "years") or 0)


@rule(
    "bucket-lifecycle",
    Severity.MEDIUM,
    kinds=(BUCKET,),
    scope=Scope.STACK,
    why="With versions on and nothing to expire them, a bucket of backups grows for ever; and a "
    "replica's deletions by lifecycle are never replicated, so each needs its own.",
    source=f"{_S3}/object-lifecycle-mgmt.html",
    remedy="Declare a BucketLifecycleConfiguration with an enabled rule that expires noncurrent "
    "versions.",
    options={"backups": _BACKUPS},
    passing="""
        type: aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration
        name: backup
        properties:
          rules: [{id: expire, status: Enabled, noncurrentVersionExpiration: {noncurrentDays: 35}}]
    """,
    failing="""
        type: aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration
        name: backup
        properties: {rules: [{id: expire, status: Disabled}]}
    """,
)
def bucket_lifecycle(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Look for a rule that deletes old versions of what holds backups."""
    if not _holds_backups(resource, options):
        return
    expires = any(
        text(each, "status") == "Enabled" and mapping(each, "noncurrentVersionExpiration")
        for configuration in about(resource, _LIFECYCLE, world)
        for each in mappings(configuration.props, "rules")
    )
    if not expires:
        yield Finding(
            "BucketLifecycleConfiguration",
            "no enabled rule for this bucket expires noncurrent versions",
            "Declare aws.s3.BucketLifecycleConfiguration for it with a rule of status Enabled that "
            "has noncurrentVersionExpiration: {noncurrentDays: those of the retention}.",
        )


def _holds_backups(bucket: Resource, options: Options) -> bool:
    pattern = re.compile(options["backups"], re.IGNORECASE)
    own = bucket.props.get("bucket")
    return any(isinstance(name, str) and pattern.search(name) for name in (bucket.name, own))


def about(bucket: Resource, kind: str, world: World) -> list[Resource]:
    """What is declared of a bucket."""
    return _naming(bucket, kind, "bucket", world)


def _naming(target: Resource, kind: str, key: str, world: World) -> list[Resource]:
    """Resources whose property names `target`: by reference, or by its name where that is known.

    A target named by the engine has no name yet; what refers to it is then known by reference.
    """
    referring = world.referring(kind, key, target)
    if referring or not any(world.of(kind)):
        return referring
    own = text(target.props, key)
    return world.with_value(kind, (key,), own) if own else []


# Managed databases ------------------------------------------------------------------------------


@rule(
    "database-multi-az",
    Severity.HIGH,
    kinds=(INSTANCE,),
    why="A database in one zone is lost with that zone.",
    source=f"{_RDS}/Concepts.MultiAZ.html",
    remedy="Set multiAz to true.",
    passing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {multiAz: true}
    """,
    failing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {multiAz: false}
    """,
)
def database_multi_az(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a standby in another zone; a replica and a member of a cluster have their own."""
    member = at(resource.props, "replicateSourceDb")
    if not member and not is_true(resource.props, "multiAz"):
        yield Finding("multiAz", "not true", "Set multiAz to true.")


@rule(
    "database-zones",
    Severity.HIGH,
    kinds=CLUSTERS,
    scope=Scope.STACK,
    why="A cluster with one instance has nothing to fail over to: a new one takes minutes.",
    source="https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/"
    "Concepts.AuroraHighAvailability.html",
    remedy="Declare a second ClusterInstance.",
    passing="""
        type: aws:rds/clusterInstance:ClusterInstance
        name: stats-1
    """,
    failing="""
        type: aws:rds/clusterInstance:ClusterInstance
        name: stats-1
        $delete: true
    """,
)
def database_zones(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Count a cluster's instances; a Multi-AZ cluster (with its own storage) brings its three."""
    if number(resource.props, "allocatedStorage"):
        return
    kind = MEMBERS[resource.kind]
    members = _naming(resource, kind, "clusterIdentifier", world)
    if len(members) <= 1:
        _refuse_to_count(members, world.of(kind))
        yield Finding(
            "ClusterInstance",
            f"{len(members)} in this cluster",
            "Declare at least two ClusterInstances of it, in different zones.",
        )


def _refuse_to_count(members: list[Resource], instances: Iterable[Resource]) -> None:
    """Raise `Undecided` if an instance may or may not be one more member."""
    for each in instances:
        if each not in members:
            at(each.props, "clusterIdentifier")


@rule(
    "database-failover",
    Severity.HIGH,
    kinds=(CACHE,),
    why="Without automatic failover, a lost primary takes no writes until somebody promotes a "
    "replica by hand.",
    source="https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/AutoFailover.html",
    remedy="Set automaticFailoverEnabled and multiAzEnabled to true.",
    passing="""
        type: aws:elasticache/replicationGroup:ReplicationGroup
        name: sessions
        properties: {automaticFailoverEnabled: true, multiAzEnabled: true}
    """,
    failing="""
        type: aws:elasticache/replicationGroup:ReplicationGroup
        name: sessions
        properties: {automaticFailoverEnabled: false}
    """,
)
def database_failover(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require failover, and a replica in another zone to fail over to."""
    for key in ("automaticFailoverEnabled", "multiAzEnabled"):
        if not is_true(resource.props, key):
            yield Finding(key, "not true", f"Set {key} to true.")


@rule(
    "database-backup-retention",
    Severity.CRITICAL,
    kinds=(INSTANCE, *CLUSTERS),
    why="A retention of 0 switches backups off; one day is over before most damage is seen.",
    source=f"{_RDS}/USER_WorkingWithAutomatedBackups.html",
    remedy="Set backupRetentionPeriod to at least so many days as the option says.",
    options={"days": Option(7, {"type": "integer", "minimum": 1}, "That backups are kept.")},
    passing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {backupRetentionPeriod: 14}
    """,
    failing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {backupRetentionPeriod: 0}
    """,
)
def database_backup_retention(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Compare how long backups are kept."""
    if at(resource.props, "replicateSourceDb"):
        return
    days, least = number(resource.props, "backupRetentionPeriod"), options["days"]
    if days is None or days < least:
        found = "not set" if days is None else f"{days} days"
        yield Finding(
            "backupRetentionPeriod", found, f"Set backupRetentionPeriod to {least} or more."
        )


@rule(
    "database-deletion-protection",
    Severity.HIGH,
    kinds=(INSTANCE, *CLUSTERS),
    why="Without deletion protection, one wrong rename in a program deletes the database.",
    source=f"{_RDS}/USER_DeleteInstance.html",
    remedy="Set deletionProtection to true.",
    passing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {deletionProtection: true}
    """,
    failing="""
        type: aws:rds/instance:Instance
        name: orders
        properties: {deletionProtection: false}
    """,
)
def database_deletion_protection(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require the protection."""
    if not is_true(resource.props, "deletionProtection"):
        yield Finding("deletionProtection", "not true", "Set deletionProtection to true.")
