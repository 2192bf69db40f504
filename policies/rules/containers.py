"""What a container declares: probes, resources, image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from policies.model import Resource, at, mapping, mappings, text
from policies.rule import Finding, Level, Option, Options, Severity, rule
from policies.world import SERVING, WORKLOADS, Container, World

_PROBES = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/"
_RESOURCES = "https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/"
_IMAGES = "https://kubernetes.io/docs/concepts/containers/images/"
_HANDLERS = ("httpGet", "tcpSocket", "grpc", "exec")
_COUNTED = ["cpu", "memory", "ephemeral-storage"]
_COUNTED_SCHEMA = {"type": "array", "items": {"type": "string", "enum": _COUNTED}}

# Probes -----------------------------------------------------------------------------------------


@rule(
    "container-readiness-probe",
    Severity.HIGH,
    kinds=SERVING,
    why="Without a readiness probe, traffic goes to a Pod that cannot answer yet, or no longer.",
    source=_PROBES,
    remedy="Add a readinessProbe that answers only while the container can serve.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, readinessProbe: {httpGet: {path: /health/ready, port: http}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {containers: [{name: web, readinessProbe: null}]}}}
    """,
)
def container_readiness_probe(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a readiness probe of every main container."""
    for container in world.workload(resource).containers:
        yield from _without(container, "readinessProbe", "can serve")


@rule(
    "container-liveness-probe",
    Severity.HIGH,
    kinds=SERVING,
    why="Without a liveness probe, a container that hangs is never restarted.",
    source=_PROBES,
    remedy="Add a livenessProbe that fails only when a restart would help.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, livenessProbe: {httpGet: {path: /health/live, port: http}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {containers: [{name: web, livenessProbe: null}]}}}
    """,
)
def container_liveness_probe(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a liveness probe of every main container."""
    for container in world.workload(resource).containers:
        yield from _without(container, "livenessProbe", "need not be restarted")


def _without(container: Container, probe: str, answers_while: str) -> Iterator[Finding]:
    if not _handler(container, probe):
        where = f"{container.path}.{probe}"
        yield Finding(
            where,
            "not set",
            f"Add {where} with an httpGet, grpc, tcpSocket or exec check that answers while the "
            f"container {answers_while}.",
        )


@rule(
    "container-probes-differ",
    Severity.MEDIUM,
    kinds=SERVING,
    why="If liveness asks what readiness asks, a Pod whose database is away is restarted over "
    "and over instead of only getting no traffic.",
    source=_PROBES,
    remedy="Give liveness a check of its own that does not depend on other systems.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - name: web
                  readinessProbe: {httpGet: {path: /health/ready, port: http}}
                  livenessProbe: {httpGet: {path: /health/live, port: http}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - name: web
                  readinessProbe: {httpGet: {path: /health, port: http}}
                  livenessProbe: {httpGet: {path: /health, port: http}}
    """,
)
def container_probes_differ(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare what the two probes ask."""
    for container in world.workload(resource).containers:
        live = _handler(container, "livenessProbe")
        if live and live == _handler(container, "readinessProbe"):
            yield Finding(
                f"{container.path}.livenessProbe",
                "the same check as readinessProbe",
                "Point livenessProbe to a path (or command) that only tells whether the process "
                "itself works.",
            )


@rule(
    "container-probe-port",
    Severity.HIGH,
    kinds=SERVING,
    why="A probe fails for ever if it names a port that the container does not declare: only the "
    "declaration says which number the name stands for.",
    source=_PROBES,
    remedy="Let the probe name one of the container's ports, or give the number.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, livenessProbe: {httpGet: {path: /health/live, port: http}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, livenessProbe: {httpGet: {path: /health/live, port: htpp}}}
    """,
)
def container_probe_port(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for each name among the container's ports; a number needs no declaration."""
    for container in world.workload(resource).containers:
        names = [text(each, "name") for each in mappings(container.spec, "ports")]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for handler in ("httpGet", "tcpSocket"):
                port = text(container.spec, probe, handler, "port")
                if port and port not in names:
                    where = f"{container.path}.{probe}.{handler}.port"
                    yield Finding(
                        where,
                        f"{port}, which is the name of none of the container's ports",
                        f"Add a port named {port} to {container.path}.ports, or name one of them.",
                    )


def _handler(container: Container, probe: str) -> Mapping[str, Any]:
    """What a probe does: the kind of check with its settings; empty without a probe."""
    found = mapping(container.spec, probe)
    return {kind: mapping(found, kind) for kind in _HANDLERS if kind in found}


# Resources --------------------------------------------------------------------------------------


@rule(
    "container-requests",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="The scheduler places by requests: without them a node is overfilled, and the kubelet "
    "evicts these Pods first.",
    source=_RESOURCES,
    remedy="Set requests for every resource that counts; a limit stands in for one left out.",
    options={"resources": Option(_COUNTED, _COUNTED_SCHEMA, "What must be requested.")},
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - name: web
                  resources: {requests: {cpu: 250m, memory: 256Mi, ephemeral-storage: 256Mi}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, resources: {requests: {cpu: 0}}}
    """,
)
def container_requests(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Require requests; the API server copies a limit into one that is left out, not into a 0."""
    for container in world.workload(resource).all_containers:
        for key in options["resources"]:
            request = at(container.spec, "resources", "requests", key)
            if request is None:
                request = at(container.spec, "resources", "limits", key)
            if request is None or quantity(request) == 0:
                yield _unset(container, "requests", key, request)


@rule(
    "container-limits",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="One container without a limit can take the memory, disk or CPU of all its neighbours.",
    source=_RESOURCES,
    remedy="Set limits for every resource that counts; memory's equal to its request.",
    options={"resources": Option(_COUNTED, _COUNTED_SCHEMA, "What must be limited.")},
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - name: web
                  resources: {limits: {cpu: "1", memory: 256Mi, ephemeral-storage: 256Mi}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, resources: {limits: {memory: null}}}
    """,
)
def container_limits(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Require limits."""
    for container in world.workload(resource).all_containers:
        for key in options["resources"]:
            if at(container.spec, "resources", "limits", key) is None:
                yield _unset(container, "limits", key)


def _unset(container: Container, kind: str, key: str, amount: object = None) -> Finding:
    where = f"{container.path}.resources.{kind}.{key}"
    found = "not set" if amount is None else str(amount)
    return Finding(where, found, f"Set {where} to what the container needs at its peak.")


_RESERVED = ["memory", "ephemeral-storage"]


@rule(
    "container-limits-reserved",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    level=Level.ADVISORY,
    why="What a container uses beyond its request is nobody's promise: when its node runs short, "
    "the Pods that use more than they asked for are ended first.",
    source="https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/"
    "#pod-selection-for-kubelet-eviction",
    remedy="Request as much memory and ephemeral storage as the limit allows.",
    options={"resources": Option(_RESERVED, _COUNTED_SCHEMA, "What must be requested in full.")},
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, resources: {requests: {memory: 1Gi}, limits: {memory: 1024Mi}}}
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers:
                - {name: web, resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}
    """,
)
def container_limits_reserved(
    resource: Resource, world: World, options: Options
) -> Iterator[Finding]:
    """Compare limits with requests; a request that is left out is as large as the limit."""
    for container in world.workload(resource).all_containers:
        for key in options["resources"]:
            request = at(container.spec, "resources", "requests", key)
            limit = at(container.spec, "resources", "limits", key)
            if None not in (request, limit) and quantity(request) != quantity(limit):
                where = f"{container.path}.resources.requests.{key}"
                yield Finding(
                    where, f"{request}, with a limit of {limit}", f"Set {where} to {limit}."
                )


_SUFFIXES = {
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)},
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T"), 1)},
    "m": Decimal("0.001"),
}


def quantity(written: object) -> Decimal | None:
    """An amount as Kubernetes writes it, such as ``1.5Gi``; None if it is none."""
    number, factor = str(written), Decimal(1)
    for suffix, value in _SUFFIXES.items():
        if number.endswith(suffix):
            number, factor = number.removesuffix(suffix), value
            break
    try:
        return Decimal(number) * factor
    except InvalidOperation:
        return None


# Images -----------------------------------------------------------------------------------------


@rule(
    "container-image-tag",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="What `latest` means changes under a running workload: two replicas, or a failover, may "
    "run different programs.",
    source=_IMAGES,
    remedy="Name the version in the image's tag, or its digest.",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers: [{name: web, image: "registry.example/web:1.4.2@sha256:0a1b"}]
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {containers: [{name: web, image: "registry.example/web:latest"}]}}}
    """,
)
def container_image_tag(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a tag that names a version, or a digest."""
    for container in world.workload(resource).all_containers:
        image = text(container.spec, "image")
        if _floats(image):
            name = image.removesuffix(":latest") or "image"
            yield Finding(
                f"{container.path}.image",
                image or "not set",
                f"Name a version: {name}:<version>.",
            )


@rule(
    "container-image-digest",
    Severity.LOW,
    kinds=WORKLOADS,
    level=Level.ADVISORY,
    why="A tag can be moved to another image; a digest cannot.",
    source=_IMAGES,
    remedy="Add the digest to the image: name:tag@sha256:…",
    passing="""
        kind: Deployment
        metadata: {name: web}
        spec:
          template:
            spec:
              containers: [{name: web, image: "registry.example/web:1.4.2@sha256:0a1b"}]
    """,
    failing="""
        kind: Deployment
        metadata: {name: web}
        spec: {template: {spec: {containers: [{name: web, image: "registry.example/web:1.4.2"}]}}}
    """,
)
def container_image_digest(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a digest of what has a version; `container-image-tag` tells of the others."""
    for container in world.workload(resource).all_containers:
        image = text(container.spec, "image")
        if not _floats(image) and "@sha256:" not in image:
            yield Finding(
                f"{container.path}.image", image, f"Pin it: {image}@sha256:<digest of the image>."
            )


def _floats(image: str) -> bool:
    """Whether an image names neither a version nor a digest."""
    name, _at, digest = image.partition("@")
    return not digest and name.rpartition("/")[2].partition(":")[2] in {"", "latest"}
