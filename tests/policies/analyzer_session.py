"""A session with the real analyzer: started and spoken to as the engine does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]
from pulumi.runtime.proto import analyzer_pb2 as pb
from pulumi.runtime.proto import analyzer_pb2_grpc

from local.engine import LAUNCHERS
from policies import manifests
from policies.model import Resource
from policies.rule import Rule

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_LEVELS = {"advisory": pb.ADVISORY, "mandatory": pb.MANDATORY, "disabled": pb.DISABLED}
_NAMES = {number: name for name, number in _LEVELS.items()}

Levels = Mapping[str, str | Mapping[str, Any]]


def secret(value: object) -> dict[str, object]:
    """A value as the engine sends a secret."""
    return {_SIGNATURE: _SECRET, "value": value}


@dataclass(frozen=True)
class Diagnostic:
    """One violation as the analyzer answers it."""

    rule: str
    level: str
    urn: str
    message: str


class Session(AbstractContextManager["Session"]):
    """One analyzer process. Each `judge` is a stack of its own."""

    def __init__(self, pack: Path) -> None:
        environment = {**os.environ, "FT_PYTHON": sys.executable}
        self.process = subprocess.Popen(
            [LAUNCHERS / "pulumi-analyzer-policy-python", "127.0.0.1:1", "."],
            cwd=pack,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip()
        assert port, "the analyzer ended before it served"
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
        )
        self.stub = analyzer_pb2_grpc.AnalyzerStub(self._channel)
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
        self.process.terminate()
        self.process.wait(timeout=10)

    def info(self) -> pb.AnalyzerInfo:
        """What the pack says of itself."""
        info: pb.AnalyzerInfo = self.stub.GetAnalyzerInfo(Empty())
        return info

    def configure(self, rules: Iterable[Rule], levels: Levels) -> None:
        """Set levels and thresholds as the engine does: for every rule, defaults filled in."""
        everything = levels.get("all")
        request = pb.ConfigureAnalyzerRequest()
        for rule in rules:
            entry = levels.get(rule.name, {})
            given = dict(entry) if isinstance(entry, Mapping) else {"enforcementLevel": entry}
            level = given.pop("enforcementLevel", everything) or rule.level
            config = request.policyConfig[rule.name]
            config.enforcementLevel = _LEVELS[str(level)]
            config.properties.update({**rule.defaults, **given})
        self.stub.Configure(request)

    def judge(self, declared: Sequence[manifests.Manifest]) -> list[Diagnostic]:
        """Declare manifests as a stack of their own."""
        stack = self.new_stack()
        return self.judge_resources([manifests.resource(each, stack) for each in declared])

    def new_stack(self) -> str:
        """A name that no stack had before."""
        return f"case-{next(self._numbers)}"

    def judge_resources(self, declared: Sequence[Resource]) -> list[Diagnostic]:
        """Declare resources one by one, then all together; `props` are in the wire's form."""
        answers = []
        whole = pb.AnalyzeStackRequest()
        for each in declared:
            props = Struct()
            props.update(each.props)
            request = pb.AnalyzeRequest(
                type=each.type, name=each.name, urn=each.urn, properties=props
            )
            answers.append(self.stub.Analyze(request))
            shown = whole.resources.add(
                type=each.type, name=each.name, urn=each.urn, properties=props
            )
            for key, urns in each.references.items():
                shown.propertyDependencies[key].urns.extend(urns)
        answers.append(self.stub.AnalyzeStack(whole))
        return [_read(each) for answer in answers for each in answer.diagnostics]


def _read(diagnostic: pb.AnalyzeDiagnostic) -> Diagnostic:
    return Diagnostic(
        rule=diagnostic.policyName,
        level=_NAMES[diagnostic.enforcementLevel],
        urn=diagnostic.urn,
        message=diagnostic.message,
    )
