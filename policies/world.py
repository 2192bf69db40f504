"""All declared resources together, indexed for the questions that rules ask.

Every index is built at most once, and none compares everything with everything: a label selector
is answered from the rarest of its labels, so the cost grows with the number of resources.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from policies.model import (
    Opaque,
    Resource,
    Undecided,
    at,
    listing,
    mapping,
    mappings,
    number,
    numbered,
    text,
    texts,
)

DEPLOYMENT = "apps/Deployment"
STATEFUL_SET = "apps/StatefulSet"
DAEMON_SET = "apps/DaemonSet"
JOB = "batch/Job"
CRON_JOB = "batch/CronJob"
POD = "core/Pod"
SERVICE = "core/Service"
CONFIG_MAP = "core/ConfigMap"
DISRUPTION_BUDGET = "policy/PodDisruptionBudget"
AUTOSCALER = "autoscaling/HorizontalPodAutoscaler"
SCALED_OBJECT = "keda.sh/ScaledObject"
BINDINGS = (
    "rbac.authorization.k8s.io/RoleBinding",
    "rbac.authorization.k8s.io/ClusterRoleBinding",
)
NETWORK_POLICY = "networking.k8s.io/NetworkPolicy"
STORAGE_CLASS = "storage.k8s.io/StorageClass"
ZONE_LABEL = "topology.kubernetes.io/zone"

_TEMPLATES = {
    DEPLOYMENT: ("spec", "template"),
    STATEFUL_SET: ("spec", "template"),
    DAEMON_SET: ("spec", "template"),
    JOB: ("spec", "template"),
    CRON_JOB: ("spec", "jobTemplate", "spec", "template"),
    POD: (),
}
WORKLOADS = tuple(_TEMPLATES)
"""Everything that makes Pods."""
SERVING = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
"""What runs for ever and answers requests."""
REPLICATED = (DEPLOYMENT, STATEFUL_SET)
"""What has a number of replicas."""

_OPERATOR_PODS = {
    "cnpg.io/cluster": ("postgresql.cnpg.io/Cluster",),
    "cnpg.io/poolerName": ("postgresql.cnpg.io/Pooler",),
    "strimzi.io/cluster": ("kafka.strimzi.io/Kafka", "kafka.strimzi.io/KafkaMirrorMaker2"),
    "strimzi.io/pool-name": ("kafka.strimzi.io/KafkaNodePool",),
    "app.kubernetes.io/instance": (
        "psmdb.percona.com/PerconaServerMongoDB",
        "kafka.strimzi.io/Kafka",
        "kafka.strimzi.io/KafkaBridge",
        "kafka.strimzi.io/KafkaConnect",
        "kafka.strimzi.io/KafkaMirrorMaker2",
        "postgresql.cnpg.io/Cluster",
        "monitoring.coreos.com/Prometheus",
        "monitoring.coreos.com/Alertmanager",
    ),
    "prometheus": ("monitoring.coreos.com/Prometheus",),
    "alertmanager": ("monitoring.coreos.com/Alertmanager",),
    "operator.prometheus.io/name": (
        "monitoring.coreos.com/Prometheus",
        "monitoring.coreos.com/Alertmanager",
    ),
}
"""Labels of Pods that an operator makes, with the name of a resource that makes it do so."""

_OPERATOR_PARTS = {
    ("strimzi.io/kind", "Kafka"): "kafka.strimzi.io/Kafka",
    ("strimzi.io/kind", "KafkaBridge"): "kafka.strimzi.io/KafkaBridge",
    ("strimzi.io/kind", "KafkaConnect"): "kafka.strimzi.io/KafkaConnect",
    ("strimzi.io/kind", "KafkaMirrorMaker2"): "kafka.strimzi.io/KafkaMirrorMaker2",
    ("app.kubernetes.io/name", "kafka"): "kafka.strimzi.io/Kafka",
    ("app.kubernetes.io/name", "entity-operator"): "kafka.strimzi.io/Kafka",
    ("app.kubernetes.io/name", "kafka-exporter"): "kafka.strimzi.io/Kafka",
    ("app.kubernetes.io/name", "cruise-control"): "kafka.strimzi.io/Kafka",
    ("app.kubernetes.io/name", "kafka-bridge"): "kafka.strimzi.io/KafkaBridge",
    ("app.kubernetes.io/name", "kafka-connect"): "kafka.strimzi.io/KafkaConnect",
    ("app.kubernetes.io/name", "kafka-mirror-maker-2"): "kafka.strimzi.io/KafkaMirrorMaker2",
}
"""The same labels whatever the resource is named: who has any of that kind has such Pods."""


@dataclass(frozen=True)
class Container:
    """A container and where it stands."""

    path: str
    spec: Mapping[str, Any]
    init: bool

    @property
    def name(self) -> str:
        """Its name within the Pod."""
        return text(self.spec, "name")


@dataclass(frozen=True, eq=False)
class Workload:
    """A resource that makes Pods, seen as the Pods it makes."""

    resource: Resource

    @cached_property
    def _template(self) -> tuple[str, ...]:
        return _TEMPLATES[self.resource.kind]

    @cached_property
    def pod(self) -> Mapping[str, Any]:
        """The Pod's spec."""
        return mapping(self.resource.props, *self._template, "spec")

    @cached_property
    def labels(self) -> Mapping[str, Any]:
        """The Pod's labels."""
        return mapping(self.resource.props, *self._template, "metadata", "labels")

    def path(self, *rest: str) -> str:
        """Name a field of the Pod's spec."""
        return ".".join((*self._template, "spec", *rest))

    @cached_property
    def containers(self) -> list[Container]:
        """Its main containers."""
        return self._containers("containers", init=False)

    @cached_property
    def all_containers(self) -> list[Container]:
        """Its init containers and its main ones."""
        return [*self._containers("initContainers", init=True), *self.containers]

    def _containers(self, key: str, *, init: bool) -> list[Container]:
        return [
            Container(self.path(f"{key}[{text(spec, 'name') or index}]"), spec, init)
            for index, spec in numbered(self.pod, key)
        ]

    @property
    def replicas(self) -> int:
        """Declared replicas; Kubernetes' own default is 1."""
        declared = number(self.resource.props, "spec", "replicas")
        return 1 if declared is None else int(declared)


class Labelled(Protocol):
    """Anything with labels."""

    @property
    def labels(self) -> Mapping[str, Any]:
        """The labels; reading them raises `Undecided` if they cannot be read."""


T = TypeVar("T", bound=Labelled)
A = TypeVar("A")


class World:
    """Resources that are declared together."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.resources = tuple(resources)
        self._workloads = {
            resource.urn: Workload(resource)
            for resource in self.resources
            if resource.kind in _TEMPLATES
        }
        self._selecting: dict[str, _Selecting] = {}
        self._by_value: dict[tuple[str, tuple[str, ...]], _Values] = {}
        self._by_namespace: dict[str, dict[str, list[Resource]]] = {}
        self._answers: dict[tuple[object, str], Any] = {}

    def once(self, question: Callable[[Resource, World], A], resource: Resource) -> A:
        """The answer to what several rules ask of a resource, worked out for the first of them.

        Raises:
            Undecided: if the question does, each time that it is asked.
        """
        key = (question, resource.urn)
        if key not in self._answers:
            self._answers[key] = question(resource, self)
        answer: A = self._answers[key]
        return answer

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Resource]]:
        index: dict[str, list[Resource]] = defaultdict(list)
        for resource in self.resources:
            index[resource.kind].append(resource)
        return index

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str, str], Resource]:
        return {
            (resource.kind, resource.namespace, resource.object_name): resource
            for resource in self.resources
            if resource.is_kubernetes and _readable(resource)
        }

    def of(self, *kinds: str) -> Iterator[Resource]:
        """Every resource of these kinds."""
        for kind in kinds:
            yield from self._by_kind.get(kind, ())

    def named(self, kind: str, namespace: str, name: str) -> Resource | None:
        """The object of that name.

        Raises:
            Undecided: if there is none, but one of that kind whose name cannot be read.
        """
        found = self._by_name.get((kind, namespace, name))
        if found is None and kind in self._kinds_with_unread_names:
            raise Undecided(f"the name of a {kind} is not known before the update")
        return found

    @cached_property
    def _kinds_with_unread_names(self) -> frozenset[str]:
        return frozenset(each.kind for each in self.resources if not _readable(each))

    def within(self, namespace: str, kind: str) -> list[Resource]:
        """Resources of a kind in a namespace.

        Raises:
            Undecided: if there may be more, whose namespace cannot be read.
        """
        if kind not in self._by_namespace:
            index: dict[str, list[Resource]] = defaultdict(list)
            for each in self.of(kind):
                index[each.namespace].append(each)
            self._by_namespace[kind] = index
        return self._by_namespace[kind].get(namespace, [])

    def with_value(
        self, kind: str, path: tuple[str, ...], value: str, *, counted: bool = False
    ) -> list[Resource]:
        """Resources of a kind that hold a text at a path.

        Raises:
            Undecided: if some hold what cannot be read and none the text for sure, or if they are
                to be counted.
        """
        if (kind, path) not in self._by_value:
            self._by_value[kind, path] = self._values(kind, path)
        index = self._by_value[kind, path]
        if index.undecided and (counted or value not in index.resources):
            raise Undecided(f"{'.'.join(path)} of a {kind} is not known before the update")
        return index.resources.get(value, [])

    def _values(self, kind: str, path: tuple[str, ...]) -> _Values:
        index = _Values()
        for resource in self.of(kind):
            try:
                index.resources[text(resource.props, *path)].append(resource)
            except Undecided:
                index.undecided = True
        return index

    def referring(self, kind: str, property_name: str, target: Resource) -> list[Resource]:
        """Resources of a kind whose property takes its value from `target`."""
        return self._by_reference.get((kind, property_name, target.urn), [])

    @cached_property
    def _by_reference(self) -> Mapping[tuple[str, str, str], list[Resource]]:
        index: dict[tuple[str, str, str], list[Resource]] = defaultdict(list)
        for resource in self.resources:
            for key, urns in resource.references.items():
                for urn in urns:
                    index[resource.kind, key, urn].append(resource)
        return index

    # Pods ---------------------------------------------------------------------------------------

    def workload(self, resource: Resource) -> Workload:
        """The resource seen as the Pods it makes; its kind must be one of `WORKLOADS`."""
        return self._workloads[resource.urn]

    def selected(self, namespace: str, selector: Mapping[str, Any]) -> list[Workload]:
        """Workloads of a namespace whose Pods a label selector picks; an empty one picks all.

        Raises:
            Undecided: if none is picked for sure, and some labels cannot be read.
        """
        pods = self._pods(namespace)
        found = [each for each in pods.candidates(selector) if matches(selector, each.labels)]
        if not found and (pods.undecided or self._lost):
            raise Undecided("the labels of a workload are not known before the update")
        return found

    def selecting(self, kind: str, workload: Workload) -> list[Resource]:
        """Resources of a kind (by ``spec.selector`` or ``podSelector``) that pick the workload.

        Raises:
            Undecided: if none does for sure, and a selector or the labels cannot be read.
        """
        if kind not in self._selecting:
            self._selecting[kind] = self._reversed(kind)
        index = self._selecting[kind]
        found = index.by_workload.get(workload.resource.urn, [])
        if not found:
            for label in workload.labels:
                at(workload.labels, label)
            if index.undecided:
                raise Undecided(f"the selector of a {kind} is not known before the update")
        return found

    def selects_operator_pods(self, namespace: str, selector: Mapping[str, Any]) -> bool:
        """Whether a selector picks Pods that an operator makes for a declared resource.

        Of the labels that it asks for, those that are known to be an operator's decide.
        """
        known = [
            verdict
            for label, values in _asked_for(selector)
            if (verdict := self._operator_labels(namespace, label, values)) is not None
        ]
        return bool(known) and all(known)

    def _operator_labels(self, namespace: str, label: str, values: list[str]) -> bool | None:
        """Whether some operator gives its Pods this label; None if none is known to."""
        if label in _OPERATOR_PODS:
            kinds = _OPERATOR_PODS[label]
            return any(self.named(kind, namespace, each) for kind in kinds for each in values)
        parts = [
            _OPERATOR_PARTS[label, each] for each in values if (label, each) in _OPERATOR_PARTS
        ]
        return any(self.within(namespace, kind) for kind in parts) if parts else None

    @cached_property
    def _pods_by_namespace(self) -> Mapping[str, _Labelled[Workload]]:
        index: dict[str, _Labelled[Workload]] = defaultdict(_Labelled)
        for each in self._workloads.values():
            try:
                namespace = each.resource.namespace
            except Undecided:
                continue
            index[namespace].add(each)
        return index

    @cached_property
    def _lost(self) -> bool:
        """Whether a workload's namespace cannot be read, so that it may be anywhere."""
        return any(not _readable(each.resource) for each in self._workloads.values())

    def _pods(self, namespace: str) -> _Labelled[Workload]:
        return self._pods_by_namespace.get(namespace) or _Labelled()

    def services(self, namespace: str, selector: Mapping[str, Any]) -> list[Resource]:
        """Services of a namespace whose own labels a label selector picks."""
        labelled = self._services.get(namespace) or _Labelled()
        return [each for each in labelled.candidates(selector) if matches(selector, each.labels)]

    @cached_property
    def _services(self) -> Mapping[str, _Labelled[Resource]]:
        index: dict[str, _Labelled[Resource]] = defaultdict(_Labelled)
        for each in self.of(SERVICE):
            index[each.namespace].add(each)
        return index

    @cached_property
    def granted_accounts(self) -> frozenset[tuple[str, str]]:
        """Namespace and name of every ServiceAccount that a role is bound to."""
        return frozenset(
            (text(subject, "namespace") or binding.namespace, text(subject, "name"))
            for binding in self.of(*BINDINGS)
            for subject in mappings(binding.props, "subjects")
            if text(subject, "kind") == "ServiceAccount"
        )

    def _reversed(self, kind: str) -> _Selecting:
        index = _Selecting()
        for resource in self.of(kind):
            try:
                picked = self.selected(resource.namespace, pod_selector(resource))
            except Undecided:
                index.undecided = True
                continue
            for each in picked:
                index.by_workload[each.resource.urn].append(resource)
        return index

    @cached_property
    def zones(self) -> frozenset[str]:
        """The zones that StorageClasses name."""
        return frozenset(
            zone
            for each in self.of(STORAGE_CLASS)
            for term in mappings(each.props, "allowedTopologies")
            for expression in mappings(term, "matchLabelExpressions")
            if text(expression, "key") == ZONE_LABEL
            for zone in texts(expression, "values")
        )

    # Scaling ------------------------------------------------------------------------------------

    def autoscalers(self, workload: Resource) -> list[Resource]:
        """Autoscalers, Kubernetes' or KEDA's, that set the workload's replicas.

        Raises:
            Undecided: if none does for sure, and some targets cannot be read.
        """
        key = (workload.kind.rpartition("/")[2], workload.namespace, workload.object_name)
        index = self._scalers
        if key not in index.by_target and index.undecided:
            raise Undecided("the target of an autoscaler is not known before the update")
        return index.by_target.get(key, [])

    @cached_property
    def _scalers(self) -> _Scalers:
        index = _Scalers()
        for scaler in self.of(AUTOSCALER, SCALED_OBJECT):
            try:
                kind, name = scale_target(scaler)
                index.by_target[kind, scaler.namespace, name].append(scaler)
            except Undecided:
                index.undecided = True
        return index

    def least_replicas(self, workload: Workload) -> tuple[int, str]:
        """The fewest replicas that the workload may have, and the field that says so."""
        scalers = self.autoscalers(workload.resource)
        if not scalers:
            return workload.replicas, "spec.replicas"
        lowest = min(scalers, key=least_of)
        kind = lowest.kind.rpartition("/")[2]
        field = "minReplicas" if lowest.kind == AUTOSCALER else "minReplicaCount"
        return least_of(lowest), f"spec.{field} of {kind} {lowest.object_name}"

    def guarded_together(self, workload: Workload) -> int:
        """Pods of all StatefulSets under one disruption budget with this one; 0 for others.

        Raises:
            Undecided: if there are no others for sure, and some may be in this namespace or not.
        """
        if workload.resource.kind != STATEFUL_SET:
            return 0
        groups = (
            self.selected(budget.namespace, pod_selector(budget))
            for budget in self.selecting(DISRUPTION_BUDGET, workload)
        )
        together = max((sum(map(_servers, group)) for group in groups), default=0)
        if together <= workload.replicas and self._lost:
            raise Undecided("the namespace of a workload is not known before the update")
        return together


def _servers(workload: Workload) -> int:
    return workload.replicas if workload.resource.kind == STATEFUL_SET else 0


class _Labelled(Generic[T]):
    """What carries labels in one namespace, by each of its labels."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self.undecided = False
        self._by_label: dict[tuple[str, str], list[T]] = defaultdict(list)

    def add(self, labelled: T) -> None:
        try:
            labels = labelled.labels
        except Undecided:
            self.undecided = True
            return
        self.all.append(labelled)
        for key, value in labels.items():
            if isinstance(value, Opaque):
                self.undecided = True
            elif isinstance(value, str):
                self._by_label[key, value].append(labelled)

    def candidates(self, selector: Mapping[str, Any]) -> list[T]:
        wanted = [(key, text(value)) for key, value in mapping(selector, "matchLabels").items()]
        if not wanted:
            return self.all
        return min((self._by_label.get(pair, []) for pair in wanted), key=len)


class _Scalers:
    """Autoscalers by kind, namespace and name of what they scale."""

    def __init__(self) -> None:
        self.by_target: dict[tuple[str, str, str], list[Resource]] = defaultdict(list)
        self.undecided = False


class _Values:
    """Resources of one kind by the text at one path."""

    def __init__(self) -> None:
        self.resources: dict[str, list[Resource]] = defaultdict(list)
        self.undecided = False


class _Selecting:
    """Which resources of one kind pick a workload."""

    def __init__(self) -> None:
        self.by_workload: dict[str, list[Resource]] = defaultdict(list)
        self.undecided = False


def _readable(resource: Resource) -> bool:
    try:
        resource.namespace  # noqa: B018 - reading is the question
        resource.object_name  # noqa: B018
    except Undecided:
        return False
    return True


# Selectors and targets --------------------------------------------------------------------------


def pod_selector(resource: Resource) -> Mapping[str, Any]:
    """How a resource picks Pods, as a label selector with ``matchLabels``.

    A Service's selector is a plain map of labels; those of the others are label selectors.
    """
    if resource.kind == SERVICE:
        return {"matchLabels": mapping(resource.props, "spec", "selector")}
    key = "podSelector" if resource.kind == NETWORK_POLICY else "selector"
    if resource.kind == DISRUPTION_BUDGET and at(resource.props, "spec", key) is None:
        return _NOBODY
    return mapping(resource.props, "spec", key)


_NOBODY: Mapping[str, Any] = {
    "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": []}]
}
"""What a budget without a selector picks; an empty selector picks everybody."""


def matches(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether a label selector picks these labels; an empty one picks all."""
    wanted = mapping(selector, "matchLabels")
    if any(text(labels, key) != text(value) for key, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in mappings(selector, "matchExpressions"))


def _asked_for(selector: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each label that a selector asks for, with the values that it may have."""
    for key, value in mapping(selector, "matchLabels").items():
        yield key, [text(value)]
    for each in mappings(selector, "matchExpressions"):
        if text(each, "operator") == "In":
            yield text(each, "key"), [text(value) for value in listing(each, "values")]


def _holds(expression: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    key, values = text(expression, "key"), listing(expression, "values")
    present = key in labels
    match text(expression, "operator"):
        case "In":
            return present and text(labels, key) in values
        case "NotIn":
            return not present or text(labels, key) not in values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case _:
            return False


def scale_target(scaler: Resource) -> tuple[str, str]:
    """Kind and name of what an autoscaler scales; KEDA's default kind is Deployment."""
    target = mapping(scaler.props, "spec", "scaleTargetRef")
    return text(target, "kind") or "Deployment", text(target, "name")


def least_of(scaler: Resource) -> int:
    """An autoscaler's lower bound; Kubernetes' default is 1, KEDA's 0."""
    horizontal = scaler.kind == AUTOSCALER
    least = number(scaler.props, "spec", "minReplicas" if horizontal else "minReplicaCount")
    if least is None:
        return 1 if horizontal else 0
    return int(least)


def resolved(amount: object, replicas: int) -> int | None:
    """An amount such as 1 or "50%" of the replicas; Kubernetes rounds a disruption budget's up."""
    if isinstance(amount, Opaque):
        raise Undecided(amount.reason)
    if isinstance(amount, str) and amount.endswith("%") and amount[:-1].isdecimal():
        return math.ceil(replicas * int(amount[:-1]) / 100)
    absolute = number(amount)
    return None if absolute is None else int(absolute)
