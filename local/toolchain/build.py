"""Build the pinned Go programs once, and find them again.

Each group of tools is a Go module of its own (`engine/`, `plane/`, …) whose `go.mod` pins the
versions
and whose `go.sum` pins the content. A built program lies in the cache under a digest of both and of
its linker flags, so a changed pin is another folder and several checkouts share one build. A tool
that is on PATH in the pinned version or a newer one is used as it is.

The cache is `$FT_CACHE`, else `$XDG_CACHE_HOME/fault-tolerance`, else `~/.cache/fault-tolerance`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from local.errors import LocalError

MODULES = Path(__file__).parent
GO_VERSION = (1, 26)
BUILD_SPACE_GIB = 20
"""Free disk that a cold build of all programs needs, as measured: their modules 6 GiB, the compile
cache 12 GiB, they themselves 2 GiB. Some of them need their share of it."""
LEAST_SPACE_GIB = 8
"""Beneath which nothing is built: one that needs Kubernetes' modules needs more than its share."""
HEARTBEAT_SECONDS = 15.0

_COMPILE_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")
"""The linker leaves out what debuggers read: not to write it saves a tenth of the compiler's time
and a fifth of its cache."""

_COMPILER_MEMORY = {"GOGC": "400", "GOMEMLIMIT": "1536MiB"}
"""The compiler collects garbage less often, which saves a fifth of its time, and as often as usual
once one of its processes holds this much."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tool:
    """One program: its module group, its package, and how to ask a copy on PATH its version."""

    name: str
    group: str
    package: str
    version: str
    ldflags: str = "-s -w"
    version_command: tuple[str, ...] = ("--version",)
    tags: str = ""
    """Build tags, separated by commas."""


def _kubernetes(name: str, *, ask: tuple[str, ...] = ("--version",)) -> Tool:
    version = "1.36.3"
    return Tool(
        name,
        "plane",
        f"k8s.io/kubernetes/cmd/{name}",
        version,
        f"-s -w -X k8s.io/component-base/version.gitVersion=v{version}",
        ask,
    )


def _containerd(*names: str) -> tuple[Tool, ...]:
    version, module = "2.4.2", "github.com/containerd/containerd/v2"
    return tuple(
        Tool(
            name,
            "containerd",
            f"{module}/cmd/{name}",
            version,
            f"-s -w -X {module}/version.Version=v{version}",
            tags="no_btrfs,no_zfs",
        )
        for name in names
    )


_OPERATOR = "github.com/prometheus-operator/prometheus-operator/cmd"


def _versioned(
    name: str,
    group: str,
    package: str,
    version: str,
    *,
    ask: tuple[str, ...] = ("--version",),
    tags: str = "",
) -> Tool:
    """A program that tells its version as Prometheus does."""
    flags = f"-s -w -X github.com/prometheus/common/version.Version={version}"
    return Tool(name, group, package, version, flags, ask, tags)


def _prometheus(*names: str) -> tuple[Tool, ...]:
    # Kubernetes is the only directory of targets that it asks: a fifth of its packages less.
    tags = "remove_all_sd,enable_kubernetes_sd"
    module = "github.com/prometheus/prometheus"
    return tuple(
        _versioned(name, "prometheus", f"{module}/cmd/{name}", "3.16.0", tags=tags)
        for name in names
    )


def _keda(name: str, command: str) -> Tool:
    module, version = "github.com/kedacore/keda/v2", "2.21.0"
    return Tool(
        name,
        "addons",
        f"{module}/cmd/{command}",
        version,
        f"-s -w -X {module}/version.Version={version}",
    )


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("etcd", "plane", "go.etcd.io/etcd/server/v3", "3.6.8"),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        Tool("kwok", "plane", "sigs.k8s.io/kwok/cmd/kwok", "0.8.0"),
        _kubernetes("kubectl", ask=("version", "--client")),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        *_containerd("containerd", "ctr", "containerd-shim-runc-v2"),
        Tool("coredns", "coredns", "fault-tolerance/toolchain/coredns", "1.14.2"),
        Tool(
            "cnpg-manager", "cnpg", "github.com/cloudnative-pg/cloudnative-pg/cmd/manager", "1.30.0"
        ),
        Tool(
            "barman-manager",
            "barman",
            "github.com/cloudnative-pg/plugin-barman-cloud/cmd/manager",
            "0.14.0",
        ),
        Tool(
            "psmdb-manager",
            "psmdb",
            "github.com/percona/percona-server-mongodb-operator/cmd/manager",
            "1.22.0",
        ),
        Tool(
            "kube-score",
            "score",
            "github.com/zegl/kube-score/cmd/kube-score",
            "1.20.0",
            "-s -w -X main.version=1.20.0",
            ("version",),
        ),
        Tool(
            "metrics-server",
            "addons",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
            "0.9.0",
            "-s -w -X k8s.io/client-go/pkg/version.gitVersion=v0.9.0",
        ),
        _versioned("prometheus-operator", "addons", f"{_OPERATOR}/operator", "0.93.0"),
        _versioned(
            "prometheus-config-reloader",
            "addons",
            f"{_OPERATOR}/prometheus-config-reloader",
            "0.93.0",
        ),
        *_prometheus("prometheus", "promtool"),
        _versioned(
            "alertmanager",
            "alertmanager",
            "github.com/prometheus/alertmanager/cmd/alertmanager",
            "0.30.0",
        ),
        _versioned(
            "kube-state-metrics",
            "statemetrics",
            "k8s.io/kube-state-metrics/v2",
            "2.18.0",
            ask=("version",),
        ),
        Tool(
            "pilot-discovery",
            "addons",
            "istio.io/istio/pilot/cmd/pilot-discovery",
            "1.31",
            "-s -w -X istio.io/istio/pkg/version.buildVersion=1.31-dev",
            ("version",),
        ),
        _keda("keda", "operator"),
        _keda("keda-adapter", "adapter"),
        _keda("keda-admission-webhooks", "webhooks"),
        Tool(
            "redis_exporter",
            "exporter",
            "github.com/oliver006/redis_exporter",
            "1.74.0",
            "-s -w -X main.BuildVersion=v1.74.0",
        ),
        Tool(
            "pulumi",
            "engine",
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            "3.250.0",
            "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v3.250.0",
            ("version",),
        ),
    )
}

USED_DEFINITIONS: dict[str, tuple[str, ...]] = {
    "github.com/cert-manager/cert-manager": ("deploy/crds/cert-manager.io_certificates.yaml",),
    "github.com/cloudnative-pg/cloudnative-pg": ("config/crd/bases/*.yaml",),
    "github.com/cloudnative-pg/plugin-barman-cloud": ("config/crd/bases/*.yaml",),
    "github.com/kubernetes-csi/external-snapshotter/client/v8": ("config/crd/snapshot.*.yaml",),
    "github.com/percona/percona-server-mongodb-operator": ("config/crd/bases/*.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/*_podmonitors.yaml",
        "example/prometheus-operator-crd/*_servicemonitors.yaml",
        "example/prometheus-operator-crd/*_prometheusrules.yaml",
    ),
}
"""Custom resource definitions of what the components declare, by the module that ships them."""

OTHER_DEFINITIONS: dict[str, tuple[str, ...]] = {
    "github.com/kedacore/keda/v2": ("config/crd/bases/*.yaml",),
    "github.com/open-feature/open-feature-operator": ("config/crd/bases/*.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/*.yaml",
    ),
    "github.com/vmware-tanzu/velero": ("config/crd/v*/bases/*.yaml",),
    "istio.io/api": ("kubernetes/customresourcedefinitions.gen.yaml",),
}
"""Definitions that nothing declares yet; they double the API server's memory (docs/decisions)."""

OPERATOR_MANIFESTS: dict[str, tuple[str, str]] = {
    "cnpg-manager": (
        "github.com/cloudnative-pg/cloudnative-pg",
        "releases/cnpg-{version}.yaml",
    ),
    "barman-manager": ("github.com/cloudnative-pg/plugin-barman-cloud", "manifest.yaml"),
    "psmdb-manager": (
        "github.com/percona/percona-server-mongodb-operator",
        "deploy/cw-bundle.yaml",
    ),
}
"""How the operators' releases install them: module and file, by the operator's program."""

STAGES: dict[str, tuple[str, ...]] = {
    "sigs.k8s.io/kwok": tuple(
        f"kustomize/stage/{stage}/*.yaml"
        for stage in ("node/fast", "node/heartbeat-with-lease", "pod/fast")
    )
}
"""How simulated nodes and Pods behave."""


def cache_folder() -> Path:
    """The folder that keeps what was built, shared by every checkout of this user."""
    own = os.environ.get("FT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(own) if own else Path(base) / "fault-tolerance"


def ensure(names: Sequence[str], say: Say) -> dict[str, Path]:
    """Return where each named tool is, building what is neither on PATH nor in the cache.

    An interrupted build goes on where it stopped: every finished tool stays, and the compiler's
    own cache keeps the rest. Two runs at once are safe: the second waits for the first.

    Raises:
        LocalError: without Go, without disk space, or when a build fails (with the log's end).
    """
    found = {name: path for name in names if (path := find(TOOLS[name])) is not None}
    wanted = [TOOLS[name] for name in names if name not in found]
    if wanted:
        _require_go(wanted)
        _require_space(cache_folder(), len(wanted))
        say(
            f"building {len(wanted)} programs from source, once: "
            f"{', '.join(tool.name for tool in wanted)} (5 to 10 minutes on two cores)"
        )
    for number, tool in enumerate(wanted, start=1):
        found[tool.name] = _build(tool, f"{number} of {len(wanted)}", say)
    return found


def missing(names: Sequence[str]) -> list[Tool]:
    """The named tools that are neither on PATH nor in the cache."""
    return [TOOLS[name] for name in names if find(TOOLS[name]) is None]


def fetch(names: Sequence[str], say: Say) -> None:
    """Fetch the modules that missing tools are built from, ahead of their builds.

    Only a head start: what cannot be fetched is left to the build, which says why.
    """
    if _has_go():
        for group, tools in groupby(missing(names), key=lambda tool: tool.group):
            _fetch(group, list(tools), say)


def find(tool: Tool) -> Path | None:
    """A usable copy of a tool: the one built before, else one on PATH that is new enough."""
    built = _built_path(tool)
    if built.exists():
        return built
    on_path = shutil.which(tool.name)
    if on_path and _version_of(on_path, tool) >= _numbers(tool.version):
        return Path(on_path)
    return None


def definition_files(say: Say, *, every: bool) -> list[Path]:
    """The custom resource definitions of what is used, or of every operator of the design."""
    used = _module_files(USED_DEFINITIONS, say)
    return sorted({*used, *_module_files(OTHER_DEFINITIONS, say)}) if every else used


def operator_manifest(tool: str, say: Say) -> Path:
    """The manifest with which an operator's own release installs it.

    Args:
        tool: the operator's program, one of `OPERATOR_MANIFESTS`.
        say: told when the module has to be fetched.

    Raises:
        LocalError: if the module carries no manifest of the program's version.
    """
    module, file = OPERATOR_MANIFESTS[tool]
    name = file.format(version=TOOLS[tool].version)
    found = _module_files({module: (name,)}, say)
    if not found:
        raise LocalError(
            f"{module} has no {name}: pin one version of it in the go.mod of both "
            f"{TOOLS[tool].group}/ and crds/"
        )
    return found[0]


def stage_files(say: Say) -> list[Path]:
    """The simulated nodes' rules of behaviour, which their own module ships."""
    return [path for path in _module_files(STAGES, say) if path.name != "kustomization.yaml"]


def _module_files(patterns: dict[str, tuple[str, ...]], say: Say) -> list[Path]:
    folder = MODULES / "crds"
    pinned = dict(re.findall(r"^\t(\S+) (v\S+)$", (folder / "go.mod").read_text(), re.MULTILINE))
    target = cache_folder() / f"modules-{_digest(folder)}"
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        for module in patterns:
            if not (target / module).exists():
                _copy_module(folder, f"{module}@{pinned[module]}", target / module, say)
    return sorted(
        path
        for module, globs in patterns.items()
        for pattern in globs
        for path in (target / module).glob(pattern)
    )


def _copy_module(folder: Path, module: str, target: Path, say: Say) -> None:
    _require_go([])
    say(f"fetching the definitions of {module}")
    fetched = _go(["mod", "download", "-json", module], folder)
    if fetched.returncode != 0:
        raise LocalError(f"could not fetch the module {module}:\n{_end(fetched.stdout)}")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    source = Path(json.loads(fetched.stdout)["Dir"])
    partial.parent.mkdir(parents=True, exist_ok=True)
    for path in source.rglob("*.yaml"):
        copy = partial / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    partial.rename(target)


def _build(tool: Tool, position: str, say: Say) -> Path:
    target = _built_path(tool)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.with_suffix(".lock"), tool, say):
        if target.exists():
            return target
        partial = target.with_suffix(".partial")
        flags = [*_COMPILE_FLAGS, f"-tags={tool.tags}", f"-ldflags={tool.ldflags}"]
        command = ["build", *flags, "-o", str(partial), tool.package]
        start = time.monotonic()
        log = target.with_suffix(".log")

        def beat() -> None:
            say(f"building {tool.name} ({position}), {_since(start)}")

        with log.open("wb") as output:
            code = _run_go(command, MODULES / tool.group, output, beat)
        if code != 0:
            raise LocalError(f"could not build {tool.name}:\n{_end(log.read_text())}")
        partial.rename(target)
        say(f"built {tool.name} ({position}) in {_since(start)}")
    return target


def _fetch(group: str, tools: Sequence[Tool], say: Say) -> None:
    packages = [tool.package for tool in tools]
    with tempfile.TemporaryFile() as output:
        _run_go(
            ["list", "-deps", f"-tags={tools[0].tags}", *packages],
            MODULES / group,
            output,
            lambda: say(f"fetching the modules of {', '.join(tool.name for tool in tools)}"),
        )


def _run_go(command: list[str], folder: Path, output: IO[bytes], beat: Callable[[], None]) -> int:
    """Run go to its end, with a sign of life now and then; return its exit code."""
    child = subprocess.Popen(
        ["go", *command],
        cwd=folder,
        env=_go_environment(),
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        while True:
            beat()
            try:
                return child.wait(HEARTBEAT_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _lock(path: Path, tool: Tool, say: Say) -> FileLock:
    """A lock on one tool's build, already taken; says so while another run holds it."""
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=HEARTBEAT_SECONDS)
        except Timeout:
            say(f"waiting for another run that builds {tool.name}")
        else:
            return lock


def _built_path(tool: Tool) -> Path:
    digest = _digest(MODULES / tool.group, tool.ldflags, *filter(None, [tool.tags]))
    return cache_folder() / f"{tool.group}-{digest}" / tool.name


def _digest(folder: Path, *more: str) -> str:
    content = hashlib.sha256()
    for path in (folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*.go"))):
        content.update(path.read_bytes())
    content.update("\0".join(more).encode())
    return content.hexdigest()[:12]


def _require_go(missing: Sequence[Tool]) -> None:
    version = _numbers(_go(["version"], MODULES).stdout.split(" linux")[0]) if _has_go() else (0,)
    if version[:2] >= GO_VERSION:
        return
    names = ", ".join(tool.name for tool in missing) or "the operators' definitions"
    raise LocalError(
        f"Go {GO_VERSION[0]}.{GO_VERSION[1]} or newer is needed once, to build {names}: install it "
        "(the system's package, or the Go project's own) and run this again. Without it, "
        "`pulumi up` onto a cluster of your own works (README, “A cluster of your own”)."
    )


def _has_go() -> bool:
    return shutil.which("go") is not None


def _require_space(folder: Path, programs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = max(LEAST_SPACE_GIB, math.ceil(BUILD_SPACE_GIB * programs / len(TOOLS)))
    free = shutil.disk_usage(folder).free / 2**30
    if free < needed:
        raise LocalError(
            f"building needs {needed} GiB of disk, but {folder} has {free:.1f} GiB free: "
            "make room, or set FT_CACHE to a folder on a larger disk"
        )


def _version_of(program: str, tool: Tool) -> tuple[int, ...]:
    asked = subprocess.run(
        [program, *tool.version_command], capture_output=True, text=True, check=False, timeout=30
    )
    return _numbers(asked.stdout)


def _numbers(text: str) -> tuple[int, ...]:
    """The first version number in a text; (0,) when there is none."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)


def _go(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env=_go_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _go_environment() -> dict[str, str]:
    return {**_COMPILER_MEMORY, **os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}


def _since(start: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _end(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
