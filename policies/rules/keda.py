"""KEDA: autoscalers by events, which freeze, quietly, when what they read is gone or misspelt.

KEDA's admission refuses misspelt fields, negative or inverted replicas and two scalers on one
target. It accepts what these rules find.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from policies.model import Resource, mapping, number, numbered, text
from policies.rule import Finding, Option, Options, Severity, rule
from policies.world import SCALED_OBJECT, World

_DOCS = "https://keda.sh/docs/2.21"
_SCALED_OBJECT = f"{_DOCS}/reference/scaledobject-spec/"
_WITHOUT_SOURCE = frozenset({"cpu", "memory", "cron"})
"""Read from Kubernetes itself, or from the clock: nothing to fall back from."""

TRIGGERS = frozenset(Path(__file__).with_name("keda_scalers.txt").read_text().split())
"""Of KEDA 2.21.0, as its `pkg/scaling/scalers_builder.go` lists them."""

_NEEDED = {
    "cpu": ("value",),
    "memory": ("value",),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
    "prometheus": ("serverAddress", "query", "threshold"),
    "loki": ("serverAddress", "query", "threshold"),
    "graphite": ("serverAddress", "query", "queryTime"),
    "kafka": ("bootstrapServers", "consumerGroup"),
    "postgresql": ("query", "targetQueryValue"),
    "mysql": ("query", "queryValue"),
    "mssql": ("query", "targetValue"),
    "mongodb": ("collection", "query", "queryValue"),
    "redis": ("listName",),
    "redis-sentinel": ("listName",),
    "redis-cluster": ("listName",),
    "metrics-api": ("url", "valueLocation", "targetValue"),
}
"""What each trigger says for itself, in its `metadata`, by its scaler in KEDA's `pkg/scalers`."""

_FROM_ENVIRONMENT = frozenset({("kafka", "bootstrapServers"), ("kafka", "consumerGroup")})
"""What may also come from a variable that ``<key>FromEnv`` names: `resolvedEnv` there."""

_FORMULA_NEEDS_NONE = frozenset(
    {("postgresql", "targetQueryValue"), ("metrics-api", "targetValue")}
)
"""Targets that may be missing where a formula, which has its own, makes one metric of all."""

_RESOURCES = frozenset({"cpu", "memory"})
_RESOURCE_METRICS = frozenset({"Utilization", "AverageValue"})
"""One of which these two must name: since KEDA 2.18 there is no default, and no `metadata.type`."""


_STATIC = "static"
"""What a fallback does that does not say: `replicas`, however many there are."""
_BY_ITSELF = frozenset({"currentReplicas", "scalingModifiers"})
"""What a fallback may do without a look at its `replicas`."""
_KEEPING = _BY_ITSELF | {"currentReplicasIfHigher"}
"""What a fallback may do that takes nothing away from a workload under load."""
_MOST_REPLICAS = 100
"""KEDA's default for maxReplicaCount."""

_FALLBACK = "{failureThreshold: 3, replicas: 6, behavior: currentReplicasIfHigher}"


def _triggers(trigger: str, fallback: str = _FALLBACK) -> str:
    return f"""
        kind: ScaledObject
        metadata: {{name: worker}}
        spec: {{fallback: {fallback}, triggers: [{trigger}]}}
    """


_PROMETHEUS = """
    {type: prometheus, metadata:
        {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "50"}}"""


@rule(
    "scaled-object-trigger",
    Severity.HIGH,
    kinds=(SCALED_OBJECT,),
    why="KEDA accepts a trigger of a type that it does not have, and then scales nothing.",
    source=f"{_DOCS}/scalers/",
    remedy="Name one of KEDA's scalers.",
    options={
        "known": Option(
            [],
            {"type": "array", "items": {"type": "string"}},
            "Types beyond those of KEDA 2.21, of a later release.",
        ),
    },
    passing=_triggers(_PROMETHEUS),
    failing=_triggers("{type: promethius, metadata: {query: up}}"),
)
def scaled_object_trigger(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Find types that KEDA does not have."""
    known = {*TRIGGERS, *options["known"]}
    for where, trigger in _declared(resource):
        kind = text(trigger, "type")
        if kind not in known:
            near = difflib.get_close_matches(kind, known, n=1)
            hint = f"to {near[0]}" if near else "to one of KEDA's scalers"
            yield Finding(f"{where}.type", kind or "not set", f"Set {where}.type {hint}.")


@rule(
    "scaled-object-query",
    Severity.HIGH,
    kinds=(SCALED_OBJECT,),
    why="A trigger without its query or its threshold is accepted, fails each time it is read, and "
    "the workload keeps the size that it had.",
    source=f"{_DOCS}/scalers/prometheus/",
    remedy="Give the trigger everything that its type needs.",
    passing=_triggers(_PROMETHEUS),
    failing=_triggers(_PROMETHEUS.replace("query:", "queri:")),
)
def scaled_object_query(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find what is missing."""
    optional = _FORMULA_NEEDS_NONE if _is_combined(resource) else frozenset()
    for where, trigger in _declared(resource):
        kind, given = text(trigger, "type"), mapping(trigger, "metadata")
        for key in _NEEDED.get(kind, ()):
            if (kind, key) in optional or text(given, key):
                continue
            if (kind, key) not in _FROM_ENVIRONMENT or not text(given, f"{key}FromEnv"):
                yield Finding(f"{where}.metadata.{key}", "not set", f"Set {where}.metadata.{key}.")
        if kind in _RESOURCES and text(trigger, "metricType") not in _RESOURCE_METRICS:
            yield Finding(
                f"{where}.metricType",
                text(trigger, "metricType") or "not set",
                f"Set {where}.metricType to Utilization or AverageValue.",
            )


@rule(
    "scaled-object-fallback",
    Severity.HIGH,
    kinds=(SCALED_OBJECT,),
    why="When the source of its metrics is gone, a workload without a fallback keeps the size that "
    "it had, however the load grows; and one that falls back to fewer replicas loses what carries "
    "the load.",
    source=f"{_SCALED_OBJECT}#fallback",
    remedy="Set fallback with failureThreshold, replicas and behavior: currentReplicasIfHigher.",
    passing=_triggers(_PROMETHEUS),
    failing=_triggers(_PROMETHEUS, fallback="null"),
)
def scaled_object_fallback(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a size to fall back to, wherever a trigger reads from outside Kubernetes.

    It may be no smaller than the least that is declared, nor than what runs when the source goes.
    """
    kinds = {text(trigger, "type") for _, trigger in _declared(resource)}
    if kinds <= _WITHOUT_SOURCE:
        return
    fallback = mapping(resource.props, "spec", "fallback")
    for key in ("failureThreshold", "replicas"):
        if number(fallback, key) is None:
            yield Finding(f"spec.fallback.{key}", "not set", f"Set spec.fallback.{key}.")
    replicas, behavior = number(fallback, "replicas"), text(fallback, "behavior") or _STATIC
    if replicas is None:
        return
    least = max(1, number(resource.props, "spec", "minReplicaCount") or 0)
    if behavior not in _BY_ITSELF and replicas < least:
        yield Finding(
            "spec.fallback.replicas",
            f"{replicas:g}, below the {least:g} that run without any load",
            f"Set spec.fallback.replicas to {least:g} or more.",
        )
    most = number(resource.props, "spec", "maxReplicaCount") or _MOST_REPLICAS
    if behavior not in _KEEPING and not (behavior == _STATIC and replicas >= most):
        yield Finding(
            "spec.fallback.behavior",
            f"{behavior}, which leaves {replicas:g} replicas of up to {most:g}",
            "Set spec.fallback.behavior to currentReplicasIfHigher.",
        )


@rule(
    "scaled-object-fallback-metric",
    Severity.MEDIUM,
    kinds=(SCALED_OBJECT,),
    why="For a trigger of metricType Value the fallback is divided by the replicas that are ready: "
    "with none ready, just when it is needed, there is none; and no error says so.",
    source=f"{_SCALED_OBJECT}#fallback",
    remedy="Set metricType to AverageValue, its default.",
    passing=_triggers(_PROMETHEUS),
    failing=_triggers(_PROMETHEUS.replace("{type", "{metricType: Value, type")),
)
def scaled_object_fallback_metric(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find triggers whose fallback may not act; the same holds of a formula's own metric type."""
    if not mapping(resource.props, "spec", "fallback") or _is_combined(resource):
        return
    for where, trigger in _declared(resource):
        metric = text(trigger, "metricType")
        if text(trigger, "type") not in _WITHOUT_SOURCE and metric not in {"", "AverageValue"}:
            yield Finding(f"{where}.metricType", metric, f"Set {where}.metricType to AverageValue.")


def _is_combined(resource: Resource) -> bool:
    """Whether a formula makes one metric of all triggers, which then counts instead."""
    return bool(text(resource.props, "spec", "advanced", "scalingModifiers", "formula"))


def _declared(resource: Resource) -> Iterator[tuple[str, Mapping[str, object]]]:
    for index, trigger in numbered(resource.props, "spec", "triggers"):
        yield f"spec.triggers[{text(trigger, 'name') or index}]", trigger
