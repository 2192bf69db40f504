"""Istio: retries that fit their timeout, breakers that can break, and a policy for every service.

A mesh is used in a namespace that is labelled for it, or that holds a VirtualService or a
DestinationRule. Where there is none, these rules have nothing to say.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from policies.model import Resource, at, mapping, mappings, number, numbered, text, texts
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.world import SERVICE, SERVING, Workload, World, matches, pod_selector

VIRTUAL_SERVICE = "networking.istio.io/VirtualService"
DESTINATION_RULE = "networking.istio.io/DestinationRule"
PEER_AUTHENTICATION = "security.istio.io/PeerAuthentication"
AUTHORIZATION_POLICY = "security.istio.io/AuthorizationPolicy"
_NAMESPACE = "core/Namespace"
_ROOT_NAMESPACE = "istio-system"
"""What is declared there holds for the whole mesh."""

_MESH_RETRIES = 2
"""What Istio does where a route says nothing of retries."""
_MESH_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""What Istio retries on where a route does not say on what."""
_BASE_BACKOFF = 0.025
"""Seconds: Envoy's default for the first delay."""
_MOST_BACKOFF = 10
"""Times the base: a delay grows no longer."""
_EJECTION_PERCENT = 10.0
"""Istio's default."""
_CONSECUTIVE_ERRORS = 5.0
"""Envoy's default for errors of any 5xx; those of a gateway count only where they are set."""
_UNLIMITED = 2**31 - 1
"""Envoy's default limits are 2³² - 1, Istio's largest number: no limit at all."""
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that HTTP (RFC 9110, section 9.2.2) calls idempotent."""
_IDEMPOTENCY_KEY = "idempotency-key"
_AFTER_PROCESSING = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "retriable-4xx",
        "retriable-status-codes",
        "retriable-headers",
        # What a gRPC server may answer with after it has begun.
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
"""Conditions that may come after the request was carried out."""
_PLAIN_MODES = frozenset({"DISABLE", "PERMISSIVE"})
"""Of mutual TLS: those that take plain connections."""
_ALLOWING = frozenset({"", "ALLOW"})
"""Actions that leave out whom they do not name. DENY and AUDIT leave out nobody else, and CUSTOM
asks a server of which nothing is known here."""
_AMBIENT = "istio.io/dataplane-mode"
_WAYPOINT = "istio.io/use-waypoint"
"""Label of a Service or its Namespace: the proxy of an ambient mesh that reads HTTP."""
_NO_WAYPOINT = "none"

_VIRTUAL = "https://istio.io/latest/docs/reference/config/networking/virtual-service/"
_DESTINATION = "https://istio.io/latest/docs/reference/config/networking/destination-rule/"
_MTLS = "https://istio.io/latest/docs/concepts/security/#peer-authentication"
_AUTHORIZATION = "https://istio.io/latest/docs/concepts/security/#authorization-policies"

Host = tuple[str, str]
"""Namespace and name of a Service."""


def _route(route: str) -> str:
    return f"{{kind: VirtualService, metadata: {{name: arena}}, spec: {{http: [{route}]}}}}"


def _policy(policy: str) -> str:
    return f"""
        kind: DestinationRule
        metadata: {{name: arena}}
        spec: {{trafficPolicy: {policy}}}
    """


_TO_ARENA = "route: [{destination: {host: arena}}]"


# Retries ----------------------------------------------------------------------------------------


@rule(
    "virtual-service-timeout",
    Severity.HIGH,
    kinds=(VIRTUAL_SERVICE,),
    why="Istio sets no timeout: a callee that hangs holds its caller's connection and memory for "
    "ever, and then the caller hangs.",
    source=f"{_VIRTUAL}#HTTPRoute",
    remedy="Set a timeout on every HTTP route.",
    passing=_route(f"{{{_TO_ARENA}, timeout: 5s, retries: {{attempts: 0}}}}"),
    failing=_route(f"{{{_TO_ARENA}, retries: {{attempts: 0}}}}"),
)
def virtual_service_timeout(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Require a timeout of every route that leads to a service."""
    for where, route in _routes(resource):
        if not _seconds(text(route, "timeout")):
            yield Finding(f"{where}.timeout", "not set", f"Set {where}.timeout, for example to 5s.")


@rule(
    "virtual-service-retry-arithmetic",
    Severity.HIGH,
    kinds=(VIRTUAL_SERVICE,),
    why="The timeout bounds all tries and the delays between them: if they do not fit, the last "
    "tries never happen, or are cut off half way.",
    source=f"{_VIRTUAL}#HTTPRetry",
    remedy="Keep (attempts + 1) x perTryTimeout + the longest delays within the timeout.",
    passing=_route(
        f"{{{_TO_ARENA}, match: [{{method: {{exact: GET}}}}], timeout: 5s, "
        "retries: {attempts: 2, perTryTimeout: 1s, retryOn: 5xx}}"
    ),
    failing=_route(
        f"{{{_TO_ARENA}, match: [{{method: {{exact: GET}}}}], timeout: 2s, "
        "retries: {attempts: 2, perTryTimeout: 1s, retryOn: 5xx}}"
    ),
)
def virtual_service_retry_arithmetic(
    resource: Resource, _: World, __: Options
) -> Iterator[Finding]:
    """Add up what all tries may take; without perTryTimeout, each may take the whole timeout."""
    for where, route in _routes(resource):
        attempts = int(number(route, "retries", "attempts") or 0)
        timeout = _seconds(text(route, "timeout"))
        if attempts < 1 or not timeout:
            continue
        each = _seconds(text(route, "retries", "perTryTimeout")) or timeout
        needed = (attempts + 1) * each + _delays(attempts, text(route, "retries", "backoff"))
        if needed > timeout:
            yield Finding(
                f"{where}.timeout",
                f"{timeout:g} s, but {attempts + 1} tries of {each:g} s and the delays between "
                f"them take up to {needed:g} s",
                f"Set {where}.timeout to {math.ceil(needed)}s, or lower retries.perTryTimeout.",
            )


def _delays(attempts: int, backoff: str) -> float:
    """The longest that the delays before all retries can take together, in seconds."""
    base = _seconds(backoff) or _BASE_BACKOFF
    return sum(min(2.0**n - 1, _MOST_BACKOFF) * base for n in range(1, attempts + 1))


@rule(
    "virtual-service-idempotent-retries",
    Severity.CRITICAL,
    kinds=(VIRTUAL_SERVICE,),
    why="A request that failed with a 5xx or a reset may have been carried out: repeated, an order "
    "is placed twice.",
    source=f"{_VIRTUAL}#HTTPRetry",
    remedy="Retry on connect-failure and refused-stream only, or not at all, unless every request "
    "of the route may be repeated.",
    passing=_route(
        f"{{{_TO_ARENA}, timeout: 5s, "
        "retries: {attempts: 2, perTryTimeout: 1s, retryOn: 'connect-failure,refused-stream'}}"
    ),
    failing=_route(
        f"{{{_TO_ARENA}, timeout: 5s, "
        "retries: {attempts: 2, perTryTimeout: 1s, retryOn: 'connect-failure,5xx'}}"
    ),
)
def virtual_service_idempotent_retries(
    resource: Resource, _: World, __: Options
) -> Iterator[Finding]:
    """Find retries after processing on routes that ask for retries and may not be repeated.

    A route that says nothing of retries has those of the mesh, which a mesh has everywhere.

    A route's may be if each of its matches takes only idempotent methods, or asks for the header
    Idempotency-Key.
    """
    for where, route in _routes(resource):
        if not number(route, "retries", "attempts") or _may_repeat(route):
            continue
        declared = text(route, "retries", "retryOn")
        conditions = {each.strip() for each in (declared or _MESH_RETRY_ON).split(",")}
        status = any(each.isdecimal() for each in conditions)
        if status or conditions & _AFTER_PROCESSING:
            origin = "" if declared else "not set, so Istio's default: "
            yield Finding(
                f"{where}.retries.retryOn",
                f"{origin}{', '.join(sorted(conditions))}, on a route that takes any method",
                f"Set {where}.retries.retryOn to connect-failure,refused-stream, or match only "
                "methods that may be repeated (GET, HEAD, PUT, DELETE).",
            )


def _may_repeat(route: Mapping[str, object]) -> bool:
    matches = mappings(route, "match")
    return bool(matches) and all(
        text(each, "method", "exact") in _REPEATABLE
        or any(name.lower() == _IDEMPOTENCY_KEY for name in mapping(each, "headers"))
        for each in matches
    )


@rule(
    "virtual-service-retry-product",
    Severity.HIGH,
    kinds=(VIRTUAL_SERVICE,),
    scope=Scope.STACK,
    why="Retries multiply along a chain of calls: three tries at each of three steps are 27 "
    "requests to the last, just when it is failing.",
    source="https://sre.google/sre-book/addressing-cascading-failures/",
    remedy="Retry at one step of the chain only.",
    options={
        "most": Option(
            12,
            {"type": "integer", "minimum": 1},
            "Requests that one request may become at the end of a chain.",
        )
    },
    passing=_route(f"{{{_TO_ARENA}, timeout: 5s, retries: {{attempts: 0}}}}"),
    failing=_route(
        f"{{{_TO_ARENA}, timeout: 60s, "
        "retries: {attempts: 15, perTryTimeout: 1s, retryOn: connect-failure}}"
    ),
)
def virtual_service_retry_product(
    resource: Resource, world: World, options: Options
) -> Iterator[Finding]:
    """Multiply the tries along each chain of calls that ends at the VirtualService's hosts.

    Who calls whom is read from the addresses of Services in the environment of workloads. Where no
    VirtualService is declared for a Service of the mesh, it is tried as often as Istio does.
    """
    for host in _hosts(resource):
        product, chain = _graph(world).worst(host, ())
        if product > options["most"]:
            times = "without end" if math.isinf(product) else f"{product:g} times"
            yield Finding(
                "spec.http[].retries.attempts",
                f"one request may come {times} along {' → '.join(name for _, name in chain)}",
                "Set retries.attempts to 0 at all steps of the chain but one, at most "
                f"{options['most']} tries in all.",
            )


class _Graph:
    """Which services call which, and how often each is tried."""

    def __init__(self, world: World) -> None:
        self._tries: dict[Host, int] = {}
        for each in world.of(VIRTUAL_SERVICE):
            for host in _hosts(each):
                self._tries[host] = max((_tries(route) for _, route in _routes(each)), default=1)
        self._callers: dict[Host, set[Host]] = defaultdict(set)
        own: dict[str, list[Host]] = defaultdict(list)
        for service in world.of(SERVICE):
            for workload in _behind(service, world):
                own[workload.resource.urn].append((service.namespace, service.object_name))
        for each in world.of(*SERVING):
            for called in _called(world.workload(each)):
                self._callers[called].update(set(own[each.urn]) - {called})
        # It is the caller's proxy that tries again; who calls the first of a chain is not known.
        for host, callers in self._callers.items():
            in_mesh = any(_in_mesh(namespace, world) for namespace, _ in callers)
            target = _service(host, world)
            if in_mesh and target and any(map(_is_http, mappings(target.props, "spec", "ports"))):
                self._tries.setdefault(host, 1 + _MESH_RETRIES)

    def worst(self, host: Host, below: tuple[Host, ...]) -> tuple[float, tuple[Host, ...]]:
        """The most requests that one request becomes at the host, and along which chain.

        A circle of calls has no end where anything in it is tried again.
        """
        if host in below:
            circle = below[: below.index(host) + 1]
            again = any(self._of(each) > 1 for each in circle)
            return (math.inf if again else 1.0), (host,)
        above = [
            self.worst(caller, (host, *below)) for caller in sorted(self._callers.get(host, ()))
        ]
        product, chain = max(above, default=(1.0, ()), key=lambda each: each[0])
        return product * self._of(host), (*chain, host)

    def _of(self, host: Host) -> int:
        return self._tries.get(host, 1)


@lru_cache(maxsize=1)
def _graph(world: World) -> _Graph:
    return _Graph(world)


_ADDRESS = re.compile(r"\b([a-z0-9][-a-z0-9]*)\.([a-z0-9][-a-z0-9]*)\.svc\b")


def _called(workload: Workload) -> set[Host]:
    """Services whose addresses the workload's environment holds."""
    return {
        (namespace, name)
        for container in workload.containers
        for variable in mappings(container.spec, "env")
        if isinstance(value := variable.get("value"), str)
        for name, namespace in _ADDRESS.findall(value)
    }


def _tries(route: Mapping[str, object]) -> int:
    """How often a request is tried; retries that name no attempts are none."""
    if at(route, "retries") is None:
        return 1 + _MESH_RETRIES
    return 1 + int(number(route, "retries", "attempts") or 0)


# Circuit breakers -------------------------------------------------------------------------------


@rule(
    "destination-rule-limits",
    Severity.HIGH,
    kinds=(DESTINATION_RULE,),
    scope=Scope.STACK,
    why="Unless limits are set they are 2³² - 1: there is no circuit breaker, and a slow service "
    "takes all its callers' connections and memory.",
    source=f"{_DESTINATION}#ConnectionPoolSettings",
    remedy="Set connectionPool.tcp.maxConnections and, for HTTP, the limits of requests, and of "
    "retries where there is no retryBudget.",
    passing="{kind: DestinationRule, metadata: {name: arena}}",
    failing=_policy("{connectionPool: {http: {http1MaxPendingRequests: null}}}"),
)
def destination_rule_limits(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require limits that a service can reach; those of HTTP only where HTTP is spoken."""
    for policy in _policies(resource, world):
        if not policy.decides("connectionPool"):
            continue
        wanted = ["tcp.maxConnections"]
        if policy.speaks_http:
            wanted += ["http.http1MaxPendingRequests", "http.http2MaxRequests"]
            # In Envoy a budget goes before a limit of retries; that of the host is not its ports'.
            if at(policy.fields, "retryBudget") is None:
                wanted.append("http.maxRetries")
        for key in wanted:
            limit = number(policy.fields, "connectionPool", *key.split("."))
            if not limit or limit >= _UNLIMITED:
                field = f"{policy.where}.connectionPool.{key}"
                yield Finding(field, "no limit", f"Set {field} to what the service can bear.")


@rule(
    "destination-rule-outlier-detection",
    Severity.HIGH,
    kinds=(DESTINATION_RULE,),
    scope=Scope.STACK,
    why="Without outlier detection, a replica that fails every request keeps its share of them, "
    "and no failover to another zone ever happens.",
    source=f"{_DESTINATION}#OutlierDetection",
    remedy="Set outlierDetection with consecutive5xxErrors, interval and baseEjectionTime.",
    passing="{kind: DestinationRule, metadata: {name: arena}}",
    failing=_policy("{outlierDetection: null}"),
)
def destination_rule_outlier_detection(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Require a detection whose thresholds can act; 0 switches one off."""
    for policy in _policies(resource, world):
        if not policy.decides("outlierDetection"):
            continue
        where = f"{policy.where}.outlierDetection"
        detection = mapping(policy.fields, "outlierDetection")
        if not detection:
            yield Finding(where, "not set", f"Set {where}.consecutive5xxErrors, for example to 5.")
            continue
        declared = number(detection, "consecutive5xxErrors")
        errors = _CONSECUTIVE_ERRORS if declared is None else declared
        gateway = number(detection, "consecutiveGatewayErrors") or 0
        if not errors and not gateway:
            yield Finding(
                f"{where}.consecutive5xxErrors",
                "0, and no consecutiveGatewayErrors: no error ejects a replica",
                f"Set {where}.consecutive5xxErrors, for example to 5.",
            )
        elif errors and gateway >= errors:
            yield Finding(
                f"{where}.consecutiveGatewayErrors",
                f"{gateway:g}, which consecutive5xxErrors ({errors:g}) always comes before",
                f"Set {where}.consecutiveGatewayErrors below {errors:g}.",
            )


@rule(
    "destination-rule-ejection",
    Severity.HIGH,
    kinds=(DESTINATION_RULE,),
    scope=Scope.STACK,
    why="Of three replicas, 10 % are none: a percentage that is less than one replica ejects "
    "nothing, and the default is 10.",
    source=f"{_DESTINATION}#OutlierDetection-max_ejection_percent",
    remedy="Set outlierDetection.maxEjectionPercent to 50.",
    passing="{kind: DestinationRule, metadata: {name: arena}}",
    failing=_policy("{outlierDetection: {maxEjectionPercent: 10}}"),
)
def destination_rule_ejection(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare the percentage with the replicas that are declared behind the host."""
    for policy in _policies(resource, world):
        detection = mapping(policy.fields, "outlierDetection")
        if not detection or not policy.decides("outlierDetection"):
            continue
        where = f"{policy.where}.outlierDetection.maxEjectionPercent"
        declared = number(detection, "maxEjectionPercent")
        percent = _EJECTION_PERCENT if declared is None else declared
        for service in _covered(resource, world):
            for workload in _behind(service, world):
                replicas, _field = world.least_replicas(workload)
                if replicas > 1 and percent * replicas < 100:  # noqa: PLR2004 - of a hundred
                    yield Finding(
                        where,
                        f"{percent:g} % of {replicas} replicas, which is less than one",
                        f"Set {where} to {max(50, math.ceil(100 / replicas))}.",
                    )


@rule(
    "destination-rule-retry-budget",
    Severity.MEDIUM,
    kinds=(DESTINATION_RULE,),
    scope=Scope.STACK,
    why="Without a budget, every request of an overloaded service is tried again, and the load "
    "that overloads it multiplies.",
    source=f"{_DESTINATION}#TrafficPolicy-RetryBudget",
    remedy="Set retryBudget to {percent: 20, minRetryConcurrency: 3}.",
    passing="{kind: DestinationRule, metadata: {name: arena}}",
    failing=_policy("{retryBudget: null}"),
)
def destination_rule_retry_budget(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Require a budget where HTTP is spoken: nothing else is tried again."""
    where = "spec.trafficPolicy.retryBudget"
    if _speaks_http(resource, world) and at(resource.props, *where.split(".")) is None:
        yield Finding(where, "not set", f"Set {where} to {{percent: 20, minRetryConcurrency: 3}}.")


@rule(
    "service-mesh-policy",
    Severity.HIGH,
    kinds=(SERVICE,),
    scope=Scope.STACK,
    why="A service of the mesh without a policy of its own has no circuit breaker and no outlier "
    "detection: one that was added later, and forgotten. In an ambient mesh a waypoint alone knows "
    "of policies.",
    source=_DESTINATION,
    remedy="Declare a DestinationRule for the Service and, in an ambient mesh, a waypoint.",
    passing="{kind: DestinationRule, metadata: {name: arena}}",
    failing="{kind: DestinationRule, metadata: {name: arena}, $delete: true}",
)
def service_mesh_policy(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for a DestinationRule of each Service in the mesh, and for who reads it.

    A headless Service has none. One for a wildcard host, such as ``*.games.svc.cluster.local``, is
    for all that it covers. In an ambient namespace a node's proxy forwards connections, and knows
    neither DestinationRules nor VirtualServices.
    """
    if not _in_mesh(resource.namespace, world):
        return
    if text(resource.props, "spec", "clusterIP") == "None":
        return
    address = _address(resource)
    if _host_of(resource) not in _ruled(world) and not address.endswith(_wildcards(world)):
        yield Finding(
            "DestinationRule",
            f"none for host {address}",
            "Declare one with connectionPool limits, outlierDetection and a retryBudget.",
        )
    if _in_ambient(resource.namespace, world) and not _has_waypoint(resource, world):
        yield Finding(
            f"metadata.labels[{_WAYPOINT}]",
            "none, here or on the Namespace, so that no DestinationRule or VirtualService acts",
            f"Label the Namespace {_WAYPOINT} with the name of a waypoint.",
        )


# Who may reach it -------------------------------------------------------------------------------


@rule(
    "mesh-mutual-tls",
    Severity.HIGH,
    kinds=(_NAMESPACE,),
    scope=Scope.STACK,
    why="By default the mesh also accepts plain connections, from whom nobody can tell.",
    source=_MTLS,
    remedy="Declare a PeerAuthentication with mtls.mode: STRICT for the namespace or the mesh.",
    passing="{kind: PeerAuthentication, metadata: {name: strict}}",
    failing="""
        kind: PeerAuthentication
        metadata: {name: strict}
        spec: {mtls: {mode: PERMISSIVE}}
    """,
)
def mesh_mutual_tls(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require mutual TLS of everything in the namespace, without exceptions."""
    name = resource.object_name
    if not _is_labelled(resource):
        return
    mode = _mode_of_all(name, world) or _mode_of_all(_ROOT_NAMESPACE, world)
    if mode != "STRICT":
        yield Finding(
            "PeerAuthentication: spec.mtls.mode",
            mode or f"none for namespace {name}",
            f"Declare a PeerAuthentication in namespace {name} with spec.mtls.mode: STRICT.",
        )
    for policy in world.within(name, PEER_AUTHENTICATION):
        for where, exception in _exceptions(policy):
            yield Finding(
                f"PeerAuthentication {policy.object_name}: {where}",
                exception,
                f"Set {where} of it to STRICT, or leave it out.",
            )


def _mode_of_all(namespace: str, world: World) -> str:
    """The mode of a namespace's policy for all its workloads; UNSET inherits, as none does.

    Of several, the oldest holds, and only the cluster knows which that is: the weakest is taken.
    """
    modes = {
        text(each.props, "spec", "mtls", "mode")
        for each in world.within(namespace, PEER_AUTHENTICATION)
        if not _picks_some(each)
    } - {"", "UNSET"}
    return min(modes & _PLAIN_MODES or modes, default="")


def _exceptions(policy: Resource) -> Iterator[tuple[str, str]]:
    """Where a policy lets some workloads, or some ports, take plain connections."""
    modes = {
        f"spec.portLevelMtls.{port}.mode": text(entry, "mode")
        for port, entry in mapping(policy.props, "spec", "portLevelMtls").items()
    }
    if _picks_some(policy):
        modes["spec.mtls.mode"] = text(policy.props, "spec", "mtls", "mode")
    for where, mode in modes.items():
        if mode in _PLAIN_MODES:
            yield where, mode


def _picks_some(policy: Resource) -> bool:
    return bool(mapping(policy.props, "spec", "selector", "matchLabels"))


@rule(
    "mesh-authorization",
    Severity.HIGH,
    kinds=SERVING,
    scope=Scope.STACK,
    why="Without an AuthorizationPolicy, whoever is in the mesh may call everything in it.",
    source=_AUTHORIZATION,
    remedy="Declare an AuthorizationPolicy that names the callers, or one for the namespace that "
    "allows nothing.",
    passing="{kind: AuthorizationPolicy, metadata: {name: arena}}",
    failing="{kind: AuthorizationPolicy, metadata: {name: arena}, $delete: true}",
)
def mesh_authorization(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find workloads of labelled namespaces that anybody may call."""
    namespaces = world.with_value(_NAMESPACE, ("metadata", "name"), resource.namespace)
    workload = world.workload(resource)
    if not any(_is_labelled(each) for each in namespaces):
        return
    if text(workload.labels, "sidecar.istio.io/inject") == "false":
        return
    allowing = _allowing(workload, world)
    for policy in filter(_allows_all, allowing):
        yield Finding(
            f"AuthorizationPolicy {policy.object_name}: spec.rules",
            "an empty rule, which allows everybody everything",
            "Name the callers in rules[].from.",
        )
    if not allowing:
        yield Finding(
            "AuthorizationPolicy",
            f"none of namespace {resource.namespace}, or of the mesh, says who may call its Pods",
            "Declare one of action ALLOW whose spec.selector.matchLabels are the Pods' labels, "
            "with a rule for each caller.",
        )


def _allowing(workload: Workload, world: World) -> list[Resource]:
    """The policies that say who may call the workload, so that nobody else may."""

    def among(policies: Iterable[Resource]) -> list[Resource]:
        return [
            each
            for each in policies
            if text(each.props, "spec", "action") in _ALLOWING
            and matches(pod_selector(each), workload.labels)
            and _is_enforced(each, workload, world)
        ]

    found = among(world.within(_ROOT_NAMESPACE, AUTHORIZATION_POLICY))
    found += among(world.selecting(AUTHORIZATION_POLICY, workload))
    # Once more without the index, which leaves out a policy whose selector cannot be read.
    return found or among(world.within(workload.resource.namespace, AUTHORIZATION_POLICY))


def _allows_all(policy: Resource) -> bool:
    """Whether one of its rules is empty; what one policy allows, no other of its action forbids."""
    return any(
        not any(mappings(each, key) for key in ("from", "to", "when"))
        for each in mappings(policy.props, "spec", "rules")
    )


def _is_enforced(policy: Resource, workload: Workload, world: World) -> bool:
    """Whether a policy has no targets, or a Service of the workload among them.

    One for a Service holds in the waypoint of an ambient namespace: a sidecar passes over all that
    have targets.
    """
    one = mapping(policy.props, "spec", "targetRef")
    targets = mappings(policy.props, "spec", "targetRefs") or ([one] if one else [])
    if not targets:
        return True
    if not _in_ambient(policy.namespace, world):
        return False
    services = [
        world.named(SERVICE, policy.namespace, text(each, "name"))
        for each in targets
        if text(each, "kind") == "Service" and text(each, "group") in {"", "core"}
    ]
    return any(
        workload in _behind(each, world) for each in services if each and _has_waypoint(each, world)
    )


# Reading ----------------------------------------------------------------------------------------


def _routes(resource: Resource) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The HTTP routes that lead to a service; a redirect or a direct response calls nobody."""
    for index, route in numbered(resource.props, "spec", "http"):
        if mappings(route, "route"):
            yield f"spec.http[{text(route, 'name') or index}]", route


def _hosts(resource: Resource) -> list[Host]:
    return [_host(each, resource) for each in texts(resource.props, "spec", "hosts")]


def _host(written: str, near: Resource) -> Host:
    """Namespace and name of a Service, whose name alone means one of the same namespace."""
    name, _, rest = written.partition(".")
    return rest.partition(".")[0] or near.namespace, name


def _service(host: Host, world: World) -> Resource | None:
    return world.named(SERVICE, *host)


def _host_of(service: Resource) -> Host:
    return service.namespace, service.object_name


def _address(service: Resource) -> str:
    return f"{service.object_name}.{service.namespace}.svc.cluster.local"


def _covered(resource: Resource, world: World) -> list[Resource]:
    """The declared Services that a DestinationRule is for; one of their own goes before it."""
    host = text(resource.props, "spec", "host")
    if not host.startswith("*"):
        service = _service(_host(host, resource), world)
        return [service] if service else []
    return [
        each
        for each in world.of(SERVICE)
        if _address(each).endswith(host[1:]) and _host_of(each) not in _ruled(world)
    ]


@dataclass(frozen=True)
class _Policy:
    """What holds for some ports of a DestinationRule's host, or of one of its subsets."""

    where: str
    fields: Mapping[str, object]
    speaks_http: bool
    inherited: frozenset[str] = frozenset()
    """Fields that are those of the host, where they are judged."""

    def decides(self, field: str) -> bool:
        """Whether the field is set, or left out for good, here."""
        return field not in self.inherited


def _policies(resource: Resource, world: World) -> Iterator[_Policy]:
    """Each policy that some port of a DestinationRule's host has.

    A subset has the host's fields but those that it sets: each goes before the host's as a whole.
    """
    service = _service(_host(text(resource.props, "spec", "host"), resource), world)
    host = mapping(resource.props, "spec", "trafficPolicy")
    yield from _of_ports("spec.trafficPolicy", host, service)
    for index, subset in numbered(resource.props, "spec", "subsets"):
        own = {k: v for k, v in mapping(subset, "trafficPolicy").items() if v is not None}
        inherited = frozenset({"connectionPool", "outlierDetection"} - own.keys())
        fields = {**host, "portLevelSettings": (), **own}
        yield from _of_ports(f"spec.subsets[{index}].trafficPolicy", fields, service, inherited)


def _of_ports(
    where: str,
    fields: Mapping[str, object],
    service: Resource | None,
    inherited: frozenset[str] = frozenset(),
) -> Iterator[_Policy]:
    """A policy for a port replaces the one beside it as a whole: what it does not set is not set.

    So each is judged by itself, and the one beside it for the ports that are left.
    """
    ports = mappings(service.props, "spec", "ports") if service else []
    own: set[float | None] = set()
    for index, policy in numbered(fields, "portLevelSettings"):
        its = number(policy, "port", "number")
        own.add(its)
        speaks_http = any(_is_http(port) for port in ports if number(port, "port") == its)
        yield _Policy(f"{where}.portLevelSettings[{index}]", policy, service is None or speaks_http)
    left = [port for port in ports if number(port, "port") not in own] if own else ports
    if left or not ports:
        speaks_http = any(map(_is_http, left))
        yield _Policy(where, fields, service is None or speaks_http, inherited)


def _behind(service: Resource, world: World) -> list[Workload]:
    selector = pod_selector(service)
    if not mapping(selector, "matchLabels"):
        return []
    return [
        each
        for each in world.selected(service.namespace, selector)
        if each.resource.kind in SERVING
    ]


def _speaks_http(resource: Resource, world: World) -> bool:
    """Whether a DestinationRule's host has a port of HTTP; one that is not declared may have."""
    service = _service(_host(text(resource.props, "spec", "host"), resource), world)
    if service is None:
        return True
    return any(map(_is_http, mappings(service.props, "spec", "ports")))


def _is_http(port: Mapping[str, object]) -> bool:
    return any(text(port, key).startswith(("http", "grpc")) for key in ("name", "appProtocol"))


def _in_mesh(namespace: str, world: World) -> bool:
    return namespace in _meshed(world)


@lru_cache(maxsize=1)
def _meshed(world: World) -> frozenset[str]:
    """Namespaces in the mesh."""
    labelled = (each.object_name for each in world.of(_NAMESPACE) if _is_labelled(each))
    ruled = (each.namespace for each in world.of(VIRTUAL_SERVICE, DESTINATION_RULE))
    return frozenset({*labelled, *ruled})


@lru_cache(maxsize=1)
def _ruled(world: World) -> frozenset[Host]:
    """Hosts that have a DestinationRule."""
    return frozenset(
        _host(text(each.props, "spec", "host"), each) for each in world.of(DESTINATION_RULE)
    )


@lru_cache(maxsize=1)
def _wildcards(world: World) -> tuple[str, ...]:
    """What the addresses end in that a DestinationRule for a wildcard host covers."""
    hosts = {text(each.props, "spec", "host") for each in world.of(DESTINATION_RULE)}
    return tuple(sorted(each[1:] for each in hosts if each.startswith("*")))


def _is_labelled(namespace: Resource) -> bool:
    labels = namespace.labels
    return (
        text(labels, "istio-injection") == "enabled"
        or bool(text(labels, "istio.io/rev"))
        or _is_ambient(namespace)
    )


def _in_ambient(namespace: str, world: World) -> bool:
    return any(map(_is_ambient, world.with_value(_NAMESPACE, ("metadata", "name"), namespace)))


def _has_waypoint(service: Resource, world: World) -> bool:
    """Whether a proxy reads what is declared for a Service; its own label goes before all else."""
    namespaces = world.with_value(_NAMESPACE, ("metadata", "name"), service.namespace)
    names = (text(each.labels, _WAYPOINT) for each in (service, *namespaces))
    return next(filter(None, names), _NO_WAYPOINT) != _NO_WAYPOINT


def _is_ambient(namespace: Resource) -> bool:
    return text(namespace.labels, _AMBIENT) == "ambient"


_PARTS = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _seconds(written: str) -> float:
    """Read a duration such as 1m30s or 250ms; 0 where there is none."""
    return sum(float(amount) * _UNITS[unit] for amount, unit in _PARTS.findall(written))
