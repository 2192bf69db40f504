"""The mirror: names and positions are kept, it survives a zone, and it touches no more."""

from __future__ import annotations

from typing import Any

import pytest

from components import parts
from components.kafka_mirror import KafkaMirror, KafkaMirrorArgs
from stacks.systems.kafka import KafkaSettings
from tests.components.conftest import Registry, registered_by
from tests.components.test_kafka_alerts import section

pytestmark = pytest.mark.unit


def _mirror(**changes: Any) -> Registry:
    usual: dict[str, Any] = {
        "namespace": "sim-data",
        "cluster": "events",
        "settings": KafkaSettings(),
        "source": "kafka.far.example.com",
        "topics": ("moves", "decks"),
        "groups": ("replay",),
        "zones": ("us-east-1a", "us-east-1b", "us-east-1c"),
        "priority_class": "sim-data",
        "rpo": 1200,
    }
    args = KafkaMirrorArgs(**{**usual, **changes})
    return registered_by(lambda: KafkaMirror("events-mirror", args))


@pytest.fixture(scope="module")
def mirror() -> Registry:
    return _mirror()


@pytest.fixture(scope="module")
def spec(mirror: Registry) -> dict[str, Any]:
    found: dict[str, Any] = mirror.one("KafkaMirrorMaker2", "events-mirror").inputs["spec"]
    return found


def _connectors(spec: dict[str, Any]) -> list[dict[str, Any]]:
    (only,) = spec["mirrors"]
    return [only["sourceConnector"], only["checkpointConnector"]]


def test_topics_keep_their_names(spec: dict[str, Any]) -> None:
    policies = {each["config"]["replication.policy.class"] for each in _connectors(spec)}
    assert policies == {"org.apache.kafka.connect.mirror.IdentityReplicationPolicy"}


def test_groups_go_on_where_they_were(spec: dict[str, Any]) -> None:
    _, checkpoints = _connectors(spec)
    assert checkpoints["config"]["sync.group.offsets.enabled"] is True
    assert checkpoints["config"]["sync.group.offsets.interval.seconds"] <= 60


def test_nothing_is_written_to_the_source(spec: dict[str, Any]) -> None:
    assert {each["config"]["offset-syncs.topic.location"] for each in _connectors(spec)} == {
        "target"
    }


def test_the_catalogues_topics_and_groups_are_copied_and_no_others(spec: dict[str, Any]) -> None:
    (only,) = spec["mirrors"]
    assert (only["topicsPattern"], only["groupsPattern"]) == ("decks|moves", "replay")


def test_the_mirror_trusts_the_issuer_of_the_brokers_beside_it() -> None:
    registry = _mirror(settings=KafkaSettings(issuer="platform"))
    target = registry.one("KafkaMirrorMaker2").inputs["spec"]["target"]
    assert target["tls"]["trustedCertificates"] == [
        {"secretName": "events-tls", "pattern": "ca.crt"}
    ]


def test_without_topics_nothing_is_copied() -> None:
    registry = _mirror(topics=(), groups=())
    (only,) = registry.one("KafkaMirrorMaker2").inputs["spec"]["mirrors"]
    assert (only["topicsPattern"], only["groupsPattern"]) == ("-", "-")


def test_topics_settings_are_the_catalogues_to_say(spec: dict[str, Any]) -> None:
    copies, _ = _connectors(spec)
    assert copies["config"]["sync.topic.configs.enabled"] is False
    assert copies["config"]["sync.topic.acls.enabled"] is False


def test_it_survives_a_zone_and_a_failed_task(spec: dict[str, Any]) -> None:
    assert spec["replicas"] == 2
    pods = {"strimzi.io/cluster": "events-mirror"}
    assert spec["template"]["pod"]["affinity"] == parts.apart(pods)
    assert all(each["autoRestart"] == {"enabled": True} for each in _connectors(spec))


def test_its_own_state_has_as_many_copies_as_all_else(spec: dict[str, Any]) -> None:
    assert set(spec["target"]["config"].values()) == {-1}
    copies, checkpoints = (each["config"] for each in _connectors(spec))
    assert copies["replication.factor"] == copies["offset-syncs.topic.replication.factor"] == -1
    assert checkpoints["checkpoints.topic.replication.factor"] == -1


def test_both_ends_are_verified_and_signed_in_to(spec: dict[str, Any]) -> None:
    (only,) = spec["mirrors"]
    ends = {"events-cluster-ca-cert": spec["target"], "kafka-source": only["source"]}
    for authority, end in ends.items():
        assert end["tls"]["trustedCertificates"] == [{"secretName": authority, "pattern": "*.crt"}]
        assert end["authentication"]["type"] == "scram-sha-512"
        assert end["authentication"]["username"] == "events-mirror"
    assert only["source"]["bootstrapServers"] == "kafka.far.example.com:9094"
    assert spec["target"]["bootstrapServers"] == "events-kafka-bootstrap.sim-data.svc:9093"


def test_it_reaches_both_ends_and_is_reached_by_the_operator_alone(mirror: Registry) -> None:
    policy = mirror.one("NetworkPolicy", "events-mirror").inputs["spec"]
    cluster = {"podSelector": {"matchLabels": {"strimzi.io/cluster": "events"}}}
    assert {"to": [cluster], "ports": parts.ports(9093)} in policy["egress"]
    (anywhere,) = [rule for rule in policy["egress"] if "to" not in rule]
    assert {p["port"] for p in anywhere["ports"]} == {9094, 443, 6443}
    assert all(rule.get("from") for rule in policy["ingress"])


def test_a_copy_older_than_the_objective_raises_an_alert() -> None:
    (group,) = _mirror(rpo=600).one("PrometheusRule").inputs["spec"]["groups"]
    (behind,) = [rule for rule in group["rules"] if rule["alert"] == "KafkaMirrorBehind"]
    assert behind["expr"].endswith("> 600000")


def test_a_source_that_sends_nothing_raises_an_alert_even_if_it_never_did() -> None:
    (group,) = _mirror(rpo=600).one("PrometheusRule").inputs["spec"]["groups"]
    (idle,) = [rule for rule in group["rules"] if rule["alert"] == "KafkaMirrorIdle"]
    assert "[600s]" in idle["expr"]
    assert "or vector(0)) == 0" in idle["expr"]


def test_every_alert_leads_to_a_section_of_the_runbook_that_names_it(mirror: Registry) -> None:
    (group,) = mirror.one("PrometheusRule").inputs["spec"]["groups"]
    for rule in group["rules"]:
        assert rule["alert"] in section(rule["annotations"]["runbook"].rpartition("/")[2])
