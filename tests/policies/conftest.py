"""One analyzer for all tests of a worker, as the engine starts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from policies import manifests
from policies.rules import RULES
from tests.policies.analyzer_session import Diagnostic, Session

PACK = Path(__file__).parents[2] / "policies"


@pytest.fixture(scope="session")
def _session() -> Iterator[Session]:
    with Session(PACK) as session:
        yield session


@pytest.fixture
def analyzer(_session: Session) -> Session:
    """The real analyzer with every rule at its default level."""
    _session.configure(RULES.values(), {})
    return _session


@pytest.fixture(scope="session")
def failures(_session: Session) -> Callable[[str], list[Diagnostic]]:
    """What a rule's failing example raises at default levels; asked once for all tests."""

    @cache
    def ask(rule: str) -> list[Diagnostic]:
        _session.configure(RULES.values(), {})
        return _session.judge(manifests.failing(RULES[rule]))

    return ask
