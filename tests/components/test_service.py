"""A service: what keeps it answering through rollouts, drains, lost nodes and lost zones."""

from __future__ import annotations

from typing import Any

import pytest

from components import parts
from components.parts import Client, Endpoint
from components.service import INGRESS_NAMESPACE, DataAccess, Service, ServiceArgs
from stacks.settings import ServiceSettings
from tests.components.conftest import Registry, registered_by

pytestmark = pytest.mark.unit

IMAGE = "registry.example/engine:1.0.0"
REPLAY = Endpoint("sim-standard", "replay", 9000)
POSTGRES = DataAccess(
    (Endpoint("sim-data", "postgres-rw", 5432, workload="postgres"),),
    {"PGHOST": "postgres-rw.sim-data.svc.cluster.local"},
    "postgres-client",
)


def _settings(**changes: Any) -> ServiceSettings:
    return ServiceSettings.model_validate({"tier": "core", "image": IMAGE, **changes})


def _service(context: dict[str, Any] | None = None, **changes: Any) -> Registry:
    """Register a service with changed settings in a given context."""
    args = ServiceArgs(_settings(**changes), "sim-core", "sim-core", **(context or {}))
    return registered_by(lambda: Service("engine", args))


def _deployment(registry: Registry) -> dict[str, Any]:
    spec: dict[str, Any] = registry.one("Deployment", "engine").inputs["spec"]
    return spec


def _pod(registry: Registry) -> dict[str, Any]:
    spec: dict[str, Any] = _deployment(registry)["template"]["spec"]
    return spec


def _container(registry: Registry) -> dict[str, Any]:
    (container,) = _pod(registry)["containers"]
    assert isinstance(container, dict)
    return container


def _environment(registry: Registry) -> dict[str, str]:
    return {item["name"]: item["value"] for item in _container(registry)["env"]}


def _network(registry: Registry) -> dict[str, Any]:
    spec: dict[str, Any] = registry.one("NetworkPolicy", "engine").inputs["spec"]
    return spec


# Scaling ----------------------------------------------------------------------------------------


def test_fixed_size_is_declared_and_has_no_autoscaler() -> None:
    registry = _service(replicas={"min": 3, "max": 3})
    assert _deployment(registry)["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in {resource.kind for resource in registry.resources}


def test_autoscaled_deployment_declares_no_size() -> None:
    registry = _service(replicas={"min": 3, "max": 9})
    assert "replicas" not in _deployment(registry)


def test_autoscaler_keeps_to_the_bounds_of_its_deployment() -> None:
    spec = _service(replicas={"min": 3, "max": 9}).one("HorizontalPodAutoscaler").inputs["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 9)
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "engine",
    }


def test_two_thirds_of_the_pods_can_carry_all_of_the_load() -> None:
    (metric,) = _service().one("HorizontalPodAutoscaler").inputs["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] * 3 / 2 <= 90


def test_scaling_down_is_slower_than_scaling_up() -> None:
    behavior = _service().one("HorizontalPodAutoscaler").inputs["spec"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_update_waits_for_the_autoscaler_to_set_the_size() -> None:
    autoscaler = _service().one("HorizontalPodAutoscaler").inputs
    annotations = autoscaler["metadata"]["annotations"]
    assert annotations["pulumi.com/waitFor"] == "condition=AbleToScale"


# Rollouts and disruption ------------------------------------------------------------------------


def test_rollout_never_goes_below_the_size() -> None:
    strategy = _deployment(_service())["strategy"]
    assert strategy == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
    }


def test_slow_start_is_no_failed_rollout() -> None:
    registry = _service(probes={"startup_limit": "20m"})
    assert _deployment(registry)["progressDeadlineSeconds"] > 20 * 60


def test_failed_deployment_is_not_waited_for() -> None:
    registry = _service()
    deployment = registry.one("Deployment").urn
    waiting = [registry.one("Service", "engine"), registry.one("HorizontalPodAutoscaler")]
    assert all(deployment in resource.dependencies for resource in waiting)


def test_disruption_takes_one_pod_of_ten_at_a_time() -> None:
    """Kubernetes rounds up: of three, one."""
    spec = _service().one("PodDisruptionBudget", "engine").inputs["spec"]
    assert spec == parts.disruption_budget(parts.selector("engine"), "10%")


def test_pods_drain_before_they_stop() -> None:
    registry = _service(shutdown="45s")
    drain = _container(registry)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain > 0
    assert _pod(registry)["terminationGracePeriodSeconds"] == drain + 45


def test_pods_spread_over_zones_and_hosts() -> None:
    constraints = _pod(_service())["topologySpreadConstraints"]
    assert constraints == parts.spread(parts.selector("engine"))


def test_pods_leave_silent_nodes_soon() -> None:
    assert _pod(_service())["tolerations"] == parts.tolerations(30)


def test_pods_have_the_priority_of_their_tier() -> None:
    assert _pod(_service())["priorityClassName"] == "sim-core"


# Probes -----------------------------------------------------------------------------------------


def test_each_probe_asks_its_own_path() -> None:
    container = _container(_service())
    paths = [
        container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    assert paths == ["/health/startup", "/health/ready", "/health/live"]


def test_probes_ask_a_port_of_the_container() -> None:
    container = _container(_service(port=9001))
    (port,) = container["ports"]
    assert port["containerPort"] == 9001
    probed = {
        container[probe]["httpGet"]["port"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probed == {port["name"]}


@pytest.mark.parametrize(("limit", "attempts"), [("120s", 60), ("3s", 2), ("1s", 1)])
def test_startup_has_as_long_as_the_settings_say(limit: str, attempts: int) -> None:
    probe = _container(_service(probes={"startup_limit": limit}))["startupProbe"]
    assert probe["failureThreshold"] == attempts
    assert probe["periodSeconds"] == 2


def test_traffic_stops_before_a_restart() -> None:
    container = _container(_service())
    readiness, liveness = container["readinessProbe"], container["livenessProbe"]
    assert (
        readiness["periodSeconds"] * readiness["failureThreshold"]
        < liveness["periodSeconds"] * liveness["failureThreshold"]
    )


def test_an_overloaded_pod_has_a_minute_before_a_restart() -> None:
    """Its probe waits among the requests that are too many."""
    liveness = _container(_service())["livenessProbe"]
    assert liveness["timeoutSeconds"] == 5
    assert liveness["periodSeconds"] * liveness["failureThreshold"] == 60


# Network and discovery --------------------------------------------------------------------------


def test_service_selects_the_pods_of_the_deployment() -> None:
    registry = _service()
    selected = registry.one("Service", "engine").inputs["spec"]["selector"]
    template = _deployment(registry)["template"]["metadata"]["labels"]
    assert selected == _deployment(registry)["selector"]["matchLabels"]
    assert selected.items() <= template.items()


def test_traffic_stays_in_its_zone_while_that_answers() -> None:
    spec = _service().one("Service", "engine").inputs["spec"]
    assert (spec["type"], spec["trafficDistribution"]) == ("ClusterIP", "PreferSameZone")


def test_nobody_reaches_a_service_that_nobody_calls() -> None:
    assert "ingress" not in _network(_service())


def test_only_callers_reach_a_service() -> None:
    clients = (Client("sim-core", "gateway"), Client("sim-standard", "replay"))
    (rule,) = _network(_service({"callers": clients}))["ingress"]
    assert rule == {
        "from": [
            parts.peer("sim-core", parts.selector("gateway")),
            parts.peer("sim-standard", parts.selector("replay")),
        ],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    }


def test_only_a_public_service_is_reached_through_the_gateway() -> None:
    (rule,) = _network(_service(public=True))["ingress"]
    assert rule["from"] == [parts.peer(INGRESS_NAMESPACE)]


def test_service_that_calls_nobody_reaches_nobody() -> None:
    assert "egress" not in _network(_service())


def test_service_reaches_only_what_it_calls_and_uses() -> None:
    context = {"calls": {"replay": REPLAY}, "uses": {"postgres": POSTGRES}}
    rules = _network(_service(context, calls=["replay"], uses=["postgres"]))["egress"]
    assert rules == [
        {
            "to": [parts.peer("sim-standard", parts.selector("replay"))],
            "ports": [{"port": 9000, "protocol": "TCP"}],
        },
        {
            "to": [parts.peer("sim-data", parts.selector("postgres"))],
            "ports": [{"port": 5432, "protocol": "TCP"}],
        },
    ]


def test_service_is_told_where_to_find_what_it_calls() -> None:
    deck = Endpoint("sim-standard", "deck-analytics", 8080)
    registry = _service({"calls": {"deck-analytics": deck}}, calls=["deck-analytics"])
    assert _environment(registry) == {
        "DECK_ANALYTICS_URL": "http://deck-analytics.sim-standard.svc.cluster.local:8080"
    }


def test_catalogue_has_the_last_word_on_the_environment() -> None:
    uses = {"uses": {"postgres": POSTGRES}}
    registry = _service(uses, uses=["postgres"], environment={"PGHOST": "elsewhere"})
    assert _environment(registry) == {"PGHOST": "elsewhere"}


# Security ---------------------------------------------------------------------------------------


def test_service_has_an_account_of_its_own_without_a_token() -> None:
    registry = _service()
    account = registry.one("ServiceAccount", "engine").inputs
    assert account["automountServiceAccountToken"] is False
    assert _pod(registry)["serviceAccountName"] == account["metadata"]["name"]
    assert _pod(registry)["automountServiceAccountToken"] is False


def test_containers_are_restricted() -> None:
    registry = _service()
    assert _container(registry)["securityContext"] == parts.container_security()
    assert _pod(registry)["securityContext"] == parts.pod_security()


def test_temporary_files_are_the_only_writable_place() -> None:
    registry = _service()
    assert _pod(registry)["volumes"] == [parts.scratch("tmp", "64Mi")]
    (mount,) = _container(registry)["volumeMounts"]
    assert mount == {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108, of this Pod alone


def test_secrets_are_files_and_never_environment() -> None:
    registry = _service({"uses": {"postgres": POSTGRES}}, uses=["postgres"])
    mount = next(m for m in _container(registry)["volumeMounts"] if m["name"] == "postgres")
    volume = next(v for v in _pod(registry)["volumes"] if v["name"] == "postgres")
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/secrets/postgres", True)
    assert volume["secret"]["secretName"] == "postgres-client"
    assert _environment(registry) == POSTGRES.environment


def test_resources_follow_the_settings() -> None:
    resources = _container(_service(resources={"cpu": "0.5", "memory": "1024Mi"}))["resources"]
    assert resources == parts.container_resources("500m", "1Gi")


# Component --------------------------------------------------------------------------------------


def test_everything_is_a_child_of_the_component() -> None:
    component, *children = _service().resources
    assert component.type == "fault-tolerance:service:Service"
    assert {child.parent for child in children} == {component.urn}


def test_endpoint_is_an_output() -> None:
    registry = _service(port=9001)
    assert registry.outputs[registry.resources[0].urn] == {
        "endpoint": "http://engine.sim-core.svc.cluster.local:9001"
    }


def test_nothing_is_left_unknown_to_policies() -> None:
    args = ServiceArgs(_settings(), "sim-core", "sim-core")
    assert registered_by(lambda: Service("engine", args), preview=True).unknowns() == []


@pytest.mark.parametrize(
    ("settings", "context", "message"),
    [
        ({"calls": ["replay"]}, {}, "calls has endpoints of nothing, but the settings name replay"),
        ({}, {"calls": {"replay": REPLAY}}, "calls has endpoints of replay"),
        ({"uses": ["redis"]}, {"uses": {"postgres": POSTGRES}}, "uses has endpoints of postgres"),
    ],
)
def test_contradicting_arguments_are_refused(
    settings: dict[str, Any], context: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ServiceArgs(_settings(**settings), "sim-core", "sim-core", **context)
