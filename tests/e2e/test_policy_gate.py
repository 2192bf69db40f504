"""The gate for CI: the stacks as shipped pass, a weakened one does not, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout

pytestmark = pytest.mark.e2e


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.copied(tmp_path)


def test_the_four_stacks_as_shipped_pass(checkout: Checkout) -> None:
    judged = checkout.run("policy", "all")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    for stack in ("dev", "staging", "prod", "dr"):
        levels = {finding["level"] for finding in checkout.result(f"policy-{stack}.json")}
        assert levels <= {"advisory"}


@pytest.mark.parametrize(
    ("path", "old", "new", "rule", "resource", "remedy"),
    [
        (
            "components/service.py",
            '"livenessProbe": parts.http_probe(probes.live, _PORT, period=10, failures=3),',
            "",
            "container-liveness-probe",
            "gateway-deployment",
            "livenessProbe",
        ),
        (
            "components/redis.py",
            "replicas=settings.sentinels",
            "replicas=2",
            "redis-sentinels",
            "redis-sentinel-servers",
            "3",
        ),
    ],
    ids=["no liveness probe", "two Sentinels"],
)
def test_a_weakened_stack_fails_with_rule_resource_and_remedy(
    checkout: Checkout, path: str, old: str, new: str, rule: str, resource: str, remedy: str
) -> None:
    checkout.change(path, old, new)
    judged = checkout.run("policy", "prod")
    assert judged.returncode == 1, judged.stdout
    assert f"mandatory {rule} " in judged.stdout
    found = [f for f in checkout.result("policy-prod.json") if f["rule"] == rule]
    assert any(f["resource"].endswith(f"::{resource}") for f in found)
    assert any(remedy in f["remedy"] for f in found)
