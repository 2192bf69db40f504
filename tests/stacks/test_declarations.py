"""Pulumi.yaml and the models say the same, and the engine holds stacks to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pulumi import automation

from stacks.document import Document
from stacks.loader import FOLDER, NAMESPACE, ROOT, declared, load
from stacks.validation import resolve
from tests.stacks.conftest import VALID, Project

PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
DECLARED: dict[str, dict[str, Any]] = {
    key.removeprefix(f"{NAMESPACE}:"): part
    for key, part in PROJECT["config"].items()
    if not key.startswith("kubernetes:")  # settings of a provider, not of ours
}


@pytest.mark.unit
def test_the_project_is_what_the_loader_takes_it_for() -> None:
    assert PROJECT["name"] == NAMESPACE
    assert PROJECT["stackConfigDir"] == FOLDER


@pytest.mark.unit
def test_every_key_is_declared_and_no_other() -> None:
    assert DECLARED.keys() == declared().keys()


@pytest.mark.unit
@pytest.mark.parametrize("name", declared())
def test_a_key_is_declared_with_its_type_and_meaning(name: str) -> None:
    part = resolve(declared()[name])
    assert DECLARED[name]["type"] == part["type"]
    assert DECLARED[name]["description"] == part["description"]
    if part["type"] == "array":
        assert DECLARED[name]["items"]["type"] == resolve(part["items"])["type"]


@pytest.mark.unit
def test_only_what_has_no_default_is_declared_without() -> None:
    without = {name for name, part in DECLARED.items() if "default" not in part}
    assert without == {"zones"}


@pytest.mark.unit
@pytest.mark.parametrize("name", [name for name, part in DECLARED.items() if "default" in part])
def test_a_declared_default_means_what_leaving_it_out_does(name: str) -> None:
    key, document = f"{NAMESPACE}:{name}", Document("stack")
    given = (
        {**VALID, key: {**DECLARED[name]["default"], **VALID[key]}}
        if key in VALID
        else (VALID | {key: DECLARED[name]["default"]})
    )
    assert load(given, document) == load(VALID, document)


@pytest.mark.unit
@pytest.mark.parametrize("name", [n for n, p in DECLARED.items() if p["type"] != "object"])
def test_a_plain_default_is_written_out(name: str) -> None:
    assert DECLARED[name].get("default") == declared()[name].get("default")


Make = Callable[[Callable[[], None], str], automation.Stack]


def _nothing() -> None:
    """A program without any resource."""


@pytest.mark.engine
def test_the_engine_takes_the_declarations(project: Project, engine: Make) -> None:
    project.configure()
    engine(_nothing, "test").preview()


@pytest.mark.engine
def test_the_engine_fills_in_the_defaults(project: Project, engine: Make) -> None:
    project.configure()
    known = engine(_nothing, "test").get_all_config()
    assert known["fault-tolerance:role"].value == "active"
    assert known["fault-tolerance:catalogue"].value == "catalogue.yaml"
    assert known["fault-tolerance:postgres"].value == "{}"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"zones": "us-east-1a"}, "'fault-tolerance:zones' must be of type 'array<string>'"),
        ({"zones": [1, 2, 3]}, "'fault-tolerance:zones' must be of type 'array<string>'"),
        ({"protect": "maybe"}, "'fault-tolerance:protect' must be of type 'boolean'"),
        ({"postgres": "large"}, "'fault-tolerance:postgres' must be of type 'object'"),
    ],
)
def test_the_engine_refuses_a_wrong_type(
    sections: dict[str, object], said: str, project: Project, engine: Make
) -> None:
    project.configure(**sections)
    with pytest.raises(automation.CommandError) as caught:
        engine(_nothing, "test").preview()
    assert said in str(caught.value)


@pytest.mark.engine
def test_the_engine_refuses_a_stack_without_zones(project: Project, engine: Make) -> None:
    project.write("config:\n  aws:region: us-east-1\n")
    with pytest.raises(
        automation.CommandError, match="missing configuration value 'fault-tolerance:zones'"
    ):
        engine(_nothing, "test").preview()
