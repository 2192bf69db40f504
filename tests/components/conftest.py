"""Run component programs without an engine and look at what they registered.

An assertion inside `Output.apply` passes silently when it is never reached. So no test here asserts
inside a program: `run_program` waits for all of it and returns plain data to assert on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.runtime import mocks

from stacks.settings import Settings

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine's protocol sends for a value that only an update can tell."""

_COMPUTED: dict[str, dict[str, Any]] = {
    "random:index/randomPassword:RandomPassword": {"result": "generated"},
}


@dataclass(frozen=True)
class Secret:
    """A value that was registered as a secret."""

    value: Any


@dataclass(frozen=True)
class Registered:
    """One resource as the engine would have been told of it."""

    type: str
    name: str
    urn: str
    parent: str
    custom: bool
    protect: bool
    retain_on_delete: bool
    dependencies: frozenset[str]
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        """The last part of the type token: `Deployment`, `Bucket`."""
        return self.type.rsplit(":", maxsplit=1)[-1]

    @property
    def manifest(self) -> dict[str, Any]:
        """The Kubernetes object; secrets in clear."""
        if not self.type.startswith("kubernetes:"):
            raise AssertionError(f"{self.urn} is no Kubernetes object")
        _, group, kind = self.type.split(":")
        plain: dict[str, Any] = _revealed(self.inputs)
        return plain | {"apiVersion": group.removeprefix("core/"), "kind": kind}


@dataclass(frozen=True)
class Registry:
    """Everything a program registered, in order, and the outputs of its components by URN."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Registered]:
        """Every resource of a kind; an error if there is none, so that no loop is empty."""
        found = [resource for resource in self.resources if resource.kind == kind]
        if not found:
            known = sorted({resource.kind for resource in self.resources})
            raise AssertionError(f"no {kind} was registered, only {', '.join(known)}")
        return found

    def one(self, kind: str, name: str | None = None) -> Registered:
        """The only resource of a kind (with that metadata.name); an error unless there is one."""
        found = [
            resource
            for resource in self.of(kind)
            if name in (None, resource.inputs.get("metadata", {}).get("name"))
        ]
        if len(found) != 1:
            names = [resource.name for resource in found]
            raise AssertionError(f"expected one {kind} {name or ''}, found {names}")
        return found[0]

    def unknowns(self) -> list[str]:
        """Names of the resources with an input that only an update can tell."""
        return [resource.name for resource in self.resources if _contains_unknown(resource.inputs)]

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Every Kubernetes object."""
        for resource in self.resources:
            if resource.type.startswith("kubernetes:"):
                yield resource.manifest


RunProgram = Callable[..., Registry]


class _Echo(mocks.Mocks):
    """Answers with the inputs; what a provider would compute is known only in an update."""

    def __init__(self, computed: Mapping[str, dict[str, Any]]) -> None:
        self._computed = computed

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return f"{args.name}-id", {**args.inputs, **self._computed.get(args.typ, {})}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return dict(args.args), None


class _Recorder(mocks.MockMonitor):
    """Keeps what each registration says, options included."""

    def __init__(self, echo: _Echo, registry: Registry) -> None:
        super().__init__(echo)
        self._registry = registry

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802, the protocol's name
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            self._registry.resources.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    urn=response.urn,
                    parent=request.parent,
                    custom=request.custom,
                    protect=request.protect,
                    retain_on_delete=request.retainOnDelete,
                    dependencies=frozenset(request.dependencies),
                    inputs=_plain(json_format.MessageToDict(request.object)),
                )
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802, the protocol's name
        outputs = _plain(json_format.MessageToDict(request.outputs))
        self._registry.outputs[request.urn] = outputs
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def _plain(value: Any) -> Any:
    """Turn the protocol's values into Python's: whole numbers, marked secrets."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(_SIGNATURE) == _SECRET:
        return Secret(_plain(value["value"]))
    return {key: _plain(item) for key, item in value.items()}


def _contains_unknown(value: Any) -> bool:
    if isinstance(value, Secret):
        return _contains_unknown(value.value)
    if isinstance(value, list):
        return any(_contains_unknown(item) for item in value)
    if isinstance(value, dict):
        return any(_contains_unknown(item) for item in value.values())
    return bool(value == UNKNOWN)


def _revealed(value: Any) -> Any:
    if isinstance(value, Secret):
        return _revealed(value.value)
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    if isinstance(value, dict):
        return {key: _revealed(item) for key, item in value.items()}
    return value


def registered_by(
    program: Callable[[], object],
    *,
    preview: bool = False,
    computed: Mapping[str, dict[str, Any]] | None = None,
) -> Registry:
    """Run a program to its end and return what it registered.

    Args:
        program: creates resources; its return value is ignored.
        preview: leave what only a provider can compute unknown, as a preview does.
        computed: outputs by type token, in addition to the inputs.

    Raises:
        AssertionError: if it registered nothing.
    """
    registry = Registry()
    echo = _Echo({} if preview else {**_COMPUTED, **(computed or {})})
    mocks.set_mocks(
        echo, project="tests", stack="test", preview=preview, monitor=_Recorder(echo, registry)
    )

    def run() -> None:
        program()

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    if not registry.resources:
        raise AssertionError("the program registered nothing")
    return registry


@pytest.fixture
def run_program() -> RunProgram:
    """Give tests `registered_by`."""
    return registered_by


@pytest.fixture
def settings(catalogue: Settings) -> Settings:
    """The settings that most tests start from."""
    return catalogue


@pytest.fixture(scope="session")
def catalogue() -> Settings:
    """A small catalogue with one service of each tier, that call and use one another."""
    return Settings.model_validate(
        {
            "region": "us-east-1",
            "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
            "neo4j": {"accept_license": True, "issuer": "platform"},
            "services": {
                "gateway": {
                    "tier": "core",
                    "image": "registry.example/gateway:1.0.0",
                    "public": True,
                    "calls": ["engine", "replay"],
                },
                "engine": {
                    "tier": "core",
                    "image": "registry.example/engine:1.0.0",
                    "replicas": {"min": 3, "max": 3},
                    "uses": ["postgres", "redis"],
                },
                "replay": {
                    "tier": "standard",
                    "image": "registry.example/replay:1.0.0",
                    "flag": "replay",
                },
                "leaderboard": {
                    "tier": "best-effort",
                    "image": "registry.example/leaderboard:1.0.0",
                    "flag": "leaderboard",
                    "uses": ["redis"],
                },
            },
        }
    )
