"""The comparison with other checkers names rules that exist."""

from __future__ import annotations

import pytest

from policies.coverage import OPERATED, RELIABILITY, SECURITY, markdown
from policies.rules import RULES

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("rows", [RELIABILITY, SECURITY, OPERATED])
def test_every_check_names_rules_that_exist(rows: dict[str, str]) -> None:
    for check, rules in rows.items():
        assert rules.split(), check
        assert set(rules.split()) <= RULES.keys()


def test_every_row_is_on_the_page() -> None:
    lines = list(markdown())
    for check in (*RELIABILITY, *SECURITY, *OPERATED):
        assert any(line.startswith(f"| {check} |") for line in lines)
