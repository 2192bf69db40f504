"""The random stand-in: what it makes, and what the real engine keeps of it."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pulumi
import pulumi_random as random
import pytest
from pulumi.automation import CommandError

from local.providers.random import TYPES
from tests.local.providers.conftest import Program, Stack

Values = dict[str, Any]


def make(name: str, **inputs: Any) -> tuple[str, Values]:
    kind = TYPES[f"random:index/random{name}:Random{name}"]
    complete = kind.complete(inputs)
    assert kind.problem(complete) is None
    return kind.generate(complete)


def problem(name: str, **inputs: Any) -> str | None:
    kind = TYPES[f"random:index/random{name}:Random{name}"]
    return kind.problem(kind.complete(inputs))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("inputs", "pattern"),
    [
        ({"length": 100, "special": False}, r"[a-zA-Z0-9]{100}"),
        ({"length": 100, "lower": False, "upper": False, "special": False}, r"[0-9]{100}"),
        ({"length": 100, "numeric": False, "special": False}, r"[a-zA-Z]{100}"),
        ({"length": 100, "number": False, "special": False}, r"[a-zA-Z]{100}"),
        (
            {
                "length": 100,
                "lower": False,
                "upper": False,
                "numeric": False,
                "overrideSpecial": "_",
            },
            r"_{100}",
        ),
    ],
)
def test_a_string_has_only_the_allowed_characters(inputs: Values, pattern: str) -> None:
    assert re.fullmatch(pattern, make("String", **inputs)[1]["result"])


@pytest.mark.unit
def test_a_password_has_the_least_number_of_each_class() -> None:
    least = {"minLower": 2, "minUpper": 3, "minNumeric": 4, "minSpecial": 5}
    result = make("Password", length=14, **least)[1]["result"]
    counts = [
        sum(c in allowed for c in result)
        for allowed in (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    ]
    assert (counts, len(result)) == ([2, 3, 4], 14)


@pytest.mark.unit
def test_a_password_comes_with_its_hash() -> None:
    identity, outputs = make("Password", length=100)
    assert identity == "none"
    assert bcrypt.checkpw(outputs["result"].encode()[:72], outputs["bcryptHash"].encode())


@pytest.mark.unit
def test_an_id_is_one_value_in_four_spellings() -> None:
    identity, outputs = make("Id", byteLength=5, prefix="p-")
    data = base64.urlsafe_b64decode(identity + "=")
    assert outputs == {
        "b64Url": f"p-{identity}",
        "b64Std": f"p-{base64.b64encode(data).decode()}",
        "hex": f"p-{data.hex()}",
        "dec": f"p-{int.from_bytes(data, 'big')}",
    }


@pytest.mark.unit
def test_a_pet_has_as_many_words_as_asked_for() -> None:
    assert re.fullmatch(r"x(_[a-z]+){4}", make("Pet", length=4, prefix="x", separator="_")[0])


@pytest.mark.unit
def test_an_integer_is_within_its_bounds_at_both_ends() -> None:
    assert {make("Integer", min=1, max=2)[1]["result"] for _ in range(64)} == {1, 2}


@pytest.mark.unit
def test_a_seed_gives_the_same_again() -> None:
    items = [str(i) for i in range(50)]
    once, again = (make("Shuffle", inputs=items, seed="s")[1] for _ in range(2))
    assert once == again
    assert once["results"] != items


@pytest.mark.unit
def test_a_shuffle_repeats_items_only_once_all_are_used() -> None:
    results = make("Shuffle", inputs=["a", "b", "c"], resultCount=5)[1]["results"]
    assert sorted(results[:3]) == ["a", "b", "c"]
    assert len(results) == 5


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("Password", {"length": 0}, "length is 0; it must be a whole number of at least 1"),
        ("String", {"length": 3, "minLower": 4}, "length is 3; the minimum counts alone"),
        (
            "String",
            {"length": 3, "lower": False, "upper": False, "numeric": False, "special": False},
            "at least one must be true",
        ),
        ("Integer", {"min": 5, "max": 4}, "min is 5; it must not be above max, 4"),
        ("Id", {"byteLength": 0}, "byteLength is 0"),
        ("Pet", {"length": 0}, "length is 0"),
    ],
)
def test_what_cannot_be_met_is_refused(name: str, inputs: Values, message: str) -> None:
    assert message in (problem(name, **inputs) or "")


# --- in the engine ----------------------------------------------------------------------------


@pytest.fixture
def random_stack(tmp_path: Path) -> Stack:
    return Stack.empty(tmp_path)


def password(**arguments: Any) -> Program:
    def program() -> None:
        made = random.RandomPassword("it", **{"length": 16, **arguments})
        pulumi.export("result", made.result)

    return program


def exported(stack: Stack, program: Program) -> Any:
    return stack.up(program).outputs["result"].value


@pytest.mark.engine
def test_a_value_stays_until_something_changes(random_stack: Stack) -> None:
    first = exported(random_stack, password(keepers={"version": "1"}))
    same = exported(random_stack, password(keepers={"version": "1"}, special=True))
    other = exported(random_stack, password(keepers={"version": "2"}))
    assert (first == same, first == other) == (True, False)


@pytest.mark.engine
def test_no_password_is_in_clear_in_the_state(random_stack: Stack) -> None:
    result = exported(random_stack, password(special=False))
    state = random_stack.state_file().read_text()
    assert "bcryptHash" in state
    assert result not in state
    assert "$2b$" not in state


@pytest.mark.engine
@pytest.mark.parametrize(
    ("declare", "identity"),
    [
        (lambda o: random.RandomPassword("it", length=8, opts=o).result, "12345678"),
        (lambda o: random.RandomString("it", length=8, opts=o).result, "12345678"),
        (lambda o: random.RandomId("it", byte_length=3, prefix="p", opts=o).b64_url, "p,AAEC"),
        (lambda o: random.RandomInteger("it", min=1, max=9, opts=o).result.apply(str), "7,1,9"),
        (
            lambda o: random.RandomUuid("it", opts=o).result,
            "aabbccdd-eeff-0011-2233-445566778899",
        ),
    ],
)
def test_what_exists_can_be_imported(
    random_stack: Stack,
    declare: Callable[[pulumi.ResourceOptions], pulumi.Output[str]],
    identity: str,
) -> None:
    def program() -> None:
        pulumi.export("result", declare(pulumi.ResourceOptions(import_=identity)))

    expected = {"p,AAEC": "pAAEC", "7,1,9": "7"}.get(identity, identity)
    assert exported(random_stack, program) == expected


@pytest.mark.engine
def test_a_preview_refuses_what_cannot_be_met(random_stack: Stack) -> None:
    with pytest.raises(CommandError, match="length is 3; the minimum counts alone add up to 4"):
        random_stack.preview(password(length=3, min_lower=4))


@pytest.mark.engine
def test_an_unknown_type_is_named_with_what_there_is(random_stack: Stack) -> None:
    def program() -> None:
        random.RandomBytes("it", length=4)

    with pytest.raises(CommandError, match="no random:index/randomBytes:RandomBytes; it has"):
        random_stack.preview(program)
