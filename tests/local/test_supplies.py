"""What a world runs on: all of it is asked for, what is needed first before the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from local import supplies
from local.images import build as images
from local.nodes import real
from local.toolchain import build, definitions
from local.toolchain.build import TOOLS, Say, Tool
from stacks import loader

pytestmark = pytest.mark.unit


class Asked:
    """Notes what is asked for, in the place of builds and downloads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs: list[Sequence[str]] = []
        self.fetched: Sequence[str] = ()
        self.files: list[str] = []
        self.missing: list[Tool] = []
        monkeypatch.setattr(build, "ensure", lambda names, _: self.programs.append(names))
        monkeypatch.setattr(build, "missing", lambda _: self.missing)
        monkeypatch.setattr(build, "fetch", self._fetch)
        monkeypatch.setattr(definitions, "files", lambda _, **__: self.files.append("definitions"))
        monkeypatch.setattr(images, "ensure_root", lambda name, _: self.files.append(name))
        monkeypatch.setattr(images, "ensure", lambda names, _: self.files.extend(names))

    def _fetch(self, names: Sequence[str], _: Say) -> None:
        self.fetched = names


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def ensure(pods: Sequence[str] | None, *, more: Sequence[str] = ()) -> list[str]:
    said: list[str] = []
    supplies.ensure(said.append, pods=pods, definitions_of_all=False, more=more)
    return said


ALWAYS = {
    "barman-plugin",
    "barman-sidecar",
    "cnpg",
    "coredns",
    "metrics-server",
    "pause",
    "pgbouncer",
    "postgres",
}
"""What the add-ons run, and what every Pod needs."""


def test_a_world_has_the_images_of_its_addons_alone_if_its_stack_names_none() -> None:
    assert set(supplies.wanted_images([])) == ALWAYS


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("quay.io/prometheus/prometheus:v3.16.0", "prometheus"),
        ("ghcr.io/kedacore/keda:2.21.0", "keda"),
        ("docker.io/envoyproxy/envoy:v1.40.0", "envoy"),
    ],
)
def test_an_image_is_wanted_once_a_stack_names_what_it_replaces(upstream: str, name: str) -> None:
    assert set(supplies.wanted_images([upstream])) == {*ALWAYS, name}


def test_what_nothing_here_stands_for_adds_no_image() -> None:
    assert set(supplies.wanted_images(["percona/percona-server-mongodb:8.0.19-7"])) == ALWAYS


@pytest.mark.parametrize(
    ("stack", "more"), [("dev", {"neo4j"}), ("staging", set()), ("prod", set()), ("dr", set())]
)
def test_all_that_a_stack_runs_is_wanted(stack: str, more: set[str]) -> None:
    """Neo4j's Enterprise edition, which the others name, cannot be had."""
    named = loader.from_file(stack).named_images()
    servers = {"aws-cli", "kafka", "redis", "redis-exporter", "service"}
    assert set(supplies.wanted_images(named)) == {*ALWAYS, *servers, *more}


def test_no_pod_runs_the_root_of_a_node() -> None:
    assert supplies.ROOT_IMAGE not in supplies.pod_images()


def test_simulated_nodes_need_neither_images_nor_further_programs(asked: Asked) -> None:
    ensure(None)
    assert asked.programs == [supplies.FIRST_TOOLS, []]
    assert asked.files == ["definitions"]


def test_a_cluster_can_start_before_what_real_nodes_need_is_built(asked: Asked) -> None:
    ensure(supplies.pod_images())
    first, later = asked.programs
    assert {"kube-apiserver", "pulumi"} <= set(first)
    held = {tool for image in images.definitions().values() for tool in image.programs}
    assert set(later) == {*real.TOOLS, *held}


def test_programs_and_images_that_nobody_wants_are_not_built(asked: Asked) -> None:
    ensure(["coredns", "postgres"])
    assert asked.programs == [supplies.FIRST_TOOLS, [*real.TOOLS, "coredns"]]
    assert asked.files == ["definitions", supplies.ROOT_IMAGE, "postgres"]


def test_no_image_that_is_built_beside_the_programs_holds_one(asked: Asked) -> None:
    ensure(supplies.pod_images())
    beside = asked.files[1:]
    assert supplies.ROOT_IMAGE in beside
    assert {"postgres", "kafka"} <= set(beside)
    assert not any(images.definitions()[name].programs for name in beside)


def test_modules_are_fetched_for_every_program(asked: Asked) -> None:
    ensure(supplies.pod_images(), more=["kube-score"])
    assert list(asked.fetched) == [name for names in asked.programs for name in names]
    assert "kube-score" in asked.fetched


@pytest.mark.parametrize("missing", [True, False])
def test_what_works_meanwhile_is_said_while_programs_are_built(asked: Asked, missing: bool) -> None:
    asked.missing = [TOOLS["kubelet"]] if missing else []
    assert any("NODES=simulated" in text for text in ensure([])) is missing
