"""From objects of the API to one nftables ruleset a node.

A node forwards every packet from and to its Pods, also between two of them, and has translated the
addresses of Services by then; so its `forward` hook sees real Pods and real ports. Egress is judged
on the node of the source and ingress on the node of the destination, in two chains one after the
other: `accept` ends the first only, `drop` ends both. What the node itself sends to its Pods
(probes) is not forwarded, and is always allowed.

Only the first packet of a connection is judged: a connection that a new policy would forbid lives
on, as with other implementations.

A Pod has its address a second or so before the API tells it. Until then its new connections are
dropped if there is any policy at all: Kubernetes promises that a Pod is isolated before it starts,
while what is allowed to it may come later. Dropped, not refused, so that the client's next attempt
succeeds. This needs `spec.podCIDR` of the Node; without one such a Pod is open at first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from local.walls.objects import Direction, Object, Pod, Policy, Population, Ports, Rule
from local.walls.objects import policy as policy_of
from local.walls.objects import population as population_of

TABLE = "walls"

_BASE = {Direction.EGRESS: ("leaving", 1), Direction.INGRESS: ("arriving", 2)}
"""Base chain and its priority, both after kube-proxy's 0, which refuses connections to Services
without endpoints. Dropped here first, as they go to no Pod that a policy allows, they would make
clients wait for their time-outs: in a failover, standbys for up to 5 s."""
_PEER = {Direction.EGRESS: "daddr", Direction.INGRESS: "saddr"}
_OWN = {Direction.EGRESS: "saddr", Direction.INGRESS: "daddr"}
_LONGEST_NAME = 200
"""nftables allows 255 bytes; a namespace's and a policy's name together may have 316."""


@dataclass(frozen=True)
class _Wall:
    """A policy in one direction: whom it isolates, and the chain that accepts what it allows."""

    direction: Direction
    chain: str
    addresses: frozenset[str]
    text: str


def rulesets(
    pods: Iterable[Object],
    namespaces: Iterable[Object],
    policies: Iterable[Object],
    nodes: Iterable[Object],
) -> dict[str, str]:
    """The ruleset of each node, by its name: a script for `nft -f -`, one transaction."""
    population = population_of(pods, namespaces)
    ordered = sorted(
        (policy_of(item) for item in policies), key=lambda each: (each.namespace, each.name)
    )
    walls = [
        _wall(policy, direction, population) for policy in ordered for direction in policy.rules
    ]
    return {item["metadata"]["name"]: _ruleset(item, population, walls) for item in nodes}


def _ruleset(node: Object, population: Population, walls: Sequence[_Wall]) -> str:
    name, pod_range = node["metadata"]["name"], node["spec"].get("podCIDR")
    local = sorted(
        (pod for pod in population.pods if pod.node == name),
        key=lambda pod: pod.block,
    )
    here = {pod.address for pod in local}
    used = [wall for wall in walls if wall.addresses & here]
    closed = pod_range if walls else None
    return "\n".join(
        [
            # The first line is for the second: a table that is not there cannot be deleted.
            f"table ip {TABLE}",
            f"delete table ip {TABLE}",
            f"table ip {TABLE} {{",
            *(wall.text for wall in used),
            _set("itself", "ipv4_addr . ipv4_addr", [f"{each} . {each}" for each in sorted(here)]),
            *(_judging(direction, local, used, closed) for direction in _BASE),
            "}\n",
        ]
    )


def _judging(
    direction: Direction, pods: Sequence[Pod], walls: Sequence[_Wall], closed: str | None
) -> str:
    """The base chain of a direction, and a chain for each Pod that is isolated in it."""
    base, priority = _BASE[direction]
    own = f"ip {_OWN[direction]}"
    chains, verdicts = [], []
    for pod in pods:
        jumps = [
            f"jump {wall.chain}"
            for wall in walls
            if wall.direction is direction and pod.address in wall.addresses
        ]
        chain = _name(f"{direction}-pod", pod.namespace, pod.name)
        if jumps:
            chains.append(_chain(chain, [*jumps, "counter drop"]))
        verdicts.append(f"{pod.address} : {f'goto {chain}' if jumps else 'accept'}")
    rules = [
        f"type filter hook forward priority {priority}; policy accept;",
        "ct state established,related accept",
        # A Pod always reaches itself, also through its Service.
        "ip saddr . ip daddr @itself accept",
        f"{own} vmap @{base}-pods",
        *([f"{own} {closed} counter drop"] if closed else []),
    ]
    return "\n".join(
        [
            *chains,
            _set(f"{base}-pods", "ipv4_addr : verdict", verdicts, kind="map"),
            _chain(base, rules),
        ]
    )


def _wall(policy: Policy, direction: Direction, population: Population) -> _Wall:
    name = _name(direction, policy.namespace, policy.name)
    selected = population.selected_by(policy)
    sets: list[str] = []
    accepts: list[str] = []
    for number, rule in enumerate(policy.rules[direction]):
        peers = None if rule.peers is None else population.addresses(rule.peers, policy.namespace)
        # The name of a port means what the Pod that is connected to declares.
        ingress = direction is Direction.INGRESS
        serving = selected if ingress else _within(population.pods, peers)
        more_sets, more_accepts = _allowed(f"{name}/{number}", direction, rule, peers, serving)
        sets += more_sets
        accepts += more_accepts
    return _Wall(
        direction=direction,
        chain=name,
        addresses=frozenset(pod.address for pod in selected),
        text="\n".join([*sets, _chain(name, accepts)]),
    )


def _allowed(
    name: str,
    direction: Direction,
    rule: Rule,
    peers: Sequence[IPv4Network] | None,
    serving: Iterable[Pod],
) -> tuple[list[str], list[str]]:
    """The sets that a rule needs, and its statements; nothing if it names peers and has none."""
    sets: list[str] = []
    match = ""
    if peers is not None:
        if not peers:
            return [], []
        sets.append(_set(name, "ipv4_addr", [str(each) for each in peers], flags="interval"))
        match = f"ip {_PEER[direction]} @{name} "
    if rule.ports is None:
        return sets, [f"{match}accept"]
    accepts = [f"{match}{ports} accept" for ports in _numbers(rule.ports)]
    for protocol, elements in _named(rule.ports, serving).items():
        sets.append(_set(f"{name}/{protocol}", "ipv4_addr . inet_service", elements))
        accepts.append(f"{match}ip daddr . {protocol} dport @{name}/{protocol} accept")
    return sets, accepts


def _numbers(ports: Sequence[Ports]) -> list[str]:
    """Matches of all ports that are given by number, one a protocol."""
    matches = []
    for protocol in sorted({each.protocol for each in ports if each.name is None}):
        own = [each for each in ports if each.name is None and each.protocol == protocol]
        if any(each.every for each in own):
            matches.append(f"meta l4proto {protocol.lower()}")
        else:
            ranges = ", ".join(f"{first}-{last}" for first, last in _merged(own))
            matches.append(f"{protocol.lower()} dport {{ {ranges} }}")
    return matches


def _merged(ports: Iterable[Ports]) -> list[tuple[int, int]]:
    """Their ranges without overlap, which a set of nftables refuses."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((each.first, each.last) for each in ports):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _named(ports: Sequence[Ports], serving: Iterable[Pod]) -> Mapping[str, list[str]]:
    """Elements `address . port` of the ports that are given by name, by protocol."""
    wanted = {(each.name, each.protocol) for each in ports if each.name is not None}
    if not wanted:
        return {}
    found: dict[str, set[str]] = {}
    for pod in serving:
        for port in pod.ports:
            if (port.name, port.protocol) in wanted:
                elements = found.setdefault(port.protocol.lower(), set())
                elements.add(f"{pod.address} . {port.number}")
    return {protocol: sorted(elements) for protocol, elements in sorted(found.items())}


def _within(pods: Iterable[Pod], blocks: Sequence[IPv4Network] | None) -> Iterable[Pod]:
    """Those of the Pods in the blocks; looked for only once somebody asks."""
    return (
        pod
        for pod in pods
        if blocks is None or any(pod.block.network_address in block for block in blocks)
    )


def _name(prefix: str, namespace: str, name: str) -> str:
    full = f"{prefix}/{namespace}/{name}"
    if len(full) <= _LONGEST_NAME:
        return full
    return f"{full[: _LONGEST_NAME - 13]}-{hashlib.sha256(full.encode()).hexdigest()[:12]}"


def _set(name: str, of: str, elements: Sequence[str], *, kind: str = "set", flags: str = "") -> str:
    lines = [f"type {of}"]
    if flags:
        lines.append(f"flags {flags}")
    if elements:  # nftables has no empty list
        lines.append(f"elements = {{ {', '.join(elements)} }}")
    return _block(f"{kind} {name}", lines)


def _chain(name: str, rules: Sequence[str]) -> str:
    return _block(f"chain {name}", rules)


def _block(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"  {head} {{", *(f"    {line}" for line in lines), "  }"])
