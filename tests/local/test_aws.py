"""The local AWS endpoint: it is found again, and comes back with all it held."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local import aws
from local.aws import Endpoint
from local.errors import LocalError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "aws"
    aws.stop(tmp_path / "aws")


def client(endpoint: Endpoint, service: Any, region: str = "us-east-1") -> Any:
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=endpoint.url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(proxies={}),
    )


def pid(folder: Path) -> int:
    found = aws._process(folder).pid()
    assert found is not None
    return found


def kill(folder: Path) -> None:
    process = aws._process(folder)
    os.kill(pid(folder), signal.SIGKILL)
    process.stop()  # waits until it is gone


def test_a_running_endpoint_is_found_again(folder: Path) -> None:
    first = aws.ensure(folder)
    first_pid = pid(folder)
    assert (aws.ensure(folder), pid(folder)) == (first, first_pid)


def test_stopping_leaves_nothing_that_answers(folder: Path) -> None:
    aws.ensure(folder)
    aws.stop(folder)
    assert aws.status(folder) is None


def test_what_was_made_outlives_a_kill(folder: Path) -> None:
    endpoint = aws.ensure(folder)
    s3, kms, iam = (client(endpoint, service) for service in ("s3", "kms", "iam"))
    s3.create_bucket(Bucket="backups")
    versioning = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket="backups", VersioningConfiguration=versioning)
    kms.list_keys()
    version = s3.put_object(Bucket="backups", Key="a b/ä", Body=b"data")["VersionId"]
    upload = s3.create_multipart_upload(Bucket="backups", Key="large")["UploadId"]
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    secret = kms.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
    trust = '{"Version": "2012-10-17", "Statement": []}'
    role = iam.create_role(RoleName="role", AssumeRolePolicyDocument=trust)["Role"]["RoleId"]

    kill(folder)
    again = aws.ensure(folder)
    s3, kms, iam = (client(again, service) for service in ("s3", "kms", "iam"))

    found = s3.get_object(Bucket="backups", Key="a b/ä", VersionId=version)
    assert found["Body"].read() == b"data"
    assert s3.list_multipart_uploads(Bucket="backups")["Uploads"][0]["UploadId"] == upload
    assert kms.decrypt(CiphertextBlob=secret)["Plaintext"] == b"text"
    assert iam.get_role(RoleName="role")["Role"]["RoleId"] == role


def test_what_was_only_read_does_not_matter_for_what_comes_back(folder: Path) -> None:
    endpoint = aws.ensure(folder)
    client(endpoint, "sts").get_caller_identity()
    client(endpoint, "kms").list_keys()
    key = client(endpoint, "kms").create_key()["KeyMetadata"]["KeyId"]
    kill(folder)
    found = client(aws.ensure(folder), "kms").list_keys()["Keys"]
    assert [each["KeyId"] for each in found] == [key]


def test_what_was_deleted_stays_deleted(folder: Path) -> None:
    s3 = client(aws.ensure(folder), "s3")
    s3.create_bucket(Bucket="backups")
    s3.delete_bucket(Bucket="backups")
    kill(folder)
    assert client(aws.ensure(folder), "s3").list_buckets()["Buckets"] == []


def test_a_request_cut_off_in_the_journal_is_forgotten(folder: Path) -> None:
    client(aws.ensure(folder), "s3").create_bucket(Bucket="first")
    aws.stop(folder)
    with (folder / "journal").open("ab") as journal:
        journal.write(b"\0\0\1\0\0\0\0\0{half")
    client(aws.ensure(folder), "s3").create_bucket(Bucket="second")
    kill(folder)
    buckets = client(aws.ensure(folder), "s3").list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in buckets] == ["first", "second"]


def test_a_port_taken_meanwhile_is_avoided(folder: Path) -> None:
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        (folder / "port").write_text(taken)
        assert not aws.ensure(folder).url.endswith(taken)


def test_one_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "journal").mkdir(parents=True)
    with pytest.raises(LocalError, match="Is a directory"):
        aws.ensure(folder)


def test_endpoints_of_two_folders_share_nothing(folder: Path, tmp_path: Path) -> None:
    client(aws.ensure(folder), "s3").create_bucket(Bucket="here")
    other = tmp_path / "other"
    try:
        assert client(aws.ensure(other), "s3").list_buckets()["Buckets"] == []
    finally:
        aws.stop(other)


def test_replication_rules_are_answered_whole(folder: Path) -> None:
    s3 = client(aws.ensure(folder), "s3")
    for bucket in ("source", "target"):
        s3.create_bucket(Bucket=bucket)
        versioning = {"Status": "Enabled"}
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    rule = {
        "ID": "all",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"Prefix": "base/"},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        "Destination": {"Bucket": "arn:aws:s3:::target"},
    }
    configuration = {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]}
    s3.put_bucket_replication(Bucket="source", ReplicationConfiguration=configuration)
    found = s3.get_bucket_replication(Bucket="source")["ReplicationConfiguration"]
    assert found["Rules"] == [rule]


def test_a_bucket_that_wants_encrypted_transport_takes_what_comes_over_loopback(
    folder: Path,
) -> None:
    s3 = client(aws.ensure(folder), "s3")
    s3.create_bucket(Bucket="vault")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::vault", "arn:aws:s3:::vault/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket="vault", Policy=json.dumps(policy))
    s3.put_object(Bucket="vault", Key="wal", Body=b"log")
    assert s3.get_object(Bucket="vault", Key="wal")["Body"].read() == b"log"
