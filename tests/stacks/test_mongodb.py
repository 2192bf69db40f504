"""MongoDB's settings: what follows from them."""

from __future__ import annotations

import pytest

from stacks.systems.mongodb import MongodbSettings, oplog_span
from stacks.values import DAY, Objective

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("rpo", "span"), [(300, 120), (600, 300), (60, 60), (100, 60)])
def test_the_oplog_is_archived_within_half_of_the_rpo_in_whole_minutes(rpo: int, span: int) -> None:
    assert oplog_span(MongodbSettings(), Objective(rpo=rpo, rto=180)) == span


def test_a_span_that_is_set_is_kept() -> None:
    settings = MongodbSettings(oplog_span=240)
    assert oplog_span(settings, Objective(rpo=300, rto=180)) == 240


@pytest.mark.parametrize(("every", "kept"), [(7 * DAY, 5), (DAY, 29)])
def test_a_backup_older_than_the_oldest_moment_to_restore_is_always_kept(
    every: int, kept: int
) -> None:
    settings = MongodbSettings(retention=28 * DAY)
    assert settings.kept(every) == kept
    youngest_of_the_oldest = (kept - 1) * every
    assert youngest_of_the_oldest >= settings.retention
