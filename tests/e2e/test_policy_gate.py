"""The gate for CI: the stacks as shipped pass, a weakened one does not, and says why."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout

pytestmark = pytest.mark.e2e


def test_the_four_stacks_as_shipped_pass(tmp_path: Path) -> None:
    checkout = Checkout.copied(tmp_path)
    judged = checkout.run("policy", "all")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    for stack in ("dev", "staging", "prod", "dr", "dr-promoted"):
        levels = {finding["level"] for finding in checkout.result(f"policy-{stack}.json")}
        assert levels <= {"advisory"}
    for stack in ("staging", "dr", "dr-promoted"):
        assert checkout.result(f"parity-{stack}.json") == []


@dataclass(frozen=True)
class Weakness:
    """A change of a component, and what the gate must say of it."""

    path: str
    old: str
    new: str
    rule: str
    resource: str
    remedy: str


WEAKNESSES = {
    "no liveness probe": Weakness(
        "components/service.py",
        '"livenessProbe": parts.http_probe(probes.live, _PORT, period=10, failures=6, timeout=5),',
        "",
        "container-liveness-probe",
        "gateway-deployment",
        "livenessProbe",
    ),
    "two Sentinels": Weakness(
        "components/redis.py",
        "replicas=settings.sentinels",
        "replicas=2",
        "redis-sentinels",
        "redis-sentinel-servers",
        "3",
    ),
}


@dataclass(frozen=True)
class Judged:
    """What the gate made of a stack with every weakness."""

    done: subprocess.CompletedProcess[str]
    findings: list[dict[str, str]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """One run for all weaknesses, which are in different components."""
    checkout = Checkout.copied(tmp_path_factory.mktemp("weakened"))
    for each in WEAKNESSES.values():
        checkout.change(each.path, each.old, each.new)
    return Judged(checkout.run("policy", "prod"), checkout.result("policy-prod.json"))


@pytest.mark.parametrize("weakness", WEAKNESSES.values(), ids=WEAKNESSES)
def test_a_weakened_stack_fails_with_rule_resource_and_remedy(
    judged: Judged, weakness: Weakness
) -> None:
    assert judged.done.returncode == 1, judged.done.stdout
    assert f"mandatory {weakness.rule} " in judged.done.stdout
    found = [f for f in judged.findings if f["rule"] == weakness.rule]
    assert {f["level"] for f in found} == {"mandatory"}
    assert any(f["resource"].endswith(f"::{weakness.resource}") for f in found)
    assert any(weakness.remedy in f["remedy"] for f in found)
