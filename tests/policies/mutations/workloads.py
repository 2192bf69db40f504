"""How many Pods there are, where they run, what their containers declare, what names them."""

from __future__ import annotations

from policies.model import Resource, at, mapping, text
from policies.rules.references import INGRESS, POD_MONITOR, SERVICE_MONITOR
from policies.world import (
    AUTOSCALER,
    CRON_JOB,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NETWORK_POLICY,
    REPLICATED,
    SCALED_OBJECT,
    SERVICE,
    SERVING,
    STATEFUL_SET,
    WORKLOADS,
    Workload,
    World,
    pod_selector,
)
from tests.policies.mutations.making import (
    NOBODY,
    Change,
    Props,
    Table,
    all_of,
    container,
    doubled,
    drop,
    each,
    example,
    of_version,
    pod,
    pod_spec,
    put,
    removed,
)

_ZONE = "topology.kubernetes.io/zone"
_FAR = 99
"""More replicas than any stack has."""


def _guarded(budget: Resource, world: World) -> list[Workload]:
    return [
        workload
        for workload in world.selected(budget.namespace, pod_selector(budget))
        if workload.resource.kind in REPLICATED and world.least_replicas(workload)[0] > 1
    ]


def _static(budget: Resource, world: World) -> bool:
    return any(not world.autoscalers(each.resource) for each in _guarded(budget, world))


def _scaled(budget: Resource, world: World) -> bool:
    return any(world.autoscalers(each.resource) for each in _guarded(budget, world))


def _replicated(resource: Resource, world: World) -> bool:
    return world.least_replicas(world.workload(resource))[0] > 1


def _bounds(least: int, most: int) -> Change:
    def change(props: Props) -> None:
        suffix = "Replicas" if props["kind"] == "HorizontalPodAutoscaler" else "ReplicaCount"
        props["spec"] |= {f"min{suffix}": least, f"max{suffix}": most}

    return change


def _bare_pod(props: Props) -> None:
    spec = pod_spec(props)
    props |= {"apiVersion": "v1", "kind": "Pod", "spec": spec}


def _preferred_zones(props: Props) -> None:
    spec = pod_spec(props)
    spec.pop("affinity", None)
    selector = at(props, "spec", "selector")
    spec["topologySpreadConstraints"] = [
        {"topologyKey": _ZONE, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
    ]


def _spread_of_others(props: Props) -> None:
    spec = pod_spec(props)
    spec.pop("affinity", None)
    spec["topologySpreadConstraints"] = [
        {
            "topologyKey": _ZONE,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": NOBODY},
        }
    ]


def _same_probe(one: Props) -> None:
    if "readinessProbe" in one:
        one["livenessProbe"] = one["readinessProbe"]


def _loose_zones(props: Props) -> None:
    spec = pod_spec(props)
    spec.pop("affinity", None)
    spec["topologySpreadConstraints"] = [
        {
            "topologyKey": _ZONE,
            "maxSkew": _FAR,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": at(props, "spec", "selector"),
        }
    ]


def _undeclared_port(one: Props) -> None:
    for probe in ("livenessProbe", "readinessProbe"):
        for handler in ("httpGet", "tcpSocket"):
            if mapping(one, probe, handler):
                one[probe][handler]["port"] = "ghost"


_NO_SPREAD = pod(drop("topologySpreadConstraints", "affinity"))

MUTATIONS: Table = {
    "workload-replicas": (
        each((AUTOSCALER, SCALED_OBJECT), _bounds(1, _FAR)),
        each(STATEFUL_SET, put("spec.replicas", 1)),
    ),
    "workload-rolling-update": (
        each(DEPLOYMENT, put("spec.strategy", {"type": "Recreate"})),
        each(
            DEPLOYMENT,
            put(
                "spec.strategy",
                {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
            ),
        ),
        each(
            DEPLOYMENT,
            put(
                "spec.strategy",
                {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": _FAR}},
            ),
            _replicated,
        ),
        each(STATEFUL_SET, put("spec.updateStrategy", {"type": "OnDelete"})),
        each(STATEFUL_SET, put("spec.updateStrategy", {"type": "RollingUpdate"})),
    ),
    "pod-not-bare": (doubled((DEPLOYMENT, STATEFUL_SET), _bare_pod),),
    "workload-disruption-budget": (removed(DISRUPTION_BUDGET, _guarded),),
    "workload-single-disruption-budget": (doubled(DISRUPTION_BUDGET, when=_guarded),),
    "disruption-budget-selects": (
        each(DISRUPTION_BUDGET, put("spec.selector", {"matchLabels": NOBODY})),
    ),
    "disruption-budget-allows-eviction": (
        *(
            each(
                DISRUPTION_BUDGET,
                all_of(drop("spec.minAvailable"), put("spec.maxUnavailable", none)),
            )
            for none in (0, "0%")
        ),
        each(
            DISRUPTION_BUDGET,
            all_of(drop("spec.maxUnavailable"), put("spec.minAvailable", "100%")),
        ),
    ),
    "disruption-budget-bound": (
        each(DISRUPTION_BUDGET, drop("spec.minAvailable", "spec.maxUnavailable")),
    ),
    "disruption-budget-within-replicas": (
        each(
            DISRUPTION_BUDGET,
            all_of(drop("spec.minAvailable"), put("spec.maxUnavailable", _FAR)),
            _static,
        ),
        each(
            DISRUPTION_BUDGET,
            all_of(drop("spec.maxUnavailable"), put("spec.minAvailable", _FAR)),
            _static,
        ),
    ),
    "disruption-budget-below-autoscaler": (
        each(
            DISRUPTION_BUDGET,
            all_of(drop("spec.maxUnavailable"), put("spec.minAvailable", _FAR)),
            _scaled,
        ),
    ),
    "disruption-budget-unhealthy-eviction": (
        each(DISRUPTION_BUDGET, drop("spec.unhealthyPodEvictionPolicy")),
        each(DISRUPTION_BUDGET, put("spec.unhealthyPodEvictionPolicy", "IfHealthyBudget")),
    ),
    "autoscaler-bounds": (
        each((AUTOSCALER, SCALED_OBJECT), _bounds(1, _FAR)),
        each((AUTOSCALER, SCALED_OBJECT), _bounds(3, 3)),
    ),
    "autoscaler-target-exists": (
        each((AUTOSCALER, SCALED_OBJECT), put("spec.scaleTargetRef.name", "ghost")),
    ),
    "autoscaler-single-per-target": (doubled((AUTOSCALER, SCALED_OBJECT)),),
    "workload-no-static-replicas": (
        each(REPLICATED, put("spec.replicas", 3), lambda one, world: world.autoscalers(one)),
    ),
    "workload-zone-spread": (
        each(REPLICATED, _NO_SPREAD, _replicated),
        each(REPLICATED, _preferred_zones, _replicated),
        each(REPLICATED, _loose_zones, _replicated),
        each(REPLICATED, _spread_of_others, _replicated),
    ),
    "workload-host-spread": (
        each(REPLICATED, _NO_SPREAD, _replicated),
        each(REPLICATED, _spread_of_others, _replicated),
    ),
    "pod-priority-class": (each(SERVING, pod(drop("priorityClassName"))),),
    "pod-name-lookup": (
        each(SERVING, pod(drop("dnsConfig"))),
        each(SERVING, pod(put("dnsConfig", {"options": [{"name": "attempts", "value": "3"}]}))),
    ),
    "pod-grace-period": (
        each(WORKLOADS, pod(put("terminationGracePeriodSeconds", 3600))),
        each(WORKLOADS, pod(put("terminationGracePeriodSeconds", 0))),
    ),
    "container-readiness-probe": (
        each(SERVING, container(drop("readinessProbe"))),
        each(SERVING, container(drop("readinessProbe"), at=-1)),
    ),
    "container-liveness-probe": (
        each(SERVING, container(drop("livenessProbe"))),
        each(SERVING, container(put("livenessProbe", {"periodSeconds": 10}))),
    ),
    "container-probes-differ": (each(SERVING, container(_same_probe)),),
    "container-probe-port": (each(SERVING, container(_undeclared_port, at=-1)),),
    "container-requests": tuple(
        each(WORKLOADS, container(change))
        for resource in ("cpu", "memory", "ephemeral-storage")
        for change in (
            put(f"resources.requests.{resource}", "0"),
            drop(f"resources.requests.{resource}", f"resources.limits.{resource}"),
        )
    ),
    "container-limits": tuple(
        each(WORKLOADS, container(drop(f"resources.limits.{resource}")))
        for resource in ("cpu", "memory", "ephemeral-storage")
    ),
    "container-limits-reserved": tuple(
        each(WORKLOADS, container(put(f"resources.limits.{resource}", "64Gi")))
        for resource in ("memory", "ephemeral-storage")
    ),
    "container-image-tag": tuple(
        each(WORKLOADS, container(put("image", image)))
        for image in ("registry.example/web:latest", "registry.example:5000/web", "web")
    ),
    "container-image-digest": (each(WORKLOADS, container(put("image", "registry.example/web:9"))),),
    "service-selects": (
        each(SERVICE, put("spec.selector", NOBODY), lambda one, _: at(one.props, "spec")),
    ),
    "workload-selects-its-pods": (
        each(SERVING, put("spec.selector", {"matchLabels": NOBODY})),
        each(SERVING, drop("spec.selector")),
    ),
    "network-policy-selects": (
        each(NETWORK_POLICY, put("spec.podSelector", {"matchLabels": NOBODY})),
    ),
    "monitor-selects": (
        each((POD_MONITOR, SERVICE_MONITOR), put("spec.selector", {"matchLabels": NOBODY})),
        each((POD_MONITOR, SERVICE_MONITOR), put("spec.namespaceSelector", {"matchNames": ["x"]})),
    ),
    "ingress-backend-exists": (
        each(INGRESS, put("spec.defaultBackend", {"service": {"name": "ghost"}})),
        example("ingress-backend-exists"),
    ),
    "statefulset-headless-service": (
        each(STATEFUL_SET, put("spec.serviceName", "ghost")),
        each(STATEFUL_SET, drop("spec.serviceName")),
        each(
            SERVICE,
            drop("spec.clusterIP"),
            lambda one, world: any(
                text(other.props, "spec", "serviceName") == one.object_name
                for other in world.of(STATEFUL_SET)
            ),
        ),
    ),
    "cronjob-deadline": (
        each(CRON_JOB, drop("spec.startingDeadlineSeconds")),
        example("cronjob-deadline"),
    ),
    "job-restart-policy": (
        each((JOB, CRON_JOB), pod(drop("restartPolicy"))),
        each((JOB, CRON_JOB), pod(put("restartPolicy", "Always"))),
    ),
    "cronjob-schedule": (
        each(CRON_JOB, put("spec.schedule", "0 0 30 2 *")),
        example("cronjob-schedule"),
    ),
    "resource-api-version": tuple(
        of_version(kinds, old, new)
        for kinds, old, new in (
            (REPLICATED, "apps/v1beta2", "apps/v1"),
            (DISRUPTION_BUDGET, "policy/v1beta1", "policy/v1"),
            (AUTOSCALER, "autoscaling/v2beta2", "autoscaling/v2"),
            (NETWORK_POLICY, "extensions/v1beta1", "networking.k8s.io/v1"),
        )
    ),
}
