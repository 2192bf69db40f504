"""Strimzi's definitions are upstream's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from local.errors import LocalError
from local.images import maven
from local.toolchain import strimzi

pytestmark = pytest.mark.cluster

COPIES = Path(__file__).resolve().parents[4] / "shared" / "crds" / "strimzi"
"""Those of the release, where somebody has put them beside the checkout."""


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, Any]]:
    found = [yaml.safe_load(path.read_text()) for path in strimzi.definition_files(print)]
    return {definition["metadata"]["name"]: definition for definition in found}


def test_every_kind_that_is_declared_has_its_definition(
    definitions: dict[str, dict[str, Any]],
) -> None:
    assert sorted(definitions) == [
        f"{kind}.kafka.strimzi.io"
        for kind in (
            "kafkamirrormaker2s",
            "kafkanodepools",
            "kafkarebalances",
            "kafkas",
            "kafkatopics",
            "kafkausers",
        )
    ]


def test_only_the_version_that_strimzi_serves_is_there(
    definitions: dict[str, dict[str, Any]],
) -> None:
    served = {
        version["name"]
        for definition in definitions.values()
        for version in definition["spec"]["versions"]
    }
    assert served == {"v1"}


@pytest.mark.skipif(not COPIES.is_dir(), reason="the release's definitions are not here")
def test_they_are_those_of_the_release(definitions: dict[str, dict[str, Any]]) -> None:
    released = [yaml.safe_load(path.read_text()) for path in COPIES.glob("*.yaml")]
    assert {d["metadata"]["name"]: d for d in released} == definitions


def test_other_jars_than_the_recorded_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def resolve(_: object, target: Path) -> None:
        target.mkdir()
        (target / "api-1.2.0.jar").write_text("another")

    monkeypatch.setenv("FT_CACHE", str(tmp_path))
    monkeypatch.setattr(maven, "resolve", resolve)
    with pytest.raises(LocalError, match="are not those of .*jars.sha256"):
        strimzi.definition_files(print)
