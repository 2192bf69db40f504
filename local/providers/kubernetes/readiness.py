"""When is an object ready? Pure functions from an object's state to a verdict."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from local.providers.kubernetes import objects
from local.providers.protocol import ProviderError

Object: TypeAlias = dict[str, Any]

SKIP_AWAIT: Final = "pulumi.com/skipAwait"
WAIT_FOR: Final = "pulumi.com/waitFor"


@dataclass(frozen=True)
class Ready:
    """Nothing is left to wait for."""


@dataclass(frozen=True)
class Waiting:
    """Not ready yet, and what for."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """Not ready, and waiting will not help."""

    reason: str


Verdict: TypeAlias = Ready | Waiting | Failed
READY: Final = Ready()


@dataclass(frozen=True)
class Surroundings:
    """What readiness depends on besides the object itself."""

    ready_endpoints: int = 0
    """Addresses that a Service can send to."""
    binds_on_first_use: bool = False
    """A PersistentVolumeClaim's class waits for the first Pod."""


def is_awaited(obj: Object) -> bool:
    """Whether anything has to be waited for with this object at all."""
    if objects.annotation(obj, SKIP_AWAIT) == "true":
        return False
    return objects.annotation(obj, WAIT_FOR) is not None or _group_kind(obj) in _CHECKS


def verdict(obj: Object, around: Surroundings) -> Verdict:
    """Whether the object is ready, as its kind or its `pulumi.com/waitFor` annotation demand."""
    if not is_awaited(obj):
        return READY
    if expression := objects.annotation(obj, WAIT_FOR):
        return _all_of(obj, parse_wait_for(expression))
    return _CHECKS[_group_kind(obj)](obj, around)


def _group_kind(obj: Object) -> tuple[str, str]:
    group, slash, _ = obj["apiVersion"].partition("/")
    return (group if slash else ""), obj["kind"]


def _condition(obj: Object, kind: str) -> Mapping[str, Any]:
    conditions: Iterable[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if str(c.get("type")).lower() == kind.lower()), {})


def _not_observed(obj: Object) -> Waiting | None:
    generation = obj["metadata"].get("generation", 0)
    if (obj.get("status") or {}).get("observedGeneration", 0) < generation:
        return Waiting("its controller has not seen the change yet")
    return None


def _deployment(obj: Object, _: Surroundings) -> Verdict:
    if waiting := _not_observed(obj):
        return waiting
    if obj["spec"].get("paused"):
        return READY
    progressing = _condition(obj, "Progressing")
    if progressing.get("status") == "False":
        return Failed(f"{progressing.get('reason')}: {progressing.get('message')}")
    return _rollout(obj)


def _rollout(obj: Object) -> Verdict:
    wanted, status = obj["spec"].get("replicas", 1), obj["status"]
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return Waiting(_with_failure(obj, f"{updated} of {wanted} replicas are up to date"))
    if status.get("replicas", 0) > updated:
        return Waiting(f"{status['replicas'] - updated} old replicas are still terminating")
    if available < updated:
        return Waiting(_with_failure(obj, f"{available} of {wanted} replicas are available"))
    return READY


def _with_failure(obj: Object, text: str) -> str:
    failure = _condition(obj, "ReplicaFailure")
    return f"{text} ({failure['message']})" if failure.get("status") == "True" else text


def _stateful_set(obj: Object, _: Surroundings) -> Verdict:
    if waiting := _not_observed(obj):
        return waiting
    spec, status = obj["spec"], obj["status"]
    wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") != "OnDelete":
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        updated = status.get("updatedReplicas", 0)
        if updated < wanted - partition:
            return Waiting(f"{updated} of {wanted - partition} replicas are up to date")
    if ready < wanted:
        return Waiting(f"{ready} of {wanted} replicas are ready")
    if status.get("replicas", 0) > wanted:
        return Waiting(f"{status['replicas'] - wanted} replicas too many are still terminating")
    return READY


def _daemon_set(obj: Object, _: Surroundings) -> Verdict:
    if waiting := _not_observed(obj):
        return waiting
    status = obj["status"]
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    on_delete = (obj["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    if updated < wanted and not on_delete:
        return Waiting(f"{updated} of {wanted} nodes run the new Pod")
    if available < wanted:
        return Waiting(f"{available} of {wanted} Pods are available")
    return READY


def _job(obj: Object, _: Surroundings) -> Verdict:
    failed = _condition(obj, "Failed")
    if failed.get("status") == "True":
        return Failed(f"{failed.get('reason')}: {failed.get('message')}")
    if _condition(obj, "Complete").get("status") == "True" or obj["spec"].get("suspend"):
        return READY
    status = obj.get("status") or {}
    return Waiting(
        f"{status.get('succeeded', 0)} of {obj['spec'].get('completions', 1)} completions, "
        f"{status.get('failed', 0)} Pods failed"
    )


def _pod(obj: Object, _: Surroundings) -> Verdict:
    status = obj.get("status") or {}
    if status.get("phase") == "Failed":
        return Failed(
            f"{status.get('reason', 'Failed')}: {status.get('message', 'the Pod failed')}"
        )
    if status.get("phase") == "Succeeded" or _condition(obj, "Ready").get("status") == "True":
        return READY
    return Waiting(f"phase {status.get('phase', 'unknown')}, not Ready")


def _claim(obj: Object, around: Surroundings) -> Verdict:
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Lost":
        return Failed("its volume is lost")
    if phase == "Bound" or (phase == "Pending" and around.binds_on_first_use):
        return READY
    return Waiting(f"phase {phase}: no volume is bound")


def _service(obj: Object, around: Surroundings) -> Verdict:
    spec = obj["spec"]
    if spec.get("type") == "ExternalName":
        return READY
    balancer = (obj.get("status") or {}).get("loadBalancer") or {}
    if spec.get("type") == "LoadBalancer" and not balancer.get("ingress"):
        return Waiting("the load balancer has no address yet")
    if spec.get("clusterIP") == "None" or not spec.get("selector"):
        return READY
    if around.ready_endpoints == 0:
        return Waiting("no ready Pod matches its selector")
    return READY


def _namespace(obj: Object, _: Surroundings) -> Verdict:
    phase = (obj.get("status") or {}).get("phase")
    return READY if phase == "Active" else Waiting(f"phase {phase}")


def _definition(obj: Object, _: Surroundings) -> Verdict:
    names = _condition(obj, "NamesAccepted")
    if names.get("status") == "False":
        return Failed(f"{names.get('reason')}: {names.get('message')}")
    if _condition(obj, "Established").get("status") == "True":
        return READY
    return Waiting("not Established yet")


_CHECKS: Final[Mapping[tuple[str, str], Callable[[Object, Surroundings], Verdict]]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Service"): _service,
    ("", "Namespace"): _namespace,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}


# --- pulumi.com/waitFor -----------------------------------------------------------------------

Test: TypeAlias = Callable[[Object], bool]


def parse_wait_for(expression: str) -> list[tuple[str, Test]]:
    """The tests of a `pulumi.com/waitFor` annotation, each with its text.

    One of `condition=Type[=Status]` and `jsonpath={.path}[=value]`, or a JSON list of such.

    Raises:
        ProviderError: it is none of these.
    """
    try:
        several = json.loads(expression)
    except ValueError:
        several = [expression]
    if not isinstance(several, list) or not several:
        raise ProviderError(f"{WAIT_FOR} needs at least one condition, got {expression!r}")
    return [(str(text), _parse_test(str(text))) for text in several]


def _parse_test(text: str) -> Test:
    kind, _, rest = text.partition("=")
    if kind == "condition" and rest:
        name, _, status = rest.partition("=")
        return lambda obj: _has_condition(obj, name, status or "True")
    match = re.fullmatch(r"\{\s*(\..*|\[.*)\}(?:=(.*))?", rest) if kind == "jsonpath" else None
    if match is None:
        raise ProviderError(
            f"{WAIT_FOR}: expected `condition=Type[=Status]` or `jsonpath={{.path}}[=value]`, "
            f"got {text!r}"
        )
    steps, value = _parse_path(match[1].strip(), text), match[2]
    return lambda obj: _holds(_values([obj], steps), value)


def _has_condition(obj: Object, name: str, status: str) -> bool:
    """Whether it holds now: one of an older generation says nothing, if that can be told."""
    found, status_seen = _condition(obj, name), (obj.get("status") or {}).get("observedGeneration")
    generation = obj["metadata"].get("generation", 0)
    seen = found.get("observedGeneration", status_seen)
    is_current = seen is None or seen >= generation
    return is_current and str(found.get("status")).lower() == status.lower()


def _holds(values: list[Any], wanted: str | None) -> bool:
    if wanted is None:
        return bool(values)
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    return bool(texts) and all(text == wanted.strip("'\"") for text in texts)


_STEP: Final = re.compile(
    r"""\.(?P<field>(?:[^.\[\]\\]|\\.)+)          # .name, with dots escaped as \.
    |\[['"](?P<quoted>[^'"]+)['"]\]               # ['name']
    |\[(?P<index>-?\d+|\*)\]                      # [0], [*]
    |\[\?\(@\.(?P<key>[\w.]+)\s*==\s*['"](?P<equals>[^'"]*)['"]\)\]  # [?(@.type=="Ready")]
    """,
    re.VERBOSE,
)

Step: TypeAlias = Callable[[Any], list[Any]]


def _parse_path(path: str, text: str) -> list[Step]:
    steps: list[Step] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ProviderError(f"{WAIT_FOR}: cannot read {path[position:]!r} in {text!r}")
        steps.append(_step(match))
        position = match.end()
    return steps


def _step(match: re.Match[str]) -> Step:
    if match["equals"] is not None:
        key, equals = match["key"], match["equals"]
        return lambda value: [
            v
            for v in (value if isinstance(value, list) else [])
            if isinstance(v, dict) and str(v.get(key)) == equals
        ]
    if match["index"] == "*":
        return lambda value: value if isinstance(value, list) else list((value or {}).values())
    if match["index"] is not None:
        index = int(match["index"])
        return lambda value: value[index:][:1] if isinstance(value, list) else []
    name = (match["quoted"] or match["field"]).replace("\\.", ".")
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def _values(values: list[Any], steps: Iterable[Step]) -> list[Any]:
    for step in steps:
        values = [found for value in values for found in step(value)]
    return values


def _all_of(obj: Object, tests: Iterable[tuple[str, Test]]) -> Verdict:
    unmet = [text for text, holds in tests if not holds(obj)]
    return Waiting("waiting for " + " and ".join(unmet)) if unmet else READY
