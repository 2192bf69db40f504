"""Where Pods run, how they leave, and how they find others: zones, hosts, priority, names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.model import Resource, mapping, mappings, number, text
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.spread import HOST, ZONE
from policies.world import REPLICATED, SERVING, WORKLOADS, Workload, World, matches

_SPREAD = "https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/"
_PRIORITY = "https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/"
_TERMINATION = "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination"
_RESOLVER = "https://man7.org/linux/man-pages/man5/resolv.conf.5.html"
_RESOLVER_SECONDS, _RESOLVER_ATTEMPTS = 5, 2
"""The resolver's defaults."""


@rule(
    "workload-zone-spread",
    Severity.HIGH,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="Replicas in one zone are lost with that zone; the scheduler's default spread is only a "
    "preference.",
    source=_SPREAD,
    remedy="Add a topology spread constraint with a maxSkew below the replicas, or required "
    "anti-affinity, over zones.",
    options={
        "strict": Option(
            True, {"type": "boolean"}, "Whether a preference (ScheduleAnyway) is too little."
        ),
    },
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              topologySpreadConstraints:
                - topologyKey: topology.kubernetes.io/zone
                  maxSkew: 1
                  whenUnsatisfiable: DoNotSchedule
                  labelSelector: {matchLabels: {app.kubernetes.io/name: web}}
                - topologyKey: kubernetes.io/hostname
                  maxSkew: 1
                  whenUnsatisfiable: ScheduleAnyway
                  labelSelector: {matchLabels: {app.kubernetes.io/name: web}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              topologySpreadConstraints:
                - topologyKey: kubernetes.io/hostname
                  maxSkew: 1
                  whenUnsatisfiable: ScheduleAnyway
                  labelSelector: {matchLabels: {app.kubernetes.io/name: web}}
    """,
)
def workload_zone_spread(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Require a spread over zones of what has replicas."""
    workload = world.workload(resource)
    replicas, _where = world.least_replicas(workload)
    if replicas <= 1 or _spreads(workload, ZONE, replicas, strict=bool(options["strict"])):
        return
    yield Finding(
        workload.path("topologySpreadConstraints"),
        f"no {'strict ' if options['strict'] else ''}spread of its {replicas} Pods over {ZONE}",
        f"Add {{topologyKey: {ZONE}, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, "
        "labelSelector: the Pod's own labels}.",
    )


@rule(
    "workload-host-spread",
    Severity.HIGH,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="Replicas on one host are lost with that host.",
    source=_SPREAD,
    remedy="Add a topology spread constraint with a maxSkew below the replicas, or anti-affinity, "
    "over hosts.",
    passing="{kind: Deployment, metadata: {name: web}}",
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              topologySpreadConstraints:
                - topologyKey: topology.kubernetes.io/zone
                  maxSkew: 1
                  whenUnsatisfiable: DoNotSchedule
                  labelSelector: {matchLabels: {app.kubernetes.io/name: web}}
    """,
)
def workload_host_spread(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a spread over hosts, or one Pod a zone, which is one a host."""
    workload = world.workload(resource)
    replicas, _where = world.least_replicas(workload)
    if replicas <= 1 or _spreads(workload, HOST, replicas, strict=False):
        return
    if _apart(workload, ZONE, strict=True):
        return
    yield Finding(
        workload.path("topologySpreadConstraints"),
        f"no spread of its {replicas} Pods over {HOST}",
        f"Add {{topologyKey: {HOST}, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, "
        "labelSelector: the Pod's own labels}.",
    )


def _spreads(workload: Workload, key: str, replicas: int, *, strict: bool) -> bool:
    constraints = mappings(workload.pod, "topologySpreadConstraints")
    return _apart(workload, key, strict=strict) or any(
        text(each, "topologyKey") == key
        and _divides(each, replicas, strict=strict)
        and _picks_itself(workload, each)
        for each in constraints
    )


def _divides(constraint: Mapping[str, object], replicas: int, *, strict: bool) -> bool:
    """Whether a constraint forbids all replicas in one domain, or advises against it if unstrict.

    While another domain is empty, one may hold as many Pods as `maxSkew` says.
    """
    if text(constraint, "whenUnsatisfiable") == "ScheduleAnyway":
        return not strict
    return (number(constraint, "maxSkew") or 1) < replicas


def _apart(workload: Workload, key: str, *, strict: bool) -> bool:
    affinity = mapping(workload.pod, "affinity", "podAntiAffinity")
    terms = mappings(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    if not strict:
        preferred = mappings(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
        terms = [*terms, *(mapping(each, "podAffinityTerm") for each in preferred)]
    return any(text(each, "topologyKey") == key and _picks_itself(workload, each) for each in terms)


def _picks_itself(workload: Workload, term: object) -> bool:
    """A term without a selector, or with one for other Pods, keeps nothing apart."""
    selector = mapping(term, "labelSelector")
    return bool(selector) and matches(selector, workload.labels)


@rule(
    "pod-priority-class",
    Severity.MEDIUM,
    kinds=SERVING,
    why="When room runs out, Pods without a priority are the first to wait and to be preempted, "
    "core services like all others.",
    source=_PRIORITY,
    remedy="Set priorityClassName to the class of the workload's tier.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {priorityClassName: core}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {priorityClassName: null}}}
    """,
)
def pod_priority_class(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a priority."""
    workload = world.workload(resource)
    if not text(workload.pod, "priorityClassName"):
        where = workload.path("priorityClassName")
        yield Finding(where, "not set", f"Set {where} to the PriorityClass of its tier.")


@rule(
    "pod-grace-period",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    why="Killed at once, a Pod breaks the requests under way; with a period that is too long, it "
    "holds up drains and failovers.",
    source=_TERMINATION,
    remedy="Set terminationGracePeriodSeconds between the bounds; the default is 30.",
    options={
        "least": Option(1, {"type": "integer", "minimum": 0}, "Seconds."),
        "most": Option(300, {"type": "integer", "minimum": 1}, "Seconds."),
    },
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {terminationGracePeriodSeconds: 35}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {terminationGracePeriodSeconds: 3600}}}
    """,
)
def pod_grace_period(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Bound the grace period."""
    workload = world.workload(resource)
    seconds = number(workload.pod, "terminationGracePeriodSeconds")
    least, most = options["least"], options["most"]
    if seconds is not None and not least <= seconds <= most:
        where = workload.path("terminationGracePeriodSeconds")
        yield Finding(where, f"{seconds} s", f"Set {where} between {least} and {most}.")


@rule(
    "pod-name-lookup",
    Severity.LOW,
    kinds=SERVING,
    why="A node that is lost takes its name server along, and until it counts as lost, questions "
    "go on being sent there. All attempts of one question go to the same server, so by default a "
    "program stands still for 10 s at each name that meets it; Kafka's controllers and Redis' "
    "Sentinels then take each other for lost.",
    source=_RESOLVER,
    remedy="Set dnsConfig.options: timeout 1, attempts 2.",
    options={
        "most": Option(
            4,
            {"type": "integer", "minimum": 1},
            "Seconds for which one name may be asked for in vain: timeout times attempts.",
        ),
    },
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              dnsConfig:
                options: [{name: timeout, value: "2"}, {name: attempts, value: "2"}]
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              dnsConfig:
                options: [{name: timeout, value: "1"}, {name: attempts, value: "5"}]
    """,
)
def pod_name_lookup(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Bound how long a name server of the cluster is waited for; others are the node's matter."""
    workload = world.workload(resource)
    if text(workload.pod, "dnsPolicy") == "Default":
        return
    timeout = _resolver_option(workload, "timeout", _RESOLVER_SECONDS)
    attempts = _resolver_option(workload, "attempts", _RESOLVER_ATTEMPTS)
    if timeout * attempts > options["most"]:
        where = workload.path("dnsConfig.options")
        yield Finding(
            where,
            f"a timeout of {timeout} s, {attempts} times",
            f'Set {where} to [{{name: timeout, value: "1"}}, {{name: attempts, value: "2"}}].',
        )


def _resolver_option(workload: Workload, name: str, default: int) -> int:
    """An option of resolv.conf; what is no number the resolver reads as its default."""
    values = [
        text(each, "value")
        for each in mappings(workload.pod, "dnsConfig", "options")
        if text(each, "name") == name
    ]
    return int(values[-1]) if values and values[-1].isdecimal() else default
