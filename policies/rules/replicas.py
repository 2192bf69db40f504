"""How many Pods there are: replicas, autoscalers, disruption budgets, roll-outs."""

from __future__ import annotations

from collections.abc import Iterator

from policies.model import Resource, at, mapping, number, text
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.world import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    POD,
    REPLICATED,
    SCALED_OBJECT,
    World,
    least_of,
    pod_selector,
    resolved,
    scale_target,
)

_DISRUPTIONS = "https://kubernetes.io/docs/concepts/workloads/pods/disruptions/"
_BUDGETS = "https://kubernetes.io/docs/tasks/run-application/configure-pdb/"
_AUTOSCALING = "https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/"
_SCALERS = (AUTOSCALER, SCALED_OBJECT)


@rule(
    "workload-replicas",
    Severity.HIGH,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="With one Pod, the loss of its node is an outage until it runs elsewhere.",
    source=_DISRUPTIONS,
    remedy="Set spec.replicas, or the autoscaler's minReplicas, to the minimum or more.",
    options={
        "minimum": Option(2, {"type": "integer", "minimum": 1}, "Pods that there are at least."),
    },
    passing="{kind: Deployment, metadata: {name: web}, spec: {replicas: 3}}",
    failing="{kind: Deployment, metadata: {name: web}, spec: {replicas: 1}}",
)
def workload_replicas(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Count the replicas that there are at least.

    Servers that are a StatefulSet each stand in for one another where one budget guards them all.
    """
    workload = world.workload(resource)
    replicas, where = world.least_replicas(workload)
    minimum = int(options["minimum"])
    if replicas < minimum and world.guarded_together(workload) < minimum:
        yield Finding(where, str(replicas), f"Set {where} to {minimum} or more.")


@rule(
    "workload-rolling-update",
    Severity.MEDIUM,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="An update that stops all Pods before it starts new ones is an outage by design. So is one "
    "of several StatefulSets that are one system: each rolls by itself, and all at once.",
    source="https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy",
    remedy="Use RollingUpdate with a maxUnavailable below the replicas; OnDelete for StatefulSets "
    "that one budget guards together, and restart them one after the other.",
    passing="{kind: Deployment, metadata: {name: web}, spec: {strategy: {type: RollingUpdate}}}",
    failing="{kind: Deployment, metadata: {name: web}, spec: {strategy: {type: Recreate}}}",
)
def workload_rolling_update(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse strategies that replace everything at once, or nothing by themselves.

    Servers that are a StatefulSet each are one system where one budget guards them all.
    """
    field = "strategy" if resource.kind == DEPLOYMENT else "updateStrategy"
    strategy = text(resource.props, "spec", field, "type") or "RollingUpdate"
    workload = world.workload(resource)
    together = world.guarded_together(workload) > workload.replicas
    wanted = "OnDelete" if together else "RollingUpdate"
    if strategy != wanted:
        where = f"spec.{field}.type"
        yield Finding(where, strategy, f"Set {where} to {wanted}.")
        return
    unavailable = at(resource.props, "spec", field, "rollingUpdate", "maxUnavailable")
    count = number(unavailable)
    # Of any other percentage Kubernetes drops the fraction, so it never takes all.
    if _is_whole(unavailable) or (count and count >= world.least_replicas(workload)[0] > 1):
        where = f"spec.{field}.rollingUpdate.maxUnavailable"
        found = f"{unavailable}, all replicas"
        yield Finding(where, found, f"Set {where} to 0 (with a maxSurge) or to 1.")


_WHOLE = 100
"""Percent."""


def _is_whole(amount: object) -> bool:
    """Whether an amount is a percentage that takes in all replicas, however many there are."""
    return isinstance(amount, str) and (resolved(amount, _WHOLE) or 0) >= _WHOLE


@rule(
    "pod-not-bare",
    Severity.HIGH,
    kinds=(POD,),
    why="Nothing starts a bare Pod again when its node is lost or drained.",
    source="https://kubernetes.io/docs/concepts/workloads/pods/#pods-and-controllers",
    remedy="Declare a Deployment, StatefulSet or Job that makes the Pod.",
    passing="{kind: Deployment, metadata: {name: web}}",
    failing="""
        kind: Pod
        apiVersion: v1
        metadata: {name: loner, labels: {app.kubernetes.io/name: web}}
        spec:
          serviceAccountName: web
          automountServiceAccountToken: false
          priorityClassName: core
          securityContext:
            {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
          containers:
            - name: web
              image: registry.example/web:1.4.2@sha256:0123
              resources:
                requests: {cpu: 250m, memory: 256Mi, ephemeral-storage: 256Mi}
                limits: {cpu: "1", memory: 256Mi, ephemeral-storage: 256Mi}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities: {drop: [ALL]}
    """,
)
def pod_not_bare(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find Pods that no controller owns."""
    if not at(resource.props, "metadata", "ownerReferences"):
        yield Finding(
            "kind",
            "Pod, without an owner",
            "Declare a Deployment (or StatefulSet, or Job) with this Pod as its template.",
        )


# Disruption budgets -----------------------------------------------------------------------------


@rule(
    "workload-disruption-budget",
    Severity.HIGH,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="Without a PodDisruptionBudget, draining nodes may evict all replicas at once.",
    source=_BUDGETS,
    remedy="Add a PodDisruptionBudget with maxUnavailable: 1 that selects the Pods.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1}}",
    failing="{kind: PodDisruptionBudget, metadata: {name: web}, $delete: true}",
)
def workload_disruption_budget(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find replicated workloads without a budget."""
    workload = world.workload(resource)
    replicas, _where = world.least_replicas(workload)
    if replicas > 1 and not world.selecting(DISRUPTION_BUDGET, workload):
        yield Finding(
            workload.path().removesuffix("spec") + "metadata.labels",
            f"selected by no PodDisruptionBudget in namespace {resource.namespace}",
            "Add a PodDisruptionBudget there with spec.maxUnavailable: 1 and a selector that "
            "matches these labels.",
        )


@rule(
    "workload-single-disruption-budget",
    Severity.MEDIUM,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="A Pod under two budgets cannot be evicted at all: the API refuses with an error.",
    source=_BUDGETS,
    remedy="Keep one PodDisruptionBudget for each Pod.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}}",
    failing="""
        kind: PodDisruptionBudget
        metadata: {name: web-again}
        spec:
          maxUnavailable: 1
          unhealthyPodEvictionPolicy: AlwaysAllow
          selector: {matchLabels: {app.kubernetes.io/name: web}}
    """,
)
def workload_single_disruption_budget(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Find workloads under several budgets."""
    budgets = world.selecting(DISRUPTION_BUDGET, world.workload(resource))
    if len(budgets) > 1:
        names = ", ".join(sorted(each.object_name for each in budgets))
        yield Finding(
            "PodDisruptionBudgets that select its Pods",
            names,
            f"Delete all but one of {names}, or narrow their selectors.",
        )


@rule(
    "disruption-budget-selects",
    Severity.HIGH,
    kinds=(DISRUPTION_BUDGET,),
    scope=Scope.STACK,
    why="A budget that selects nothing protects nothing, and nobody notices.",
    source=_BUDGETS,
    remedy="Let spec.selector match the labels of the workload's Pods.",
    passing="""
        kind: PodDisruptionBudget
        metadata: {name: web}
        spec: {selector: {matchLabels: {app.kubernetes.io/name: web}}}
    """,
    failing="""
        kind: PodDisruptionBudget
        metadata: {name: stray}
        spec:
          maxUnavailable: 1
          unhealthyPodEvictionPolicy: AlwaysAllow
          selector: {matchLabels: {app.kubernetes.io/name: wbe}}
    """,
)
def disruption_budget_selects(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find budgets without Pods."""
    selector = pod_selector(resource)
    if world.selected(resource.namespace, selector):
        return
    if world.selects_operator_pods(resource.namespace, selector):
        return
    yield Finding(
        "spec.selector",
        f"matches no Pods in namespace {resource.namespace}",
        "Give it the labels of the Pods that it is meant for, or delete the budget.",
    )


@rule(
    "disruption-budget-allows-eviction",
    Severity.HIGH,
    kinds=(DISRUPTION_BUDGET,),
    scope=Scope.STACK,
    why="A budget that forbids every eviction blocks node maintenance and upgrades for ever.",
    source=_BUDGETS,
    remedy="Use maxUnavailable: 1.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1}}",
    failing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 0}}",
)
def disruption_budget_allows_eviction(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Find budgets that leave no Pod to be evicted."""
    unavailable = at(resource.props, "spec", "maxUnavailable")
    if unavailable is not None:
        if resolved(unavailable, _WHOLE) == 0:
            yield Finding("spec.maxUnavailable", str(unavailable), "Set spec.maxUnavailable to 1.")
        return
    available = at(resource.props, "spec", "minAvailable")
    remedy = "Replace spec.minAvailable by spec.maxUnavailable: 1."
    if _is_whole(available):
        yield Finding("spec.minAvailable", f"{available}, all that there are", remedy)
        return
    replicas, names = _static(resource, world)
    if resolved(available, replicas) == replicas > 0:
        found = f"{available}, all {replicas} replicas of {names}"
        yield Finding("spec.minAvailable", found, remedy)


@rule(
    "disruption-budget-bound",
    Severity.HIGH,
    kinds=(DISRUPTION_BUDGET,),
    why="A budget without a bound lets all Pods be evicted at once, as if there were none.",
    source=_BUDGETS,
    remedy="Set maxUnavailable: 1.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1}}",
    failing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: null}}",
)
def disruption_budget_bound(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require one of the two bounds."""
    bounds = (at(resource.props, "spec", key) for key in ("maxUnavailable", "minAvailable"))
    if all(bound is None for bound in bounds):
        yield Finding(
            "spec", "neither maxUnavailable nor minAvailable", "Set spec.maxUnavailable to 1."
        )


@rule(
    "disruption-budget-within-replicas",
    Severity.HIGH,
    kinds=(DISRUPTION_BUDGET,),
    scope=Scope.STACK,
    why="A budget beyond the number of replicas either blocks all evictions or allows them all.",
    source=_BUDGETS,
    remedy="Use maxUnavailable: 1.",
    passing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 1}}",
    failing="{kind: PodDisruptionBudget, metadata: {name: web}, spec: {maxUnavailable: 9}}",
)
def disruption_budget_within_replicas(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Compare a budget with the replicas of what it selects."""
    replicas, names = _static(resource, world)
    unavailable = resolved(at(resource.props, "spec", "maxUnavailable"), replicas)
    available = resolved(at(resource.props, "spec", "minAvailable"), replicas)
    if unavailable is not None and unavailable >= replicas > 1:
        yield Finding(
            "spec.maxUnavailable",
            f"{unavailable}, all {replicas} replicas of {names}",
            "Set spec.maxUnavailable to 1.",
        )
    if available is not None and available > replicas > 0:
        yield Finding(
            "spec.minAvailable",
            f"{available}, more than the {replicas} replicas of {names}",
            "Replace spec.minAvailable by spec.maxUnavailable: 1.",
        )


@rule(
    "disruption-budget-below-autoscaler",
    Severity.HIGH,
    kinds=(DISRUPTION_BUDGET,),
    scope=Scope.STACK,
    why="When load is low, an autoscaler shrinks to its minimum; a budget that needs as many "
    "then forbids every eviction.",
    source=_BUDGETS,
    remedy="Keep minAvailable below the autoscaler's minReplicas, or use maxUnavailable: 1.",
    passing="""
        kind: PodDisruptionBudget
        metadata: {name: api}
        spec: {maxUnavailable: null, minAvailable: 2}
    """,
    failing="""
        kind: PodDisruptionBudget
        metadata: {name: api}
        spec: {maxUnavailable: null, minAvailable: 3}
    """,
)
def disruption_budget_below_autoscaler(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Compare a budget with the lower bound of what scales the same Pods."""
    amount = at(resource.props, "spec", "minAvailable")
    if amount is None:
        return
    for workload in world.selected(resource.namespace, pod_selector(resource)):
        if not world.autoscalers(workload.resource):
            continue
        least, where = world.least_replicas(workload)
        available = resolved(amount, least)
        if available is not None and available >= least > 0:
            yield Finding(
                "spec.minAvailable",
                f"{amount}, not below {where}, which is {least}",
                "Replace spec.minAvailable by spec.maxUnavailable: 1.",
            )


@rule(
    "disruption-budget-unhealthy-eviction",
    Severity.MEDIUM,
    kinds=(DISRUPTION_BUDGET,),
    why="By default a Pod that crashes over and over counts as disrupted, and blocks the drain "
    "of its node.",
    source=f"{_BUDGETS}#unhealthy-pod-eviction-policy",
    remedy="Set spec.unhealthyPodEvictionPolicy to AlwaysAllow.",
    passing="""
        kind: PodDisruptionBudget
        metadata: {name: web}
        spec: {unhealthyPodEvictionPolicy: AlwaysAllow}
    """,
    failing="""
        kind: PodDisruptionBudget
        metadata: {name: web}
        spec: {unhealthyPodEvictionPolicy: null}
    """,
)
def disruption_budget_unhealthy_eviction(
    resource: Resource, _: World, __: Options
) -> Iterator[Finding]:
    """Require that unhealthy Pods may be evicted."""
    policy = text(resource.props, "spec", "unhealthyPodEvictionPolicy")
    if policy != "AlwaysAllow":
        yield Finding(
            "spec.unhealthyPodEvictionPolicy",
            policy or "not set (IfHealthyBudget)",
            "Set spec.unhealthyPodEvictionPolicy to AlwaysAllow.",
        )


def _static(budget: Resource, world: World) -> tuple[int, str]:
    """How many replicas a budget counts at least, of all that it selects together, and whose.

    0 where autoscalers resize them all: `disruption-budget-below-autoscaler` tells of these.
    """
    guarded = [
        workload
        for workload in world.selected(budget.namespace, pod_selector(budget))
        if workload.resource.kind in REPLICATED
    ]
    if all(world.autoscalers(each.resource) for each in guarded):
        return 0, ""
    names = " and ".join(each.resource.object_name for each in guarded)
    return sum(world.least_replicas(each)[0] for each in guarded), names


# Autoscalers ------------------------------------------------------------------------------------


@rule(
    "autoscaler-bounds",
    Severity.HIGH,
    kinds=_SCALERS,
    why="The lower bound is the redundancy that is left when load is low; an upper bound that "
    "leaves no room scales nothing.",
    source=_AUTOSCALING,
    remedy="Set the lower bound to the minimum or more, and the upper bound above it.",
    options={
        "minimum": Option(2, {"type": "integer", "minimum": 1}, "Pods that there are at least."),
    },
    passing="""
        kind: HorizontalPodAutoscaler
        metadata: {name: api}
        spec: {minReplicas: 3, maxReplicas: 9}
    """,
    failing="""
        kind: HorizontalPodAutoscaler
        metadata: {name: api}
        spec: {minReplicas: 3, maxReplicas: 3}
    """,
)
def autoscaler_bounds(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Hold the bounds to the minimum and to one another."""
    suffix = "Replicas" if resource.kind == AUTOSCALER else "ReplicaCount"
    least, minimum = least_of(resource), int(options["minimum"])
    if least < minimum:
        yield Finding(
            f"spec.min{suffix}", str(least), f"Set spec.min{suffix} to {minimum} or more."
        )
    most = number(resource.props, "spec", f"max{suffix}")
    if most is not None and most <= least:
        yield Finding(
            f"spec.max{suffix}",
            f"{most}, with spec.min{suffix} at {least}",
            f"Set spec.max{suffix} above {least}, or drop the autoscaler.",
        )


@rule(
    "autoscaler-target-exists",
    Severity.HIGH,
    kinds=_SCALERS,
    scope=Scope.STACK,
    why="An autoscaler whose target does not exist scales nothing, and says so only in its status.",
    source=_AUTOSCALING,
    remedy="Let spec.scaleTargetRef name a workload of the same namespace.",
    passing="""
        kind: HorizontalPodAutoscaler
        metadata: {name: api}
        spec: {scaleTargetRef: {kind: Deployment, name: api}}
    """,
    failing="""
        kind: HorizontalPodAutoscaler
        metadata: {name: stray}
        spec: {scaleTargetRef: {kind: Deployment, name: ghost}, minReplicas: 3, maxReplicas: 9}
    """,
)
def autoscaler_target_exists(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for the target."""
    kind, name = scale_target(resource)
    if f"apps/{kind}" not in REPLICATED:
        return
    if world.named(f"apps/{kind}", resource.namespace, name) is None:
        yield Finding(
            "spec.scaleTargetRef",
            f"{kind} {name}, which is not in namespace {resource.namespace}",
            "Name the workload that it should scale.",
        )


@rule(
    "autoscaler-single-per-target",
    Severity.HIGH,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="Two autoscalers on one workload fight over its size.",
    source=_AUTOSCALING,
    remedy="Keep one autoscaler for each workload.",
    passing="{kind: HorizontalPodAutoscaler, metadata: {name: api}}",
    failing="""
        kind: HorizontalPodAutoscaler
        metadata: {name: api-again}
        spec: {scaleTargetRef: {kind: Deployment, name: api}, minReplicas: 3, maxReplicas: 9}
    """,
)
def autoscaler_single_per_target(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find workloads with several autoscalers."""
    scalers = world.autoscalers(resource)
    if len(scalers) > 1:
        names = ", ".join(sorted(each.object_name for each in scalers))
        yield Finding("autoscalers that name it", names, f"Delete all but one of {names}.")


@rule(
    "workload-no-static-replicas",
    Severity.MEDIUM,
    kinds=REPLICATED,
    scope=Scope.STACK,
    why="Every update sets the declared number again and throws away what the autoscaler chose, "
    "in the middle of a peak too.",
    source=_AUTOSCALING,
    remedy="Leave spec.replicas out of a workload that an autoscaler sizes.",
    passing="{kind: Deployment, metadata: {name: api}, spec: {replicas: null}}",
    failing="{kind: Deployment, metadata: {name: api}, spec: {replicas: 3}}",
)
def workload_no_static_replicas(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find a declared size under an autoscaler."""
    replicas = number(mapping(resource.props, "spec"), "replicas")
    if replicas is not None and world.autoscalers(resource):
        yield Finding("spec.replicas", str(replicas), "Remove spec.replicas.")
