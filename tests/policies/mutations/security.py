"""What a Pod may do, and who may reach it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from policies.model import Resource
from policies.world import BINDINGS, CONFIG_MAP, NETWORK_POLICY, SERVICE, WORKLOADS, World
from tests.policies.mutations.making import (
    Change,
    Mutant,
    Mutation,
    Props,
    Table,
    all_of,
    container,
    copied,
    drop,
    each,
    example,
    pod,
    put,
    without,
)

_ROLES = ("rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/ClusterRole")
_ENFORCE = "pod-security.kubernetes.io/enforce"


def _in_context(key: str, value: object) -> Change:
    return container(put(f"securityContext.{key}", value))


def _variable(name: str) -> Change:
    def change(one: Props) -> None:
        one["env"] = [*one.get("env", []), {"name": name, "value": "hunter2"}]

    return container(change)


def _referring(name: str) -> Change:
    def change(one: Props) -> None:
        source = {"secretKeyRef": {"name": "login", "key": "password"}}
        one["env"] = [*one.get("env", []), {"name": name, "valueFrom": source}]

    return container(change)


def _host_port(one: Props) -> None:
    one["ports"] = [*one.get("ports", []), {"containerPort": 9, "hostPort": 9}]


def _host_path(spec: Props) -> None:
    spec["volumes"] = [*spec.get("volumes", []), {"name": "host", "hostPath": {"path": "/var"}}]


def _policies_of(workload: Resource, world: World) -> list[Resource]:
    return world.selecting(NETWORK_POLICY, world.workload(workload))


def _open_but_for(direction: str) -> Mutation:
    """One mutant for each workload: all policies that select its Pods hold one direction only."""

    def limited(policy: Resource) -> Resource:
        props = copied(policy.props)
        put("spec.policyTypes", [direction])(props)
        return replace(policy, props=props)

    def mutants(world: World) -> Iterator[Mutant]:
        for workload in world.of(*WORKLOADS):
            chosen = {policy.urn for policy in _policies_of(workload, world)}
            resources = (limited(one) if one.urn in chosen else one for one in world.resources)
            yield Mutant(workload.name, tuple(resources))

    return mutants


def _granting(key: str) -> Change:
    def change(props: Props) -> None:
        props["rules"] = [{"apiGroups": ["apps"], "resources": ["x"], "verbs": ["get"], key: ["*"]}]

    return change


MUTATIONS: Table = {
    "container-not-privileged": (each(WORKLOADS, _in_context("privileged", True)),),
    "container-no-privilege-escalation": (
        each(WORKLOADS, container(drop("securityContext.allowPrivilegeEscalation"))),
        each(WORKLOADS, _in_context("allowPrivilegeEscalation", True)),
    ),
    "container-capabilities": (
        each(WORKLOADS, container(drop("securityContext.capabilities"))),
        each(WORKLOADS, _in_context("capabilities.add", ["SYS_ADMIN"])),
    ),
    "container-read-only-root": (
        each(WORKLOADS, container(drop("securityContext.readOnlyRootFilesystem"))),
        each(WORKLOADS, _in_context("readOnlyRootFilesystem", False)),
    ),
    "container-non-root": (
        each(
            WORKLOADS,
            all_of(
                pod(drop("securityContext.runAsNonRoot")),
                container(drop("securityContext.runAsNonRoot")),
            ),
        ),
        each(WORKLOADS, _in_context("runAsNonRoot", False)),
        each(WORKLOADS, _in_context("runAsUser", 0)),
    ),
    "container-seccomp": (
        each(
            WORKLOADS,
            all_of(
                pod(drop("securityContext.seccompProfile")),
                container(drop("securityContext.seccompProfile")),
            ),
        ),
        each(WORKLOADS, _in_context("seccompProfile", {"type": "Unconfined"})),
    ),
    "pod-no-host-namespaces": tuple(
        each(WORKLOADS, pod(put(key, True))) for key in ("hostNetwork", "hostPID", "hostIPC")
    ),
    "container-no-host-port": (each(WORKLOADS, container(_host_port)),),
    "pod-no-host-path": (each(WORKLOADS, pod(_host_path)),),
    "namespace-pod-security": (
        each("core/Namespace", drop("metadata.labels")),
        each("core/Namespace", put("metadata.labels", {_ENFORCE: "privileged"})),
    ),
    "pod-network-policy": (
        without(WORKLOADS, _policies_of),
        _open_but_for("Ingress"),
        _open_but_for("Egress"),
    ),
    "service-no-node-port": (
        each(SERVICE, put("spec.type", "NodePort"), lambda one, _: "spec" in one.props),
    ),
    "service-load-balancer": (each(SERVICE, put("spec.type", "LoadBalancer")),),
    "resource-namespace": (
        each((*WORKLOADS, SERVICE, CONFIG_MAP), put("metadata.namespace", "default")),
        each((*WORKLOADS, SERVICE, CONFIG_MAP), drop("metadata.namespace")),
    ),
    "container-no-secret-env": tuple(
        each(WORKLOADS, _variable(name)) for name in ("DB_PASSWORD", "API_KEY", "aws_secret")
    ),
    "container-secret-files": (
        each(WORKLOADS, container(put("envFrom", [{"secretRef": {"name": "login"}}]))),
        each(WORKLOADS, _referring("DB_PASSWORD")),
    ),
    "pod-service-account": (
        each(WORKLOADS, pod(drop("serviceAccountName"))),
        each(WORKLOADS, pod(put("serviceAccountName", "default"))),
    ),
    "pod-no-token": (
        each(
            WORKLOADS,
            pod(put("serviceAccountName", "stray"), put("automountServiceAccountToken", True)),
        ),
    ),
    "role-no-wildcards": (
        *(each(_ROLES, _granting(key)) for key in ("verbs", "resources", "apiGroups")),
        example("role-no-wildcards"),
    ),
    "binding-no-cluster-admin": (
        each(BINDINGS, put("roleRef.name", "cluster-admin")),
        example("binding-no-cluster-admin"),
    ),
}
