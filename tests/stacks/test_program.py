"""Settings inside a program of the real engine: the same as from the file, and as well told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pulumi
import pytest
from pulumi import automation
from pulumi.runtime import config

from stacks import guards
from stacks.loader import stacks
from stacks.program import forbid_losses, from_program
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
        'stacks/Pulumi.test.yaml:7: fault-tolerance:postgres.instances is "three"; '
        "it should be a whole number from 1 to 100"
    ) in said
    assert 'stacks/Pulumi.test.yaml:8: fault-tolerance:prefix is "NO"; ' in said


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


class Keeper:
    """A program that keeps what was declared, and is held to it; its one resource is a mark."""

    def __init__(self, project: Project, engine: Make) -> None:
        self._root = project.root
        self.stack = engine(self._run, "test")

    def _run(self) -> None:
        settings = from_program(self._root)
        forbid_losses(settings, self._root)
        pulumi.ComponentResource("tests:index:Mark", "mark")
        pulumi.export(guards.OUTPUT, guards.declared(settings))

    def refused(self, command: Callable[[], object]) -> str:
        """What the engine said of a command that failed, after which it keeps what it kept."""
        before = self._kept()
        with pytest.raises(automation.CommandError) as caught:
            command()
        assert self._kept() == before
        return str(caught.value)

    def _kept(self) -> dict[str, object]:
        deployment = self.stack.export_stack().deployment or {}
        return {each["urn"]: each.get("outputs") for each in deployment["resources"]}


@pytest.mark.engine
def test_a_first_update_has_no_output_of_an_earlier_one_to_be_held_to(
    project: Project, engine: Make
) -> None:
    project.configure()
    keeper = Keeper(project, engine)
    assert keeper.stack.outputs() == {}
    keeper.stack.preview()
    kept = keeper.stack.up().outputs[guards.OUTPUT].value
    assert kept == guards.declared(project.settings())


@pytest.mark.engine
def test_an_update_is_held_to_what_the_last_one_declared(project: Project, engine: Make) -> None:
    project.configure()
    keeper = Keeper(project, engine)
    keeper.stack.up()
    project.configure(
        postgres={"storage": "50Gi"}, topics={"game-events": {"partitions": 3}}, prefix="new"
    )
    for command in (keeper.stack.preview, keeper.stack.up):
        said = keeper.refused(command)
        assert "Traceback" not in said
        assert (
            'stacks/Pulumi.test.yaml:7: fault-tolerance:postgres.storage is "50Gi"; it should be '
            "at least 100Gi, as the last update declared"
        ) in said
        assert (
            "stacks/Pulumi.test.yaml:11: fault-tolerance:topics.game-events.partitions is 3; it "
            "should be at least 24"
        ) in said
        assert 'fault-tolerance:prefix is "new"; it should stay sim' in said
    project.configure(prefix="NO")
    keeper.refused(keeper.stack.up)  # neither a refusal nor a mistake is a way around it
    project.configure(postgres={"storage": "99Gi"})
    keeper.refused(keeper.stack.up)
    project.configure(postgres={"storage": "200Gi"})
    assert keeper.stack.up().outputs[guards.OUTPUT].value["systems"]["postgres"]["storage"] == (
        "200Gi"
    )


@pytest.mark.engine
def test_what_the_catalogue_loses_is_told_where_the_catalogue_says_it(
    project: Project, engine: Make
) -> None:
    project.configure()
    keeper = Keeper(project, engine)
    keeper.stack.up()
    catalogue = project.root / "stacks" / "catalogue.yaml"
    catalogue.write_text(catalogue.read_text().replace("partitions: 24", "partitions: 23"))
    assert "stacks/catalogue.yaml:" in keeper.refused(keeper.stack.preview)


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


class Busy:
    """An engine that cannot read its state the first times that it is asked."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._invoke = pulumi.runtime.invoke

    def __call__(self, token: str, arguments: dict[str, object]) -> object:
        """Fail as an engine does that writes its state, then be itself."""
        if token == "pulumi:pulumi:readStackOutputs" and self.failures > 0:
            self.failures -= 1
            raise RuntimeError("invoke failed: failed to load checkpoint: EOF")
        return self._invoke(token, arguments)


@pytest.mark.engine
def test_a_state_that_is_being_written_is_read_again(
    project: Project, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure()
    keeper = Keeper(project, engine)
    keeper.stack.up()
    busy = Busy(failures=2)
    monkeypatch.setattr(pulumi.runtime, "invoke", busy)
    project.configure(prefix="new")
    assert 'fault-tolerance:prefix is "new"; it should stay sim' in keeper.refused(keeper.stack.up)
    assert busy.failures == 0


@pytest.mark.engine
def test_a_state_that_cannot_be_read_is_told_in_a_line(
    project: Project, engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure()
    keeper = Keeper(project, engine)
    keeper.stack.up()
    monkeypatch.setattr(pulumi.runtime, "invoke", Busy(failures=100))
    said = keeper.refused(keeper.stack.up)
    assert "what the last update declared: invoke failed: failed to load checkpoint" in said
    assert "Traceback" not in said
