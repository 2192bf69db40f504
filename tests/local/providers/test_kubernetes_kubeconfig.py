"""How the cluster is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.providers.kubernetes.kubeconfig import load
from local.providers.protocol import ProviderError

pytestmark = pytest.mark.unit


def config(server: str = "http://127.0.0.1:1", **user: Any) -> str:
    return json.dumps(
        {
            "current-context": "first",
            "contexts": [
                {"name": "first", "context": {"cluster": "c", "user": "u", "namespace": "own"}},
                {"name": "second", "context": {"cluster": "d", "user": "u"}},
            ],
            "clusters": [
                {"name": "c", "cluster": {"server": server}},
                {"name": "d", "cluster": {"server": "http://127.0.0.1:2"}},
            ],
            "users": [{"name": "u", "user": {"token": "t", **user}}],
        }
    )


def test_kubeconfig_may_be_a_path_or_its_text(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(config())
    by_path, by_text = load(str(tmp_path / "config")), load(config())
    assert (by_path.server, by_path.token) == (by_text.server, by_text.token)


def test_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(config())
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{tmp_path / 'config'}")
    assert load().server == "http://127.0.0.1:1"


def test_context_is_chosen_by_name() -> None:
    assert load(config(), context="second").server == "http://127.0.0.1:2"


def test_namespace_comes_from_the_configuration_then_the_context_then_default() -> None:
    assert load(config(), namespace="given").namespace == "given"
    assert load(config()).namespace == "own"
    assert load(config(), context="second").namespace == "default"


def test_token_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert load(config(tokenFile=str(tmp_path / "token"))).token == "from-file"


def test_unknown_context_is_named_with_those_there_are() -> None:
    with pytest.raises(ProviderError, match="no context 'third'; it has: first, second"):
        load(config(), context="third")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no kubeconfig at"):
        load(str(tmp_path / "missing"))


def test_credentials_from_a_program_are_refused_with_what_helps() -> None:
    with pytest.raises(ProviderError, match="install the real plugin"):
        load(config(exec={"command": "aws"}))
