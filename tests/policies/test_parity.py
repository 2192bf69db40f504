"""Parity: the shipped stacks mirror each other, and each way to fall short is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies import cli
from policies.model import Resource
from policies.parity import Difference, Relation, Side, differences, weaker_levels
from tests.policies.test_mutants import shipped

pytestmark = pytest.mark.unit


def side(stack: str) -> Side:
    return Side.of(stack, shipped(stack).resources)


def without(given: Side, kind: str, name: str) -> Side:
    left = [each for each in given.resources if (each.kind, each.name) != (kind, name)]
    assert len(left) == len(given.resources) - 1
    return Side.of(given.name, left)


def changed(given: Side, kind: str, name: str, **spec: Any) -> Side:
    def one(each: Resource) -> Resource:
        if (each.kind, each.name) != (kind, name):
            return each
        return replace(each, props={**each.props, "spec": {**each.props["spec"], **spec}})

    return Side.of(given.name, [one(each) for each in given.resources])


def promoted() -> Side:
    return Side.of("dr", shipped("dr", promoted=True).resources)


def of_dr(second: Side) -> list[Difference]:
    return differences(side("prod"), second, Relation.STANDBY)


def test_dr_as_shipped_mirrors_prod() -> None:
    assert of_dr(side("dr")) == []


def test_dr_once_promoted_mirrors_prod_whole() -> None:
    assert differences(side("prod"), promoted(), Relation.PROMOTED) == []


def test_a_service_may_come_with_the_promotion() -> None:
    kept = without(side("dr"), "apps/Deployment", "gateway-deployment")
    assert of_dr(kept) == []


def test_the_namespace_of_services_may_not_come_later() -> None:
    found = of_dr(without(side("dr"), "core/Namespace", "sim-foundation-core"))
    assert [each.second for each in found] == ["not declared"]


def test_a_service_that_the_promotion_does_not_bring_is_told() -> None:
    kept = without(promoted(), "apps/Deployment", "gateway-deployment")
    found = differences(side("prod"), kept, Relation.PROMOTED)
    assert [(each.resource, each.second) for each in found] == [
        ("apps/Deployment gateway-deployment", "not declared")
    ]


def test_staging_as_shipped_rehearses_prod() -> None:
    assert differences(side("prod"), side("staging"), Relation.REHEARSAL) == []


def test_missing_system_is_told() -> None:
    found = of_dr(without(side("dr"), "postgresql.cnpg.io/Cluster", "postgres-cluster"))
    assert [(each.resource, each.second) for each in found] == [
        ("postgresql.cnpg.io/Cluster postgres-cluster", "not declared")
    ]


@pytest.mark.parametrize(
    ("field", "value"), [("instances", 2), ("imageName", "ghcr.io/cloudnative-pg/postgresql:16.1")]
)
def test_other_size_or_version_is_told(field: str, value: object) -> None:
    weak = changed(side("dr"), "postgresql.cnpg.io/Cluster", "postgres-cluster", **{field: value})
    assert [(each.where, each.second) for each in of_dr(weak)] == [(f"spec.{field}", str(value))]


def test_rehearsal_has_as_many_instances() -> None:
    weak = changed(side("staging"), "postgresql.cnpg.io/Cluster", "postgres-cluster", instances=1)
    found = differences(side("prod"), weak, Relation.REHEARSAL)
    assert [each.where for each in found] == ["spec.instances"]


def test_standby_in_the_same_region_is_told() -> None:
    found = of_dr(Side.of("dr", side("prod").resources))
    assert "allowedTopologies" in {each.where for each in found}


def test_backups_that_the_standby_cannot_read_are_told() -> None:
    prod = Side.of(
        "prod",
        [e for e in side("prod").resources if e.kind != "aws:s3/BucketReplicationConfig"],
    )
    found = differences(prod, side("dr"), Relation.STANDBY)
    assert [each.resource for each in found] == ["BucketReplicationConfig"]


def test_kafka_that_nothing_mirrors_is_told() -> None:
    lonely = [e for e in side("dr").resources if not e.kind.endswith("/KafkaMirrorMaker2")]
    found = of_dr(Side.of("dr", lonely))
    assert [each.resource for each in found] == ["KafkaMirrorMaker2"]


def test_levels_of_dr_are_no_weaker(tmp_path: Path) -> None:
    prod = cli.LEVELS / "prod.json"
    assert weaker_levels(prod, cli.LEVELS / "dr.json") == []
    lax = tmp_path / "dr.json"
    lax.write_text(json.dumps({**json.loads(prod.read_text()), "redis-quorum": "advisory"}))
    assert [each.resource for each in weaker_levels(prod, lax)] == ["dr.json: redis-quorum"]


# The commands -----------------------------------------------------------------------------------


def state(path: Path, stack: str, instances: int = 3) -> Path:
    """A state as `pulumi stack export` writes it."""
    manifest = {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "postgres", "namespace": "games-data"},
        "spec": {
            "instances": instances,
            "affinity": {
                "podAntiAffinityType": "required",
                "topologyKey": "topology.kubernetes.io/zone",
            },
            "postgresql": {"synchronous": {"number": 1}},
        },
    }
    type_ = "kubernetes:postgresql.cnpg.io/v1:Cluster"
    urn = f"urn:pulumi:{stack}::games::{type_}::postgres"
    listed = [{"urn": urn, "type": type_, "inputs": manifest}]
    path.write_text(json.dumps({"version": 3, "deployment": {"resources": listed}}))
    return path


def test_command_says_what_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["survival", str(state(tmp_path / "prod.json", "prod"))]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["postgres", "games-data/postgres", *["goes", "on"] * 3, "lost"]


def test_command_says_what_does_not_survive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["survival", str(state(tmp_path / "prod.json", "prod", instances=2))])
    assert "goes on" not in capsys.readouterr().out


def test_command_compares_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prod = str(state(tmp_path / "prod.json", "prod"))
    assert cli.main(["parity", prod, str(state(tmp_path / "dr.json", "dr"))]) == 0
    assert cli.main(["parity", prod, str(state(tmp_path / "weak.json", "dr", instances=2))]) == 1
    assert "spec.instances" in capsys.readouterr().out


def test_file_that_is_no_state_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert cli.main(["survival", str(other)]) == 2
    assert "pulumi stack export" in capsys.readouterr().err
