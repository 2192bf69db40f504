"""Settings of Neo4j: each rule refuses, says what is right, and lets right pass."""

from __future__ import annotations

from typing import Any

import pytest

from stacks.systems.neo4j import backup_every
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

USUAL: dict[str, Any] = {"accept_license": True, "issuer": "platform"}
COMMUNITY: dict[str, Any] = {
    "edition": "community",
    "servers": 1,
    "image": "neo4j:5.26.12-community",
}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "enterprise without a licence": (
        {"neo4j": {"issuer": "platform"}},
        "accept_license",
        "is false; it should be true: Neo4j Enterprise needs a licence, which only you can accept",
    ),
    "protected without certificates": (
        {"neo4j": {"accept_license": True}},
        "issuer",
        "is missing; it should name a ClusterIssuer of cert-manager where protect is true",
    ),
    "an even number of servers": (
        {"neo4j": {**USUAL, "servers": 4}},
        "servers",
        "is 4; it should be odd, such as 3 or 5",
    ),
    "one server, protected": (
        {"neo4j": {**USUAL, "servers": 1}},
        "servers",
        "is 1; it should be at least 3, one for each zone, where protect is true",
    ),
    "community, protected": (
        {"neo4j": COMMUNITY},
        "edition",
        'is "community"; it should be enterprise where protect is true',
    ),
    "community as a cluster": (
        {"protect": False, "neo4j": {**COMMUNITY, "servers": 3}},
        "servers",
        "is 3; it should be 1: servers of the Community edition form no cluster",
    ),
    "an image of the other edition": (
        {"neo4j": {**USUAL, "image": "neo4j:5.26.12-community"}},
        "image",
        "it should be of the enterprise edition, with a tag that ends with -enterprise",
    ),
    "a schedule in the place of an interval": (
        {"neo4j": {**USUAL, "full_every": "0 3 * * *"}},
        "full_every",
        'is "0 3 * * *"; it should be a time from 1h to 7d, such as 1h or 7d',
    ),
    "an interval that no schedule keeps": (
        {"neo4j": {**USUAL, "full_every": "5h"}},
        "full_every",
        "should be one of 1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d or 7d",
    ),
    "full backups beyond the retention": (
        {"neo4j": {**USUAL, "full_every": "7d", "retention": "1d"}},
        "retention",
        "should not be shorter than full_every",
    ),
    "a bucket that forgets a chain": (
        {"neo4j": {**USUAL, "retention": "35d"}},
        "backup.retention",
        "should be at least 36d: the oldest restore (neo4j.retention) starts from a full backup",
    ),
    "a recovery of community": (
        {"protect": False, "neo4j": {**COMMUNITY, "recovery": {"file": "a.backup"}}},
        "recovery",
        "should be left out: the Community edition has dumps instead",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_agree_are_refused(case: str, project: Project) -> None:
    sections, key, finding = REFUSED[case]
    project.configure(**sections)
    (error,) = project.errors()
    named = key if "." in key else f"neo4j.{key}"
    assert f"fault-tolerance:{named} " in error
    assert finding in error


ACCEPTED: dict[str, dict[str, Any]] = {
    "three servers": {"neo4j": USUAL},
    "community where nothing is protected": {"protect": False, "neo4j": COMMUNITY},
    "in clear where nothing is protected": {"protect": False, "neo4j": {"accept_license": True}},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_settings_that_agree_are_accepted(case: str, project: Project) -> None:
    project.configure(**ACCEPTED[case])
    project.settings()


@pytest.mark.parametrize(("rpo", "every"), [("1h", 3600), ("5h", 4 * 3600), ("2d", 86_400)])
def test_backups_are_taken_as_seldom_as_the_objective_allows(
    rpo: str, every: int, project: Project
) -> None:
    project.configure(neo4j=USUAL, objectives={"neo4j": {"rpo": rpo}})
    found = project.settings()
    assert backup_every(found.neo4j, found.objectives.neo4j) == every


def test_an_interval_above_the_rpo_is_told_at_its_own_line(project: Project) -> None:
    """The objective is a default, which no line of the file says."""
    project.configure(neo4j={**USUAL, "backup_every": "6h"})
    (error,) = project.errors()
    lines = (project.root / "stacks" / "Pulumi.test.yaml").read_text().splitlines()
    number = next(n for n, line in enumerate(lines, start=1) if "backup_every" in line)
    assert error == (
        f"stacks/Pulumi.test.yaml:{number}: fault-tolerance:objectives.neo4j.rpo is 1h; "
        "it should be at least 6h: a backup is taken only so often (neo4j.backup_every)"
    )
