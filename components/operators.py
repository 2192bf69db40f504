"""The operators of the data systems, each able to heal what it runs when its own node is lost.

A system and its operator must never be lost at once. So each operator stands twice, in two zones,
with one that leads where only one may act, and its Pods leave a lost node within seconds. The
changes to its release that make it so are in `components/releases.py`, which local worlds use as
well.

Releases that are manifests become plain resources, one for each object, so that previews show them
and policies judge them. A release that is a Helm chart is a `Chart` of the SDK, for the same
reason: a `Release` would hide its objects from policies.

What ran: every object of the manifests, but cert-manager's, on a real API server and scheduler, and
the operators' programs as processes. Strimzi's charts were never rendered, and nothing was
downloaded from upstream, since neither can be had here: tests look at what is asked of the charts,
and read the manifests, the same bytes, from the operators' Go modules.

A further operator (prometheus-operator, KEDA, Istio, OpenFeature, Velero) is a release in
`components/releases.py`, a key in `stacks/operators.py`, and a line in `_MANIFESTS` or `_CHARTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Final

import pulumi
from pulumi_kubernetes.core.v1 import Namespace
from pulumi_kubernetes.helm.v4 import Chart
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from components import metrics, parts, releases
from components.manifest import Document, ManifestError, definitions, parse, read
from stacks.operators import OperatorsSettings, Source

_API_PORTS: Final = (443, 6443)
_DNS_PORT: Final = 53


@dataclass(frozen=True)
class _Operator:
    """What there is to know of an operator that is released as a manifest."""

    release: releases.Manifest
    changed: Callable[[Sequence[Document]], list[Document]]
    namespace: str
    pods: Mapping[str, str]
    """Labels that select its Pods."""
    serves: tuple[int, ...] = ()
    """Ports for the API server or for other operators, whose addresses are not known."""
    asks: tuple[int, ...] = ()
    """Ports of what it runs, wherever that is."""
    reads_backups: bool = False
    """Whether it asks the object store by itself."""


_METRICS_PORT: Final = 8080

_MANIFESTS: Final = {
    "cloudnative_pg": _Operator(
        releases.CLOUDNATIVE_PG,
        releases.cloudnative_pg,
        releases.CNPG_NAMESPACE,
        releases.CNPG_PODS,
        serves=(9443,),
        asks=(5432, 8000, 9090),
    ),
    "barman_cloud": _Operator(
        releases.BARMAN_CLOUD,
        releases.barman_plugin,
        releases.CNPG_NAMESPACE,
        {"app": "barman-cloud"},
        serves=(9090,),
    ),
    "percona_mongodb": _Operator(
        releases.PERCONA_MONGODB,
        releases.percona_mongodb,
        releases.PSMDB_NAMESPACE,
        {"name": "percona-server-mongodb-operator"},
        asks=(27017,),
        reads_backups=True,
    ),
}


@dataclass(frozen=True)
class OperatorsArgs:
    """Which operators a stack brings along."""

    settings: OperatorsSettings


class Operators(pulumi.ComponentResource):
    """Every operator whose source is `release`; of the others, nothing.

    Definitions of custom resources are never deleted: with them would go every database.

    Example:
        A program of its own::

            settings = OperatorsSettings(cloudnative_pg=Source.RELEASE)
            operators = Operators("operators", OperatorsArgs(settings))
            database = Postgres("games", …, pulumi.ResourceOptions(depends_on=[operators]))
    """

    def __init__(
        self, name: str, args: OperatorsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fault-tolerance:operators:Operators", name, None, opts)
        settings = args.settings
        for key, operator in _MANIFESTS.items():
            if getattr(settings, key) is Source.RELEASE:
                self._from_manifest(f"{name}-{key.replace('_', '-')}", operator, settings.mirror)
        if settings.strimzi is Source.RELEASE:
            self._strimzi(f"{name}-strimzi")
        self.register_outputs({})

    def _from_manifest(self, name: str, operator: _Operator, mirror: str | None) -> None:
        """Declare the objects of a release: programs last, when they find all that they need."""
        try:
            text = read(_location(operator.release, mirror), operator.release.sha256)
            documents = operator.changed(parse(text))
        except ManifestError as error:
            raise pulumi.RunError(str(error)) from None
        child = pulumi.ResourceOptions(parent=self)
        kept = pulumi.ResourceOptions(parent=self, retain_on_delete=True)
        before = [_declare(name, body, kept) for body in definitions(text)]
        before += [_declare(name, body, child) for body in documents if _is_space(body)]
        inside = pulumi.ResourceOptions(parent=self, depends_on=before)
        before += [
            _declare(name, body, inside)
            for body in documents
            if not _is_space(body) and not _is_program(body)
        ]
        before.append(
            NetworkPolicy(
                f"{name}-network",
                metadata=parts.metadata(name, operator.namespace),
                spec=_network(operator),
                opts=inside,
            )
        )
        ready = pulumi.ResourceOptions(parent=self, depends_on=before)
        for body in documents:
            if _is_program(body):
                _declare(name, body, ready)

    def _strimzi(self, name: str) -> None:
        """Declare the operator, and the webhook that turns drains into its restarts."""
        namespace = Namespace(
            f"{name}-namespace",
            metadata=parts.metadata(releases.STRIMZI_NAMESPACE, labels=_WALLED),
            opts=pulumi.ResourceOptions(parent=self),
        )
        metrics.pod_monitor(
            f"{name}-metrics",
            parts.metadata("strimzi-cluster-operator", releases.STRIMZI_NAMESPACE),
            {"matchLabels": {"strimzi.io/kind": "cluster-operator"}},
            pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
            port="http",
        )
        charts = {
            name: (releases.STRIMZI, releases.strimzi_values()),
            f"{name}-drain-cleaner": (releases.DRAIN_CLEANER, releases.drain_cleaner_values()),
        }
        for resource, (chart, values) in charts.items():
            Chart(
                resource,
                chart=chart.name,
                version=chart.version,
                namespace=releases.STRIMZI_NAMESPACE,
                values=values,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
            )


_WALLED: Final = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
}


def _location(release: releases.Manifest, mirror: str | None) -> str:
    if mirror is None:
        return release.location
    return f"{mirror.rstrip('/')}/{PurePosixPath(release.location).name}"


def _is_space(body: Document) -> bool:
    return bool(body["kind"] == "Namespace")


def _is_program(body: Document) -> bool:
    return bool(body["kind"] == "Deployment")


def _declare(name: str, body: Document, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Declare an object of any kind, as its manifest has it.

    The SDK has a class for each kind; only the one that takes any would put a `spec` everywhere.
    """
    given, kind = body["metadata"], body["kind"]
    labels = given.get("labels", {}) | (_WALLED if _is_space(body) else {})
    metadata = parts.metadata(
        given["name"], given.get("namespace"), labels, given.get("annotations")
    )
    group = body["apiVersion"] if "/" in body["apiVersion"] else f"core/{body['apiVersion']}"
    return pulumi.CustomResource(
        f"kubernetes:{group}:{kind}",
        f"{name}-{kind.lower()}-{given['name']}",
        {**body, "metadata": metadata},
        pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(version=version("pulumi-kubernetes"))
        ),
    )


def _network(operator: _Operator) -> parts.Object:
    """Let in whoever must be served, on those ports alone, and out to what it runs."""
    asked = parts.ports(*_API_PORTS, *operator.asks, _DNS_PORT)
    return parts.network_policy(
        operator.pods,
        ingress=[
            *([{"ports": parts.ports(*operator.serves)}] if operator.serves else []),
            *parts.allow_from([metrics.reader()], _METRICS_PORT),
        ],
        egress=[
            {"ports": [*asked, *parts.ports(_DNS_PORT, protocol="UDP")]},
            *(parts.allow_to_store() if operator.reads_backups else []),
        ],
    )
