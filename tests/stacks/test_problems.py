"""How mistakes are told, and what is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stacks.problems import Problem, SettingsError, nearest, printable, show, suggestion

pytestmark = pytest.mark.unit


def test_a_problem_is_one_line_that_names_file_line_and_key() -> None:
    problem = Problem("stacks/Pulumi.dev.yaml", 7, "fault-tolerance:zones", "is missing")
    assert str(problem) == "stacks/Pulumi.dev.yaml:7: fault-tolerance:zones is missing"


def test_problems_are_told_together_sorted_by_line() -> None:
    error = SettingsError([Problem("f", 10, "b", "is bad"), Problem("f", 9, "a", "is bad")])
    assert str(error) == "2 settings are wrong:\n  f:9: a is bad\n  f:10: b is bad"


def test_the_same_problem_is_told_once() -> None:
    assert len(SettingsError([Problem("f", 1, "a", "b")] * 2).problems) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "empty"),
        (True, "true"),
        (5, "5"),
        ("soon", '"soon"'),
        (["a", 1], "[a, 1]"),
        ([], "[]"),
        ({"a": 1}, "a mapping"),
        ({}, "an empty mapping"),
        (["a long word"] * 9, "a list of 9"),
        (float("inf"), "Infinity"),
    ],
)
def test_a_value_is_shown_as_a_file_would_have_it(value: object, text: str) -> None:
    assert show(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(show("a b " * 1000)) < 80


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("services.a.environment.DB_PASSWORD", "hunter2"),
        ("services.a.environment.DB_PASSWORD", 5),
        ("services.a.environment.API_KEY", ["hunter2"]),
        ("prefix", SecretStr("hunter2")),
        ("prefix", "https://me:hunter2@example.com"),
        ("prefix", "AKIA" + "HUNTER2HUNTER2AA"),
        ("prefix", "-----BEGIN PRIVATE KEY----- hunter2"),
        ("prefix", "hunter2" * 6),
    ],
)
def test_what_looks_secret_is_not_shown(key: str, value: object) -> None:
    shown = show(value, key)
    assert "hunter2" not in shown.lower()
    assert "5" not in shown


@given(st.text())
def test_any_text_can_be_printed_on_one_line(text: str) -> None:
    assert printable(text).isprintable()


def test_a_near_miss_is_suggested() -> None:
    assert nearest("postgress", ["postgres", "redis"]) == "postgres"
    assert suggestion("zoones", ["zones"], "x:") == "did you mean x:zones?"


def test_all_words_are_told_when_none_is_near() -> None:
    assert suggestion("colour", ["b", "a"]) == "there are a, b"
