"""S3: the bucket, and the configurations that hang on one."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from local.providers.aws.clients import Aws, unless
from local.providers.aws.resource import (
    Name,
    ResourceType,
    Values,
    as_list,
    as_map,
    from_api,
    to_api,
)
from local.providers.protocol import ProviderError

_NAMES: Final = {
    "id": "ID",
    "kmsMasterKeyId": "KMSMasterKeyID",
    "mfaDelete": "MFADelete",
    "replicaKmsKeyId": "ReplicaKmsKeyID",
    "sseAlgorithm": "SSEAlgorithm",
}
_GONE: Final = ("NoSuchBucket", "404")
_FIRST_REGION: Final = "us-east-1"
_PER_REQUEST: Final = 1000


# --- the bucket -------------------------------------------------------------------------------


def _create_bucket(aws: Aws, inputs: Values) -> str:
    bucket: str = inputs["bucket"]
    arguments: Values = {"Bucket": bucket}
    if aws.region != _FIRST_REGION:
        arguments["CreateBucketConfiguration"] = {"LocationConstraint": aws.region}
    if inputs["objectLockEnabled"]:
        arguments["ObjectLockEnabledForBucket"] = True
    unless(("BucketAlreadyOwnedByYou",), aws.s3.create_bucket, **arguments)
    found = _read_bucket(aws, bucket)
    if found and (found["region"], found["objectLockEnabled"]) != (
        aws.region,
        inputs["objectLockEnabled"],
    ):
        raise ProviderError(
            f"bucket {bucket} exists already, in {found['region']} and with object lock "
            f"{'on' if found['objectLockEnabled'] else 'off'}; neither can be changed"
        )
    return bucket


def _read_bucket(aws: Aws, bucket: str) -> Values | None:
    if unless(_GONE, aws.s3.head_bucket, Bucket=bucket) is None:
        return None
    region = aws.s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] or _FIRST_REGION
    lock = unless(
        ("ObjectLockConfigurationNotFoundError",),
        aws.s3.get_object_lock_configuration,
        Bucket=bucket,
    )
    tags = unless(("NoSuchTagSet",), aws.s3.get_bucket_tagging, Bucket=bucket)
    return {
        "bucket": bucket,
        "arn": f"arn:aws:s3:::{bucket}",
        "bucketDomainName": f"{bucket}.s3.amazonaws.com",
        "bucketRegionalDomainName": f"{bucket}.s3.{region}.amazonaws.com",
        "bucketRegion": region,
        "region": region,
        "objectLockEnabled": lock is not None,
        "tagsAll": as_map(tags["TagSet"]) if tags else {},
    }


def _update_bucket(aws: Aws, bucket: str, inputs: Values) -> None:
    if inputs["tagsAll"]:
        tags = {"TagSet": as_list(inputs["tagsAll"])}
        aws.s3.put_bucket_tagging(Bucket=bucket, Tagging=tags)
    else:
        aws.s3.delete_bucket_tagging(Bucket=bucket)


def _delete_bucket(aws: Aws, bucket: str, state: Values) -> None:
    if state.get("forceDestroy"):
        _empty(aws, bucket)
    elif _has_objects(aws, bucket):
        raise ProviderError(
            f"bucket {bucket} is not empty: empty it, or set forceDestroy and run `up` before"
        )
    aws.s3.delete_bucket(Bucket=bucket)


def _has_objects(aws: Aws, bucket: str) -> bool:
    page = aws.s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    return bool(page.get("Versions") or page.get("DeleteMarkers"))


def _empty(aws: Aws, bucket: str) -> None:
    while _has_objects(aws, bucket):
        page = aws.s3.list_object_versions(Bucket=bucket, MaxKeys=_PER_REQUEST)
        objects = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        answer = aws.s3.delete_objects(
            Bucket=bucket, Delete={"Objects": objects}, BypassGovernanceRetention=True
        )
        for error in answer.get("Errors", [])[:1]:
            raise ProviderError(
                f"bucket {bucket}: object {error['Key']} cannot be deleted: {error['Message']}"
            )


# --- what hangs on a bucket -------------------------------------------------------------------


def _part(
    put: str,
    get: str,
    delete: str | Callable[[Aws, str, Values], None],
    *,
    argument: str,
    absent: str = "",
    properties: Mapping[str, Any],
    required: tuple[str, ...] = (),
    documents: tuple[str, ...] = (),
    pack: Callable[[Values], Any] = lambda properties: properties,
    unpack: Callable[[Any], Values | None] = lambda answer: answer,
) -> ResourceType:
    """A configuration of a bucket, whose id is the bucket's name.

    `put`, `get` and `delete` are boto3's methods (or a function that deletes in another way);
    `argument` is put's argument, and the key of get's answer unless the properties are at its top;
    `absent` is the error code when there is no such configuration. `properties` are the inputs
    beside `bucket`, with what leaving them out means; `pack` and `unpack` go from them to AWS's
    shape and back where it is another.
    """

    def update(aws: Aws, bucket: str, inputs: Values) -> None:
        body = pack({k: inputs[k] for k in properties if k in inputs})
        getattr(aws.s3, put)(Bucket=bucket, **{argument: to_api(body, _NAMES)})

    def create(aws: Aws, inputs: Values) -> str:
        bucket: str = inputs["bucket"]
        update(aws, bucket, inputs)
        return bucket

    def read(aws: Aws, bucket: str) -> Values | None:
        answer = unless((*_GONE, absent), getattr(aws.s3, get), Bucket=bucket)
        if answer is None:
            return None
        body = unpack(from_api(answer.get(argument, answer), _NAMES))
        if body is None:
            return None
        return {"bucket": bucket, "region": aws.region, **{k: body.get(k) for k in properties}}

    def remove(aws: Aws, bucket: str, state: Values) -> None:
        if isinstance(delete, str):
            getattr(aws.s3, delete)(Bucket=bucket)
        else:
            delete(aws, bucket, state)

    return ResourceType(
        create,
        read,
        update,
        remove,
        required=("bucket", *required),
        optional={k: v for k, v in properties.items() if k not in required},
        immutable=("bucket", "region"),
        documents=documents,
    )


def _suspend_versioning(aws: Aws, bucket: str, state: Values) -> None:
    """Versioning can only be suspended, and not even that where objects are locked."""
    if (state.get("versioningConfiguration") or {}).get("status") == "Enabled":
        unless(
            ("InvalidBucketState",),
            aws.s3.put_bucket_versioning,
            Bucket=bucket,
            VersioningConfiguration={"Status": "Suspended"},
        )


def _drop_lock_rule(aws: Aws, bucket: str, _: Values) -> None:
    """Object lock itself stays for ever; the default retention goes."""
    aws.s3.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    )


def _stop_logging(aws: Aws, bucket: str, _: Values) -> None:
    aws.s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})


TYPES: Final[Mapping[str, ResourceType]] = {
    "aws:s3/bucket:Bucket": ResourceType(
        _create_bucket,
        _read_bucket,
        _update_bucket,
        _delete_bucket,
        optional={
            "bucket": None,
            "bucketPrefix": None,
            "forceDestroy": False,
            "objectLockEnabled": False,
        },
        computed=("arn", "bucketDomainName", "bucketRegionalDomainName", "bucketRegion"),
        immutable=("bucket", "bucketPrefix", "objectLockEnabled", "region"),
        name=Name(63, "bucket", "bucketPrefix", str.lower),
        tagged=True,
        bare=True,
    ),
    "aws:s3/bucketVersioning:BucketVersioning": _part(
        "put_bucket_versioning",
        "get_bucket_versioning",
        _suspend_versioning,
        argument="VersioningConfiguration",
        properties={"versioningConfiguration": None},
        required=("versioningConfiguration",),
        pack=lambda properties: properties["versioningConfiguration"],
        unpack=lambda answer: {"versioningConfiguration": answer},
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _part(
        "put_bucket_encryption",
        "get_bucket_encryption",
        "delete_bucket_encryption",
        argument="ServerSideEncryptionConfiguration",
        absent="ServerSideEncryptionConfigurationNotFoundError",
        properties={"rules": None},
        required=("rules",),
    ),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _part(
        "put_public_access_block",
        "get_public_access_block",
        "delete_public_access_block",
        argument="PublicAccessBlockConfiguration",
        absent="NoSuchPublicAccessBlockConfiguration",
        properties={
            "blockPublicAcls": False,
            "blockPublicPolicy": False,
            "ignorePublicAcls": False,
            "restrictPublicBuckets": False,
        },
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _part(
        "put_bucket_ownership_controls",
        "get_bucket_ownership_controls",
        "delete_bucket_ownership_controls",
        argument="OwnershipControls",
        absent="OwnershipControlsNotFoundError",
        properties={"rule": None},
        required=("rule",),
        pack=lambda properties: {"rules": [properties["rule"]]},
        unpack=lambda answer: {"rule": answer["rules"][0]},
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _part(
        "put_bucket_lifecycle_configuration",
        "get_bucket_lifecycle_configuration",
        "delete_bucket_lifecycle",
        argument="LifecycleConfiguration",
        absent="NoSuchLifecycleConfiguration",
        properties={"rules": None},
        required=("rules",),
    ),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": _part(
        "put_object_lock_configuration",
        "get_object_lock_configuration",
        _drop_lock_rule,
        argument="ObjectLockConfiguration",
        absent="ObjectLockConfigurationNotFoundError",
        properties={"objectLockEnabled": "Enabled", "rule": None},
    ),
    "aws:s3/bucketPolicy:BucketPolicy": _part(
        "put_bucket_policy",
        "get_bucket_policy",
        "delete_bucket_policy",
        argument="Policy",
        absent="NoSuchBucketPolicy",
        properties={"policy": None},
        required=("policy",),
        documents=("policy",),
        pack=lambda properties: properties["policy"],
        unpack=lambda answer: {"policy": answer},
    ),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": _part(
        "put_bucket_replication",
        "get_bucket_replication",
        "delete_bucket_replication",
        argument="ReplicationConfiguration",
        absent="ReplicationConfigurationNotFoundError",
        properties={"role": None, "rules": None},
        required=("role", "rules"),
    ),
    "aws:s3/bucketLogging:BucketLogging": _part(
        "put_bucket_logging",
        "get_bucket_logging",
        _stop_logging,
        argument="BucketLoggingStatus",
        properties={"targetBucket": None, "targetPrefix": None},
        required=("targetBucket", "targetPrefix"),
        pack=lambda properties: {"loggingEnabled": properties},
        unpack=lambda answer: answer.get("loggingEnabled"),
    ),
}
