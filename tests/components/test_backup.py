"""The backups' bucket: nobody reads it in clear, changes it, or deletes it before its time."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from components.backup import Backup, BackupArgs
from components.bucket_access import BucketAccess, BucketAccessArgs
from stacks.settings import BackupSettings
from tests.components.conftest import UNKNOWN, Registered, Registry, registered_by

pytestmark = pytest.mark.unit

DAY = 86_400
HERE, THERE = "us-east-1", "us-west-2"
BUCKET, REPLICA = "sim-prod-backups-us-east-1", "sim-prod-backups-us-west-2"
COMPUTED = {
    "aws:kms/key:Key": {"arn": "arn:aws:kms:::key/generated", "keyId": "generated"},
    "aws:iam/role:Role": {"arn": "arn:aws:iam:::role/generated"},
}
BOTH = pytest.mark.parametrize(("bucket", "region"), [(BUCKET, HERE), (REPLICA, THERE)])


def _args(protect: bool = True, **changes: Any) -> BackupArgs:
    settings = BackupSettings.model_validate({"replica_region": THERE, **changes})
    return BackupArgs(settings, HERE, "prod", "sim", protect)


@cache
def _backup(protect: bool = True, preview: bool = False, **changes: Any) -> Registry:
    args = _args(protect, **changes)
    return registered_by(lambda: Backup("backup", args), computed=COMPUTED, preview=preview)


def _of(registry: Registry, kind: str, bucket: str) -> Registered:
    [found] = [r for r in registry.of(kind) if r.inputs["bucket"] == bucket]
    return found


@pytest.mark.parametrize("stack", ["Prod", "prod_1", "p" * 36])
def test_a_stack_after_which_no_bucket_can_be_named_is_refused(stack: str) -> None:
    with pytest.raises(ValueError, match=f"bucket is missing, and sim-{stack}-backups-us-east-1"):
        BackupArgs(BackupSettings(), HERE, stack, "sim", True)


def test_a_stack_after_which_no_role_can_be_named_is_refused() -> None:
    settings = BackupSettings(bucket="games-backups", replica_region=THERE)
    with pytest.raises(ValueError, match="the role sim-p+-backup-replication, .* at most 64"):
        BackupArgs(settings, HERE, "p" * 42, "sim", True)


def test_a_bucket_of_ones_own_need_not_be_named_after_the_stack() -> None:
    args = BackupArgs(BackupSettings(bucket="games-backups"), HERE, "Prod_1", "sim", True)
    assert args.bucket_name == "games-backups"


def test_example_of_the_docstring_runs() -> None:
    def program() -> None:
        Backup(
            "backup",
            BackupArgs(
                settings=BackupSettings(replica_region=THERE),
                region=HERE,
                stack="prod",
                prefix="games",
                protect=True,
            ),
        )

    assert len(registered_by(program).of("Bucket")) == 2


@BOTH
def test_everything_of_a_bucket_is_in_its_region(bucket: str, region: str) -> None:
    backup = _backup()
    own = [r for r in backup.resources if r.inputs.get("bucket") == bucket]
    assert len(own) > 6
    assert {r.inputs["region"] for r in own} == {region}


@BOTH
def test_objects_are_locked_from_the_first_on(bucket: str, region: str) -> None:
    backup = _backup(lock="9d")
    assert _of(backup, "Bucket", bucket).inputs["objectLockEnabled"]
    retention = _of(backup, "BucketObjectLockConfiguration", bucket).inputs["rule"]
    assert retention == {"defaultRetention": {"mode": "COMPLIANCE", "days": 9}}, region


def test_an_unprotected_stack_can_be_taken_down() -> None:
    backup = _backup(protect=False)
    lock = _of(backup, "BucketObjectLockConfiguration", BUCKET).inputs["rule"]
    assert lock["defaultRetention"]["mode"] == "GOVERNANCE"
    bucket = _of(backup, "Bucket", BUCKET)
    assert bucket.inputs["forceDestroy"]
    assert not bucket.protect


@pytest.mark.parametrize("kind", ["Bucket", "Key"])
def test_buckets_and_keys_are_protected(kind: str) -> None:
    assert all(r.protect and r.retain_on_delete for r in _backup().of(kind))


@BOTH
def test_overwritten_backups_are_kept(bucket: str, region: str) -> None:
    versioning = _of(_backup(), "BucketVersioning", bucket).inputs
    assert versioning["versioningConfiguration"] == {"status": "Enabled"}, region


@BOTH
def test_each_bucket_is_encrypted_by_a_key_of_its_region(bucket: str, region: str) -> None:
    backup = _backup()
    [rule] = _of(backup, "BucketServerSideEncryptionConfiguration", bucket).inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
    keys = [r for r in backup.of("Key") if r.inputs["region"] == region]
    assert [key.inputs["enableKeyRotation"] for key in keys] == [True]


@BOTH
def test_nothing_is_public(bucket: str, region: str) -> None:
    block = _of(_backup(), "BucketPublicAccessBlock", bucket).inputs
    flags = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert all(block[flag] for flag in flags), region
    ownership = _of(_backup(), "BucketOwnershipControls", bucket).inputs
    assert ownership["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


@BOTH
def test_plain_http_is_denied_to_everybody(bucket: str, region: str) -> None:
    [statement] = json.loads(_of(_backup(), "BucketPolicy", bucket).inputs["policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*"), region
    assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@BOTH
def test_each_bucket_deletes_what_has_expired_by_itself(bucket: str, region: str) -> None:
    backup = _backup(retention="40d", lock="5d")
    expire, markers = _of(backup, "BucketLifecycleConfiguration", bucket).inputs["rules"]
    assert expire["expiration"] == {"days": 40}, region
    assert expire["noncurrentVersionExpiration"] == {"noncurrentDays": 5}
    assert expire["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 1}
    assert markers["expiration"] == {"expiredObjectDeleteMarker": True}


def test_every_backup_is_copied_within_a_time_that_is_measured() -> None:
    replication = _backup().one("BucketReplicationConfig").inputs
    [rule] = replication["rules"]
    destination = rule["destination"]
    assert (replication["bucket"], destination["bucket"]) == (BUCKET, f"arn:aws:s3:::{REPLICA}")
    assert rule["sourceSelectionCriteria"] == {"sseKmsEncryptedObjects": {"status": "Enabled"}}
    assert destination["encryptionConfiguration"]["replicaKmsKeyId"]
    assert destination["replicationTime"] == {"status": "Enabled", "time": {"minutes": 15}}
    assert destination["metrics"]["status"] == "Enabled"


def test_what_is_deleted_here_is_not_deleted_there() -> None:
    [rule] = _backup().one("BucketReplicationConfig").inputs["rules"]
    assert rule["deleteMarkerReplication"] == {"status": "Disabled"}


def test_the_copying_role_touches_only_these_buckets_and_keys() -> None:
    policy = json.loads(_backup().one("RolePolicy").inputs["policy"])
    resources = {statement["Resource"] for statement in policy["Statement"]}
    assert resources == {
        f"arn:aws:s3:::{BUCKET}",
        f"arn:aws:s3:::{BUCKET}/*",
        f"arn:aws:s3:::{REPLICA}/*",
        "arn:aws:kms:::key/generated",
    }
    assert not any("Delete" in json.dumps(s["Action"]) for s in policy["Statement"])


def test_without_another_region_there_is_no_copy() -> None:
    backup = _backup(replica_region=None)
    kinds = {r.kind for r in backup.resources}
    assert len(backup.of("Bucket")) == 1
    assert kinds.isdisjoint({"BucketReplicationConfig", "Role", "RolePolicy"})


def test_a_name_of_ones_own_is_used_for_both() -> None:
    names = {r.inputs["bucket"] for r in _backup(bucket="games-vault").of("Bucket")}
    assert names == {"games-vault", "games-vault-replica"}


@pytest.mark.parametrize(
    "kind",
    [
        "BucketVersioning",
        "BucketPublicAccessBlock",
        "BucketObjectLockConfiguration",
        "BucketLifecycleConfiguration",
        "BucketPolicy",
    ],
)
def test_what_policies_check_is_known_in_a_preview(kind: str) -> None:
    for resource in _backup(preview=True).of(kind):
        assert UNKNOWN not in json.dumps(resource.inputs)


def test_a_copy_in_the_same_region_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^backup: replica_region is us-east-1, the stack's own"):
        _args(replica_region=HERE)


# Who may write to it ----------------------------------------------------------------------------


def _access(preview: bool = False, **changes: Any) -> Registry:
    usual: dict[str, Any] = {
        "system": "database",
        "role": "sim-prod-database",
        "namespace": "sim-data",
        "account": "database",
        "writes": BUCKET,
        "reads": (),
        "region": HERE,
        "eks_cluster": "sim-prod",
    }
    args = BucketAccessArgs(**{**usual, **changes})
    return registered_by(lambda: BucketAccess("access", args), computed=COMPUTED, preview=preview)


def _allowed(registry: Registry, policy: str) -> dict[str, Any]:
    """Resources by action."""
    [found] = [r for r in registry.of("RolePolicy") if r.inputs["name"] == policy]
    statements = json.loads(found.inputs["policy"])["Statement"]
    return {action: each["Resource"] for each in statements for action in each["Action"]}


def test_only_the_pods_of_one_account_get_the_role() -> None:
    [statement] = json.loads(_access().one("Role").inputs["assumeRolePolicy"])["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/kubernetes-namespace": "sim-data",
        "aws:RequestTag/kubernetes-service-account": "database",
    }
    identity = _access().one("PodIdentityAssociation").inputs
    assert (identity["clusterName"], identity["serviceAccount"]) == ("sim-prod", "database")
    assert identity["roleArn"] == COMPUTED["aws:iam/role:Role"]["arn"]


def test_an_operator_gets_the_same_role_in_its_own_namespace_alone() -> None:
    registry = _access(also=(("operators", "manager"),))
    statements = json.loads(registry.one("Role").inputs["assumeRolePolicy"])["Statement"]
    # One statement for both would trust an account of one name in the namespace of the other.
    assert [each["Condition"]["StringEquals"] for each in statements] == [
        {
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": account,
        }
        for namespace, account in (("sim-data", "database"), ("operators", "manager"))
    ]
    lent = {
        (each.inputs["namespace"], each.inputs["serviceAccount"], each.inputs["roleArn"])
        for each in registry.of("PodIdentityAssociation")
    }
    role = COMPUTED["aws:iam/role:Role"]["arn"]
    assert lent == {("sim-data", "database", role), ("operators", "manager", role)}


def test_a_system_writes_its_own_folder_alone() -> None:
    allowed = _allowed(_access(), "writing")
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:GetObject"):
        assert allowed[action] == [f"arn:aws:s3:::{BUCKET}/database/*"]
    assert allowed["s3:ListBucket"] == [f"arn:aws:s3:::{BUCKET}"]


def test_policies_name_the_part_of_aws_that_the_region_is_in() -> None:
    registry = _access(region="us-gov-west-1")
    allowed = _allowed(registry, "writing")
    assert allowed["s3:ListBucket"] == [f"arn:aws-us-gov:s3:::{BUCKET}"]
    assert "arn:aws-us-gov:kms:*:*:key/*" in registry.one("RolePolicy").inputs["policy"]


def test_what_others_archived_is_only_read() -> None:
    allowed = _allowed(_access(reads=(REPLICA,)), "reading")
    assert allowed["s3:GetObject"] == [f"arn:aws:s3:::{REPLICA}/database/*"]
    assert not {"s3:PutObject", "s3:DeleteObject"} & allowed.keys()


def test_keys_are_those_of_the_buckets_through_s3_alone() -> None:
    [policy] = _access().of("RolePolicy")
    [keys] = [
        each
        for each in json.loads(policy.inputs["policy"])["Statement"]
        if "kms:Decrypt" in each["Action"]
    ]
    assert keys["Condition"] == {
        "StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"},
        "ForAnyValue:StringEquals": {"kms:ResourceAliases": [f"alias/{BUCKET}"]},
    }
    [alias] = [r.inputs["name"] for r in _backup().of("Alias") if r.inputs["region"] == HERE]
    assert alias == f"alias/{BUCKET}"


def test_without_a_named_cluster_whoever_runs_the_stack_lends_the_role() -> None:
    kinds = {resource.kind for resource in _access(eks_cluster=None).resources}
    assert kinds == {"BucketAccess", "Role", "RolePolicy"}


def test_all_that_the_role_may_do_is_known_in_a_preview() -> None:
    assert _access(preview=True).unknowns() == ["access-identity"]
