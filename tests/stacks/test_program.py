"""Settings inside a program of the real engine: the same as from the file, and as well told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pulumi
import pytest
from pulumi import automation
from pulumi.runtime import config

from stacks.loader import stacks
from stacks.program import from_program
from stacks.settings import Settings
from tests.stacks.conftest import VALID, Project

Make = Callable[[Callable[[], None], str], automation.Stack]


class Reader:
    """A program that reads the settings and does nothing else."""

    def __init__(self, project: Project, engine: Make, stack: str) -> None:
        self.found: Settings | None = None
        self._root = project.root
        self.stack = engine(self._run, stack)

    def _run(self) -> None:
        self.found = from_program(self._root)

    def settings(self) -> Settings:
        """What the program read in a preview."""
        self.stack.preview()
        assert self.found is not None
        return self.found

    def error(self) -> str:
        """What the engine said about a preview that failed."""
        with pytest.raises(automation.CommandError) as caught:
            self.stack.preview()
        assert self.found is None
        return str(caught.value)


@pytest.mark.engine
@pytest.mark.parametrize("name", stacks())
def test_program_and_file_give_the_same_settings(name: str, project: Project, engine: Make) -> None:
    assert Reader(project, engine, name).settings() == project.settings(name)


@pytest.mark.engine
def test_a_mistake_is_told_by_file_and_line_without_a_traceback(
    project: Project, engine: Make
) -> None:
    project.configure(postgres={"instances": "three"}, prefix="NO")
    said = Reader(project, engine, "test").error()
    assert "Traceback" not in said
    assert (
        'stacks/Pulumi.test.yaml:6: fault-tolerance:postgres.instances is "three"; '
        "it should be a whole number from 1 to 100"
    ) in said
    assert 'stacks/Pulumi.test.yaml:7: fault-tolerance:prefix is "NO"; ' in said


@pytest.mark.engine
def test_an_unknown_key_is_told(project: Project, engine: Make) -> None:
    reader = Reader(project, engine, "dev")
    reader.stack.set_config("fault-tolerance:postgress", automation.ConfigValue("x"))
    said = reader.error()
    assert "fault-tolerance:postgress is not known; did you mean fault-tolerance:postgres?" in said


@pytest.mark.engine
def test_values_set_by_path_are_read(project: Project, engine: Make) -> None:
    reader = Reader(project, engine, "dev")
    values = {
        "fault-tolerance:prefix": "other",
        "fault-tolerance:postgres.instances": "5",
        "fault-tolerance:services.gateway.resources.cpu": "2",
        "fault-tolerance:services.gateway.replicas.max": "7",
    }
    for key, value in values.items():
        reader.stack.set_config(key, automation.ConfigValue(value), path=True)
    found = reader.settings()
    assert (found.prefix, found.postgres.instances) == ("other", 5)
    gateway = found.services["gateway"]
    assert (gateway.resources.cpu, gateway.replicas.max) == ("2", 7)
    assert found == project.settings("dev")


@pytest.mark.engine
def test_secrets_of_others_are_let_be(project: Project, engine: Make) -> None:
    reader = Reader(project, engine, "dev")
    reader.stack.set_config("aws:secretKey", automation.ConfigValue("hunter2", secret=True))
    assert reader.settings() == project.settings("dev")


@pytest.mark.engine
def test_an_encrypted_setting_is_refused_at_its_own_key_and_not_shown(
    project: Project, engine: Make
) -> None:
    reader = Reader(project, engine, "dev")
    key = "fault-tolerance:services.gateway.environment.DECK"
    reader.stack.set_config(key, automation.ConfigValue("hunter2", secret=True), path=True)
    said = reader.error()
    assert f"{key} is encrypted, but this setting is no secret" in said
    assert "hunter2" not in said
    assert f"{key} is encrypted" in project.errors("dev")[0]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set what the engine would have sent, without the engine."""
    before = config.CONFIG.get(), list(config._SECRET_KEYS.get())

    def give(configuration: dict[str, str], *secrets: str) -> None:
        least = {"aws:region": VALID["aws:region"]}
        nested = {
            key: json.dumps(value) for key, value in VALID.items() if not isinstance(value, str)
        }
        config.set_all_config(least | nested | configuration, list(secrets))

    monkeypatch.setattr(pulumi, "get_stack", lambda: "elsewhere")
    yield give
    config.set_all_config(*before)


@pytest.mark.unit
def test_a_stack_without_a_file_is_read(project: Project, given: Callable[..., None]) -> None:
    given({"fault-tolerance:prefix": "there"})
    assert from_program(project.root).prefix == "there"


@pytest.mark.unit
def test_a_mistake_without_a_file_names_the_stack(
    project: Project, given: Callable[..., None]
) -> None:
    given({"fault-tolerance:prefix": "NO"})
    with pytest.raises(pulumi.RunError) as caught:
        from_program(project.root)
    assert str(caught.value).startswith(
        'configuration of stack elsewhere: fault-tolerance:prefix is "NO"; it should be'
    )


@pytest.mark.unit
def test_a_secret_without_a_file_is_not_shown(project: Project, given: Callable[..., None]) -> None:
    given({"fault-tolerance:postgres": '{"storage": "hunter2"}'}, "fault-tolerance:postgres")
    with pytest.raises(pulumi.RunError) as caught:
        from_program(project.root)
    assert "fault-tolerance:postgres is encrypted" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.unit
@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "5", '"x"'])
def test_a_section_that_is_no_json_is_told(
    text: str, project: Project, given: Callable[..., None]
) -> None:
    given({"fault-tolerance:postgres": text})
    with pytest.raises(pulumi.RunError, match=r"fault-tolerance:postgres is .* a mapping"):
        from_program(project.root)
