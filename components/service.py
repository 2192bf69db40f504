"""One stateless service of the catalogue, and everything it needs to outlive a node or a zone.

Its replicas are spread over zones, replaced a quarter at a time and never below their number,
moved within seconds off a silent node, and reached by nobody but the services that say they call
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from pulumi_kubernetes.core.v1 import Service as KubernetesService
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components import parts
from components.parts import Client, Endpoint
from stacks.settings import Probes, ServiceSettings

INGRESS_NAMESPACE = "istio-ingress"
"""Where the gateway runs that lets traffic into the cluster."""

_PORT = "http"
_TMP = "tmp"
_SCRATCH = "64Mi"

_SECRETS = "/etc/secrets"
"""Holds a folder for each data system, with the files `username` and `password`."""

_DRAIN_SECONDS = 5
"""Between leaving the Service and stopping: by then every node has forgotten the Pod."""

_STARTUP_PERIOD = 2

_SURGE = "25%"
"""Of the size, rounded up, is replaced at a time: one of three, fifteen of sixty."""

_DISRUPTED = "10%"
"""Of the Pods, rounded up, a drain takes at a time: one of ten. One of sixty would keep a node with
seven of them for the time of seven starts, longer than the 15 minutes that EKS gives it."""

_ROLLOUT_ROUNDS = 4

_PULL_SECONDS = 300
"""For finding a node and pulling an image onto it, when both are slow."""

_CPU_TARGET = 60
"""Percent of the CPU request. With one of three zones gone, two thirds of the Pods carry all of
the load: 60 % becomes 90 %, still short of saturation while new Pods start."""

_SCALE_DOWN_WINDOW = 300
"""Seconds; a lull between two waves of retries is no reason to give capacity away."""


_TAKEN_OVER = {"pulumi.com/waitFor": "condition=AbleToScale"}
"""Wait until the autoscaler has set the Deployment's size. Until then it has one replica."""


@dataclass(frozen=True)
class DataAccess:
    """The way into one data system."""

    endpoints: tuple[Endpoint, ...]
    environment: Mapping[str, str]
    """Where it is, as environment variables."""
    secret_name: str
    """A Secret of the service's namespace, read as files below `_SECRETS`."""


@dataclass(frozen=True)
class ServiceArgs:
    """A catalogue entry and its surroundings, all known before anything runs.

    Raises:
        ValueError: if `calls` or `uses` contradict the entry.
    """

    settings: ServiceSettings
    namespace: str
    priority_class: str
    calls: Mapping[str, Endpoint] = field(default_factory=dict)
    """Endpoint of each service in `settings.calls`."""
    uses: Mapping[str, DataAccess] = field(default_factory=dict)
    """The way into each data system in `settings.uses`."""
    callers: tuple[Client, ...] = ()
    """Services that name this one in their own `calls`."""

    def __post_init__(self) -> None:
        for key, given, wanted in (
            ("calls", self.calls, self.settings.calls),
            ("uses", self.uses, self.settings.uses),
        ):
            if set(given) != set(wanted):
                raise ValueError(
                    f"service: {key} has endpoints of {_listed(given)}, but the settings name "
                    f"{_listed(wanted)}; give one for each"
                )


class Service(pulumi.ComponentResource):
    """A Deployment with its Service, account, scaling, disruption budget and network policy.

    A service whose `replicas.min` is below `replicas.max` is sized by its load, and by nobody
    else; see docs/decisions/scaling.md.

    Example:
        A program of its own::

            entry = ServiceSettings(tier=Tier.CORE, image="registry.example/gateway:1.0.0")
            gateway = Service("gateway", ServiceArgs(entry, "games", "games-core"))
            pulumi.export("gateway", gateway.endpoint)
    """

    endpoint: pulumi.Output[str]
    """URL inside the cluster."""

    def __init__(
        self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:service:Service", name, None, opts)
        settings = args.settings
        labels = parts.labels(name, settings.tier)
        metadata = parts.metadata(name, args.namespace, labels)
        child = pulumi.ResourceOptions(parent=self)
        account = ServiceAccount(
            f"{name}-account",
            metadata=metadata,
            automount_service_account_token=False,
            opts=child,
        )
        NetworkPolicy(f"{name}-network", metadata=metadata, spec=_network(name, args), opts=child)
        PodDisruptionBudget(
            f"{name}-disruption",
            metadata=metadata,
            spec=parts.disruption_budget(parts.selector(name), _DISRUPTED),
            opts=child,
        )
        deployment = Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=_deployment(name, args),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[account], custom_timeouts=_timeouts(settings)
            ),
        )
        # An update waits until a Service has ready Pods: in vain, if their Deployment failed.
        ready = pulumi.ResourceOptions(parent=self, depends_on=[deployment])
        KubernetesService(
            f"{name}-service", metadata=metadata, spec=_service(name, settings), opts=ready
        )
        if _scales(settings):
            HorizontalPodAutoscaler(
                f"{name}-scaling",
                metadata=parts.metadata(name, args.namespace, labels, _TAKEN_OVER),
                spec=_scaling(name, settings),
                opts=ready,
            )
        own = Endpoint(args.namespace, name, settings.port)
        self.endpoint = pulumi.Output.from_input(own.url)
        self.register_outputs({"endpoint": self.endpoint})


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _scales(settings: ServiceSettings) -> bool:
    return settings.replicas.min < settings.replicas.max


def _progress_deadline(settings: ServiceSettings) -> int:
    """Seconds in which one more replica must become ready: its start, and a slow pull before."""
    return settings.probes.startup_limit + _PULL_SECONDS


def _timeouts(settings: ServiceSettings) -> pulumi.CustomTimeouts:
    """Replicas start together, but are replaced in rounds of `_SURGE`."""
    once = _progress_deadline(settings)
    return pulumi.CustomTimeouts(create=f"{once}s", update=f"{once * _ROLLOUT_ROUNDS}s")


def _service(name: str, settings: ServiceSettings) -> parts.Object:
    return {
        "type": "ClusterIP",
        "selector": parts.selector(name),
        "ports": [{"name": _PORT, "port": settings.port, "targetPort": _PORT}],
        # Even zones make this safe: each zone has its share of the Pods, and the traffic of a
        # zone without ready ones goes to the others.
        "trafficDistribution": "PreferSameZone",
    }


def _network(name: str, args: ServiceArgs) -> parts.Object:
    sources = parts.client_peers(args.callers)
    if args.settings.public:
        sources.append(parts.peer(INGRESS_NAMESPACE))
    stores = (endpoint for access in args.uses.values() for endpoint in access.endpoints)
    targets = [*args.calls.values(), *stores]
    return parts.network_policy(
        parts.selector(name),
        ingress=parts.allow_from(sources, args.settings.port),
        egress=[rule for target in targets for rule in parts.allow_to([target.peer], target.port)],
    )


def _scaling(name: str, settings: ServiceSettings) -> parts.Object:
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": settings.replicas.min,
        "maxReplicas": settings.replicas.max,
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": _CPU_TARGET},
                },
            }
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": _SCALE_DOWN_WINDOW,
                "selectPolicy": "Min",
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            },
        },
    }


def _deployment(name: str, args: ServiceArgs) -> parts.Object:
    settings = args.settings
    size = {} if _scales(settings) else {"replicas": settings.replicas.min}
    return {
        **size,
        "selector": {"matchLabels": parts.selector(name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": _SURGE},
        },
        "progressDeadlineSeconds": _progress_deadline(settings),
        "template": {
            "metadata": {"labels": parts.labels(name, settings.tier)},
            "spec": _pod(name, args),
        },
    }


def _pod(name: str, args: ServiceArgs) -> parts.Object:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": args.priority_class,
        "securityContext": parts.pod_security(),
        "terminationGracePeriodSeconds": _DRAIN_SECONDS + args.settings.shutdown,
        "tolerations": parts.tolerations(),
        "dnsConfig": parts.dns(),
        "topologySpreadConstraints": parts.spread(parts.selector(name)),
        "containers": [_container(name, args)],
        "volumes": [
            parts.scratch(_TMP, _SCRATCH),
            *(
                {
                    "name": system,
                    "secret": {"secretName": access.secret_name, "defaultMode": 0o440},
                }
                for system, access in args.uses.items()
            ),
        ],
    }


def _container(name: str, args: ServiceArgs) -> parts.Object:
    settings = args.settings
    return {
        "name": name,
        "image": settings.image,
        "ports": [{"name": _PORT, "containerPort": settings.port}],
        **_environment(args),
        "resources": parts.container_resources(settings.resources.cpu, settings.resources.memory),
        "securityContext": parts.container_security(),
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}},
        **_probes(settings.probes),
        "volumeMounts": [
            {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108, a volume of this Pod alone
            *(
                {"name": system, "mountPath": f"{_SECRETS}/{system}", "readOnly": True}
                for system in args.uses
            ),
        ],
    }


def _probes(probes: Probes) -> parts.Object:
    """Startup guards the slow begin, so that the others need not know of it.

    Readiness gives up after 10 s and costs nothing but traffic. Liveness gives up after a minute:
    it asks on the port that carries the traffic, where an overloaded Pod answers late, and a
    restart would lose what the Pod was doing and leave its load to the others.
    """
    attempts = math.ceil(probes.startup_limit / _STARTUP_PERIOD)
    return {
        "startupProbe": parts.http_probe(probes.startup, _PORT, _STARTUP_PERIOD, attempts),
        "readinessProbe": parts.http_probe(probes.ready, _PORT, period=5, failures=2),
        "livenessProbe": parts.http_probe(probes.live, _PORT, period=10, failures=6, timeout=5),
    }


def _environment(args: ServiceArgs) -> parts.Object:
    """Say where to find what it calls (`<SERVICE>_URL`) and uses; the settings have the last word.

    No secret is among them: the environment leaks into dumps and logs.
    """
    merged = {f"{_constant(name)}_URL": target.url for name, target in args.calls.items()}
    for access in args.uses.values():
        merged |= access.environment
    merged |= args.settings.environment
    return (
        {"env": [{"name": key, "value": merged[key]} for key in sorted(merged)]} if merged else {}
    )


def _constant(name: str) -> str:
    return name.replace("-", "_").upper()
