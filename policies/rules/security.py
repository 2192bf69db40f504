"""What a Pod may do, and who may reach it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from policies.model import (
    Opaque,
    Resource,
    at,
    is_true,
    listing,
    mapping,
    mappings,
    number,
    numbered,
    text,
    texts,
)
from policies.rule import Finding, Level, Option, Options, Scope, Severity, rule
from policies.world import BINDINGS, NETWORK_POLICY, SERVICE, WORKLOADS, Container, Workload, World

_STANDARDS = "https://kubernetes.io/docs/concepts/security/pod-security-standards/"
_CONTEXT = "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/"
_ACCOUNTS = "https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/"
_RBAC = "https://kubernetes.io/docs/concepts/security/rbac-good-practices/"
_SERVICE_TYPES = (
    "https://kubernetes.io/docs/concepts/services-networking/service/"
    "#publishing-services-service-types"
)
_ROLES = ("rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/ClusterRole")


def _web_pod(fragment: str) -> str:
    return (
        f"{{kind: Deployment, metadata: {{name: web}}, spec: {{template: {{spec: {fragment}}}}}}}"
    )


def _web_context(fragment: str) -> str:
    return _web_pod(f"{{containers: [{{name: web, securityContext: {fragment}}}]}}")


# What a container may do ------------------------------------------------------------------------


@rule(
    "container-not-privileged",
    Severity.CRITICAL,
    kinds=WORKLOADS,
    why="A privileged container is root on its node, and so on every Pod there.",
    source=_STANDARDS,
    remedy="Remove securityContext.privileged.",
    passing=_web_context("{privileged: false}"),
    failing=_web_context("{privileged: true}"),
)
def container_not_privileged(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse privileged containers."""
    for container in world.workload(resource).all_containers:
        if is_true(container.spec, "securityContext", "privileged"):
            yield _set(container, "privileged", "true", "false")


@rule(
    "container-no-privilege-escalation",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="A process that may gain more privileges than its parent widens every hole.",
    source=_STANDARDS,
    remedy="Set securityContext.allowPrivilegeEscalation to false.",
    passing=_web_context("{allowPrivilegeEscalation: false}"),
    failing=_web_context("{allowPrivilegeEscalation: null}"),
)
def container_no_privilege_escalation(
    resource: Resource, world: World, _: Options
) -> Iterator[Finding]:
    """Require that escalation is off; by default it is on."""
    for container in _on_linux(world.workload(resource)):
        allowed = at(container.spec, "securityContext", "allowPrivilegeEscalation")
        if allowed is not False:
            found = "true" if allowed else "not set (true)"
            yield _set(container, "allowPrivilegeEscalation", found, "false")


@rule(
    "container-capabilities",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="The default capabilities let a process forge packets and bypass file permissions.",
    source=_STANDARDS,
    remedy="Drop ALL capabilities; add back at most NET_BIND_SERVICE.",
    passing=_web_context("{capabilities: {drop: [ALL]}}"),
    failing=_web_context("{capabilities: {drop: []}}"),
)
def container_capabilities(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require that all capabilities are dropped."""
    for container in _on_linux(world.workload(resource)):
        held = mapping(container.spec, "securityContext", "capabilities")
        if "ALL" not in texts(held, "drop"):
            yield _set(container, "capabilities.drop", "without ALL", "[ALL]")
        added = [each for each in texts(held, "add") if each != "NET_BIND_SERVICE"]
        if added:
            yield _set(container, "capabilities.add", ", ".join(added), "[]")


@rule(
    "container-read-only-root",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    why="With a read-only root, an intruder cannot leave programs behind, and no log fills the "
    "node's disk.",
    source=_CONTEXT,
    remedy="Set securityContext.readOnlyRootFilesystem to true; mount an emptyDir to write to.",
    passing=_web_context("{readOnlyRootFilesystem: true}"),
    failing=_web_context("{readOnlyRootFilesystem: false}"),
)
def container_read_only_root(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a read-only root."""
    for container in _on_linux(world.workload(resource)):
        if not is_true(container.spec, "securityContext", "readOnlyRootFilesystem"):
            yield _set(container, "readOnlyRootFilesystem", "not true", "true")


@rule(
    "container-non-root",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="Root in a container is root on the node as soon as anything else goes wrong.",
    source=_STANDARDS,
    remedy="Set runAsNonRoot to true, and runAsUser to another user than 0.",
    passing=_web_pod("{securityContext: {runAsNonRoot: true}}"),
    failing=_web_context("{runAsNonRoot: false}"),
)
def container_non_root(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require that a container cannot run as root; its own context wins over the Pod's."""
    workload = world.workload(resource)
    for container in workload.all_containers:
        if _effective(workload, container, "runAsNonRoot") is not True:
            yield _set(container, "runAsNonRoot", "not true", "true")
        elif number(_effective(workload, container, "runAsUser")) == 0:
            yield _set(container, "runAsUser", "0 (root)", "65532")


@rule(
    "container-seccomp",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    why="Without a seccomp profile, a process may make every system call, old and faulty ones too.",
    source=_STANDARDS,
    remedy="Set seccompProfile.type to RuntimeDefault.",
    passing=_web_pod("{securityContext: {seccompProfile: {type: RuntimeDefault}}}"),
    failing=_web_pod("{securityContext: {seccompProfile: null}}"),
)
def container_seccomp(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require a profile."""
    workload = world.workload(resource)
    for container in _on_linux(workload):
        profile = text(_effective(workload, container, "seccompProfile"), "type")
        if profile not in {"RuntimeDefault", "Localhost"}:
            yield _set(container, "seccompProfile.type", profile or "not set", "RuntimeDefault")


def _on_linux(workload: Workload) -> list[Container]:
    """Its containers; none on Windows, where the API server refuses what is asked of them."""
    return [] if text(workload.pod, "os", "name") == "windows" else workload.all_containers


def _effective(workload: Workload, container: Container, key: str) -> object:
    own = at(container.spec, "securityContext", key)
    return at(workload.pod, "securityContext", key) if own is None else own


def _set(container: Container, key: str, found: str, wanted: str) -> Finding:
    where = f"{container.path}.securityContext.{key}"
    return Finding(where, found, f"Set {where} to {wanted}.")


@rule(
    "pod-no-host-namespaces",
    Severity.CRITICAL,
    kinds=WORKLOADS,
    why="In the host's namespaces a Pod sees all traffic and all processes of its node.",
    source=_STANDARDS,
    remedy="Remove hostNetwork, hostPID and hostIPC.",
    passing=_web_pod("{hostNetwork: false}"),
    failing=_web_pod("{hostNetwork: true}"),
)
def pod_no_host_namespaces(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse the host's namespaces."""
    workload = world.workload(resource)
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if is_true(workload.pod, key):
            where = workload.path(key)
            yield Finding(where, "true", f"Remove {where}.")


@rule(
    "container-no-host-port",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="A port of the host keeps a second Pod off the node, and passes by every Service.",
    source=_STANDARDS,
    remedy="Remove hostPort; reach the Pods through a Service.",
    passing=_web_pod("{containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}"),
    failing=_web_pod("{containers: [{name: web, ports: [{name: http, hostPort: 8080}]}]}"),
)
def container_no_host_port(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse ports of the host."""
    for container in world.workload(resource).all_containers:
        for index, port in numbered(container.spec, "ports"):
            if taken := number(port, "hostPort"):
                where = f"{container.path}.ports[{text(port, 'name') or index}].hostPort"
                yield Finding(where, f"{taken:g}", f"Remove {where}.")


@rule(
    "pod-no-host-path",
    Severity.CRITICAL,
    kinds=WORKLOADS,
    why="A hostPath ties the Pod to one node, whose files it can read and change.",
    source=_STANDARDS,
    remedy="Use an emptyDir, a ConfigMap or a PersistentVolumeClaim.",
    passing=_web_pod("{volumes: [{name: tmp, emptyDir: {}}]}"),
    failing=_web_pod("{volumes: [{name: tmp, emptyDir: null, hostPath: {path: /tmp}}]}"),
)
def pod_no_host_path(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse volumes of the host."""
    workload = world.workload(resource)
    for volume in mappings(workload.pod, "volumes"):
        if mapping(volume, "hostPath"):
            where = workload.path(f"volumes[{text(volume, 'name')}].hostPath")
            yield Finding(
                where,
                text(volume, "hostPath", "path"),
                f"Replace {where} by an emptyDir, or by a PersistentVolumeClaim if it must last.",
            )


@rule(
    "namespace-pod-security",
    Severity.HIGH,
    kinds=("core/Namespace",),
    why="Only the label makes the API server hold every Pod of the namespace to the standard.",
    source="https://kubernetes.io/docs/concepts/security/pod-security-admission/",
    remedy="Label the namespace pod-security.kubernetes.io/enforce: restricted.",
    options={
        "standards": Option(
            ["restricted"],
            {"type": "array", "items": {"type": "string", "enum": ["restricted", "baseline"]}},
            "Pod security standards that are strict enough.",
        ),
    },
    passing="""
        kind: Namespace
        metadata: {name: games, labels: {pod-security.kubernetes.io/enforce: restricted}}
    """,
    failing="""
        kind: Namespace
        metadata: {name: games, labels: {pod-security.kubernetes.io/enforce: privileged}}
    """,
)
def namespace_pod_security(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Require the label."""
    label = "pod-security.kubernetes.io/enforce"
    standard = text(resource.labels, label)
    if standard not in options["standards"]:
        yield Finding(
            f"metadata.labels[{label}]",
            standard or "not set",
            f"Set metadata.labels[{label}] to {' or '.join(options['standards'])}.",
        )


# Who may reach it -------------------------------------------------------------------------------


@rule(
    "pod-network-policy",
    Severity.HIGH,
    kinds=WORKLOADS,
    scope=Scope.STACK,
    why="A Pod that no NetworkPolicy selects may be reached by, and may reach, everything; one "
    "that is selected for one direction only is still open in the other.",
    source="https://kubernetes.io/docs/concepts/services-networking/network-policies/"
    "#the-two-sorts-of-pod-isolation",
    remedy="Let NetworkPolicies with policyTypes Ingress and Egress select the Pods and name their "
    "peers.",
    passing="{kind: NetworkPolicy, metadata: {name: web}}",
    failing="{kind: NetworkPolicy, metadata: {name: web}, spec: {policyTypes: [Ingress]}}",
)
def pod_network_policy(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find workloads without a policy, or with none for one of the directions."""
    policies = world.selecting(NETWORK_POLICY, world.workload(resource))
    held = {direction for each in policies for direction in _directions(each)}
    missing = [direction for direction in ("Ingress", "Egress") if direction not in held]
    if missing:
        directions = " and ".join(missing)
        yield Finding(
            "NetworkPolicy",
            f"none in namespace {resource.namespace} selects its Pods for {directions}",
            f"Add a NetworkPolicy to namespace {resource.namespace} whose spec.podSelector "
            f"matches the Pods' labels and whose spec.policyTypes has {directions}.",
        )


def _directions(policy: Resource) -> list[str]:
    """What a policy isolates; where it does not say so, Egress only if it has rules for that."""
    spec = mapping(policy.props, "spec")
    rules = ["Ingress", "Egress"] if listing(spec, "egress") else ["Ingress"]
    return texts(spec, "policyTypes") or rules


@rule(
    "service-no-node-port",
    Severity.MEDIUM,
    kinds=(SERVICE,),
    why="A node port opens the Service on every node, past gateway and NetworkPolicies of others.",
    source=_SERVICE_TYPES,
    remedy="Use type ClusterIP behind the gateway.",
    passing="{kind: Service, metadata: {name: web}, spec: {type: ClusterIP}}",
    failing="{kind: Service, metadata: {name: web}, spec: {type: NodePort}}",
)
def service_no_node_port(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse node ports."""
    if text(resource.props, "spec", "type") == "NodePort":
        yield Finding("spec.type", "NodePort", "Set spec.type to ClusterIP.")


@rule(
    "service-load-balancer",
    Severity.MEDIUM,
    kinds=(SERVICE,),
    why="A load balancer that nobody planned is a door to the internet, and costs money.",
    source=_SERVICE_TYPES,
    remedy="Use type ClusterIP behind the gateway, or list the Service's name as planned. That one "
    "opens a port of every node too: allocateLoadBalancerNodePorts: false closes it, where the "
    "load balancer reaches Pods by address.",
    options={
        "planned": Option(
            [],
            {"type": "array", "items": {"type": "string"}},
            "Names of the Services that may have a load balancer.",
        ),
    },
    passing="{kind: Service, metadata: {name: web}, spec: {type: ClusterIP}}",
    failing="{kind: Service, metadata: {name: web}, spec: {type: LoadBalancer}}",
)
def service_load_balancer(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Refuse load balancers that are not planned."""
    if text(resource.props, "spec", "type") != "LoadBalancer":
        return
    if resource.object_name not in options["planned"]:
        yield Finding(
            "spec.type",
            "LoadBalancer",
            "Set spec.type to ClusterIP, or add the name to the option `planned` of "
            "service-load-balancer in the levels file; "
            "spec.allocateLoadBalancerNodePorts: false then closes the ports of the nodes.",
        )


@rule(
    "resource-namespace",
    Severity.MEDIUM,
    kinds=(*WORKLOADS, SERVICE, "core/ConfigMap", "core/Secret", "core/PersistentVolumeClaim"),
    why="In the default namespace all share one quota, one set of policies and one fate.",
    source="https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/",
    remedy="Set metadata.namespace.",
    passing="{kind: ConfigMap, metadata: {name: redis, namespace: games}}",
    failing="{kind: ConfigMap, metadata: {name: stray, namespace: default}}",
)
def resource_namespace(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Refuse the default namespace."""
    if resource.namespace == "default":
        yield Finding(
            "metadata.namespace", "default", "Set metadata.namespace to one of the platform's."
        )


# Secrets and identities -------------------------------------------------------------------------

_SENSITIVE = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)$"
    r"|^(PGPASSWORD|MYSQL_PWD|REDISCLI_AUTH)$",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"/\S*|yes|no|true|false|on|off", re.IGNORECASE)
"""The path of a file that holds the secret, or a switch such as ALLOW_EMPTY_PASSWORD."""


@rule(
    "container-no-secret-env",
    Severity.HIGH,
    kinds=WORKLOADS,
    why="A secret written into a Pod's spec can be read by everyone who may list Pods.",
    source="https://kubernetes.io/docs/concepts/configuration/secret/",
    remedy="Put the value into a Secret and mount it as a file.",
    passing=_web_pod("{containers: [{name: web, env: [{name: LOG_LEVEL, value: info}]}]}"),
    failing=_web_pod("{containers: [{name: web, env: [{name: DB_PASSWORD, value: hunter2}]}]}"),
)
def container_no_secret_env(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find values that are secret, or are named as such. The value itself is never shown."""
    for container in world.workload(resource).all_containers:
        for variable in mappings(container.spec, "env"):
            name, value = text(variable, "name"), variable.get("value")
            hidden = isinstance(value, Opaque) and value.is_secret
            given = isinstance(value, Opaque) or bool(value and not _HARMLESS.fullmatch(str(value)))
            if hidden or (given and _SENSITIVE.search(name)):
                where = f"{container.path}.env[{name}]"
                yield Finding(
                    f"{where}.value",
                    "a secret in clear",
                    "Put it into a Secret, and mount that as a file.",
                )


@rule(
    "container-secret-files",
    Severity.LOW,
    kinds=WORKLOADS,
    level=Level.ADVISORY,
    why="A variable is handed on to every child process and printed by many a crash report; and a "
    "password that was changed does not reach it before a restart.",
    source="https://kubernetes.io/docs/concepts/configuration/secret/",
    remedy="Mount the Secret as files.",
    passing=_web_pod("{volumes: [{name: login, secret: {secretName: login}}]}"),
    failing=_web_pod("{containers: [{name: web, envFrom: [{secretRef: {name: login}}]}]}"),
)
def container_secret_files(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find variables that are filled from a Secret."""
    for container in world.workload(resource).all_containers:
        for index, variable in numbered(container.spec, "env"):
            if source := mapping(variable, "valueFrom", "secretKeyRef"):
                where = f"env[{text(variable, 'name') or index}].valueFrom.secretKeyRef"
                yield _from_secret(container, where, source)
        for index, each in numbered(container.spec, "envFrom"):
            if source := mapping(each, "secretRef"):
                yield _from_secret(container, f"envFrom[{index}].secretRef", source)


def _from_secret(container: Container, where: str, source: Mapping[str, object]) -> Finding:
    name = text(source, "name")
    return Finding(
        f"{container.path}.{where}",
        f"Secret {name}",
        f"Mount Secret {name} as a volume, and let the program read its files.",
    )


@rule(
    "pod-service-account",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    why="The default account is shared: what one workload is granted, all get.",
    source=_ACCOUNTS,
    remedy="Give the workload a ServiceAccount of its own.",
    passing=_web_pod("{serviceAccountName: web}"),
    failing=_web_pod("{serviceAccountName: default}"),
)
def pod_service_account(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Refuse the default account."""
    workload = world.workload(resource)
    account = text(workload.pod, "serviceAccountName")
    if account in {"", "default"}:
        where = workload.path("serviceAccountName")
        yield Finding(
            where,
            account or "not set (default)",
            f"Declare a ServiceAccount for this workload and name it in {where}.",
        )


@rule(
    "pod-no-token",
    Severity.MEDIUM,
    kinds=WORKLOADS,
    scope=Scope.STACK,
    why="A mounted token that no role is bound to serves only an intruder.",
    source=_ACCOUNTS,
    remedy="Set automountServiceAccountToken to false, or bind a role to the account.",
    passing=_web_pod("{automountServiceAccountToken: false}"),
    failing=_web_pod("{automountServiceAccountToken: true}"),
)
def pod_no_token(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Find tokens that are mounted though the account may do nothing."""
    workload = world.workload(resource)
    account = text(workload.pod, "serviceAccountName") or "default"
    mounted = at(workload.pod, "automountServiceAccountToken")
    if mounted is None:
        declared = world.named("core/ServiceAccount", resource.namespace, account)
        mounted = at(declared.props, "automountServiceAccountToken") if declared else None
    if mounted is not False and (resource.namespace, account) not in world.granted_accounts:
        where = workload.path("automountServiceAccountToken")
        found = "true" if mounted else "not set (true)"
        yield Finding(
            where,
            f"{found}, but no role is bound to ServiceAccount {account}",
            f"Set {where} to false.",
        )


@rule(
    "role-no-wildcards",
    Severity.HIGH,
    kinds=_ROLES,
    why="A wildcard grants what does not exist yet: each new kind of resource is included.",
    source=_RBAC,
    remedy="List the verbs, resources and API groups that are needed.",
    passing="{kind: Role, metadata: {name: api}}",
    failing="""
        kind: Role
        metadata: {name: api}
        rules: [{apiGroups: [""], resources: [pods], verbs: ["*"]}]
    """,
)
def role_no_wildcards(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find wildcards."""
    for index, each in enumerate(mappings(resource.props, "rules")):
        for key in ("verbs", "resources", "apiGroups", "nonResourceURLs"):
            if "*" in texts(each, key):
                where = f"rules[{index}].{key}"
                yield Finding(where, "*", f"List in {where} what is needed, one by one.")


@rule(
    "binding-no-cluster-admin",
    Severity.CRITICAL,
    kinds=BINDINGS,
    why="Who holds cluster-admin can delete everything, backups' credentials included.",
    source=_RBAC,
    remedy="Bind a role with only the verbs and resources that are needed.",
    passing="{kind: RoleBinding, metadata: {name: api}}",
    failing="""
        kind: RoleBinding
        metadata: {name: api}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
    """,
)
def binding_no_cluster_admin(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find bindings to cluster-admin."""
    if text(resource.props, "roleRef", "name") == "cluster-admin":
        yield Finding(
            "roleRef.name", "cluster-admin", "Bind a role that grants only what is needed."
        )
