"""The aws stand-in: its pure parts, and all of it in the real engine against a local endpoint."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pulumi
import pulumi_aws
import pytest
from botocore.config import Config
from pulumi import ResourceOptions, automation
from pulumi.automation import CommandError

from local import aws
from local.aws import Endpoint
from local.providers.aws.clients import Aws, Clients
from local.providers.aws.functions import FUNCTIONS
from local.providers.aws.provider import Settings
from local.providers.aws.resource import (
    ResourceType,
    all_tags,
    from_api,
    observed_inputs,
    own_tags,
    same,
    to_api,
)
from tests.local.providers.conftest import Program, Stack

iam, kms, s3 = pulumi_aws.iam, pulumi_aws.kms, pulumi_aws.s3

Values = dict[str, Any]

REGION, OTHER_REGION = "us-east-1", "us-west-2"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Service": "s3.amazonaws.com"},
            }
        ],
    }
)


def allow(action: str) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# --- pure parts -------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("wanted", "actual"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}'),
        ({"mode": "GOVERNANCE", "days": 7}, {"mode": "GOVERNANCE", "days": 7, "years": 0}),
        ({"status": "Enabled"}, {"status": "Enabled", "id": "made-up", "priority": 1}),
        ({"filter": {"prefix": ""}}, {}),
        ("arn:aws:kms:us-east-1:1:key/12-34", "12-34"),
        (None, False),
    ],
)
def test_two_spellings_of_one_thing_are_the_same(wanted: Any, actual: Any) -> None:
    assert same(wanted, actual)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("wanted", "actual"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ({"status": "Enabled"}, {"status": "Enabled", "expiration": {"days": 1}}),
        ({"id": "mine"}, {"id": "other"}),
        ([1], [1, 2]),
        ("arn:aws:kms:us-east-1:1:key/12-34", "34"),
        (0, 5),
        (True, False),
    ],
)
def test_what_was_changed_by_hand_is_not_the_same(wanted: Any, actual: Any) -> None:
    assert not same(wanted, actual)


@pytest.mark.unit
def test_shapes_survive_the_way_to_the_api_and_back() -> None:
    names = {"id": "ID"}
    rule = {"id": "x", "filter": {"and": {"prefix": "p", "tags": {"lower case": "v"}}}, "days": [1]}
    request = to_api(rule, names)
    assert request == {
        "ID": "x",
        "Filter": {"And": {"Prefix": "p", "Tags": [{"Key": "lower case", "Value": "v"}]}},
        "Days": [1],
    }
    assert from_api(request, names) == rule


@pytest.mark.unit
def test_times_become_text_in_utc() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    time = datetime.datetime(2026, 1, 1, 1, tzinfo=east)
    assert from_api({"Date": time}, {}) == {"date": "2025-12-31T23:00:00Z"}


def _nothing(*_: Any) -> Any: ...


KIND = ResourceType(
    _nothing,
    _nothing,
    _nothing,
    _nothing,
    required=("name",),
    optional={"path": "/", "note": None},
    kept=("policy",),
    tagged=True,
)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("old", "found", "inputs"),
    [
        ({"name": "n"}, {"name": "n", "path": "/", "policy": "{}"}, {"name": "n"}),
        ({"name": "n"}, {"name": "n", "path": "/x"}, {"name": "n", "path": "/x"}),
        ({"name": "n", "note": "a"}, {"name": "n", "note": None}, {"name": "n"}),
        ({"name": "n", "note": "a"}, {"name": "n"}, {"name": "n", "note": "a"}),
        (
            {"name": "n"},
            {"name": "n", "tags": {"by": "hand"}},
            {"name": "n", "tags": {"by": "hand"}},
        ),
        ({}, {"name": "n", "path": "/", "policy": "{}"}, {"name": "n", "policy": "{}"}),
    ],
    ids=["as-it-was", "changed", "removed", "not-observable", "added", "imported"],
)
def test_inputs_follow_what_was_found(old: Values, found: Values, inputs: Values) -> None:
    assert observed_inputs(KIND, old, found) == inputs


@pytest.mark.unit
def test_the_providers_tags_are_not_a_resources_own() -> None:
    every = all_tags({"a": "1", "team": "core"}, {"team": "core", "env": "dev"})
    assert every == {"a": "1", "team": "core", "env": "dev"}
    assert own_tags(every, {"a": "1", "team": "core"}, {"team": "core", "env": "dev"}) == {
        "a": "1",
        "team": "core",
    }


@pytest.mark.unit
def test_a_policy_document_is_written_as_the_real_one_is() -> None:
    document = FUNCTIONS["aws:iam/getPolicyDocument:getPolicyDocument"](
        Aws(Clients(""), REGION),
        {
            "statements": [
                {
                    "sid": "One",
                    "actions": ["s3:Get*", "s3:List*"],
                    "resources": ["arn:aws:s3:::b/&{aws:username}"],
                    "principals": [{"type": "AWS", "identifiers": ["1", "2"]}],
                    "conditions": [
                        {"test": "Bool", "variable": "aws:SecureTransport", "values": ["true"]}
                    ],
                }
            ],
            "overridePolicyDocuments": [allow("s3:Put*")],
        },
    )
    assert json.loads(document["json"])["Statement"] == [
        {
            "Sid": "One",
            "Effect": "Allow",
            "Action": ["s3:List*", "s3:Get*"],
            "Resource": "arn:aws:s3:::b/${aws:username}",
            "Principal": {"AWS": ["2", "1"]},
            "Condition": {"Bool": {"aws:SecureTransport": "true"}},
        },
        {"Effect": "Allow", "Action": "s3:Put*", "Resource": "*"},
    ]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("region", "endpoint", "message"),
    [
        ("", "http://here", "set `aws:region` in the stack file"),
        ("us-esat1", "http://here", "region is us-esat1"),
        ("us-east-1", "", "PROVIDERS=real"),
    ],
)
def test_a_configuration_that_cannot_work_is_explained(
    monkeypatch: pytest.MonkeyPatch, region: str, endpoint: str, message: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert message in (Settings(region).problem() or "")


# --- in the engine ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("aws")
    yield aws.ensure(folder)
    aws.stop(folder)


@pytest.fixture
def cloud(endpoint: Endpoint) -> Callable[..., Any]:
    """Clients that look at, and change, what the provider made."""

    def client(service: Any, region: str = REGION) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=endpoint.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(proxies={}),
        )

    return client


@pytest.fixture
def aws_stack(tmp_path: Path, endpoint: Endpoint) -> Iterator[Stack]:
    """An empty stack; what is left in it is destroyed afterwards."""
    it = Stack.empty(tmp_path, **endpoint.environment(), AWS_REGION=REGION)
    yield it
    it.end()


def changes(result: automation.UpResult | automation.RefreshResult) -> Values:
    found = result.summary.resource_changes or {}
    return {str(kind): count for kind, count in found.items() if kind != "same"}


def everything(name: str, *, expire: int = 30) -> Program:
    """One of each supported type, as for backups that are copied to another region."""

    def program() -> None:
        key = kms.Key("key", enable_key_rotation=True, multi_region=True, tags={"for": name})
        replica = kms.ReplicaKey("replica-key", primary_key_arn=key.arn, region=OTHER_REGION)
        kms.Alias("alias", name=f"alias/{name}", target_key_id=key.key_id)
        source = s3.Bucket("source", bucket=name, object_lock_enabled=True, tags={"for": name})
        target = s3.Bucket("target", bucket=f"{name}-copy", region=OTHER_REGION)
        enabled = {"status": "Enabled"}
        versioned = [
            s3.BucketVersioning("from", bucket=source.id, versioning_configuration=enabled),
            s3.BucketVersioning(
                "to", bucket=target.id, versioning_configuration=enabled, region=OTHER_REGION
            ),
        ]
        after = ResourceOptions(depends_on=versioned)
        encryption = {"sse_algorithm": "aws:kms", "kms_master_key_id": key.arn}
        s3.BucketServerSideEncryptionConfiguration(
            "encryption",
            bucket=source.id,
            rules=[{"apply_server_side_encryption_by_default": encryption}],
        )
        s3.BucketPublicAccessBlock("public", bucket=source.id, block_public_acls=True)
        s3.BucketOwnershipControls(
            "ownership", bucket=source.id, rule={"object_ownership": "BucketOwnerEnforced"}
        )
        s3.BucketObjectLockConfiguration(
            "lock",
            bucket=source.id,
            rule={"default_retention": {"mode": "GOVERNANCE", "days": 7}},
            opts=after,
        )
        expiring = {"id": "expire", "status": "Enabled", "filter": {"prefix": ""}}
        s3.BucketLifecycleConfiguration(
            "lifecycle",
            bucket=source.id,
            rules=[{**expiring, "expiration": {"days": expire}}],
            opts=after,
        )
        role = iam.Role("role", name=name, assume_role_policy=TRUST, tags={"for": name})
        iam.RolePolicy("inline", role=role.name, policy=allow("s3:Get*"))
        policy = iam.Policy("policy", policy=allow("kms:Decrypt"))
        iam.RolePolicyAttachment("attached", role=role.name, policy_arn=policy.arn)
        destination = {
            "bucket": target.arn,
            "encryption_configuration": {"replica_kms_key_id": replica.arn},
        }
        s3.BucketReplicationConfig(
            "replication",
            bucket=source.id,
            role=role.arn,
            rules=[
                {
                    "status": "Enabled",
                    "filter": {"prefix": "base/"},
                    "delete_marker_replication": {"status": "Enabled"},
                    "source_selection_criteria": {"sse_kms_encrypted_objects": enabled},
                    "destination": destination,
                }
            ],
            opts=after,
        )
        statement = {"Effect": "Deny", "Action": "s3:*", "Principal": "*", "Resource": "*"}
        s3.BucketPolicy("rule", bucket=source.id, policy={"Statement": [statement]})
        logs = s3.Bucket("logs", bucket=f"{name}-logs", force_destroy=True)
        delivery = {
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Resource": f"arn:aws:s3:::{name}-logs/*",
        }
        writable = s3.BucketPolicy("delivery", bucket=logs.id, policy={"Statement": [delivery]})
        s3.BucketLogging(
            "logging",
            bucket=source.id,
            target_bucket=logs.id,
            target_prefix="log/",
            opts=ResourceOptions(depends_on=[writable]),
        )
        pulumi.export("arn", source.arn)

    return program


RESOURCES_IN_EVERYTHING = 22
"""With the stack itself."""


@pytest.mark.engine
def test_all_types_are_made_found_unchanged_and_deleted(
    aws_stack: Stack, cloud: Callable[..., Any]
) -> None:
    program = everything("whole")
    created = aws_stack.up(program)
    assert created.outputs["arn"].value == "arn:aws:s3:::whole"
    assert changes(created) == {"create": RESOURCES_IN_EVERYTHING}
    assert changes(aws_stack.up(program)) == {}
    assert changes(aws_stack.refresh(program)) == {}
    aws_stack.destroy()
    names = [bucket["Name"] for bucket in cloud("s3").list_buckets()["Buckets"]]
    assert not {"whole", "whole-copy"} & {*names}


def bucket(**arguments: Any) -> Program:
    def program() -> None:
        made = s3.Bucket("It", **arguments)
        pulumi.export("bucket", made.bucket)
        pulumi.export("region", made.region)

    return program


@pytest.mark.engine
def test_a_bucket_is_named_after_the_program_and_keeps_its_name(aws_stack: Stack) -> None:
    first = aws_stack.up(bucket()).outputs["bucket"].value
    assert first.startswith("it-")
    second = aws_stack.up(bucket(tags={"a": "b"}))
    assert (second.outputs["bucket"].value, changes(second)) == (first, {"update": 1})


@pytest.mark.engine
def test_a_bucket_of_another_name_replaces_the_first(
    aws_stack: Stack, cloud: Callable[..., Any]
) -> None:
    aws_stack.up(bucket(bucket="replaced-old"))
    assert changes(aws_stack.up(bucket(bucket="replaced-new"))) == {"replace": 1}
    names = [found["Name"] for found in cloud("s3").list_buckets()["Buckets"]]
    assert ("replaced-old" in names, "replaced-new" in names) == (False, True)


@pytest.mark.engine
def test_a_bucket_moves_to_another_region_under_its_name(aws_stack: Stack) -> None:
    aws_stack.up(bucket(bucket="moving"))
    moved = aws_stack.up(bucket(bucket="moving", region=OTHER_REGION))
    assert (moved.outputs["region"].value, changes(moved)) == (OTHER_REGION, {"replace": 1})


@pytest.mark.engine
def test_an_explicit_provider_works_in_its_region_with_its_tags(
    aws_stack: Stack, cloud: Callable[..., Any]
) -> None:
    def program() -> None:
        west = pulumi_aws.Provider("west", region=OTHER_REGION, default_tags={"tags": {"a": "b"}})
        opts = ResourceOptions(provider=west)
        made = s3.Bucket("it", bucket="explicit", tags={"c": "d"}, opts=opts)
        pulumi.export("tags", made.tags_all)
        pulumi.export(
            "here", pulumi_aws.get_region(opts=pulumi.InvokeOptions(provider=west)).region
        )

    outputs = aws_stack.up(program).outputs
    assert outputs["tags"].value == {"a": "b", "c": "d"}
    found = cloud("s3").get_bucket_location(Bucket="explicit")["LocationConstraint"]
    assert (found, outputs["here"].value) == (OTHER_REGION, OTHER_REGION)
    assert changes(aws_stack.refresh(program)) == {}


@pytest.mark.engine
def test_what_was_changed_by_hand_is_put_right(aws_stack: Stack, cloud: Callable[..., Any]) -> None:
    program = everything("drift")
    aws_stack.up(program)
    client = cloud("s3")
    rule = {
        "ID": "expire",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": 1},
    }
    client.put_bucket_lifecycle_configuration(
        Bucket="drift", LifecycleConfiguration={"Rules": [rule]}
    )
    client.delete_bucket_policy(Bucket="drift")
    mended = aws_stack.up(program, refresh=True)
    assert changes(mended) == {"create": 1, "update": 1}
    found = client.get_bucket_lifecycle_configuration(Bucket="drift")["Rules"][0]
    assert found["Expiration"] == {"Days": 30}
    assert client.get_bucket_policy(Bucket="drift")["Policy"]


@pytest.mark.engine
def test_only_what_changed_is_updated(aws_stack: Stack) -> None:
    aws_stack.up(everything("changing"))
    assert changes(aws_stack.up(everything("changing", expire=60))) == {"update": 1}


@pytest.mark.engine
def test_a_bucket_with_objects_is_deleted_only_by_force(
    aws_stack: Stack, cloud: Callable[..., Any]
) -> None:
    aws_stack.up(bucket(bucket="full"))
    cloud("s3").put_object(Bucket="full", Key="key", Body=b"data")
    with pytest.raises(CommandError, match="bucket full is not empty: empty it, or set force"):
        aws_stack.destroy()
    aws_stack.up(bucket(bucket="full", force_destroy=True))
    aws_stack.destroy()
    assert "full" not in [found["Name"] for found in cloud("s3").list_buckets()["Buckets"]]


@pytest.mark.engine
def test_what_a_killed_provider_made_is_taken(aws_stack: Stack, cloud: Callable[..., Any]) -> None:
    west = {"LocationConstraint": OTHER_REGION}
    cloud("s3", OTHER_REGION).create_bucket(Bucket="orphan", CreateBucketConfiguration=west)
    cloud("iam").create_role(RoleName="orphan", AssumeRolePolicyDocument=TRUST)

    def program() -> None:
        s3.Bucket("it", bucket="orphan", region=OTHER_REGION)
        iam.Role("role", name="orphan", assume_role_policy=TRUST)

    assert changes(aws_stack.up(program)) == {"create": 3}


@pytest.mark.engine
def test_what_was_made_only_in_part_is_kept_and_finished(aws_stack: Stack) -> None:
    with pytest.raises(CommandError, match="PutBucketTagging: System tags cannot be added"):
        aws_stack.up(bucket(bucket="partial", tags={"aws:reserved": "x"}))
    finished = aws_stack.up(bucket(bucket="partial", tags={"mine": "x"}))
    assert changes(finished) == {"update": 1}


@pytest.mark.engine
def test_somebody_elses_role_is_not_taken(aws_stack: Stack, cloud: Callable[..., Any]) -> None:
    cloud("iam").create_role(RoleName="taken", AssumeRolePolicyDocument=allow("sts:*"))

    def program() -> None:
        iam.Role("it", name="taken", assume_role_policy=TRUST)

    with pytest.raises(CommandError, match="role taken exists already"):
        aws_stack.up(program)


@pytest.mark.engine
def test_what_exists_can_be_imported(aws_stack: Stack, cloud: Callable[..., Any]) -> None:
    west = {"LocationConstraint": OTHER_REGION}
    cloud("s3", OTHER_REGION).create_bucket(Bucket="existing", CreateBucketConfiguration=west)
    key = cloud("kms").create_key(Description="old")["KeyMetadata"]["KeyId"]

    def program() -> None:
        opts = ResourceOptions(import_=f"existing@{OTHER_REGION}")
        s3.Bucket("it", bucket="existing", region=OTHER_REGION, opts=opts)
        kms.Key("key", description="old", opts=ResourceOptions(import_=key))

    assert changes(aws_stack.up(program)) == {"create": 1, "import": 2}
    assert changes(aws_stack.up(program)) == {}


@pytest.mark.engine
def test_a_secret_stays_out_of_the_state(aws_stack: Stack) -> None:
    def program() -> None:
        s3.Bucket("it", bucket="secretive", tags={"token": pulumi.Output.secret("hush-hush")})

    aws_stack.up(program)
    aws_stack.refresh(program)
    assert "hush-hush" not in aws_stack.state_file().read_text()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: s3.BucketAcl("it", bucket="b", acl="private"), "no aws:s3/bucketAcl:BucketAcl"),
        (lambda: s3.Bucket("it", acl="private"), "does not know acl here; it knows bucket"),
        (
            lambda: kms.Key("it", deletion_window_in_days=3),
            "deletionWindowInDays is 3; it must be from 7 to 30",
        ),
    ],
)
def test_a_preview_refuses_what_is_not_supported(
    aws_stack: Stack, declare: Callable[[], object], message: str
) -> None:
    def program() -> None:
        declare()

    with pytest.raises(CommandError, match=message):
        aws_stack.preview(program)


@pytest.mark.engine
def test_awss_own_refusal_is_one_sentence(aws_stack: Stack) -> None:
    with pytest.raises(CommandError, match=r"creating It: CreateBucket: .* \(InvalidBucketName\)"):
        aws_stack.up(bucket(bucket="no"))


@pytest.mark.engine
def test_an_endpoint_that_is_gone_is_named(aws_stack: Stack) -> None:
    aws_stack.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    with pytest.raises(CommandError, match=r"127\.0\.0\.1:1 \(AWS_ENDPOINT_URL\) does not answer"):
        aws_stack.up(bucket())


@pytest.mark.engine
def test_a_missing_region_is_one_clear_error(aws_stack: Stack) -> None:
    aws_stack.environment["AWS_REGION"] = ""
    with pytest.raises(CommandError, match="no AWS region is set: set `aws:region`"):
        aws_stack.preview(bucket())
