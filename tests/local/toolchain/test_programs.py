"""Programs that pods run: built with other versions of libraries than upstream's, they start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from local.images.definition import definitions
from local.toolchain.build import TOOLS

pytestmark = pytest.mark.dataplane


def said(*command: str | Path) -> str:
    """All that a program says before it ends by itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "alertmanager",
        "kube-state-metrics",
        "metrics-server",
        "pilot-discovery",
        "prometheus",
        "prometheus-config-reloader",
        "prometheus-operator",
        "promtool",
    ],
)
def test_a_program_tells_the_version_that_is_pinned(tools: dict[str, Path], name: str) -> None:
    tool = TOOLS[name]
    assert tool.version in said(tools[name], *tool.version_command)


@pytest.mark.parametrize(
    ("image", "flag"),
    [
        ("keda", "--enable-cert-rotation"),
        ("keda-admission-webhooks", "--cert-dir"),
        ("keda-metrics-apiserver", "--metrics-service-address"),
    ],
)
def test_a_program_knows_the_arguments_of_its_image(
    tools: dict[str, Path], image: str, flag: str
) -> None:
    """It tells no version, and lists its arguments only if it knows all that it was given."""
    definition = definitions()[image]
    (name,) = definition.programs
    assert flag in said(tools[name], *definition.entrypoint[1:], "--help")


def test_prometheus_looks_for_its_targets_in_kubernetes(
    tools: dict[str, Path], tmp_path: Path
) -> None:
    """A build tag leaves out all other ways to find them that need libraries."""
    discovery = "kubernetes_sd_configs: [{role: pod, api_server: 'http://localhost:1'}]"
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(f"scrape_configs: [{{job_name: pods, {discovery}}}]")
    assert "SUCCESS" in said(tools["promtool"], "check", "config", configuration)
