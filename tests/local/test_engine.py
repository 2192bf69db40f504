"""What the engine's events come to: clear words, and whether anything is left to do."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.automation import events

from local.engine import Outcome, _Progress

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
