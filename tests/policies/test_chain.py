"""The whole chain: the real engine, the pack in its folder, the levels file of a stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import automation
from pulumi.automation import events

from local.engine import LAUNCHERS
from local.toolchain import build
from policies import manifests, report
from policies.cli import LEVELS
from policies.rules import RULES
from tests.policies.conftest import PACK

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Engine:
    """The engine with a folder and a state of its own."""

    pulumi: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """No network, no login, plugins only from the project."""
        return {
            "PATH": f"{self.pulumi.parent}:{LAUNCHERS}:{os.environ['PATH']}",
            "FT_PYTHON": sys.executable,
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{self.folder}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def analyze(
        self, declared: Sequence[manifests.Manifest], stack: str, levels: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Judge a state file with the levels of a stack, or with others."""
        state = self.folder / "state.json"
        state.write_text(json.dumps(_state(declared, stack)))
        return subprocess.run(
            [
                str(self.pulumi),
                *("policy", "analyze", "--file", str(state), "--policy-pack", str(PACK)),
                *("--policy-pack-config", str(levels or LEVELS / f"{stack}.json")),
            ],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def preview(self, program: Callable[[], None]) -> tuple[bool, list[events.PolicyEvent]]:
        """Preview a program with the levels of prod: whether it may go on, and what was said."""
        stack = automation.create_or_select_stack(
            "prod",
            "chain",
            program,
            opts=automation.LocalWorkspaceOptions(
                work_dir=str(self.folder),
                env_vars=self.environment,
                project_settings=automation.ProjectSettings("chain", "python"),
                pulumi_command=automation.PulumiCommand(str(self.pulumi.parent.parent)),
            ),
        )
        said: list[events.PolicyEvent] = []

        def take(event: automation.EngineEvent) -> None:
            if event.policy_event is not None:
                said.append(event.policy_event)

        try:
            stack.preview(
                policy_packs=[str(PACK)],
                policy_pack_configs=[str(LEVELS / "prod.json")],
                on_event=take,
            )
        except automation.CommandError:
            return False, said
        return True, said


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The pinned engine."""
    found = build.ensure(["pulumi"], print)["pulumi"]
    linked = tmp_path / "root" / "bin" / "pulumi"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(found)
    return Engine(linked, tmp_path)


def _state(declared: Sequence[manifests.Manifest], stack: str) -> dict[str, Any]:
    resources = [
        {
            "urn": each.urn,
            "type": each.type,
            "custom": False,
            "inputs": each.props,
            "outputs": each.props,
        }
        for each in (manifests.resource(manifest, stack) for manifest in declared)
    ]
    manifest = {"time": "2026-01-01T00:00:00Z", "magic": "", "version": ""}
    return {"version": 3, "deployment": {"manifest": manifest, "resources": resources}}


def declare(declared: Sequence[manifests.Manifest]) -> Callable[[], None]:
    """A program that registers the resources without a provider, as components."""

    def program() -> None:
        for each in declared:
            seen = manifests.resource(each)
            pulumi.ComponentResource(seen.type, seen.name, dict(seen.props))

    return program


@pytest.mark.parametrize("stack", ["dev", "staging", "prod", "dr"])
def test_state_that_keeps_every_rule_passes(engine: Engine, stack: str) -> None:
    done = engine.analyze(manifests.baseline(), stack)
    assert done.returncode == 0, done.stdout + done.stderr


def test_state_with_two_sentinels_fails_with_rule_resource_and_remedy(engine: Engine) -> None:
    done = engine.analyze(manifests.failing(RULES["redis-sentinels"]), "prod")
    assert done.returncode != 0
    for wanted in ("redis-sentinels", "games-redis-sentinel", "Set spec.replicas to 3."):
        assert wanted in done.stdout


def test_size_is_advisory_in_dev(engine: Engine) -> None:
    done = engine.analyze(manifests.failing(RULES["workload-replicas"]), "dev")
    assert done.returncode == 0
    assert "workload-replicas" in done.stdout


def test_preview_goes_on_when_every_rule_is_kept(engine: Engine) -> None:
    goes_on, said = engine.preview(declare(manifests.baseline()))
    assert (goes_on, report.findings(said)) == (True, [])


def test_preview_stops_at_a_missing_probe(engine: Engine) -> None:
    declared = manifests.failing(RULES["container-liveness-probe"])
    goes_on, said = engine.preview(declare(declared))
    assert not goes_on
    (found,) = report.findings(said)
    where = "spec.template.spec.containers[web].livenessProbe"
    assert found["rule"] == "container-liveness-probe"
    assert found["severity"] == "high"
    assert found["level"] == "mandatory"
    assert found["resource"].endswith("kubernetes:apps/v1:Deployment::games-web")
    assert found["found"] == f"{where}: not set"
    assert found["remedy"].startswith(f"Add {where} with ")


def test_preview_shows_no_secret(engine: Engine) -> None:
    def program() -> None:
        declared = manifests.baseline()
        web = next(each for each in declared if each["kind"] == "Deployment")
        hidden = {"name": "GREETING", "value": pulumi.Output.secret("hunter2-never-shown")}
        web["spec"]["template"]["spec"]["containers"][0]["env"] = [hidden]
        declare(declared)()

    goes_on, said = engine.preview(program)
    assert not goes_on
    assert {each["rule"] for each in report.findings(said)} == {"container-no-secret-env"}
    assert "hunter2-never-shown" not in "".join(each.message for each in said)


EXEMPTION = {
    "resource": "Deployment/games/web",
    "owner": "team-web",
    "reason": "moves to another platform in spring",
    "expires": "2999-12-31",
}


def exempting(folder: Path, **changes: str | None) -> Path:
    """A levels file with an exemption for one Deployment."""
    entry = {key: each for key, each in {**EXEMPTION, **changes}.items() if each is not None}
    path = folder / "levels.json"
    path.write_text(json.dumps({"pod-grace-period": {"exemptions": [entry]}}))
    return path


def test_engine_keeps_to_an_exemption(engine: Engine) -> None:
    declared = manifests.failing(RULES["pod-grace-period"])
    done = engine.analyze(declared, "prod", exempting(engine.folder))
    assert done.returncode == 0, done.stdout + done.stderr


def test_engine_stops_at_an_expired_exemption(engine: Engine) -> None:
    levels = exempting(engine.folder, expires="2020-01-01")
    done = engine.analyze(manifests.baseline(), "prod", levels)
    assert done.returncode != 0
    assert "expired on 2020-01-01 (owner: team-web;" in done.stdout


@pytest.mark.parametrize("field", EXEMPTION)
def test_engine_asks_for_every_field_of_an_exemption(engine: Engine, field: str) -> None:
    levels = exempting(engine.folder, **{field: None})
    done = engine.analyze(manifests.baseline(), "prod", levels)
    assert done.returncode != 0
    assert f"{field} is required" in done.stdout + done.stderr
