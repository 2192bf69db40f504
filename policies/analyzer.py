"""The policy pack as the engine sees it: a server of the `pulumirpc.Analyzer` protocol.

The SDK's own server reads every resource anew for each policy, and rebuilds the whole graph for
each policy of a stack: with this many rules that costs more than the preview itself (figures in
docs/decisions/policy-analyzer.md). This one reads each resource once, and lets all rules look at
it. To the engine nothing differs: every rule is a policy with its own name, level and thresholds.
"""

# ruff: noqa: N802, ARG002, D102 - the protocol names the methods and what they are given

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from pulumi.runtime.proto import analyzer_pb2 as pb
from pulumi.runtime.proto import analyzer_pb2_grpc, plugin_pb2

from policies import exemptions
from policies.exemptions import Exemptions
from policies.model import KUBERNETES, Resource, text
from policies.rule import Level, Rule, Ruleset, Scope, Severity, Violation
from policies.wire import plain
from policies.world import World

NAME = "fault-tolerance"
VERSION = "0.1.0"

_LEVELS = {
    Level.ADVISORY: pb.ADVISORY,
    Level.MANDATORY: pb.MANDATORY,
    Level.DISABLED: pb.DISABLED,
}
_NAMES = {number: level for level, number in _LEVELS.items()}
_SEVERITIES = {
    Severity.LOW: pb.POLICY_SEVERITY_LOW,
    Severity.MEDIUM: pb.POLICY_SEVERITY_MEDIUM,
    Severity.HIGH: pb.POLICY_SEVERITY_HIGH,
    Severity.CRITICAL: pb.POLICY_SEVERITY_CRITICAL,
}
_TYPES = {
    Scope.RESOURCE: pb.POLICY_TYPE_RESOURCE,
    Scope.STACK: pb.POLICY_TYPE_STACK,
}
_STACK = "pulumi:pulumi:Stack"
_ORPHAN_CHECK_SECONDS = 1.0
_LARGEST_MESSAGE = 400 * 1024 * 1024
"""Bytes; a whole stack comes in one message. The engine itself allows as much."""


class Analyzer(analyzer_pb2_grpc.AnalyzerServicer):
    """Judges resources for one run of the engine.

    The engine shows each resource's inputs when it is declared, and all resources' outputs at the
    end. Rules judge inputs, what was declared: outputs hold what the API server filled in, so a
    number of replicas that nobody set would look set.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._levels = {rule.name: rule.level for rule in self._rules}
        self._exemptions = Exemptions((), exemptions.today())
        self._options: dict[str, Mapping[str, Any]] = {}
        self._declared: dict[str, Mapping[str, Any]] = {}
        self._arm()

    def _arm(self) -> None:
        active = [rule for rule in self._rules if self._levels[rule.name] != Level.DISABLED]
        self._of_resource = Ruleset(rule for rule in active if rule.scope is Scope.RESOURCE)
        self._of_stack = Ruleset(rule for rule in active if rule.scope is Scope.STACK)

    # What the pack is ---------------------------------------------------------------------------

    def GetAnalyzerInfo(self, request: Empty, context: grpc.ServicerContext) -> pb.AnalyzerInfo:
        return pb.AnalyzerInfo(
            name=NAME,
            version=VERSION,
            supportsConfig=True,
            policies=[_describe(rule) for rule in self._rules],
        )

    def GetPluginInfo(self, request: Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    def Configure(
        self,
        request: pb.ConfigureAnalyzerRequest,
        context: grpc.ServicerContext,
    ) -> Empty:
        """Take levels, thresholds and exemptions.

        The engine has held them to the schemas. It names every rule, and `all` too.
        """
        exempted = []
        for rule in self._rules:
            if (name := rule.name) not in request.policyConfig:
                continue
            config = request.policyConfig[name]
            self._levels[name] = _NAMES.get(config.enforcementLevel, Level.MANDATORY)
            self._options[name] = options = plain(config.properties)
            try:
                exempted += exemptions.read(rule, options.get(exemptions.KEY, []))
            except ValueError as mistake:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(mistake))
        self._exemptions = Exemptions(exempted, exemptions.today())
        self._arm()
        return Empty()

    def ConfigureStack(
        self,
        request: pb.AnalyzerStackConfigureRequest,
        context: grpc.ServicerContext,
    ) -> pb.AnalyzerStackConfigureResponse:
        return pb.AnalyzerStackConfigureResponse()

    # Judging ------------------------------------------------------------------------------------

    def Analyze(
        self, request: pb.AnalyzeRequest, context: grpc.ServicerContext
    ) -> pb.AnalyzeResponse:
        """Judge one resource before it is created, and keep it for the whole."""
        props = plain(request.properties)
        self._declared[request.urn] = props
        return self._answer(self._judged(self._of_resource, [_resource(request, props)]))

    def AnalyzeStack(
        self,
        request: pb.AnalyzeStackRequest,
        context: grpc.ServicerContext,
    ) -> pb.AnalyzeResponse:
        """Judge the resources together.

        One that was not declared in this run (it is kept by ``--target``) shows only its outputs.
        """
        resources = []
        for each in request.resources:
            declared = self._declared.get(each.urn)
            props = plain(each.properties) if declared is None else declared
            references = {key: tuple(urns.urns) for key, urns in each.propertyDependencies.items()}
            resources.append(_resource(each, props, references))
        judged = self._judged(self._of_stack, resources)
        return self._answer(chain(judged, self._exemptions.remarks(_stack(resources))))

    def Remediate(
        self, request: pb.AnalyzeRequest, context: grpc.ServicerContext
    ) -> pb.RemediateResponse:
        """Change nothing: a weakness is mended in the program, where people see it."""
        return pb.RemediateResponse()

    def Cancel(self, request: Empty, context: grpc.ServicerContext) -> Empty:
        return Empty()

    def _judged(self, rules: Ruleset, resources: list[Resource]) -> Iterator[Violation]:
        return self._exemptions.applied(rules.judge(World(resources), self._options))

    def _answer(self, violations: Iterable[Violation]) -> pb.AnalyzeResponse:
        return pb.AnalyzeResponse(diagnostics=[self._diagnostic(each) for each in violations])

    def _diagnostic(self, violation: Violation) -> pb.AnalyzeDiagnostic:
        rule = violation.rule
        return pb.AnalyzeDiagnostic(
            policyName=rule.name,
            policyPackName=NAME,
            policyPackVersion=VERSION,
            description=rule.why,
            message=violation.message,
            enforcementLevel=_LEVELS[violation.level(self._levels[rule.name])],
            urn=violation.resource.urn,
            severity=_SEVERITIES[rule.severity],
        )


def _describe(rule: Rule) -> pb.PolicyInfo:
    info = pb.PolicyInfo(
        name=rule.name,
        displayName=rule.name,
        description=rule.why,
        enforcementLevel=_LEVELS[rule.level],
        severity=_SEVERITIES[rule.severity],
        policy_type=_TYPES[rule.scope],
        remediation_steps=rule.remedy,
        url=rule.source,
    )
    for name, option in rule.options.items():
        schema = {**option.schema, "default": option.default, "description": option.about}
        info.configSchema.properties.update({name: schema})
    info.configSchema.properties.update({exemptions.KEY: exemptions.SCHEMA})
    return info


def _resource(
    given: pb.AnalyzeRequest | pb.AnalyzerResource,
    props: Mapping[str, Any],
    references: Mapping[str, tuple[str, ...]] | None = None,
) -> Resource:
    return Resource(
        type=given.type,
        name=given.name,
        urn=given.urn,
        props=props,
        references=references or {},
        default_namespace=_default_namespace(given),
    )


def _stack(resources: Iterable[Resource]) -> Resource:
    """The stack as a resource, which a violation is shown at that belongs to no single one.

    Without a URN, ``pulumi policy analyze`` would crash.
    """
    urn = next((each.urn for each in resources), "urn:pulumi:::::::")
    stack, project, *_ = urn.removeprefix("urn:pulumi:").split("::")
    name = f"{project}-{stack}"
    return Resource(_STACK, name, f"urn:pulumi:{stack}::{project}::{_STACK}::{name}", {})


def _default_namespace(given: pb.AnalyzeRequest | pb.AnalyzerResource) -> str:
    if not given.HasField("provider") or not given.type.startswith(f"{KUBERNETES}:"):
        return "default"
    declared = MessageToDict(given.provider.properties).get("namespace")
    return text(declared) or "default"


# Serving ----------------------------------------------------------------------------------------


def serve(rules: Iterable[Rule]) -> None:
    """Serve on a free port of loopback, which goes to stdout, until the engine is gone."""
    engine = os.getppid()  # before it learns the port, from when on it may die at any moment
    server = grpc.server(
        ThreadPoolExecutor(max_workers=4),
        options=[("grpc.max_receive_message_length", _LARGEST_MESSAGE)],
    )
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(Analyzer(rules), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):  # how the engine says that it is done
        _wait_for_end_of(engine)
    server.stop(grace=0)


def _wait_for_end_of(parent: int) -> None:
    """Return when the process that started this one is gone; it may die without a word."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_SECONDS)
