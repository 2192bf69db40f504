"""When the nodes' network is made, and when the one that is there stays."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from local.nodes import lan
from local.nodes.lan import Lan
from local.process import Process

pytestmark = pytest.mark.unit


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lan:
    """One whose holder was started, and that is not really set up."""
    holders = count()
    monkeypatch.setattr(lan, "_run", lambda *_: "")
    monkeypatch.setattr(lan, "has_left", lambda _: True)
    monkeypatch.setattr(lan, "_enter", lambda _: ["env"])
    monkeypatch.setattr(
        Process,
        "start",
        lambda own, *_: (own.folder / "lan.pid").write_text(f"holder {next(holders)}"),
    )
    monkeypatch.setattr(Process, "pid", lambda own: 1 if own.was_started() else None)
    monkeypatch.setattr(
        Process, "stop", lambda own, _: (own.folder / "lan.pid").unlink(missing_ok=True)
    )
    own = Lan(tmp_path)
    own.start()
    return own


def holder(network: Lan) -> str:
    return (network.folder / "lan.pid").read_text()


def test_a_network_that_is_up_stays(network: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "_run", lambda *_: "1: lo: <UP>\n2: lan: <NO-CARRIER,UP>\n")
    before = holder(network)
    network.start()
    assert holder(network) == before


def test_half_a_network_is_made_anew(network: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan, "_run", lambda *_: "1: lo: <UP>\n")
    before = holder(network)
    network.start()
    assert holder(network) != before
