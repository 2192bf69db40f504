"""What would lose data is refused, from stack file to exit code, and the world stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.e2e.checkout import Checkout, assert_whole

pytestmark = pytest.mark.e2e

STAGING = "stacks/Pulumi.staging.yaml"
SERVERS = "/apis/apps/v1/namespaces/sim-staging-data/statefulsets"
CATALOGUE = "stacks/catalogue.yaml"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout.copied(tmp_path_factory.mktemp("guards"))
    try:
        done = made.run("up", "staging")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        made.run("down")


@pytest.fixture(scope="module")
def first_report(checkout: Checkout) -> dict[str, Any]:
    """What the first update reported; every later one replaces it."""
    found: dict[str, Any] = checkout.result("up-staging.json")
    return found


@pytest.fixture
def stack_file(checkout: Checkout) -> Iterator[Checkout]:
    """The checkout, whose stack file is afterwards what it was."""
    kept = {name: (checkout.source / name).read_text() for name in (STAGING, CATALOGUE)}
    yield checkout
    for name, text in kept.items():
        (checkout.source / name).write_text(text)


def state(checkout: Checkout) -> Any:
    """What the engine keeps of every resource."""
    (file,) = checkout.world("staging").engine.glob("state/.pulumi/stacks/*/staging.json")
    return json.loads(file.read_text())["checkpoint"]["latest"]["resources"]


def add(checkout: Checkout, line: str) -> None:
    """Put a line at the top of the stack's configuration: line 4 of the file."""
    checkout.change(STAGING, "config:\n", f"config:\n  {line}\n")


def refused(checkout: Checkout, *expected: str, commands: Sequence[str] = ("up",)) -> None:
    """Commands say what is expected, exit with 1, and change nothing."""
    before = state(checkout)
    for command in commands:
        done = checkout.run(command, "staging")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "nothing was changed" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        for words in expected:
            assert words in done.stdout
    assert state(checkout) == before


def without_neo4j(checkout: Checkout) -> None:
    """Leave Neo4j out of the stack, and with it the one service's use of it."""
    add(checkout, "fault-tolerance:systems: [postgres, redis, mongodb, kafka]")
    checkout.change(CATALOGUE, "[postgres, mongodb, neo4j, kafka]", "[postgres, mongodb, kafka]")


def servers_of_neo4j(checkout: Checkout) -> list[str]:
    """The StatefulSets of Neo4j that the API server has."""
    with checkout.api("staging") as api:
        names = [each["metadata"]["name"] for each in api.items(SERVERS)]
    return [name for name in names if name.startswith("neo4j")]


def test_the_stack_comes_up_as_it_ships(first_report: dict[str, Any]) -> None:
    assert first_report["stack"] == "staging"
    assert_whole(first_report)


def test_a_system_that_services_use_is_not_left_out(stack_file: Checkout) -> None:
    add(stack_file, "fault-tolerance:systems: [postgres, redis, mongodb, kafka]")
    done = stack_file.run("preview", "staging")
    assert done.returncode == 1
    assert (
        'services.deck-analytics.uses[2] is "neo4j"; it should be left out, or named in systems'
        in done.stderr
    )


def test_a_protected_system_is_not_removed(stack_file: Checkout) -> None:
    without_neo4j(stack_file)
    refused(
        stack_file,
        "stacks/Pulumi.staging.yaml:3: fault-tolerance:systems is "
        "[postgres, redis, mongodb, kafka]; it should name neo4j, whose data is protected; to "
        "delete it, first name neo4j in unprotect and run an update, then leave it out of both",
        commands=("preview", "up"),
    )


def test_a_volume_does_not_shrink_nor_a_version_go_down(stack_file: Checkout) -> None:
    stack_file.change(STAGING, "    wal_storage: 5Gi", "    wal_storage: 4Gi")
    stack_file.change(
        STAGING, "postgres:\n", "postgres:\n    image: ghcr.io/cloudnative-pg/postgresql:16.10\n"
    )
    refused(
        stack_file,
        'fault-tolerance:postgres.wal_storage is "4Gi"; it should be at least 5Gi, as the last '
        "update declared: a volume can grow, but not shrink",
        "fault-tolerance:postgres.image",
        "it should be of PostgreSQL 17 or later",
    )


def test_a_replacement_of_protected_data_is_refused_by_resource_file_and_key(
    stack_file: Checkout,
) -> None:
    stack_file.change(STAGING, "    storage: 4Gi", "    storage: 8Gi")  # of a StatefulSet
    refused(
        stack_file,
        "stacks/Pulumi.staging.yaml: StatefulSet redis-servers would be replaced, but is protected",
        "name redis in fault-tolerance:unprotect",
        commands=("preview",),
    )


def test_pulumi_itself_keeps_what_the_last_update_did_not_tell_of(stack_file: Checkout) -> None:
    """As after an update by a program that exported nothing: the engine's own state knows."""
    program = stack_file.source / "__main__.py"
    kept = program.read_text()
    without_neo4j(stack_file)
    stack_file.change("__main__.py", "forbid_losses(settings)\n", "")
    try:
        refused(
            stack_file,
            "stacks/Pulumi.staging.yaml: StatefulSet neo4j-1-server would be deleted, but is "
            "protected",
            "name neo4j in fault-tolerance:unprotect and run an update first",
        )
    finally:
        program.write_text(kept)


def test_an_unprotected_system_is_removed_in_a_second_update(stack_file: Checkout) -> None:
    add(stack_file, "fault-tolerance:unprotect: [neo4j]")
    first = stack_file.run("up", "staging")
    assert first.returncode == 0, first.stdout
    assert len(servers_of_neo4j(stack_file)) == 3
    stack_file.change(STAGING, "  fault-tolerance:unprotect: [neo4j]\n", "")
    without_neo4j(stack_file)
    second = stack_file.run("up", "staging")
    assert second.returncode == 0, second.stdout
    assert servers_of_neo4j(stack_file) == []
    assert not [each for each in state(stack_file) if "neo4j:Neo4j" in each["type"]]
