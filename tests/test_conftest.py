"""The order in which the files of tests are dealt out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import pytest_collection_modifyitems

pytestmark = pytest.mark.unit


def test_files_of_the_costliest_tier_come_first_and_stay_whole() -> None:
    collected: list[Any] = [
        SimpleNamespace(path=Path(file), name=name, keywords={tier})
        for file, name, tier in [
            ("quick.py", "a", "unit"),
            ("mixed.py", "b", "unit"),
            ("mixed.py", "c", "cluster"),
            ("world.py", "d", "e2e"),
            ("servers.py", "e", "dataplane"),
        ]
    ]
    pytest_collection_modifyitems(collected)
    assert [item.name for item in collected] == ["d", "e", "b", "c", "a"]
