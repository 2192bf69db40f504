"""Our analyzer against the SDK's own: the same rules must say the same of the same resources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies import manifests
from policies.rule import Rule
from policies.rules import RULES
from tests.policies.analyzer_session import Session

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def sdk() -> Iterator[Session]:
    """The rules behind the SDK's analyzer."""
    with Session(Path(__file__).parent / "sdk_pack") as session:
        yield session


def said(session: Session, rule: Rule) -> set[tuple[str, str, str, str]]:
    """What is said of the rule's failing example, with all other rules off."""
    levels = {"all": "disabled", rule.name: str(rule.level)}
    session.configure(RULES.values(), levels)
    found = session.judge(manifests.failing(rule))
    facts = (each.message[each.message.index("found: ") :] for each in found)
    resources = (each.urn.rpartition("::")[2] for each in found)
    return {
        (each.rule, each.level, resource, fact)
        for each, resource, fact in zip(found, resources, facts, strict=True)
    }


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_says_what_the_sdk_says(analyzer: Session, sdk: Session, rule: Rule) -> None:
    assert said(analyzer, rule) == said(sdk, rule) != set()
