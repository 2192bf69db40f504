"""What Pods, Namespaces and NetworkPolicies (networking.k8s.io/v1) say, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, collapse_addresses, ip_network
from itertools import chain
from typing import Any

Object = Mapping[str, Any]
Labels = Mapping[str, str]

_ENDED = ("Succeeded", "Failed")
_HIGHEST_PORT = 65_535


class Direction(StrEnum):
    """Which connections a policy is about, seen from the Pods that it selects."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True)
class NamedPort:
    """A port that a container declares; rules may refer to it by its name."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """A Pod that holds an address of its own."""

    namespace: str
    name: str
    node: str
    address: str
    block: IPv4Network
    """The address alone, as a block: made once, for it takes long."""
    labels: Labels
    ports: tuple[NamedPort, ...]


@dataclass(frozen=True)
class Ports:
    """One entry of a rule's ports: a range of numbers, or the name of a container's port."""

    protocol: str
    first: int = 1
    last: int = _HIGHEST_PORT
    name: str | None = None

    @property
    def every(self) -> bool:
        """Whether it allows the whole protocol."""
        return self.name is None and (self.first, self.last) == (1, _HIGHEST_PORT)


@dataclass(frozen=True)
class Rule:
    """What one rule allows; None: every peer, every port."""

    peers: tuple[Object, ...] | None
    ports: tuple[Ports, ...] | None


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy: for each direction in which it isolates its Pods, what it allows."""

    namespace: str
    name: str
    selector: Object
    rules: Mapping[Direction, tuple[Rule, ...]]


@dataclass(frozen=True)
class Population:
    """Who there is to select: Pods, and the labels of their namespaces."""

    pods: Sequence[Pod]
    namespaces: Mapping[str, Labels]

    def selected_by(self, policy: Policy) -> list[Pod]:
        """The Pods that a policy isolates."""
        return [
            pod
            for pod in self.pods
            if pod.namespace == policy.namespace and selects(policy.selector, pod.labels)
        ]

    def addresses(self, peers: Iterable[Object], namespace: str) -> list[IPv4Network]:
        """The addresses of the peers of a policy in this namespace, without overlap."""
        found = chain.from_iterable(self._addresses(peer, namespace) for peer in peers)
        return list(collapse_addresses(found))

    def _addresses(self, peer: Object, namespace: str) -> Iterable[IPv4Network]:
        if (block := peer.get("ipBlock")) is not None:
            return _without(block["cidr"], block.get("except") or [])
        return (pod.block for pod in self.pods if self._is(pod, peer, namespace))

    def _is(self, pod: Pod, peer: Object, namespace: str) -> bool:
        if not selects(peer.get("podSelector") or {}, pod.labels):
            return False
        of_namespace = peer.get("namespaceSelector")
        if of_namespace is None:
            return pod.namespace == namespace
        labels = self.namespaces.get(pod.namespace)
        return labels is not None and selects(of_namespace, labels)


def population(pods: Iterable[Object], namespaces: Iterable[Object]) -> Population:
    """Every Pod that runs, or will, with an address of its own.

    An address that two Pods claim (a node that restarted gives addresses anew, while the API still
    tells the old ones) is nobody's until only one of them claims it.
    """
    found = [_pod(item) for item in pods if _has_own_address(item)]
    claims = Counter(pod.address for pod in found)
    return Population(
        pods=[pod for pod in found if claims[pod.address] == 1],
        namespaces={
            item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in namespaces
        },
    )


def policy(item: Object) -> Policy:
    """Read a NetworkPolicy."""
    spec = item["spec"]
    return Policy(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        selector=spec.get("podSelector") or {},
        rules={
            direction: tuple(_rule(rule, direction) for rule in spec.get(direction) or [])
            for direction in _directions(spec)
        },
    )


def selects(selector: Object, labels: Labels) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: Object, labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case unknown:
            raise ValueError(f"{unknown} is no operator of a label selector")


def _directions(spec: Object) -> list[Direction]:
    """The API's default: a policy always isolates ingress, and egress if it has such rules."""
    if types := spec.get("policyTypes"):
        return [direction for direction in Direction if direction.capitalize() in types]
    return list(Direction) if spec.get("egress") else [Direction.INGRESS]


def _rule(rule: Object, direction: Direction) -> Rule:
    peers = rule.get("from" if direction is Direction.INGRESS else "to")
    ports = rule.get("ports")
    return Rule(
        peers=tuple(peers) if peers else None,
        ports=tuple(_ports(each) for each in ports) if ports else None,
    )


def _ports(entry: Object) -> Ports:
    protocol, port = entry.get("protocol", "TCP"), entry.get("port")
    if port is None:
        return Ports(protocol)
    if isinstance(port, str):
        return Ports(protocol, name=port)
    return Ports(protocol, first=port, last=entry.get("endPort") or port)


def _has_own_address(pod: Object) -> bool:
    """A Pod of the host's network is part of its node: policies neither isolate nor select it."""
    status = pod.get("status", {})
    return (
        bool(status.get("podIP"))
        and status.get("phase") not in _ENDED
        and not pod["spec"].get("hostNetwork")
    )


def _pod(item: Object) -> Pod:
    spec, metadata = item["spec"], item["metadata"]
    sidecars = [
        each for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"
    ]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        address=item["status"]["podIP"],
        block=IPv4Network(item["status"]["podIP"]),
        labels=metadata.get("labels") or {},
        ports=tuple(
            NamedPort(port["name"], port.get("protocol", "TCP"), port["containerPort"])
            for container in [*spec["containers"], *sidecars]
            for port in container.get("ports") or []
            if port.get("name")
        ),
    )


def _without(cidr: str, exceptions: Iterable[str]) -> list[IPv4Network]:
    """A block of addresses less some blocks within it; an IPv6 block holds no address of ours."""
    whole = ip_network(cidr, strict=False)
    if not isinstance(whole, IPv4Network):
        return []
    left = [whole]
    for exception in exceptions:
        hole = IPv4Network(exception, strict=False)
        left = list(chain.from_iterable(_cut(block, hole) for block in left))
    return left


def _cut(block: IPv4Network, hole: IPv4Network) -> Iterable[IPv4Network]:
    if block.subnet_of(hole):
        return []
    return block.address_exclude(hole) if hole.subnet_of(block) else [block]
