"""What counts as an answer of a system whose zone is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from local.errors import LocalError
from tests.e2e import zone
from tests.e2e.zone import LostError, Rest

pytestmark = pytest.mark.unit

LOST = {"name": "neo4j", "quorum": False, "writes": False, "rto_seconds": None}
KEPT = {"name": "redis", "quorum": True, "writes": True, "rto_seconds": 0}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone, "MARGIN_SECONDS", 0)


def rest(question: Callable[[], object]) -> Rest:
    return Mock(Rest, gone="a-1", asks=lambda _: (question, question))


def told(verdict: zone.Verdict, question: Callable[[], object]) -> tuple[bool, bool]:
    return zone.truth(rest(question), [verdict], time.monotonic())[str(verdict["name"])]


def test_what_refuses_is_lost() -> None:
    assert told(LOST, Mock(side_effect=LostError("nobody listens"))) == (False, False)


def test_what_answers_is_not_lost() -> None:
    assert told(LOST, Mock()) == (True, True)


def test_trouble_in_asking_what_is_lost_is_no_answer() -> None:
    with pytest.raises(LocalError, match="no such Pod"):
        told(LOST, Mock(side_effect=LocalError("no such Pod")))


def test_what_is_kept_must_answer_in_time() -> None:
    assert told(KEPT, Mock(side_effect=LocalError("no such Pod"))) == (False, False)
