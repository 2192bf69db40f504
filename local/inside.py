"""Ways into a running world: psql, redis-cli, logs and shells, each one command.

They need containers, so they work with real nodes alone.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

from components import parts
from local import inventory
from local.api import Api
from local.errors import LocalError
from local.nodes import real
from local.toolchain import build
from local.world import SIMULATED, World
from stacks.settings import Settings
from stacks.systems import DataSystem

LOG_LINES = 100

_AS_SERVER = 'REDISCLI_AUTH=$(cat "$REDIS_SECRETS/password") exec redis-cli "$@"'


def psql(target: World, wanted: Settings, command: str | None) -> int:
    """Open psql on the primary, or run one statement there."""
    _require_containers(target)
    namespace = parts.namespace(wanted.prefix, parts.DATA)
    with target.cluster.api() as api:
        path = f"/apis/postgresql.cnpg.io/v1/namespaces/{namespace}/clusters/{DataSystem.POSTGRES}"
        primary = api.get(path).get("status", {}).get("currentPrimary")
    if not primary:
        raise LocalError("PostgreSQL has no primary yet: `make status` shows what runs")
    statement = ["-c", command] if command else []
    return _exec(target, namespace, primary, "postgres", ["psql", "app", *statement])


def redis_cli(target: World, wanted: Settings, command: str | None) -> int:
    """Open redis-cli on the master that the Sentinels name, or run one command there."""
    words = _words(command or "")
    _require_containers(target)
    namespace = parts.namespace(wanted.prefix, parts.DATA)
    sentinel = f"{DataSystem.REDIS}-sentinel-0"
    ask = ["-p", "26379", "sentinel", "get-master-addr-by-name", str(DataSystem.REDIS)]
    asked = subprocess.run(
        _kubectl(target, namespace, "exec", sentinel, "-c", "redis", "--", *_as_server(ask)),
        capture_output=True,
        text=True,
        check=False,
    )
    address = asked.stdout.split("\n", 1)[0].strip()
    with target.cluster.api() as api:  # each server has a Service of its own, named as its Pod
        master = inventory.service_at(api, namespace, address)
    if asked.returncode != 0 or not master:
        raise LocalError(f"the Sentinels name no master: {asked.stderr.strip() or asked.stdout}")
    return _exec(target, namespace, master, "redis", _as_server(words))


def _words(command: str) -> list[str]:
    """The words of a command for Redis; quotes keep one together, as in redis-cli itself.

    Raises:
        LocalError: if a quote does not end.
    """
    try:
        return shlex.split(command)
    except ValueError as problem:
        raise LocalError(
            f"C is {command!r}, in which something does not end: {problem}; it should be a command "
            "such as 'set key \"two words\"'"
        ) from None


def logs(target: World, service: str) -> int:
    """Show the last lines of every Pod of a service or data system; 1 if some cannot be had."""
    codes = []
    for pod in _pods(target, service):
        metadata = pod["metadata"]
        shown = subprocess.run(
            _kubectl(
                target,
                metadata["namespace"],
                *("logs", metadata["name"], "--all-containers", "--prefix"),
                f"--tail={LOG_LINES}",
            ),
            check=False,
        )
        codes.append(shown.returncode)
    return 1 if any(codes) else 0


def shell(target: World, service: str | None, node: str | None) -> int:
    """Open a shell: in a Pod of a service, on a node, or here with kubectl at hand."""
    _require_running(target)
    if service:
        metadata = _pods(target, service)[0]["metadata"]
        return _exec(target, metadata["namespace"], metadata["name"], None, ["sh"])
    if node:
        _require_containers(target)
        own = {member.name: member for member in real.members(target.cluster.folder)}
        if node not in own:
            raise LocalError(f"no node {node}: there are {', '.join(own)}")
        return subprocess.run(own[node].command(["sh", "-i"]), check=False).returncode
    tools = build.ensure(["kubectl"], print)["kubectl"].parent
    environment = {
        **os.environ,
        "KUBECONFIG": str(target.cluster.kubeconfig),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    own_shell = os.environ.get("SHELL", "/bin/sh")
    return subprocess.run([own_shell], env=environment, check=False).returncode


def _pods(target: World, service: str) -> list[dict[str, Any]]:
    _require_containers(target)
    with target.cluster.api() as api:
        found = _labelled(api, parts.NAME_LABEL, service) or _labelled(
            api, "cnpg.io/cluster", service
        )
        names = {
            pod["metadata"]["labels"].get(parts.NAME_LABEL) for pod in api.items("/api/v1/pods")
        }
    if not found:
        known = ", ".join(sorted(name for name in names if name))
        raise LocalError(f"nothing named {service} runs: there are {known or 'no Pods'}")
    return found


def _labelled(api: Api, label: str, value: str) -> list[dict[str, Any]]:
    return api.items(f"/api/v1/pods?labelSelector={label}={value}")


def _exec(
    target: World, namespace: str, pod: str, container: str | None, command: Sequence[str]
) -> int:
    _require_containers(target)
    flags = ["-it"] if os.isatty(0) else ["-i"]
    chosen = ["-c", container] if container else []
    line = _kubectl(target, namespace, "exec", *flags, pod, *chosen, "--", *command)
    return subprocess.run(line, check=False).returncode


def _as_server(words: Sequence[str]) -> list[str]:
    """A redis-cli that logs in with the servers' own password, which never leaves the Pod."""
    return ["sh", "-c", _AS_SERVER, "redis-cli", *words]


def _kubectl(target: World, namespace: str, *arguments: str) -> list[str]:
    kubectl = build.ensure(["kubectl"], print)["kubectl"]
    config = f"--kubeconfig={target.cluster.kubeconfig}"
    return [str(kubectl), config, f"--namespace={namespace}", *arguments]


def _require_containers(target: World) -> None:
    _require_running(target)
    if target.kind == SIMULATED:
        raise LocalError(
            f"the nodes of stack {target.stack} are simulated, so no container runs to look into"
        )


def _require_running(target: World) -> None:
    if target.kind is None or not any(target.cluster.running().values()):
        raise LocalError(f"stack {target.stack} does not run: `make up STACK={target.stack}`")
