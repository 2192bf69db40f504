"""The toolchain: found where it is, built where it is not, explained where it cannot be."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from local.errors import LocalError
from local.toolchain import build
from local.toolchain.build import TOOLS, Tool

pytestmark = pytest.mark.unit

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own on a large disk, and nothing on PATH but what a test puts there."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2**40))
    monkeypatch.setenv("FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    return tmp_path / "path"


def put_on_path(folder: Path, name: str, output: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    return program


def test_a_new_enough_tool_on_path_is_used(empty_cache: Path) -> None:
    program = put_on_path(empty_cache, "pulumi", "v3.250.0")
    assert build.find(TOOLS["pulumi"]) == program


def test_an_older_tool_on_path_is_not_used(empty_cache: Path) -> None:
    put_on_path(empty_cache, "kubectl", "Client Version: v1.32.4")
    assert build.find(TOOLS["kubectl"]) is None


def test_a_tool_on_path_that_says_no_version_is_not_used(empty_cache: Path) -> None:
    put_on_path(empty_cache, "etcd", "hello")
    assert build.find(TOOLS["etcd"]) is None


def test_a_tool_built_before_is_found() -> None:
    built = build._built_path(TOOLS["kwok"])
    built.parent.mkdir(parents=True)
    built.touch()
    assert build.find(TOOLS["kwok"]) == built


def test_other_linker_flags_are_another_build() -> None:
    tool = TOOLS["kwok"]
    other = Tool(tool.name, tool.group, tool.package, tool.version, ldflags="-s")
    assert build._built_path(tool) != build._built_path(other)


def test_without_go_one_sentence_says_what_to_install_and_what_works_without() -> None:
    with pytest.raises(LocalError, match="Go 1.26 or newer is needed") as error:
        build.ensure(["etcd"], lambda _: None)
    assert "`pulumi up` onto a cluster of your own works" in str(error.value)


def test_an_old_go_is_refused_like_none(empty_cache: Path) -> None:
    put_on_path(empty_cache, "go", "go version go1.21.3 linux/amd64")
    with pytest.raises(LocalError, match="Go 1.26 or newer is needed"):
        build.ensure(["etcd"], lambda _: None)


@pytest.mark.parametrize(("programs", "needed"), [(["etcd"], 8), (list(TOOLS), 20)])
def test_a_full_disk_is_named_with_what_is_needed(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], needed: int
) -> None:
    put_on_path(empty_cache, "go", "go version go1.26.8 linux/amd64")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 2**30))
    with pytest.raises(LocalError, match=f"needs {needed} GiB of disk, but .* has 1.0 GiB free"):
        build.ensure(programs, lambda _: None)


def test_a_build_that_fails_shows_the_compilers_words(empty_cache: Path) -> None:
    go = empty_cache / "go"
    go.write_text(
        "#!/bin/sh\n"
        '[ "$1" = version ] && echo go version go1.26.8 linux/amd64 && exit\n'
        "echo undefined: frobnicate; exit 1\n"
    )
    go.chmod(0o755)
    with pytest.raises(LocalError, match="could not build etcd:\nundefined: frobnicate"):
        build.ensure(["etcd"], lambda _: None)


def put_go(folder: Path, script: str) -> None:
    program = folder / "go"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo go version go1.26.8 linux/amd64 && exit\n{script}\n'
    )
    program.chmod(0o755)


def test_a_build_ends_with_whoever_waits_for_it(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_go(empty_cache, f"echo $$ >{tmp_path / 'pid'}; exec /bin/sleep 60")
    monkeypatch.setattr(build, "HEARTBEAT_SECONDS", 0.05)

    def speak(text: str) -> None:
        if "building etcd" in text and (tmp_path / "pid").exists():
            raise InterruptedError

    with pytest.raises(InterruptedError):
        build.ensure(["etcd"], speak)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_modules_are_fetched_by_group_for_what_is_missing(
    empty_cache: Path, tmp_path: Path
) -> None:
    put_go(empty_cache, f'echo "$PWD: $@" >>{tmp_path / "asked"}')
    built = build._built_path(TOOLS["kwok"])
    built.parent.mkdir(parents=True)
    built.touch()
    build.fetch(["etcd", "kwok", "kubectl", "containerd"], lambda _: None)
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.startswith(f"{build.MODULES / 'plane'}: list -deps ")
    assert first.endswith(f" {TOOLS['etcd'].package} {TOOLS['kubectl'].package}")
    assert second.startswith(f"{build.MODULES / 'containerd'}: list -deps -tags=no_btrfs,no_zfs ")


def test_modules_that_cannot_be_fetched_are_left_to_the_build(empty_cache: Path) -> None:
    put_go(empty_cache, "echo no route to host; exit 1")
    build.fetch(["etcd"], lambda _: None)
    with pytest.raises(LocalError, match="could not build etcd:\nno route to host"):
        build.ensure(["etcd"], lambda _: None)


def test_every_definition_comes_from_a_pinned_module() -> None:
    pins = (build.MODULES / "crds" / "go.mod").read_text()
    modules = {*build.USED_DEFINITIONS, *build.OTHER_DEFINITIONS, *build.STAGES}
    assert [module for module in modules if f"\t{module} v" not in pins] == []


SHARED = ("addons", "prometheus", "alertmanager")
APART = {
    "github.com/gobwas/glob",
    "github.com/KimMachineGun/automemlimit",
    "github.com/prometheus/alertmanager",
    "github.com/prometheus/client_golang",
    "github.com/prometheus/prometheus",
    "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
}
"""What cannot have one version: these are why the groups are not one."""


@pytest.mark.parametrize("group", SHARED[1:])
def test_groups_that_share_libraries_compile_them_once(group: str) -> None:
    """In the same version: the compiler's cache then has them for the second group."""
    first, second = versions(SHARED[0]), versions(group)
    differing = {name for name in first.keys() & second.keys() if first[name] != second[name]}
    assert differing <= APART
    assert len(first.keys() & second.keys()) > 100


def test_kubernetes_is_compiled_in_the_version_of_the_plane() -> None:
    plane = versions("plane")
    for group in ("addons", "prometheus"):
        used = {
            name for name in plane.keys() & versions(group).keys() if name.startswith("k8s.io/")
        }
        different = {name for name in used if versions(group)[name] != plane[name]}
        assert "k8s.io/client-go" in used
        assert different <= {"k8s.io/kube-openapi", "k8s.io/utils"}


def versions(group: str) -> dict[str, str]:
    """The version of each module that a group is built from, after replacement."""
    text = (build.MODULES / group / "go.mod").read_text()
    required = dict(re.findall(r"^\t(\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))
    replaced = re.findall(r"^(?:replace )?\s*(\S+) => \S+ (v\S+)$", text, re.MULTILINE)
    return required | dict(replaced)
