"""Kafka: what keeps acknowledged records and their order, and who may touch them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from components import parts, strimzi
from components.kafka import Kafka, KafkaArgs, User
from components.parts import Client
from stacks.systems.kafka import Cleanup, KafkaSettings, TopicSettings
from stacks.values import Resources
from tests.components.conftest import Registry, Secret, registered_by

pytestmark = pytest.mark.unit

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
DAY = 86_400
ENGINE = User(Client("sim-core", "engine"), produces=("moves",))
REPLAY = User(Client("sim-standard", "replay"), consumes=("moves", "decks"))
TOPICS = {
    "moves": TopicSettings(key="game"),
    "decks": TopicSettings(key="deck", cleanup=Cleanup.COMPACT, partitions=3),
}
OPERATOR = parts.peer("strimzi")


def _args(**changes: Any) -> KafkaArgs:
    usual: dict[str, Any] = {
        "namespace": "sim-data",
        "settings": KafkaSettings(),
        "topics": TOPICS,
        "zones": ZONES,
        "priority_class": "sim-data",
        "storage_class": "gp3",
        "users": (ENGINE, REPLAY),
        "standby": False,
        "region_rpo": 1200,
        "protect": True,
    }
    return KafkaArgs(**{**usual, **changes})


def _kafka(**changes: Any) -> Registry:
    args = _args(**changes)
    return registered_by(lambda: Kafka("events", args))


@pytest.fixture(scope="module")
def kafka() -> Registry:
    return _kafka()


def _spec(registry: Registry, kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = registry.one(kind, name).inputs["spec"]
    return spec


def _config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = _spec(_kafka(**changes), "Kafka", "events")["kafka"]["config"]
    return config


@cache
def _pool(role: str, brokers: int = 3) -> dict[str, Any]:
    settings = KafkaSettings(
        brokers=brokers,
        resources=Resources(cpu="2", memory="8Gi"),
        controller_resources=Resources(cpu="250m", memory="512Mi"),
    )
    return _spec(_kafka(settings=settings), "KafkaNodePool", role)


def test_example_of_the_docstring_runs() -> None:
    def program() -> None:
        Kafka(
            "kafka",
            KafkaArgs(
                namespace="games-data",
                settings=KafkaSettings(),
                topics={"moves": TopicSettings(key="game")},
                zones=ZONES,
                priority_class="games-data",
                storage_class="gp3",
                users=(User(Client("games-core", "engine"), produces=("moves",)),),
                standby=False,
                region_rpo=1200,
                protect=True,
            ),
        )

    assert registered_by(program).one("Kafka", "kafka")


# Records ----------------------------------------------------------------------------------------


def test_a_record_is_acknowledged_only_when_others_have_it() -> None:
    settings = KafkaSettings(brokers=5, replication_factor=5, min_in_sync=3)
    config = _config(settings=settings)
    copies = {
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    }
    in_sync = {
        "min.insync.replicas",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.min.isr",
    }
    assert {config[key] for key in copies} == {5}
    assert {config[key] for key in in_sync} == {3}


def test_no_leader_may_lack_records_and_no_topic_appears_by_a_slip() -> None:
    config = _config()
    assert config["unclean.leader.election.enable"] is False
    assert config["auto.create.topics.enable"] is False


def test_services_verify_brokers_whose_certificate_they_know() -> None:
    registry = _kafka(settings=KafkaSettings(issuer="platform"))
    asked = registry.one("Certificate").inputs["spec"]
    assert asked["issuerRef"]["name"] == "platform"
    # The brokers' own names are those of Strimzi's headless Service.
    assert set(asked["dnsNames"]) == {
        "events-kafka-bootstrap.sim-data.svc",
        "events-kafka-bootstrap.sim-data.svc.cluster.local",
        "*.events-kafka-brokers.sim-data.svc",
    }
    [clients] = _spec(registry, "Kafka", "events")["kafka"]["listeners"]
    assert clients["configuration"]["brokerCertChainAndKey"] == {
        "secretName": asked["secretName"],
        "certificate": "tls.crt",
        "key": "tls.key",
    }
    for told in registry.of("ConfigMap"):
        assert told.inputs["data"]["KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION"] == "true"
        address, _, _ = told.inputs["data"]["KAFKA_BOOTSTRAP_SERVERS"].partition(":")
        assert address in asked["dnsNames"]


def test_without_an_issuer_services_do_not_verify(kafka: Registry) -> None:
    for told in kafka.of("ConfigMap"):
        assert told.inputs["data"]["KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION"] == "false"
    assert "Certificate" not in {each.kind for each in kafka.resources}


def test_consumers_read_from_the_copy_of_their_zone(kafka: Registry) -> None:
    spec = _spec(kafka, "Kafka", "events")["kafka"]
    assert spec["rack"] == {"topologyKey": parts.ZONE}
    assert spec["config"]["replica.selector.class"].endswith("RackAwareReplicaSelector")


def test_positions_of_groups_are_kept_as_long_as_any_record() -> None:
    topics = {"moves": TopicSettings(key="game", retention=30 * DAY)}
    config = _config(topics=topics, users=())
    assert config["log.retention.ms"] == 7 * DAY * 1000
    assert config["offsets.retention.minutes"] == 30 * 24 * 60


@pytest.mark.parametrize(
    ("retention", "rolls"), [(60, 60), (7 * DAY, 7 * DAY), (30 * DAY, 7 * DAY)]
)
def test_a_file_of_a_log_ends_no_later_than_what_is_in_it(retention: int, rolls: int) -> None:
    """Records are deleted by whole files, and never from the one that is written to."""
    topics = {"moves": TopicSettings(key="game", retention=retention)}
    registry = _kafka(topics=topics, users=(), settings=KafkaSettings(retention=retention))
    brokers = _spec(registry, "Kafka", "events")["kafka"]["config"]
    topic = _spec(registry, "KafkaTopic", "moves")["config"]
    assert (brokers["log.roll.ms"], topic["segment.ms"]) == (rolls * 1000, rolls * 1000)


def test_a_topic_that_keeps_longer_does_not_roll_as_often_as_the_rest() -> None:
    topics = {"moves": TopicSettings(key="game", retention=30 * DAY)}
    registry = _kafka(topics=topics, users=(), settings=KafkaSettings(retention=60))
    assert _spec(registry, "KafkaTopic", "moves")["config"]["segment.ms"] == 7 * DAY * 1000


def test_producers_stall_before_a_volume_is_full(kafka: Registry) -> None:
    quotas = _spec(kafka, "Kafka", "events")["kafka"]["quotas"]
    assert quotas == {"type": "strimzi", "minAvailableRatioPerVolume": 0.05}


def test_nothing_that_the_operator_forbids_is_configured() -> None:
    # Of KafkaClusterSpec.FORBIDDEN_PREFIXES of Strimzi 1.2; it would be ignored with a warning.
    forbidden = ("advertised.", "broker.", "listener", "sasl.", "ssl.", "log.dir", "controller.")
    # Of FORBIDDEN_PREFIX_EXCEPTIONS, since 0.48.
    allowed = {"broker.session.timeout.ms", "broker.heartbeat.interval.ms"}
    assert {key for key in _config() if key.startswith(forbidden)} == allowed


def test_a_broker_may_lose_heartbeats_without_being_taken_for_dead() -> None:
    config = _config(settings=KafkaSettings(session_timeout=10))
    assert config["broker.session.timeout.ms"] == 10_000
    # Kafka logs an error from half of the session on.
    assert config["broker.heartbeat.interval.ms"] == 2_000


def test_topics_are_as_their_settings_say(kafka: Registry) -> None:
    assert _spec(kafka, "KafkaTopic", "decks") == {
        "partitions": 3,
        "replicas": 3,
        "config": {"cleanup.policy": "compact", "min.insync.replicas": 2},
    }


def test_a_topics_own_retention_counts() -> None:
    topics = {"moves": TopicSettings(key="game", retention=DAY)}
    spec = _spec(_kafka(topics=topics, users=()), "KafkaTopic", "moves")
    assert spec["config"]["retention.ms"] == DAY * 1000


def test_people_can_read_what_keeps_a_topics_order(kafka: Registry) -> None:
    annotations = kafka.one("KafkaTopic", "moves").inputs["metadata"]["annotations"]
    assert annotations["fault-tolerance/key"] == "game"


# Servers ----------------------------------------------------------------------------------------


def test_controllers_and_brokers_are_apart() -> None:
    assert (_pool("broker")["roles"], _pool("controller")["roles"]) == (["broker"], ["controller"])


@pytest.mark.parametrize("role", ["broker", "controller"])
def test_no_two_servers_of_a_role_share_a_zone(role: str) -> None:
    pod = _pool(role)["template"]["pod"]
    pods = {"strimzi.io/cluster": "events", "strimzi.io/pool-name": role}
    assert pod["affinity"] == parts.apart(pods)


def test_more_brokers_than_zones_can_all_be_placed() -> None:
    pod = _pool("broker", brokers=5)["template"]["pod"]
    (term,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (spread,) = pod["topologySpreadConstraints"]
    assert term["topologyKey"] == parts.HOST
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (parts.ZONE, "DoNotSchedule")


@pytest.mark.parametrize(("role", "size"), [("broker", "100Gi"), ("controller", "10Gi")])
def test_volumes_outlive_their_servers(role: str, size: str) -> None:
    (volume,) = _pool(role)["storage"]["volumes"]
    assert volume["deleteClaim"] is False
    assert (volume["size"], volume["class"]) == (size, "gp3")


@pytest.mark.parametrize(("role", "heap"), [("broker", "4096m"), ("controller", "256m")])
def test_half_of_the_memory_is_left_for_the_page_cache(role: str, heap: str) -> None:
    assert _pool(role)["jvmOptions"] == {"-Xms": heap, "-Xmx": heap}


def test_servers_that_are_added_take_no_number_of_the_other_role(kafka: Registry) -> None:
    numbers = {
        pool.inputs["metadata"]["name"]: pool.inputs["metadata"]["annotations"][
            "strimzi.io/next-node-ids"
        ]
        for pool in kafka.of("KafkaNodePool")
    }
    assert numbers == {"broker": "[0-99]", "controller": "[100-199]"}


def test_every_pod_is_under_the_restricted_standard_and_moves_off_a_silent_node(
    kafka: Registry,
) -> None:
    cluster = _spec(kafka, "Kafka", "events")
    beside = [cluster[part] for part in ("entityOperator", "cruiseControl", "kafkaExporter")]
    for part in (_pool("broker"), _pool("controller"), *beside):
        template = part["template"]
        pod, containers = template["pod"], [template[key] for key in template if key != "pod"]
        assert pod["tolerations"] == parts.tolerations()
        assert pod["priorityClassName"] == "sim-data"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert containers
        for container in containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_every_part_runs_the_image_of_the_settings() -> None:
    """Strimzi takes the brokers' image for nothing else while it has a default of its own."""
    image = "mirror.example.com/kafka:4.3.1"
    cluster = _spec(_kafka(settings=KafkaSettings(image=image)), "Kafka", "events")
    assert {cluster[part]["image"] for part in ("kafka", "cruiseControl", "kafkaExporter")} == {
        image
    }


def test_brokers_that_come_and_go_are_filled_and_emptied_gently(kafka: Registry) -> None:
    balancer = _spec(kafka, "Kafka", "events")["cruiseControl"]
    assert {entry["mode"] for entry in balancer["autoRebalance"]} == {
        "add-brokers",
        "remove-brokers",
    }
    (name,) = {entry["template"]["name"] for entry in balancer["autoRebalance"]}
    template = kafka.one("KafkaRebalance", name).inputs
    assert template["metadata"]["annotations"]["strimzi.io/rebalance-template"] == "true"
    assert template["spec"]["replicationThrottle"] < 125_000_000  # a gp3 volume's throughput


# Users ------------------------------------------------------------------------------------------


def _allowed(registry: Registry, user: str) -> set[tuple[str, str, str]]:
    acls = _spec(registry, "KafkaUser", user)["authorization"]["acls"]
    assert {acl["resource"]["patternType"] for acl in acls} == {"literal"}
    return {
        (acl["resource"]["type"], acl["resource"]["name"], operation)
        for acl in acls
        for operation in acl["operations"]
    }


def test_a_producer_may_write_its_topics_and_nothing_else(kafka: Registry) -> None:
    assert _allowed(kafka, "engine") == {
        ("topic", "moves", "Describe"),
        ("topic", "moves", "Write"),
    }


def test_a_consumer_may_read_its_topics_as_its_own_group_alone(kafka: Registry) -> None:
    assert _allowed(kafka, "replay") == {
        ("topic", "moves", "Describe"),
        ("topic", "moves", "Read"),
        ("topic", "decks", "Describe"),
        ("topic", "decks", "Read"),
        ("group", "replay", "Read"),
    }


def test_who_writes_and_reads_a_topic_has_no_right_twice() -> None:
    both = User(Client("sim-core", "engine"), produces=("moves",), consumes=("moves",))
    registry = _kafka(users=(both,))
    acls = _spec(registry, "KafkaUser", "engine")["authorization"]["acls"]
    assert sum(len(acl["operations"]) for acl in acls) == len(_allowed(registry, "engine")) == 4


def test_every_listener_is_encrypted_and_asks_who_is_there() -> None:
    settings = KafkaSettings(host="kafka.example.com")
    cluster = _spec(_kafka(settings=settings), "Kafka", "events")["kafka"]
    assert cluster["authorization"] == {"type": "simple"}
    assert [(listener["name"], listener["port"]) for listener in cluster["listeners"]] == [
        ("clients", 9093),
        ("mirror", 9094),
    ]
    for listener in cluster["listeners"]:
        assert listener["tls"] is True
        assert listener["authentication"] == {"type": "scram-sha-512"}


def test_the_operator_takes_the_password_that_the_client_is_given(kafka: Registry) -> None:
    reference = _spec(kafka, "KafkaUser", "replay")["authentication"]["password"]["valueFrom"]
    kept = kafka.one("Secret", reference["secretKeyRef"]["name"]).inputs
    given = kafka.one("Secret", "events-replay-client").inputs
    assert kept["metadata"]["namespace"] == "sim-data"
    assert given["metadata"]["namespace"] == "sim-standard"
    assert kept["data"].value["password"] == given["data"].value["password"]


def test_each_user_has_a_password_of_its_own(kafka: Registry) -> None:
    names = {resource.name for resource in kafka.of("RandomPassword")}
    assert names == {"events-engine-password", "events-replay-password"}


def test_passwords_are_secret_everywhere(kafka: Registry) -> None:
    assert all(isinstance(secret.inputs["data"], Secret) for secret in kafka.of("Secret"))
    elsewhere = [r.inputs for r in kafka.resources if r.kind not in {"Secret", "RandomPassword"}]
    assert "generated" not in json.dumps(elsewhere)


@pytest.mark.parametrize("service", ["engine", "replay"])
def test_clients_are_told_to_leave_a_silent_broker_soon(kafka: Registry, service: str) -> None:
    told = kafka.one("ConfigMap", f"events-{service}-client").inputs["data"]
    assert int(told["KAFKA_RECONNECT_BACKOFF_MAX_MS"]) <= 1000
    session = "5000"
    assert told["KAFKA_SOCKET_CONNECTION_SETUP_TIMEOUT_MS"] == session
    assert told["KAFKA_SOCKET_TIMEOUT_MS"] == session


def test_a_producer_is_told_how_to_lose_and_reorder_nothing(kafka: Registry) -> None:
    told = kafka.one("ConfigMap", "events-engine-client").inputs["data"]
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == (
        "events-kafka-bootstrap.sim-data.svc.cluster.local:9093"
    )
    assert (told["KAFKA_ACKS"], told["KAFKA_ENABLE_IDEMPOTENCE"]) == ("all", "true")
    assert told["KAFKA_REQUEST_TIMEOUT_MS"] == "5000"  # a broker's session
    assert told["KAFKA_PRODUCES"] == "moves"
    assert "KAFKA_GROUP_ID" not in told


def test_a_consumer_is_told_to_commit_what_it_has_processed(kafka: Registry) -> None:
    told = kafka.one("ConfigMap", "events-replay-client").inputs["data"]
    assert told["KAFKA_ENABLE_AUTO_COMMIT"] == "false"
    assert told["KAFKA_AUTO_OFFSET_RESET"] == "earliest"
    assert (told["KAFKA_GROUP_ID"], told["KAFKA_CONSUMES"]) == ("replay", "moves,decks")
    assert "KAFKA_ACKS" not in told


def test_a_user_of_a_topic_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^kafka: engine names moves, but the topics are decks"):
        _args(topics={"decks": TOPICS["decks"]}, users=(ENGINE,))


# Surroundings -----------------------------------------------------------------------------------


def _reach(registry: Registry, port: int) -> list[dict[str, Any]]:
    rules = _spec(registry, "NetworkPolicy", "events")["ingress"]
    numbers = [({p["port"] for p in rule["ports"]}, rule.get("from", [])) for rule in rules]
    return [peer for ports, peers in numbers if port in ports for peer in peers]


def _clients() -> list[dict[str, Any]]:
    return parts.client_peers([ENGINE.client, REPLAY.client])


def test_clients_reach_their_listener_and_no_other_port(kafka: Registry) -> None:
    for client in _clients():
        assert client in _reach(kafka, 9093)
        assert not [port for port in (9090, 9091, 8443, 9404) if client in _reach(kafka, port)]


def test_the_operators_own_policy_lets_in_nobody_else(kafka: Registry) -> None:
    (listener,) = _spec(kafka, "Kafka", "events")["kafka"]["listeners"]
    named = [peer for peer in listener["networkPolicyPeers"] if "namespaceSelector" in peer]
    assert named == _clients()


def test_a_listener_without_clients_is_not_open_to_everybody() -> None:
    (listener,) = _spec(_kafka(users=(), topics={}), "Kafka", "events")["kafka"]["listeners"]
    assert listener["networkPolicyPeers"]


def test_the_operator_reaches_what_it_asks(kafka: Registry) -> None:
    for port in (9090, 9091, 8443):
        assert OPERATOR in _reach(kafka, port)


def test_metrics_of_every_pod_are_read(kafka: Registry) -> None:
    monitor = _spec(kafka, "PodMonitor", "events")
    assert monitor["selector"] == {"matchLabels": {"strimzi.io/cluster": "events"}}
    assert [end["port"] for end in monitor["podMetricsEndpoints"]] == ["tcp-prometheus"]
    assert _spec(kafka, "Kafka", "events")["kafka"]["metricsConfig"] == strimzi.METRICS


def test_topics_and_users_come_after_their_cluster(kafka: Registry) -> None:
    cluster = kafka.one("Kafka", "events").urn
    for resource in (*kafka.of("KafkaTopic"), *kafka.of("KafkaUser")):
        assert cluster in resource.dependencies
    pools = {pool.urn for pool in kafka.of("KafkaNodePool")}
    assert pools <= kafka.one("Kafka", "events").dependencies


def test_waiting_for_readiness_is_a_choice() -> None:
    for wait in (True, False):
        registry = _kafka(wait=wait)
        for kind in ("KafkaTopic", "KafkaUser", "KafkaNodePool"):
            for resource in registry.of(kind):
                waits = "pulumi.com/waitFor" in resource.inputs["metadata"]["annotations"]
                assert waits is (wait and kind != "KafkaNodePool")
        cluster = registry.one("Kafka", "events").inputs["metadata"]["annotations"]
        assert cluster.get("pulumi.com/waitFor") == ("condition=Ready" if wait else None)


@pytest.mark.parametrize("protect", [True, False])
def test_protection_follows_the_settings(protect: bool) -> None:
    registry = _kafka(protect=protect)
    cluster = registry.one("Kafka", "events")
    for resource in (cluster, *registry.of("KafkaNodePool"), *registry.of("KafkaTopic")):
        assert (resource.protect, resource.retain_on_delete) == (protect, protect)


# Regions ----------------------------------------------------------------------------------------

SOURCE = KafkaSettings(source="kafka.far.example.com", host="kafka.near.example.com")


def test_only_a_standby_mirrors() -> None:
    active, standby = _kafka(settings=SOURCE), _kafka(settings=SOURCE, standby=True)
    assert standby.one("KafkaMirrorMaker2", "events-mirror")
    assert "KafkaMirrorMaker2" not in {resource.kind for resource in active.resources}


def test_a_standby_without_a_source_mirrors_nothing() -> None:
    registry = _kafka(standby=True)
    assert "KafkaMirrorMaker2" not in {resource.kind for resource in registry.resources}


def test_who_mirrors_from_here_may_only_read() -> None:
    registry = _kafka(settings=SOURCE)
    operations = {operation for _, _, operation in _allowed(registry, "events-mirror")}
    assert operations == {"Describe", "DescribeConfigs", "Read"}


def test_who_mirrors_into_here_may_write() -> None:
    registry = _kafka(settings=SOURCE, standby=True)
    assert ("topic", "*", "Write") in _allowed(registry, "events-mirror")
    assert ("group", "*", "Read") in _allowed(registry, "events-mirror")


def test_no_region_is_let_in_unless_there_is_a_name_for_it(kafka: Registry) -> None:
    assert {user.inputs["metadata"]["name"] for user in kafka.of("KafkaUser")} == {
        "engine",
        "replay",
    }
    assert _reach(kafka, 9094) == []
    rules = _spec(kafka, "NetworkPolicy", "events")["ingress"]
    assert all(rule.get("from") for rule in rules)


def test_the_way_for_the_other_region_stays_inside_the_private_network() -> None:
    _, mirror = _spec(_kafka(settings=SOURCE), "Kafka", "events")["kafka"]["listeners"]
    configuration = mirror["configuration"]
    scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme"
    assert configuration["bootstrap"]["annotations"][scheme] == "internal"
    assert configuration["perBrokerAnnotationsTemplate"][scheme] == "internal"
    assert configuration["bootstrap"]["alternativeNames"] == ["kafka.near.example.com"]
