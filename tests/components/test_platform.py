"""The platform: its parts fit together, and the settings decide who reaches whom."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from components import parts
from components.platform import Platform, PlatformArgs
from local.toolchain import build
from stacks.operators import OperatorsSettings, Source
from stacks.settings import Role, Settings
from stacks.systems import DataSystem
from stacks.systems.postgres import PostgresSettings, SourceSettings
from tests.components.conftest import Registered, Registry, registered_by

pytestmark = pytest.mark.unit

DATA = "sim-data"


def _platform(settings: Settings, *, preview: bool = False) -> Registry:
    return registered_by(
        lambda: Platform("sim", PlatformArgs(settings=settings, stack="test")), preview=preview
    )


@pytest.fixture(scope="module")
def platform(catalogue: Settings) -> Registry:
    return _platform(catalogue)


def _components(registry: Registry) -> dict[str, Registered]:
    return {resource.name: resource for resource in registry.resources if not resource.custom}


def _object(registry: Registry, kind: str, name: str, namespace: str) -> Registered:
    (found,) = [
        resource
        for resource in registry.of(kind)
        if resource.inputs["metadata"]["name"] == name
        and resource.inputs["metadata"]["namespace"] == namespace
    ]
    return found


def _container(registry: Registry, service: str) -> dict[str, Any]:
    spec = registry.one("Deployment", service).inputs["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert isinstance(container, dict)
    return container


def _environment(registry: Registry, service: str) -> dict[str, str]:
    return {item["name"]: item["value"] for item in _container(registry, service)["env"]}


def test_a_stack_whose_name_no_bucket_can_have_declares_nothing(catalogue: Settings) -> None:
    with pytest.raises(ValueError, match="sim-My_Stack-backups-us-east-1"):
        PlatformArgs(settings=catalogue, stack="My_Stack")


def test_it_consists_of_foundation_backup_data_and_every_service(
    platform: Registry, catalogue: Settings
) -> None:
    platform_, *rest = _components(platform).values()
    parts_of_it = {resource.name for resource in rest if resource.parent == platform_.urn}
    expected = {
        "sim-foundation",
        "sim-operators",
        "sim-backup",
        "postgres-backup-access",
        "redis-backup-access",
        "mongodb-backup-access",
        "neo4j-backup-access",
        "postgres",
        "redis",
        "mongodb",
        "neo4j",
        "kafka",
        *catalogue.services,
    }
    assert parts_of_it == expected


def test_every_service_lives_in_the_namespace_of_its_tier(platform: Registry) -> None:
    where = {
        resource.inputs["metadata"]["name"]: resource.inputs["metadata"]["namespace"]
        for resource in platform.of("Deployment")
    }
    assert where == {
        "gateway": "sim-core",
        "engine": "sim-core",
        "replay": "sim-standard",
        "leaderboard": "sim-best-effort",
    }


def test_every_priority_in_use_is_declared(platform: Registry) -> None:
    declared = {r.inputs["metadata"]["name"] for r in platform.of("PriorityClass")}
    used = {
        resource.inputs["spec"]["template"]["spec"]["priorityClassName"]
        for kind in ("Deployment", "StatefulSet")
        for resource in platform.of(kind)
    }
    assert used <= declared


def test_every_namespace_in_use_is_declared(platform: Registry) -> None:
    declared = {r.inputs["metadata"]["name"] for r in platform.of("Namespace")}
    used = {
        resource.inputs["metadata"]["namespace"]
        for resource in platform.resources
        if "namespace" in resource.inputs.get("metadata", {})
    }
    assert used == declared


def test_a_callee_lets_in_exactly_its_callers(platform: Registry) -> None:
    policy = _object(platform, "NetworkPolicy", "replay", "sim-standard").inputs["spec"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [parts.peer("sim-core", parts.selector("gateway"))]


def test_a_caller_may_reach_exactly_whom_it_calls(platform: Registry) -> None:
    policy = _object(platform, "NetworkPolicy", "gateway", "sim-core").inputs["spec"]
    assert [rule["to"] for rule in policy["egress"]] == [
        [parts.peer("sim-core", parts.selector("engine"))],
        [parts.peer("sim-standard", parts.selector("replay"))],
    ]


def test_a_caller_is_told_where_its_callees_are(platform: Registry) -> None:
    assert _environment(platform, "gateway") == {
        "ENGINE_URL": "http://engine.sim-core.svc.cluster.local:8080",
        "REPLAY_URL": "http://replay.sim-standard.svc.cluster.local:8080",
    }


def test_data_systems_let_in_exactly_who_uses_them(platform: Registry) -> None:
    policy = _object(platform, "NetworkPolicy", "redis", DATA).inputs["spec"]
    inside = {
        peer["podSelector"]["matchLabels"][parts.NAME_LABEL]
        for rule in policy["ingress"]
        for peer in rule["from"]
        if peer.get("namespaceSelector", {}).get("matchLabels", {}).get(parts.NAMESPACE_LABEL)
        in {"sim-core", "sim-standard", "sim-best-effort"}
    }
    assert inside == {"engine", "leaderboard"}


def test_who_uses_data_may_reach_its_ports(platform: Registry) -> None:
    policy = _object(platform, "NetworkPolicy", "engine", "sim-core").inputs["spec"]
    reached = {rule["ports"][0]["port"] for rule in policy["egress"]}
    assert reached == {5432, 6379, 26_379}


@pytest.mark.parametrize(
    ("service", "systems"),
    [("engine", {"postgres", "redis"}), ("leaderboard", {"redis"}), ("gateway", set())],
)
def test_credentials_are_mounted_only_where_data_is_used(
    platform: Registry, service: str, systems: set[str]
) -> None:
    mounts = {mount["name"] for mount in _container(platform, service)["volumeMounts"]}
    assert mounts - {"tmp"} == systems


def test_every_mounted_secret_exists_in_the_namespace_of_the_pod(platform: Registry) -> None:
    secrets = {
        (r.inputs["metadata"]["namespace"], r.inputs["metadata"]["name"])
        for r in platform.of("Secret")
    }
    mounted = {
        (deployment.inputs["metadata"]["namespace"], volume["secret"]["secretName"])
        for deployment in platform.of("Deployment")
        for volume in deployment.inputs["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    assert mounted
    assert mounted <= secrets


@pytest.fixture(scope="module")
def with_topic(catalogue: Settings) -> Registry:
    """The platform with a topic that goes from the engine to the replay."""
    given = catalogue.model_dump(mode="json")
    given["topics"] = {"moves": {"key": "game"}}
    given["services"]["engine"] |= {"uses": ["kafka"], "produces": ["moves"]}
    given["services"]["replay"] |= {"uses": ["kafka"], "consumes": ["moves"]}
    return _platform(Settings.model_validate(given))


def test_topics_and_who_may_use_them_follow_from_the_catalogue(with_topic: Registry) -> None:
    assert with_topic.one("KafkaTopic", "moves").inputs["metadata"]["namespace"] == DATA
    users = {r.inputs["metadata"]["name"] for r in with_topic.of("KafkaUser")}
    assert users == {"engine", "replay"}


def test_each_service_signs_in_to_kafka_as_itself(with_topic: Registry) -> None:
    for service, topics in (("engine", "KAFKA_PRODUCES"), ("replay", "KAFKA_CONSUMES")):
        spec = with_topic.one("Deployment", service).inputs["spec"]["template"]["spec"]
        assert {"kafka": f"kafka-{service}-client"} == {
            volume["name"]: volume["secret"]["secretName"]
            for volume in spec["volumes"]
            if "secret" in volume
        }
        assert _environment(with_topic, service)[topics] == "moves"


def test_a_user_of_kafka_may_reach_its_brokers(with_topic: Registry) -> None:
    policy = _object(with_topic, "NetworkPolicy", "replay", "sim-standard").inputs["spec"]
    brokers = parts.peer(DATA, parts.selector("kafka"))
    assert {"to": [brokers], "ports": parts.ports(9093)} in policy["egress"]


def test_services_wait_for_the_data_they_use(platform: Registry) -> None:
    components = _components(platform)
    sets = {r.urn for r in platform.of("StatefulSet")}
    used = {urn for urn in sets if urn.rsplit("::", 1)[1].startswith("redis")}
    assert sets & components["engine"].dependencies == used != set()
    assert not sets & components["replay"].dependencies


def test_everything_waits_for_its_fault_domain(platform: Registry) -> None:
    namespaces = {r.urn for r in platform.of("Namespace")}
    components = _components(platform)
    for name in ("postgres", "redis", "gateway", "engine", "replay", "leaderboard"):
        assert namespaces <= components[name].dependencies


@pytest.fixture(scope="module")
def standby(catalogue: Settings) -> Registry:
    """The platform in another region, before it is promoted."""
    role = {
        "role": Role.STANDBY,
        "postgres": PostgresSettings(source=SourceSettings(bucket="elsewhere")),
    }
    return _platform(catalogue.model_copy(update=role))


def test_a_standby_runs_no_service_that_uses_another_regions_data(standby: Registry) -> None:
    running = {each.inputs["metadata"]["name"] for each in standby.of("Deployment")}
    assert "engine" not in running


def test_a_standby_runs_what_uses_nothing_but_a_cache(standby: Registry) -> None:
    running = {each.inputs["metadata"]["name"] for each in standby.of("Deployment")}
    assert running >= {"gateway", "replay", "leaderboard"}


def test_a_standby_has_the_ways_in_that_its_services_will_use(
    standby: Registry, platform: Registry
) -> None:
    def ways(registry: Registry) -> set[str]:
        secrets = registry.of("Secret")
        return {each.name for each in secrets if each.inputs["metadata"]["namespace"] != DATA}

    assert ways(standby) == ways(platform) != set()


def test_outputs_are_flat(platform: Registry) -> None:
    root = _components(platform)["sim"]
    outputs = platform.outputs[root.urn]
    assert set(outputs) == {
        "backup_bucket",
        "endpoint_postgres",
        "endpoint_redis",
        "endpoint_mongodb",
        "endpoint_neo4j",
        "endpoint_kafka",
        "endpoint_gateway",
        "endpoint_engine",
        "endpoint_replay",
        "endpoint_leaderboard",
    }
    assert all(isinstance(value, str) for value in outputs.values())


def test_no_name_is_declared_twice(platform: Registry) -> None:
    names = [
        (r.type, r.inputs["metadata"].get("namespace"), r.inputs["metadata"]["name"])
        for r in platform.resources
        if r.type.startswith("kubernetes:")
    ]
    assert len(names) == len(set(names))


def test_two_prefixes_share_no_cluster_scoped_name(catalogue: Settings) -> None:
    scoped = []
    for prefix in ("one", "two"):
        registry = _platform(catalogue.model_copy(update={"prefix": prefix}))
        scoped.append(
            {
                (r.kind, r.inputs["metadata"]["name"])
                for r in registry.resources
                if r.type.startswith("kubernetes:") and "namespace" not in r.inputs["metadata"]
            }
        )
    assert scoped[0]
    assert scoped[0].isdisjoint(scoped[1])


def test_only_credentials_are_unknown_to_policies(catalogue: Settings) -> None:
    registry = _platform(catalogue, preview=True)
    unknown = set(registry.unknowns())
    kubernetes = {r.name for r in registry.resources if r.type.startswith("kubernetes:")}
    assert unknown & kubernetes <= {r.name for r in registry.of("Secret")}


@pytest.mark.parametrize("kind", ["Postgres", "Mongodb", "Kafka"])
def test_what_operators_run_waits_for_those_that_the_stack_brings(
    kind: str, catalogue: Settings, tmp_path: Path
) -> None:
    shutil.copy(build.operator_manifest("cnpg-manager", print), tmp_path)
    brought = OperatorsSettings(cloudnative_pg=Source.RELEASE, mirror=str(tmp_path))
    platform = _platform(catalogue.model_copy(update={"operators": brought}))
    operator = platform.one("Deployment", "cnpg-controller-manager").urn
    [system] = [each for each in platform.of(kind) if not each.custom]
    assert operator in system.dependencies


@pytest.fixture(scope="module")
def without_mongodb(catalogue: Settings) -> Registry:
    """The platform without MongoDB, its Redis unprotected."""
    return _platform(
        catalogue.model_copy(
            update={
                "protect": True,
                "systems": tuple(each for each in DataSystem if each is not DataSystem.MONGODB),
                "unprotect": (DataSystem.REDIS,),
            }
        )
    )


def test_a_system_that_is_left_out_is_not_declared(without_mongodb: Registry) -> None:
    assert "mongodb" not in _components(without_mongodb)
    assert [each.name for each in without_mongodb.resources if "mongodb" in each.name] == []
    assert "postgres" in _components(without_mongodb)


def test_what_holds_data_is_protected_but_for_what_is_named(without_mongodb: Registry) -> None:
    kept = {
        resource.name: (resource.protect, resource.retain_on_delete)
        for kind in ("StatefulSet", "Cluster")
        for resource in without_mongodb.of(kind)
    }
    assert {name: both for name, both in kept.items() if both != (True, True)} == {
        "redis-servers": (False, False),
        "redis-sentinel-servers": (False, False),
    }
    assert kept["postgres-cluster"] == (True, True)


BACKED_UP = {
    "postgres": "postgres",
    "mongodb": "mongodb",
    "redis": "redis-backup",
    "neo4j": "neo4j-backup",
}
"""Systems with backups in the bucket, and the network policy of the Pods that write them."""


@pytest.mark.parametrize("system", BACKED_UP)
def test_backups_may_reach_the_bucket_and_the_role_for_it(platform: Registry, system: str) -> None:
    egress = _object(platform, "NetworkPolicy", BACKED_UP[system], DATA).inputs["spec"]["egress"]
    assert {"ports": parts.ports(443)} in egress
    lender = [{"ipBlock": {"cidr": "169.254.170.23/32"}}]
    assert {"to": lender, "ports": parts.ports(80)} in egress


@pytest.mark.parametrize("system", BACKED_UP)
def test_pods_that_write_to_the_bucket_are_made_after_their_role(
    platform: Registry, system: str
) -> None:
    """EKS lends a role to a Pod when it is made, and never again."""
    roles = {
        each.urn for each in platform.of("Role") if each.name == f"{system}-backup-access-role"
    }
    assert roles
    assert roles <= _components(platform)[system].dependencies


def test_each_role_is_for_the_account_of_the_pods_that_write(platform: Registry) -> None:
    trusted = {
        json.loads(role.inputs["assumeRolePolicy"])["Statement"][0]["Condition"]["StringEquals"][
            "aws:RequestTag/kubernetes-service-account"
        ]
        for role in platform.of("Role")
        if "pods.eks.amazonaws.com" in role.inputs["assumeRolePolicy"]
    }
    assert trusted == set(BACKED_UP)
    jobs = [job.inputs["spec"]["jobTemplate"] for job in platform.of("CronJob")]
    writing = {job["spec"]["template"]["spec"]["serviceAccountName"] for job in jobs}
    members = platform.one("PerconaServerMongoDB").inputs["spec"]["replsets"]
    writing |= {each["serviceAccountName"] for each in members}
    # CloudNativePG's instances have the account that it makes, named as the cluster.
    writing.add(platform.one("Cluster").inputs["metadata"]["name"])
    assert writing == trusted


def test_perconas_operator_has_the_role_of_the_members(platform: Registry) -> None:
    trusted = {
        role.name: {
            each["Condition"]["StringEquals"]["aws:RequestTag/kubernetes-namespace"]
            for each in json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        }
        for role in platform.of("Role")
        if "pods.eks.amazonaws.com" in role.inputs["assumeRolePolicy"]
    }
    assert trusted == {
        f"{system}-backup-access-role": {DATA, "psmdb-operator"} if system == "mongodb" else {DATA}
        for system in BACKED_UP
    }


def test_perconas_operator_is_lent_the_role_before_its_pods_are_made(
    catalogue: Settings, tmp_path: Path
) -> None:
    """EKS lends a role to a Pod when it is made, and never again."""
    shutil.copy(build.operator_manifest("psmdb-manager", print), tmp_path)
    brought = OperatorsSettings(percona_mongodb=Source.RELEASE, mirror=str(tmp_path))
    backup = catalogue.backup.model_copy(update={"eks_cluster": "games-prod"})
    platform = _platform(catalogue.model_copy(update={"operators": brought, "backup": backup}))
    operator = platform.one("Deployment", "percona-server-mongodb-operator").inputs
    [identity] = [
        each
        for each in platform.of("PodIdentityAssociation")
        if each.inputs["namespace"] == operator["metadata"]["namespace"]
    ]
    pod = operator["spec"]["template"]["spec"]
    assert identity.inputs["serviceAccount"] == pod["serviceAccountName"]
    assert identity.urn in _components(platform)["sim-operators"].dependencies


def test_prometheus_can_read_every_alert(platform: Registry) -> None:
    """What it cannot read it refuses, and then all rules of the same object are missing."""
    rules = [
        rule
        for declared in platform.of("PrometheusRule")
        for group in declared.inputs["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) > 40
    for rule in rules:
        promql_parser.parse(rule["expr"])
    with pytest.raises(ValueError, match="unclosed"):
        promql_parser.parse("sum(up > 0")
