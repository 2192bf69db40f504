"""What survives what, computed over the baseline and over changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policies import manifests, survival
from policies.model import UNKNOWN, Resource
from policies.rules.aws import BUCKET, ENCRYPTION
from policies.survival import Domain, Verdict
from policies.world import World

pytestmark = pytest.mark.unit


def world(*changes: dict[str, Any]) -> World:
    declared = manifests.changed(manifests.baseline(), changes)
    return World(manifests.resource(each) for each in declared)


def judged(seen: World, system: str, domain: Domain) -> Verdict:
    verdicts, unread = survival.matrix(seen)
    assert unread == []
    (found,) = [each for each in verdicts if each.system == system and each.domain is domain]
    return found


def spec(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


SYSTEMS = ("postgres", "mongodb", "kafka", "redis", "neo4j")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("domain", [Domain.SERVER, Domain.NODE, Domain.ZONE])
def test_baseline_survives(system: str, domain: Domain) -> None:
    assert judged(world(), system, domain).survives


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_survives_its_region(system: str) -> None:
    assert not judged(world(), system, Domain.REGION).survives


def test_two_instances_keep_no_write_path() -> None:
    seen = world(spec("Cluster", "postgres", {"instances": 2}))
    assert not judged(seen, "postgres", Domain.SERVER).writes


def test_five_instances_over_three_zones_lose_the_failover_quorum() -> None:
    # Two of five go with a zone; with one synchronous standby either may hold the last write.
    crowded = {
        "instances": 5,
        "affinity": {"topologyKey": "kubernetes.io/hostname"},
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "DoNotSchedule",
            }
        ],
    }
    seen = world(spec("Cluster", "postgres", crowded))
    assert judged(seen, "postgres", Domain.NODE).survives
    assert not judged(seen, "postgres", Domain.ZONE).quorum
    two = {**crowded, "postgresql": {"synchronous": {"number": 2}}}
    assert judged(world(spec("Cluster", "postgres", two)), "postgres", Domain.ZONE).survives


def test_brokers_that_may_share_a_zone_lose_their_copies_with_it() -> None:
    anywhere: dict[str, Any] = {"template": {"pod": {"topologySpreadConstraints": []}}}
    seen = world(
        spec("KafkaNodePool", "brokers", anywhere),
        spec("Kafka", "kafka", {"kafka": {"rack": None}}),
    )
    assert judged(seen, "kafka", Domain.SERVER).survives
    assert not judged(seen, "kafka", Domain.ZONE).writes


def test_zones_that_are_known_keep_no_brokers_apart() -> None:
    anywhere: dict[str, Any] = {"template": {"pod": {"topologySpreadConstraints": []}}}
    seen = world(spec("KafkaNodePool", "brokers", anywhere))
    assert not judged(seen, "kafka", Domain.ZONE).writes


def test_one_copy_of_a_graph_goes_with_its_server() -> None:
    single = {
        "kind": "ConfigMap",
        "metadata": {"name": "neo4j"},
        "data": {"neo4j.conf": "initial.dbms.default_primaries_count=1"},
    }
    assert not judged(world(single), "neo4j", Domain.SERVER).writes


def test_loss_of_a_region_is_archive_and_copy_added_up() -> None:
    assert judged(world(), "postgres", Domain.REGION).rpo_seconds == 300 + 900


def test_without_a_copy_everything_goes_with_the_region() -> None:
    gone = {
        "type": "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        "name": "backup",
        "$delete": True,
    }
    assert judged(world(gone), "postgres", Domain.REGION).rpo_seconds is None


KMS_TOO: dict[str, Any] = {
    "sourceSelectionCriteria": {"sseKmsEncryptedObjects": {"status": "Enabled"}}
}


def replicated(**rule: Any) -> dict[str, Any]:
    """A replication in time, whose one rule has what is given besides."""
    timed = {"replicationTime": {"status": "Enabled", "time": {"minutes": 15}}}
    return {
        "type": "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
        "name": "backup",
        "properties": {"rules": [{"status": "Enabled", "destination": timed, **rule}]},
    }


def encrypted(algorithm: str) -> dict[str, Any]:
    """The bucket's encryption, with another algorithm."""
    token = "bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    default = {"applyServerSideEncryptionByDefault": {"sseAlgorithm": algorithm}}
    return {"type": f"aws:s3/{token}", "name": "backup", "properties": {"rules": [default]}}


@pytest.mark.parametrize("rule", [{}, {"prefix": ""}, {"filter": {}}, {"filter": {"prefix": ""}}])
def test_a_copy_of_everything_is_one(rule: dict[str, Any]) -> None:
    seen = world(replicated(**KMS_TOO, **rule))
    assert judged(seen, "postgres", Domain.REGION).rpo_seconds == 300 + 900


@pytest.mark.parametrize(
    "rule",
    [
        {"prefix": "postgres/"},
        {"filter": {"prefix": "postgres/"}},
        {"filter": {"tag": {"key": "kept", "value": "yes"}}},
        {"filter": {"and": {"prefix": "", "tags": {"kept": "yes"}}}},
    ],
)
def test_a_copy_of_a_part_is_none(rule: dict[str, Any]) -> None:
    seen = world(replicated(**KMS_TOO, **rule))
    assert judged(seen, "postgres", Domain.REGION).rpo_seconds is None


def bucket(name: str, region: str | None) -> dict[str, Any]:
    """A bucket that says where it is, or leaves it to the provider."""
    properties = {"bucket": name, **({"region": region} if region else {})}
    return {"type": "aws:s3/bucket:Bucket", "name": name, "properties": properties}


@pytest.mark.parametrize(
    ("here", "there", "loss"),
    [
        ("us-east-1", "us-west-2", 300 + 900),
        ("us-east-1", "us-east-1", None),
        (None, None, 300 + 900),
        ("us-east-1", None, 300 + 900),
    ],
)
def test_a_copy_in_the_same_region_goes_with_it(
    here: str | None, there: str | None, loss: float | None
) -> None:
    source = {**bucket("sim-backup", here), "name": "backup"}
    seen = world(source, bucket("sim-backup-elsewhere", there))
    assert judged(seen, "postgres", Domain.REGION).rpo_seconds == loss


@pytest.mark.parametrize(
    ("algorithm", "loss"), [("aws:kms", None), ("aws:kms:dsse", None), ("AES256", 300 + 900)]
)
def test_what_kms_encrypts_is_copied_only_if_it_is_asked_for(
    algorithm: str, loss: float | None
) -> None:
    seen = world(encrypted(algorithm), replicated())
    assert judged(seen, "postgres", Domain.REGION).rpo_seconds == loss


def test_encryption_is_known_by_reference_before_its_bucket_has_a_name() -> None:
    changed = manifests.changed(manifests.baseline(), [replicated()])
    declared = [manifests.resource(each) for each in changed]
    (bucket,) = (each.urn for each in declared if each.kind == BUCKET)

    def referring(resource: Resource) -> Resource:
        if resource.kind != ENCRYPTION:
            return resource
        props = {**resource.props, "bucket": UNKNOWN}
        return replace(resource, props=props, references={"bucket": (bucket,)})

    seen = World(map(referring, declared))
    assert judged(seen, "postgres", Domain.REGION).rpo_seconds is None


def test_objectives_are_those_of_the_namespace() -> None:
    def declared(seconds: int) -> dict[str, Any]:
        annotations = {"fault-tolerance/postgres-rto-seconds": str(seconds)}
        return {"kind": "Namespace", "metadata": {"name": "games", "annotations": annotations}}

    assert judged(world(), "postgres", Domain.ZONE).meets_rto is None
    assert judged(world(declared(300)), "postgres", Domain.ZONE).meets_rto is True
    assert judged(world(declared(30)), "postgres", Domain.ZONE).meets_rto is False


def test_core_service_keeps_half_of_its_replicas() -> None:
    core = {"template": {"metadata": {"labels": {"app.kubernetes.io/component": "core"}}}}
    assert judged(world(spec("Deployment", "web", core)), "service", Domain.ZONE).survives
    packed = {**core, "template": {**core["template"], "spec": {"topologySpreadConstraints": []}}}
    assert not judged(world(spec("Deployment", "web", packed)), "service", Domain.ZONE).survives


def test_more_zones_lose_less_each() -> None:
    zones = [f"us-east-1{letter}" for letter in "abcde"]
    expressions = [{"key": "topology.kubernetes.io/zone", "values": zones}]
    storage = {
        "kind": "StorageClass",
        "apiVersion": "storage.k8s.io/v1",
        "metadata": {"name": "gp3"},
        "allowedTopologies": [{"matchLabelExpressions": expressions}],
    }
    seen = world(storage)
    assert survival.written(seen)["zones"] == 5


def test_matrix_of_nothing_says_so() -> None:
    (line,) = survival.table(World([]))
    assert line.startswith("nothing to lose")
