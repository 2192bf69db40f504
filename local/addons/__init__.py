"""What a real cluster has before a platform comes: name server, metrics, PostgreSQL's operators.

All of it is applied server-side, so that installing it again changes nothing, and what a running
operator has written into its objects (the certificate that its webhooks show) stays. The custom
resource definitions are the cluster's matter; they must be there before.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from components.availability import survive_zone_loss
from components.manifest import (
    Document,
    ManifestError,
    container,
    find,
    parse,
    restart_on_change,
)
from components.releases import (
    CNPG_NAMESPACE,
    barman_plugin,
    cloudnative_pg,
    without_cert_manager,
)
from local.addons import certificates
from local.api import Api, RefusedError
from local.errors import LocalError
from local.toolchain import build
from local.toolchain.build import Say

IMAGES = (
    "coredns",
    "cnpg",
    "barman-plugin",
    "barman-sidecar",
    "metrics-server",
    "postgres",
    "pgbouncer",
)
"""The images that must be known, by the name that `install` knows them by."""

PROGRAMS = (
    ("DaemonSet", "kube-system", "coredns"),
    ("Deployment", "kube-system", "metrics-server"),
    ("Deployment", CNPG_NAMESPACE, "cnpg-controller-manager"),
    ("Deployment", CNPG_NAMESPACE, "barman-cloud"),
)
"""Kind, namespace and name of everything that must run."""

_RUN = frozenset(kind for kind, *_ in PROGRAMS)

_MANAGER = "local-addons"
_FOLDER = Path(__file__).parent


def install(api: Api, images: Mapping[str, str], say: Say) -> None:
    """Bring all add-ons to their wanted state; returns at once, see `ready`.

    Args:
        api: the cluster's API server, with the definitions of both operators established.
        images: a reference, which the nodes have or can pull, for each of `IMAGES`.
        say: told what is awaited, should the manifests have to be fetched first.

    Raises:
        LocalError: if an image is missing, or a release's manifest has another shape than expected.
        RefusedError: if the API server refuses an object.
    """
    wanted = documents(images, say)
    collections = _Collections(api)
    now = datetime.datetime.now(datetime.UTC)
    for body in wanted:
        if body["kind"] in _RUN:
            continue
        api.apply(collections.path(body), body, _MANAGER)
    for identity in (certificates.SERVER, certificates.CLIENT):
        _ensure_certificate(api, identity, now)
    # Programs come last, so that none starts without its rights, configuration or certificates.
    for body in wanted:
        if body["kind"] in _RUN:
            api.apply(collections.path(body), body, _MANAGER)


def ready(api: Api) -> list[str]:
    """What does not run as wanted yet, with how much of it does; empty once all does."""
    return [
        f"{namespace}/{name} {state}"
        for kind, namespace, name in PROGRAMS
        if (state := _missing(api, kind, namespace, name))
    ]


def documents(images: Mapping[str, str], say: Say) -> list[Document]:
    """Every object of the add-ons but the certificates, namespaces first.

    Raises:
        LocalError: if an image is missing, or a release's manifest has another shape than expected.
    """
    lost = [name for name in IMAGES if name not in images]
    if lost:
        raise LocalError(f"no image is known for: {', '.join(lost)}; build them first")
    try:
        operators = _operators(images, say)
    except ManifestError as error:
        raise LocalError(str(error)) from error
    metrics = _own("Deployment", "metrics-server", images["metrics-server"])
    own = [
        *_own("DaemonSet", "coredns", images["coredns"]),
        *metrics,
        survive_zone_loss(find(metrics, "Deployment", "metrics-server")),
    ]
    return sorted([*own, *operators], key=lambda body: body["kind"] != "Namespace")


def _operators(images: Mapping[str, str], say: Say) -> list[Document]:
    plugin = barman_plugin(
        parse(build.operator_manifest("barman-manager", say).read_text()),
        plugin=images["barman-plugin"],
        sidecar=images["barman-sidecar"],
    )
    return [
        *cloudnative_pg(
            parse(build.operator_manifest("cnpg-manager", say).read_text()),
            operator=images["cnpg"],
            postgres=images["postgres"],
            pgbouncer=images["pgbouncer"],
            unsafe_sysctls=True,
        ),
        # `install` makes the certificates that cert-manager would make.
        *without_cert_manager(plugin),
    ]


def _own(kind: str, name: str, image: str) -> list[Document]:
    """One of this folder's manifests: what runs there, its container and the file share a name."""
    found = parse((_FOLDER / f"{name}.yaml").read_text())
    program = find(found, kind, name)
    container(program, name)["image"] = image
    for configuration in (body for body in found if body["kind"] == "ConfigMap"):
        restart_on_change(program, configuration)
    return found


def _ensure_certificate(api: Api, identity: certificates.Identity, now: datetime.datetime) -> None:
    path = f"/api/v1/namespaces/{CNPG_NAMESPACE}/secrets/{identity.secret}"
    present = _get(api, path)
    if present is None or not certificates.is_good(present, now):
        api.apply(path, certificates.secret(identity, CNPG_NAMESPACE, now), _MANAGER)


def _missing(api: Api, kind: str, namespace: str, name: str) -> str:
    """What of it does not run, in words; empty if all does."""
    body = _get(api, f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/{name}")
    if body is None:
        return "not installed"
    status = body.get("status", {})
    if kind == "DaemonSet":
        # None is wanted before the first node is there.
        wanted = max(1, status.get("desiredNumberScheduled", 0))
        former = wanted - status.get("updatedNumberScheduled", 0)
        available = status.get("numberAvailable", 0)
    else:
        wanted = body["spec"]["replicas"]
        former = status.get("replicas", 0) - status.get("updatedReplicas", 0)
        available = status.get("availableReplicas", 0)
    # Available ones of the former revision must not stand for new ones that do not start.
    running = max(0, available - former)
    if status.get("observedGeneration", 0) < body["metadata"]["generation"]:
        running = 0  # what its status counts is the revision before
    return "" if running >= wanted else f"{running}/{wanted}"


def _get(api: Api, path: str) -> Document | None:
    try:
        return api.get(path)
    except RefusedError as refusal:
        if refusal.status == httpx.codes.NOT_FOUND:
            return None
        raise


class _Collections:
    """Where the API server keeps objects of each kind, as it says itself."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds: dict[str, Sequence[Document]] = {}

    def path(self, body: Document) -> str:
        version, kind, metadata = body["apiVersion"], body["kind"], body["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in self._kinds:
            self._kinds[version] = self._api.get(root)["resources"]
        for known in self._kinds[version]:
            if known["kind"] == kind and "/" not in known["name"]:
                within = f"/namespaces/{metadata['namespace']}" if known["namespaced"] else ""
                return f"{root}{within}/{known['name']}/{metadata['name']}"
        raise LocalError(f"the local API server knows no kind {kind} of {version}")
