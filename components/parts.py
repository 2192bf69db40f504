"""Plain pieces of Kubernetes objects that several components share.

Nothing here registers a resource: each function returns the plain data that goes into one, so what
policies check is known before anything runs. Keys are spelled as in the Kubernetes API.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from stacks.settings import Tier
from stacks.values import size, size_in_bytes

Object = dict[str, Any]
"""A piece of a Kubernetes object, as JSON would hold it."""

ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"
NAME_LABEL = "app.kubernetes.io/name"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
POD_LABEL = "statefulset.kubernetes.io/pod-name"
"""Put onto each Pod of a StatefulSet by its controller."""

DATA = "data"
"""The namespace and priority of what keeps state; above every tier of services."""

UNPRIVILEGED_USER = 65_532
"""The `nonroot` user of distroless images; above 10,000, so it is no user of the host."""

EVICTION_SECONDS = 30
"""How long a Pod waits on a node that went silent. Kubernetes' own 300 s would outlast any RTO;
the node is declared silent only after 40-50 s, so a short hiccup of the network moves nothing."""

OBJECTIVE = "fault-tolerance/{system}-{what}-seconds"
"""Annotation of the namespace of data: what an outage of a system (or of the `region`) may cost,
`rpo` or `rto`. Policies hold what is declared to it."""

EPHEMERAL = "256Mi"
"""Ephemeral storage of a container that keeps nothing: its logs and its scratch space."""


# Names ------------------------------------------------------------------------------------------


def namespace(prefix: str, area: Tier | str) -> str:
    """Name the namespace, which is a fault domain of its own, of a tier or of `DATA`."""
    return f"{prefix}-{area}"


def priority_class(prefix: str, area: Tier | str) -> str:
    """Name the PriorityClass of a tier or of `DATA`; cluster-scoped, hence the prefix."""
    return f"{prefix}-{area}"


def selector(name: str) -> dict[str, str]:
    """Select the Pods of one workload; short, because a selector can never change."""
    return {NAME_LABEL: name}


def labels(name: str, component: str, part_of: str = "platform") -> dict[str, str]:
    """Label an object of the workload `name` whose role in the whole is `component`."""
    return {
        **selector(name),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": part_of,
        "app.kubernetes.io/managed-by": "pulumi",
    }


def metadata(
    name: str,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """Name an object explicitly: runbooks and people need names that never change.

    A field that a hand has changed is given back to the program. By default the two would conflict,
    and an `up` would stop where it should mend. Fields that are not declared stay as they are.
    """
    given = {"namespace": namespace, "labels": labels}
    return {
        "name": name,
        **{key: value for key, value in given.items() if value},
        "annotations": {"pulumi.com/patchForce": "true", **(annotations or {})},
    }


@dataclass(frozen=True)
class Client:
    """Pods that may open connections to a workload: those of the workload `name`."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Endpoint:
    """A Service that Pods connect to, on the same port as the Pods behind it."""

    namespace: str
    name: str
    port: int
    workload: str | None = None
    """Which Pods are behind it, where that is not the name of the Service."""

    @property
    def host(self) -> str:
        """The name that cluster DNS knows the Service by."""
        return f"{self.name}.{self.namespace}.svc.cluster.local"

    @property
    def url(self) -> str:
        """Where HTTP requests go; the mesh, not the caller, encrypts them."""
        return f"http://{self.host}:{self.port}"

    @property
    def peer(self) -> Object:
        """The Pods behind it, for the rules of a NetworkPolicy."""
        return peer(self.namespace, selector(self.workload or self.name))


# Quantities -------------------------------------------------------------------------------------
# The API server stores quantities in their canonical form ("0.5" becomes "500m", "1024Mi" becomes
# "1Gi"). Declared in that form they never look like drift.


def millicores(quantity: str) -> int:
    """Read a CPU quantity such as ``2``, ``0.5`` or ``250m``; there is nothing finer."""
    return int(quantity[:-1]) if quantity.endswith("m") else int(Decimal(quantity) * 1000)


def cpu(millicores: int) -> str:
    """Write millicores as a canonical CPU quantity."""
    cores, rest = divmod(millicores, 1000)
    return f"{millicores}m" if rest else str(cores)


CPU_BURST = 4
"""CPU limit over request. A start or a failover needs a burst; without any limit, one busy loop
takes every idle core of its node and hides that requests are too small."""

CPU_LEAST_BURST = 1000
"""Millicores that every container may burst to, however little it requests. What is held to less
is slow just when it must be quick: at its start, in a probe, in a promotion that asks the archive.
"""


def container_resources(
    cpu_request: str, memory: str, ephemeral: str = EPHEMERAL, *, cpu_limit: str | None = None
) -> Object:
    """Requests and limits of one container.

    Memory and ephemeral storage cannot be taken back from a running process, so their limit is
    their request: a Pod is never evicted because its neighbours grew. CPU can be taken back, so
    it may burst to `CPU_BURST` times its request, and in any case to a whole core, unless another
    `cpu_limit` is given.
    """
    request = millicores(cpu_request)
    limit = millicores(cpu_limit) if cpu_limit else max(request * CPU_BURST, CPU_LEAST_BURST)
    fixed = {
        "memory": size(size_in_bytes(memory)),
        "ephemeral-storage": size(size_in_bytes(ephemeral)),
    }
    return {
        "requests": {"cpu": cpu(request), **fixed},
        "limits": {"cpu": cpu(limit), **fixed},
    }


# Pods -------------------------------------------------------------------------------------------


def pod_security(user: int = UNPRIVILEGED_USER) -> Object:
    """Security context of a Pod under the `restricted` standard; volumes belong to `user`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Security context of a container under the `restricted` standard, with a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def spread(pods: Mapping[str, str], *, stay: bool = False) -> list[Object]:
    """Spread replicas evenly over zones, strictly, and over hosts, where there is room.

    - `nodeTaintsPolicy: Honor` takes a lost zone, whose nodes are tainted, out of the count. By
      default it would count as an empty zone, and every replacement would wait for its return.
    - No `minDomains`, for the same reason: capacity in two zones beats none in the third.
    - Each revision spreads by itself; counted together, the old Pods of a rollout would decide
      where the new ones are. Not where they `stay`, since their volumes do: a new one comes after
      its predecessor, and two of five may have to be in one zone before any is in another.
    """
    apart_from_older = {} if stay else {"matchLabelKeys": ["pod-template-hash"]}
    common = {
        "maxSkew": 1,
        "labelSelector": {"matchLabels": dict(pods)},
        "nodeTaintsPolicy": "Honor",
        **apart_from_older,
    }
    return [
        {"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", **common},
        {"topologyKey": HOST, "whenUnsatisfiable": "ScheduleAnyway", **common},
    ]


def apart(pods: Mapping[str, str], topology_key: str = ZONE) -> Object:
    """Affinity that never puts two of the Pods into one zone (or other topology).

    For what votes: two voters of three in one zone make that zone a single point of failure.
    """
    term = {"labelSelector": {"matchLabels": dict(pods)}, "topologyKey": topology_key}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def dns() -> Object:
    """Give a silent name server up after two seconds, not after ten.

    A node that is lost takes its name server along, to which questions go on being sent until the
    node counts as lost. All attempts of one question go to the same server
    (docs/decisions/name-servers.md), so more of them would only make it take longer.
    """
    return {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "2"}]}


def tolerations(seconds: int = EVICTION_SECONDS, silent: int | None = None) -> list[Object]:
    """Leave an unready node after `seconds`, and one that went silent after `silent`.

    Args:
        seconds: from when the node says that it is not ready.
        silent: from when it counts as lost, which takes its silence of 40-50 s unless the control
            plane is told otherwise; the same as `seconds` if not given.
    """
    return [
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": after,
        }
        for condition, after in (
            ("not-ready", seconds),
            ("unreachable", seconds if silent is None else silent),
        )
    ]


def http_probe(path: str, port: str, period: int, failures: int, timeout: int = 2) -> Object:
    """Ask over HTTP every `period` seconds; `failures` bad answers in a row decide."""
    return _probe({"httpGet": {"path": path, "port": port}}, period, failures, timeout)


def exec_probe(command: Sequence[str], period: int, failures: int, timeout: int = 5) -> Object:
    """Run a command in the container every `period` seconds; `failures` in a row decide."""
    return _probe({"exec": {"command": list(command)}}, period, failures, timeout)


def _probe(action: Object, period: int, failures: int, timeout: int) -> Object:
    return {
        **action,
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def scratch(name: str, limit: str, *, memory: bool = False) -> Object:
    """An emptyDir that cannot grow beyond `limit`; the only writable place of a read-only root."""
    medium = {"medium": "Memory"} if memory else {}
    return {"name": name, "emptyDir": {"sizeLimit": size(size_in_bytes(limit)), **medium}}


def claim(name: str, storage_class: str, size: str) -> Object:
    """A StatefulSet's template for the volume of each of its Pods."""
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        },
    }


def digest(files: Mapping[str, str]) -> str:
    """What an annotation of a Pod holds, so that a change of its files replaces it."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


# Disruption and network -------------------------------------------------------------------------


def disruption_budget(pods: Mapping[str, str], max_unavailable: int | str = 1) -> Object:
    """Spec of a PodDisruptionBudget; a share such as `10%` is rounded up to whole Pods.

    `AlwaysAllow` lets a drain evict Pods that are unhealthy anyway; else one crash loop would
    block the maintenance of its node for ever.
    """
    return {
        "maxUnavailable": max_unavailable,
        "selector": {"matchLabels": dict(pods)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def peer(namespace: str, pods: Mapping[str, str] | None = None) -> Object:
    """Select Pods of another namespace, all of them unless `pods` says which."""
    everywhere = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}}}
    return everywhere | ({"podSelector": {"matchLabels": dict(pods)}} if pods else {})


def client_peers(clients: Iterable[Client]) -> list[Object]:
    """Select the Pods of the clients."""
    return [peer(client.namespace, selector(client.name)) for client in clients]


def ports(*numbers: int, protocol: str = "TCP") -> list[Object]:
    """Ports of a NetworkPolicy rule."""
    return [{"port": number, "protocol": protocol} for number in numbers]


def allow_from(peers: Sequence[Object], *numbers: int) -> list[Object]:
    """Ingress rules: these peers on these ports. No peers, no rule: an empty `from` means all."""
    return [{"from": list(peers), "ports": ports(*numbers)}] if peers else []


def allow_to(peers: Sequence[Object], *numbers: int) -> list[Object]:
    """Egress rules: these peers on these ports. No peers, no rule: an empty `to` means all."""
    return [{"to": list(peers), "ports": ports(*numbers)}] if peers else []


def allow_to_store() -> list[Object]:
    """Egress rules to the object store, whose address is not known here, and to the role for it.

    EKS Pod Identity lends the role from an address of the node's own, without encryption; other
    ways (a token of the ServiceAccount) ask AWS, as the store is asked.
    """
    lender = [{"ipBlock": {"cidr": "169.254.170.23/32"}}]
    return [{"ports": ports(443)}, *allow_to(lender, 80)]


def network_policy(
    pods: Mapping[str, str], ingress: Sequence[Object] = (), egress: Sequence[Object] = ()
) -> Object:
    """Spec of a NetworkPolicy that allows only these rules, both ways, to and from `pods`.

    No rule means no connection. Names are looked up under the namespace's own policy.
    """
    rules = {"ingress": list(ingress), "egress": list(egress)}
    return {
        "podSelector": {"matchLabels": dict(pods)} if pods else {},
        "policyTypes": ["Ingress", "Egress"],
        **{direction: given for direction, given in rules.items() if given},
    }
