"""What names something else: Services, policies, monitors, schedules, API versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies import cron
from policies.model import Resource, is_true, mapping, mappings, number, text, texts
from policies.rule import ANY, Finding, Option, Options, Scope, Severity, rule
from policies.world import (
    CRON_JOB,
    JOB,
    NETWORK_POLICY,
    SERVICE,
    SERVING,
    STATEFUL_SET,
    World,
    matches,
    pod_selector,
)

_SERVICES = "https://kubernetes.io/docs/concepts/services-networking/service/"
_CRON_JOBS = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
_MONITORS = "https://prometheus-operator.dev/docs/developer/getting-started/"
POD_MONITOR = "monitoring.coreos.com/PodMonitor"
SERVICE_MONITOR = "monitoring.coreos.com/ServiceMonitor"
INGRESS = "networking.k8s.io/Ingress"


@rule(
    "service-selects",
    Severity.HIGH,
    kinds=(SERVICE,),
    scope=Scope.STACK,
    why="A Service that selects no Pods answers nothing: each caller gets a refused connection.",
    source=_SERVICES,
    remedy="Let spec.selector match the labels of the workload's Pods.",
    passing="""
        kind: Service
        metadata: {name: web}
        spec: {selector: {app.kubernetes.io/name: web}}
    """,
    failing="""
        kind: Service
        metadata: {name: stray}
        spec: {selector: {app.kubernetes.io/name: wbe}, ports: [{port: 80}]}
    """,
)
def service_selects(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find Services without Pods; one without a selector has its endpoints from elsewhere."""
    if mapping(resource.props, "spec", "selector"):
        yield from _picks_nothing(resource, world, "spec.selector")


@rule(
    "workload-selects-its-pods",
    Severity.HIGH,
    kinds=SERVING,
    why="A workload counts the Pods that its selector picks: if these are not its own, it makes "
    "more for ever, or the API server refuses it in the middle of an update.",
    source="https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector",
    remedy="Let spec.selector match the labels of spec.template.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec: {selector: {matchLabels: {app.kubernetes.io/name: web}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {selector: {matchLabels: {app.kubernetes.io/name: wbe}}}
    """,
)
def workload_selects_its_pods(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare the selector with the labels of the template."""
    selector = pod_selector(resource)
    if not selector or not matches(selector, world.workload(resource).labels):
        yield Finding(
            "spec.selector",
            "does not match spec.template.metadata.labels" if selector else "not set",
            "Set spec.selector.matchLabels to labels that spec.template.metadata.labels has.",
        )


@rule(
    "network-policy-selects",
    Severity.MEDIUM,
    kinds=(NETWORK_POLICY,),
    scope=Scope.STACK,
    why="A NetworkPolicy that selects no Pods protects nothing, and looks as if it did.",
    source="https://kubernetes.io/docs/concepts/services-networking/network-policies/",
    remedy="Let spec.podSelector match the labels of the workload's Pods.",
    passing="""
        kind: NetworkPolicy
        metadata: {name: web}
        spec: {podSelector: {matchLabels: {app.kubernetes.io/name: web}}}
    """,
    failing="""
        kind: NetworkPolicy
        metadata: {name: stray}
        spec: {podSelector: {matchLabels: {app.kubernetes.io/name: wbe}}, policyTypes: [Ingress]}
    """,
)
def network_policy_selects(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find policies without Pods; an empty selector is the namespace's own policy."""
    if mapping(resource.props, "spec", "podSelector"):
        yield from _picks_nothing(resource, world, "spec.podSelector")


_POD_NAME = "statefulset.kubernetes.io/pod-name"
"""A label that the controller of a StatefulSet puts onto each of its Pods."""


def _picks_nothing(resource: Resource, world: World, where: str) -> Iterator[Finding]:
    selector = pod_selector(resource)
    labels = mapping(selector, "matchLabels")
    if _POD_NAME in labels:
        pod = text(labels, _POD_NAME)
        others = {key: value for key, value in labels.items() if key != _POD_NAME}
        picked = world.selected(resource.namespace, {**selector, "matchLabels": others})
        if any(_has_pod(each.resource, pod) for each in picked):
            return
    elif world.selected(resource.namespace, selector):
        return
    if world.selects_operator_pods(resource.namespace, selector):
        return
    yield Finding(
        where,
        f"matches no Pods in namespace {resource.namespace}",
        f"Give {where} the labels of the Pods that it is meant for, or delete the "
        f"{resource.kind.rpartition('/')[2]}.",
    )


def _has_pod(workload: Resource, pod: str) -> bool:
    """Whether a StatefulSet makes a Pod of this name."""
    name, _, ordinal = pod.rpartition("-")
    return (
        workload.kind == STATEFUL_SET
        and workload.object_name == name
        and ordinal.isdecimal()
        and int(ordinal) < (number(workload.props, "spec", "replicas") or 1)
    )


@rule(
    "monitor-selects",
    Severity.HIGH,
    kinds=(POD_MONITOR, SERVICE_MONITOR),
    scope=Scope.STACK,
    why="A monitor that selects nothing collects nothing, and no alert is ever raised from it.",
    source=_MONITORS,
    remedy="Let spec.selector match the labels of the Pods (PodMonitor) or Services.",
    passing="""
        kind: PodMonitor
        metadata: {name: web}
        spec: {selector: {matchLabels: {app.kubernetes.io/name: web}}}
    """,
    failing="""
        kind: PodMonitor
        metadata: {name: web}
        spec: {selector: {matchLabels: {app.kubernetes.io/name: wbe}}}
    """,
)
def monitor_selects(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find monitors without targets."""
    selector = mapping(resource.props, "spec", "selector")
    picked = _monitored_pods if resource.kind == POD_MONITOR else World.services
    if not any(picked(world, namespace, selector) for namespace in _watched(resource, world)):
        what = "Pods" if resource.kind == POD_MONITOR else "Services"
        yield Finding(
            "spec.selector",
            f"matches no {what}",
            f"Give it the labels of the {what} to collect from, and their namespace in "
            "spec.namespaceSelector.",
        )


def _watched(monitor: Resource, world: World) -> list[str]:
    if is_true(monitor.props, "spec", "namespaceSelector", "any"):
        return sorted({each.namespace for each in world.resources if each.is_kubernetes})
    named = texts(monitor.props, "spec", "namespaceSelector", "matchNames")
    return named or [monitor.namespace]


def _monitored_pods(world: World, namespace: str, selector: Mapping[str, Any]) -> bool:
    return bool(world.selected(namespace, selector)) or world.selects_operator_pods(
        namespace, selector
    )


_ACTION_PORT = "use-annotation"
"""With it a backend names no Service, but an annotation of the AWS Load Balancer Controller."""


@rule(
    "ingress-backend-exists",
    Severity.HIGH,
    kinds=(INGRESS,),
    scope=Scope.STACK,
    why="An Ingress to a Service that does not exist answers 503.",
    source="https://kubernetes.io/docs/concepts/services-networking/ingress/",
    remedy="Name a Service of the same namespace.",
    passing="{kind: Ingress, metadata: {name: web}}",
    failing="""
        kind: Ingress
        metadata: {name: web}
        spec: {defaultBackend: {service: {name: ghost, port: {number: 80}}}}
    """,
)
def ingress_backend_exists(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for each backend's Service."""
    spec = mapping(resource.props, "spec")
    backends = [("spec.defaultBackend", mapping(spec, "defaultBackend"))]
    for each in mappings(spec, "rules"):
        for path in mappings(each, "http", "paths"):
            where = f"spec.rules[{text(each, 'host')}].http.paths[{text(path, 'path')}].backend"
            backends.append((where, mapping(path, "backend")))
    for where, backend in backends:
        name = text(backend, "service", "name")
        if not name or world.named(SERVICE, resource.namespace, name) is not None:
            continue
        if text(backend, "service", "port", "name") != _ACTION_PORT:
            yield Finding(
                f"{where}.service.name",
                f"{name}, which is not in namespace {resource.namespace}",
                f"Declare Service {name}, or name one that exists.",
            )


@rule(
    "statefulset-headless-service",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="Members of a StatefulSet find one another by names that only its headless Service gives.",
    source="https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id",
    remedy="Declare the Service that spec.serviceName names, with clusterIP: None.",
    passing="{kind: StatefulSet, metadata: {name: redis}, spec: {serviceName: redis}}",
    failing="{kind: Service, metadata: {name: redis}, spec: {clusterIP: null}}",
)
def statefulset_headless_service(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for the headless Service."""
    name = text(resource.props, "spec", "serviceName")
    service = world.named(SERVICE, resource.namespace, name) if name else None
    if service is None:
        yield Finding(
            "spec.serviceName",
            f"{name or 'not set'}: no such Service in namespace {resource.namespace}",
            "Declare that Service with spec.clusterIP: None and the Pods' labels as selector.",
        )
    elif text(service.props, "spec", "clusterIP") != "None":
        yield Finding(
            "spec.serviceName",
            f"{name}, whose clusterIP is not None",
            f"Set spec.clusterIP of Service {name} to None.",
        )


@rule(
    "cronjob-deadline",
    Severity.MEDIUM,
    kinds=(CRON_JOB,),
    why="Without a deadline, a run that was missed (the controller was away) starts however late, "
    "at any hour, as soon as the controller is back.",
    source=f"{_CRON_JOBS}#starting-deadline",
    remedy="Set spec.startingDeadlineSeconds.",
    options={
        "least": Option(
            10, {"type": "integer", "minimum": 10}, "Seconds; the controller looks every 10."
        ),
    },
    passing="{kind: CronJob, metadata: {name: dump}, spec: {startingDeadlineSeconds: 600}}",
    failing="{kind: CronJob, metadata: {name: dump}, spec: {startingDeadlineSeconds: null}}",
)
def cronjob_deadline(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Require a deadline for the start."""
    seconds = number(resource.props, "spec", "startingDeadlineSeconds")
    least = options["least"]
    if seconds is None or seconds < least:
        yield Finding(
            "spec.startingDeadlineSeconds",
            "not set" if seconds is None else f"{seconds} s",
            f"Set spec.startingDeadlineSeconds to {least} or more, and less than the time "
            "between two runs.",
        )


@rule(
    "job-restart-policy",
    Severity.MEDIUM,
    kinds=(JOB, CRON_JOB),
    why="The default, Always, is refused for a Job: one that leaves it out never runs.",
    source="https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-template",
    remedy="Set the Pod's restartPolicy to OnFailure or Never.",
    passing="""
        kind: CronJob
        metadata: {name: dump}
        spec: {jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure}}}}}
    """,
    failing="""
        kind: CronJob
        metadata: {name: dump}
        spec: {jobTemplate: {spec: {template: {spec: {restartPolicy: null}}}}}
    """,
)
def job_restart_policy(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a policy that lets a Job end."""
    workload = world.workload(resource)
    policy = text(workload.pod, "restartPolicy")
    if policy not in {"OnFailure", "Never"}:
        where = workload.path("restartPolicy")
        yield Finding(where, policy or "not set (Always)", f"Set {where} to OnFailure or Never.")


@rule(
    "cronjob-schedule",
    Severity.HIGH,
    kinds=(CRON_JOB,),
    why="A job whose schedule never comes is a job that nobody misses until it is needed.",
    source=f"{_CRON_JOBS}#schedule-syntax",
    remedy="Write five fields: minute, hour, day of month, month, day of week.",
    passing='{kind: CronJob, metadata: {name: dump}, spec: {schedule: "15 * * * *"}}',
    failing='{kind: CronJob, metadata: {name: dump}, spec: {schedule: "0 0 30 2 *"}}',
)
def cronjob_schedule(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Read the schedule and look whether it ever comes."""
    schedule = text(resource.props, "spec", "schedule")
    problem = schedule_problem(schedule)
    if problem:
        yield Finding(
            "spec.schedule",
            f"{schedule!r}: {problem}",
            'Write "minute hour day-of-month month day-of-week", for example "15 3 * * *".',
        )


def schedule_problem(schedule: str, *, seconds: bool = False, both_days: bool = False) -> str:
    """What is wrong with a schedule; empty if nothing is. The rest is as in `cron.parse`."""
    try:
        gap = cron.longest_gap(schedule, seconds=seconds, both_days=both_days)
    except ValueError as problem:
        return str(problem)
    return "" if gap is not None else "that day never comes"


# API versions -----------------------------------------------------------------------------------

_REPLACED = {
    "extensions/v1beta1": "apps/v1 or networking.k8s.io/v1",
    "apps/v1beta1": "apps/v1",
    "apps/v1beta2": "apps/v1",
    "batch/v1beta1": "batch/v1",
    "batch/v2alpha1": "batch/v1",
    "policy/v1beta1": "policy/v1",
    "autoscaling/v2beta1": "autoscaling/v2",
    "autoscaling/v2beta2": "autoscaling/v2",
    "networking.k8s.io/v1beta1": "networking.k8s.io/v1",
    "rbac.authorization.k8s.io/v1beta1": "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1alpha1": "rbac.authorization.k8s.io/v1",
    "apiextensions.k8s.io/v1beta1": "apiextensions.k8s.io/v1",
    "apiregistration.k8s.io/v1beta1": "apiregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1beta1": "admissionregistration.k8s.io/v1",
    "scheduling.k8s.io/v1beta1": "scheduling.k8s.io/v1",
    "storage.k8s.io/v1beta1": "storage.k8s.io/v1",
    "coordination.k8s.io/v1beta1": "coordination.k8s.io/v1",
    "discovery.k8s.io/v1beta1": "discovery.k8s.io/v1",
    "certificates.k8s.io/v1beta1": "certificates.k8s.io/v1",
    "events.k8s.io/v1beta1": "events.k8s.io/v1",
    "node.k8s.io/v1beta1": "node.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1": "flowcontrol.apiserver.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta2": "flowcontrol.apiserver.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta3": "flowcontrol.apiserver.k8s.io/v1",
    "kafka.strimzi.io/v1beta2": "kafka.strimzi.io/v1",
    "networking.istio.io/v1alpha3": "networking.istio.io/v1",
    "networking.istio.io/v1beta1": "networking.istio.io/v1",
    "security.istio.io/v1beta1": "security.istio.io/v1",
}
"""API versions that are gone, or going, and what came after."""

_LATEST = {
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("networking.istio.io/v1beta1", "ProxyConfig"),
    ("certificates.k8s.io/v1beta1", "ClusterTrustBundle"),
    ("certificates.k8s.io/v1beta1", "PodCertificateRequest"),
    ("coordination.k8s.io/v1beta1", "LeaseCandidate"),
}
"""Kinds that came no further (Kubernetes 1.36, Istio 1.31)."""

_REMOVED = {
    ("policy/v1beta1", "PodSecurityPolicy"): "Remove it: Pod Security admission took its place.",
}


@rule(
    "resource-api-version",
    Severity.HIGH,
    kinds=(ANY,),
    why="What is declared in an API version that a cluster upgrade removes cannot be restored.",
    source="https://kubernetes.io/docs/reference/using-api/deprecation-guide/",
    remedy="Declare the object in the version that replaced it.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}, apiVersion: policy/v1}",
    failing="{kind: PodDisruptionBudget, metadata: {name: web}, apiVersion: policy/v1beta1}",
)
def resource_api_version(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Look the API version up."""
    declared = (resource.api_version, resource.kind.rpartition("/")[2])
    successor = _REPLACED.get(resource.api_version)
    if successor and declared not in _LATEST:
        remedy = _REMOVED.get(declared, f"Use {successor}.")
        yield Finding("apiVersion", resource.api_version, remedy)
