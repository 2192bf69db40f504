"""What a test is told that waited for nothing."""

from __future__ import annotations

import pytest

from tests import waiting

pytestmark = pytest.mark.unit


def test_what_is_found_late_is_returned() -> None:
    found = iter([None, "", "it"])
    assert waiting.eventually("it is there", lambda: next(found)) == "it"


def test_what_never_comes_is_named_with_what_there_is_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "LIMIT_SECONDS", 0)
    with pytest.raises(AssertionError, match="not within 0 s: it is there: nothing"):
        waiting.eventually("it is there", lambda: None, lambda: "nothing")
