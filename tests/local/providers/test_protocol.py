"""Values, diffs and errors on their way between the engine and a provider."""

from __future__ import annotations

import pytest
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime.proto import provider_pb2
from pulumi.runtime.rpc import UNKNOWN as WIRE_UNKNOWN

from local.providers.protocol import (
    ADD,
    DELETE,
    UNKNOWN,
    UPDATE,
    InitFailed,
    Plain,
    ProviderError,
    _init_failed_status,
    changed_paths,
    contains_unknown,
    diff_response,
    from_plain,
    redact,
    render_path,
    secret_strings,
    to_plain,
)

pytestmark = pytest.mark.unit


def secret(value: Plain) -> PropertyValue:
    return from_plain(value).with_secret(True)


@pytest.mark.parametrize("plain", [True, 3, 2.5, "text", [1, [2]], {"a": {"b": []}}])
def test_plain_value_survives_the_round_trip(plain: Plain) -> None:
    assert to_plain(from_plain(plain)) == plain


def test_whole_numbers_are_integers() -> None:
    assert isinstance(to_plain(PropertyValue(3.0)), int)


def test_null_entries_are_absent() -> None:
    assert to_plain({"a": PropertyValue(None), "b": PropertyValue("x")}) == {"b": "x"}


def test_engines_placeholder_is_unknown_both_ways() -> None:
    value = PropertyValue(WIRE_UNKNOWN)
    assert to_plain(value) is UNKNOWN
    assert from_plain(UNKNOWN) == value


def test_unknown_is_found_at_depth() -> None:
    assert contains_unknown({"a": [{"b": UNKNOWN}]})
    assert not contains_unknown({"a": [{"b": "known"}]})


def test_secret_stays_secret_at_its_place() -> None:
    like = PropertyValue({"open": from_plain("a"), "shut": secret("b")})
    found = from_plain({"open": "c", "shut": "d"}, like=like)
    assert found == PropertyValue({"open": from_plain("c"), "shut": secret("d")})


def test_list_that_changed_its_length_is_secret_as_a_whole() -> None:
    like = PropertyValue([from_plain("a"), secret("b")])
    assert from_plain(["a", "b", "c"], like=like).is_secret


def test_secret_strings_are_found_and_blotted_out() -> None:
    properties = {"a": secret({"deep": ["hunter2-hunter2"]}), "b": from_plain("open")}
    assert secret_strings(properties) == {"hunter2-hunter2"}
    assert redact("it is hunter2-hunter2!", secret_strings(properties)) == "it is [secret]!"


def test_longer_secret_is_blotted_out_before_its_own_part() -> None:
    assert redact("password", {"pass", "password"}) == "[secret]"


@pytest.mark.parametrize(
    ("old", "new", "kind"), [(None, 1, ADD), (1, None, DELETE), (1, 2, UPDATE), (1, True, UPDATE)]
)
def test_change_is_named_by_its_kind(old: Plain, new: Plain, kind: object) -> None:
    assert changed_paths({"a": old}, {"a": new}) == {("a",): kind}


def test_unknown_differs_from_everything() -> None:
    assert changed_paths({"a": 1}, {"a": UNKNOWN}) == {("a",): UPDATE}


def test_equal_values_do_not_differ() -> None:
    assert changed_paths({"a": [1, {"b": 1.0}]}, {"a": [1, {"b": 1}]}) == {}


def test_change_is_named_at_its_deepest_path() -> None:
    old = {"spec": {"ports": [{"port": 80}, {"port": 81}]}}
    new = {"spec": {"ports": [{"port": 80}, {"port": 82}]}}
    assert changed_paths(old, new) == {("spec", "ports", 1, "port"): UPDATE}


def test_path_is_written_as_the_engine_reads_it() -> None:
    assert render_path(("a", "b", 0, "c.d/e", "f")) == 'a.b[0]["c.d/e"].f'


def test_replacement_is_reported_with_its_path() -> None:
    found = diff_response({"a": 1, "b": 1}, {"a": 2, "b": 2}, replaces=lambda path: path == ("a",))
    assert found.replaces == ["a"]
    assert found.changes


def test_delete_before_replace_needs_a_replacement() -> None:
    assert not diff_response({"a": 1}, {"a": 2}, delete_before_replace=True).delete_before_replace


def test_values_that_mean_the_same_are_no_change() -> None:
    assert not diff_response({"a": "1"}, {"a": "1.0"}, same=lambda *_: True).changes


def test_unready_resource_carries_its_id_and_reasons() -> None:
    error = InitFailed("ns/name", {"a": from_plain("b")}, ["not ready", "image missing"])
    detail = provider_pb2.ErrorResourceInitFailed()
    assert _init_failed_status(error).details[0].Unpack(detail)
    assert (detail.id, list(detail.reasons)) == ("ns/name", ["not ready", "image missing"])


def test_provider_error_shows_its_own_words() -> None:
    assert str(ProviderError("set KUBECONFIG")) == "set KUBECONFIG"
