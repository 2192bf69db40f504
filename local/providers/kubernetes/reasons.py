"""Why is an object not ready, or not gone? Conditions, Pods and events, for a person to act on."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from local.providers.kubernetes.api import Api, ApiError, Kind, Unreachable

Object: TypeAlias = dict[str, Any]

_MOST_PODS: Final = 3
_MOST_EVENTS: Final = 3
_PODS: Final = Kind("v1", "Pod", "pods", namespaced=True)
_EVENTS: Final = Kind("v1", "Event", "events", namespaced=True)
_BAD_WHEN_TRUE: Final = ("ReplicaFailure", "Failed", "FailureTarget")


async def not_ready(api: Api, obj: Object) -> list[str]:
    """What conditions, Pods and events say; the most telling first. Never raises."""
    found = _conditions(obj)
    try:
        pods = await _pods_of(api, obj)
        for pod in pods[:_MOST_PODS]:
            found += await _pod_reasons(api, pod)
        if len(pods) > _MOST_PODS:
            found.append(f"and {len(pods) - _MOST_PODS} more Pods that are not ready")
        if obj["kind"] != "Pod":
            found += await _warnings(api, obj)
    except (ApiError, Unreachable) as error:
        found.append(f"(could not look further: {error})")
    return list(dict.fromkeys(found))


def not_gone(obj: Object) -> list[str]:
    """What keeps a deleted object from going: finalizers, and what is left in a namespace."""
    metadata = obj["metadata"]
    held = [*(metadata.get("finalizers") or []), *((obj.get("spec") or {}).get("finalizers") or [])]
    found = [f"finalizers not yet removed: {', '.join(held)}"] if held else []
    if not metadata.get("deletionTimestamp"):
        found.append("it is not being deleted: something created it anew")
    conditions = (obj.get("status") or {}).get("conditions") or []
    if obj["kind"] == "Namespace":
        found += [str(c["message"]) for c in conditions if c.get("status") == "True"]
    return found


def _conditions(obj: Object) -> list[str]:
    conditions: Iterable[Mapping[str, Any]] = (obj.get("status") or {}).get("conditions") or []
    return [
        f"{c.get('type')} is {c.get('status')}"
        + (f" ({c['reason']})" if c.get("reason") else "")
        + (f": {c['message']}" if c.get("message") else "")
        for c in conditions
        if (c.get("status") == "True") == (c.get("type") in _BAD_WHEN_TRUE)
    ]


async def _pods_of(api: Api, obj: Object) -> list[Object]:
    """The object's Pods that are not ready."""
    if obj["kind"] == "Pod":
        return [obj]
    selector = (obj.get("spec") or {}).get("selector") or {}
    labels = selector if obj["kind"] == "Service" else selector.get("matchLabels")
    if not labels or not isinstance(labels, dict):
        return []
    text = ",".join(f"{k}={v}" for k, v in labels.items())
    pods = await api.list(_PODS, obj["metadata"].get("namespace"), labelSelector=text)
    # Lists leave out what each item is.
    return [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in pods if not _is_ready(pod)]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def _pod_reasons(api: Api, pod: Object) -> list[str]:
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    found = []
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            found.append(f"{condition.get('reason')}: {condition.get('message')}")
    statuses = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    found += [text for c in statuses if (text := _container_reason(c))]
    warnings = await _warnings(api, pod)
    unique = list(dict.fromkeys([*found, *warnings])) or [f"phase {status.get('phase')}, not Ready"]
    return [f"Pod {name}: {text}" for text in unique]


def _container_reason(status: Mapping[str, Any]) -> str | None:
    state = status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        text = f"container {status['name']} is waiting: {waiting['reason']}"
        text += f" ({waiting['message']})" if waiting.get("message") else ""
    elif ended and ended.get("exitCode") != 0:
        text = f"container {status['name']} ended: {ended.get('reason')}, exit code "
        text += str(ended.get("exitCode"))
    else:
        return None
    if last:
        text += f"; before that {last.get('reason')}, exit code {last.get('exitCode')}"
    return text


async def _warnings(api: Api, obj: Object) -> list[str]:
    metadata = obj["metadata"]
    selector = f"involvedObject.uid={metadata['uid']},type=Warning"
    namespace = metadata.get("namespace") or "default"
    events = await api.list(_EVENTS, namespace, fieldSelector=selector)
    events.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "", reverse=True)
    texts = dict.fromkeys(f"{e.get('reason')}: {e.get('message')}" for e in events)
    return list(texts)[:_MOST_EVENTS]
