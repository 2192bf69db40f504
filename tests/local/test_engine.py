"""What the engine is given to read, and what its events come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulumi.automation import events

from local import engine
from local.engine import Outcome, _Progress
from local.world import World

pytestmark = pytest.mark.unit

PLATFORM = "urn:pulumi:staging::fault-tolerance::fault-tolerance:platform:Platform$"
SERVERS = f"{PLATFORM}fault-tolerance:redis:Redis$kubernetes:apps/v1:StatefulSet::redis-servers"
DATA = f"{PLATFORM}fault-tolerance:foundation:Foundation$kubernetes:core/v1:Namespace::sim-data"


def outcome(**event: Any) -> Outcome:
    """What comes of one event."""
    found = Outcome(changes={"same": 3})
    taken = events.EngineEvent.from_json({"sequence": 1, "timestamp": 1, **event})
    _Progress(found, "stacks/Pulumi.staging.yaml", lambda _: None).take(taken)
    return found


def told(urn: str, message: str) -> str:
    """The one error that comes of what the engine says of a resource."""
    event = {"urn": urn, "message": message, "severity": "error", "color": "never"}
    (error,) = outcome(diagnosticEvent=event).errors
    return error


def test_a_refused_replacement_names_resource_file_and_key() -> None:
    message = (
        f'unable to replace resource "{SERVERS}"\nas it is currently marked for protection. To '
        "unprotect the resource, remove the `protect` flag from the resource in your Pulumi program"
    )
    assert told(SERVERS, message) == (
        "stacks/Pulumi.staging.yaml: StatefulSet redis-servers would be replaced, but is "
        "protected, since data goes with it: take the change back; or, if the data may be lost, "
        "name redis in fault-tolerance:unprotect and run an update first"
    )


def test_a_refused_deletion_of_what_no_system_owns_names_the_protection_of_all() -> None:
    message = f'Preview failed: resource "{DATA}" cannot be deleted\nbecause it is protected.'
    said = told(DATA, message)
    assert "Namespace sim-data would be deleted" in said
    assert "set fault-tolerance:protect to false and run an update first" in said


def test_other_errors_are_told_as_they_are() -> None:
    assert told(SERVERS, "quota exceeded") == "StatefulSet redis-servers: quota exceeded"


def step(kind: str = "kubernetes:apps/v1:StatefulSet", **new: Any) -> Outcome:
    """What comes of a resource that stays the same but for what the engine keeps of it."""
    before = {"type": kind, "urn": SERVERS, "protect": True, "outputs": {"declared": 1}}
    metadata = {"op": "same", "urn": SERVERS, "type": kind, "provider": "", "logical": True}
    both = {"old": before, "new": {**before, **new}}
    return outcome(resOutputsEvent={"metadata": {**metadata, **both}})


def test_nothing_is_left_to_do_where_all_stays_the_same() -> None:
    assert step().is_noop


@pytest.mark.parametrize("new", [{"protect": False}, {"retainOnDelete": True}])
def test_a_change_of_protection_alone_is_something_to_do(new: dict[str, Any]) -> None:
    assert not step(**new).is_noop


def test_a_change_of_the_stacks_outputs_alone_is_something_to_do() -> None:
    assert not step("pulumi:pulumi:Stack", outputs={"declared": 2}).is_noop


def test_what_is_refreshed_and_then_declared_is_declared_once() -> None:
    """Else a survey of the plan would see each server of a stack that runs twice."""
    found = Outcome()
    progress = _Progress(found, "stacks/Pulumi.staging.yaml", lambda _: None)
    for operation, replicas in (("refresh", 1), ("replace", 3), ("create-replacement", 3)):
        new = {"type": "a", "urn": SERVERS, "inputs": {"spec": {"replicas": replicas}}}
        metadata = {"op": operation, "urn": SERVERS, "type": "a", "provider": "", "new": new}
        event = {"resourcePreEvent": {"metadata": metadata}}
        progress.take(events.EngineEvent.from_json({"sequence": 1, "timestamp": 1, **event}))
    assert [each.props for each in found.declared] == [{"spec": {"replicas": 3}}]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What the engine gets to read where a project's stack file says something."""
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.setattr(engine, "PROJECT", tmp_path)

    def copy(text: str) -> str:
        (tmp_path / "stacks" / "Pulumi.dev.yaml").write_text(text)
        folder = engine._copy_project(World("dev", tmp_path / "world"), {})
        return (folder / "stacks" / "Pulumi.dev.yaml").read_text()

    return copy


def test_the_engine_gets_the_words_of_the_stack_file(copied: Callable[[str], str]) -> None:
    assert copied("config: {a: {no: {}}, b: 12:30, c: =}\n") == (
        "config:\n  a:\n    'no': {}\n  b: '12:30'\n  c: '='\n"
    )


def test_the_engines_own_salt_is_kept(copied: Callable[[str], str], tmp_path: Path) -> None:
    copied("config: {}\n")
    copy = tmp_path / "world" / "engine" / "project" / "stacks" / "Pulumi.dev.yaml"
    copy.write_text("encryptionsalt: v1:abc\n")
    assert "encryptionsalt: v1:abc" in copied("config: {}\n")


@pytest.mark.parametrize("content", [b"config: {a", b"half", b"\xff\xfe\xff"])
def test_a_copy_that_was_cut_short_has_no_salt(
    copied: Callable[[str], str], tmp_path: Path, content: bytes
) -> None:
    copied("config: {}\n")
    copy = tmp_path / "world" / "engine" / "project" / "stacks" / "Pulumi.dev.yaml"
    copy.write_bytes(content)
    assert copied("config: {}\n") == "config: {}\n"
