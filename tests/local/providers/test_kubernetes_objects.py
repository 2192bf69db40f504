"""Objects between program and server: names, drift, import, what may change in place."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.provider.experimental.property_value import PropertyValue

from local.providers.kubernetes import objects
from local.providers.kubernetes.diff import Mutability, diff
from local.providers.protocol import ProviderError, from_plain_map, to_plain

pytestmark = pytest.mark.unit

Object = dict[str, Any]


def an(api_version: str, kind: str, **properties: Any) -> Object:
    metadata = {"name": "it", "namespace": "ns"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **properties}


def test_core_group_has_no_name_in_the_api_version() -> None:
    assert objects.served_as("kubernetes:core/v1:Pod") == ("v1", "Pod")
    assert objects.served_as("kubernetes:apps/v1:Deployment") == ("apps/v1", "Deployment")


@pytest.mark.parametrize("token", ["helm.sh/v4:Chart", "yaml:ConfigFile", "core/v1:PodList"])
def test_what_is_no_single_object_is_refused(token: str) -> None:
    with pytest.raises(ProviderError, match="not supported by this stand-in"):
        objects.served_as(f"kubernetes:{token}")


def test_string_data_is_sent_as_data() -> None:
    sent = objects.body(an("v1", "Secret", stringData={"a": "b"}))
    assert sent["data"] == {"a": "Yg=="}
    assert "stringData" not in sent


def test_what_kubectl_keeps_of_a_secret_is_not_in_outputs() -> None:
    live = an("v1", "Secret", data={"password": "aHVudGVyMg=="})
    kept = {"kubectl.kubernetes.io/last-applied-configuration": "aHVudGVyMg==", "team": "games"}
    live["metadata"]["annotations"] = kept
    found = to_plain(objects.outputs(live, from_plain_map(live), "me")["metadata"])
    assert found["annotations"] == {"team": "games"}


def test_secrets_data_is_secret_in_outputs_though_not_declared_so() -> None:
    live = an("v1", "Secret", data={"a": "Yg=="})
    assert objects.outputs(live, from_plain_map(live), "me")["data"].is_secret


def test_schema_extensions_keep_their_dashes() -> None:
    sent = objects.body({"spec": {"x_kubernetes_preserve_unknown_fields": True}})
    assert sent == {"spec": {"x-kubernetes-preserve-unknown-fields": True}}
    shown = objects.outputs({**an("a/v1", "B"), **sent}, {}, "me")
    assert to_plain(shown["spec"]) == {"x_kubernetes_preserve_unknown_fields": True}


# --- drift ---


def drift(live: Any, wanted: Any) -> Any:
    return objects.declared({"spec": live}, {"spec": wanted})["spec"]


def test_default_of_the_server_is_no_drift() -> None:
    assert drift({"a": 1, "added": 2}, {"a": 1}) == {"a": 1}


def test_changed_value_is_drift() -> None:
    assert drift({"replicas": 2}, {"replicas": 3}) == {"replicas": 2}


def test_removed_value_is_drift() -> None:
    assert drift({}, {"replicas": 3}) == {}


@pytest.mark.parametrize(
    ("live", "wanted"), [("1", "1000m"), ("1Gi", "1024Mi"), ("1", 1), ("500m", 0.5), ("1k", "1e3")]
)
def test_same_quantity_is_no_drift(live: str, wanted: Any) -> None:
    assert drift({"cpu": live}, {"cpu": wanted}) == {"cpu": wanted}


@pytest.mark.parametrize(("live", "wanted"), [("2", "1000m"), ("1Gi", "1G"), ("1.0.1", "1.0")])
def test_other_quantity_is_drift(live: str, wanted: str) -> None:
    assert drift({"cpu": live}, {"cpu": wanted}) == {"cpu": live}


def test_label_is_text_and_no_quantity() -> None:
    live, wanted = {"labels": {"v": "1"}}, {"labels": {"v": "1.0"}}
    assert objects.declared({"metadata": live}, {"metadata": wanted}) == {"metadata": live}


@pytest.mark.parametrize("empty", [False, 0, "", [], {}])
def test_empty_value_that_the_server_leaves_out_is_no_drift(empty: Any) -> None:
    assert drift({}, {"a": empty}) == {"a": empty}


def test_container_that_someone_added_is_theirs() -> None:
    live = {"containers": [{"name": "sidecar"}, {"name": "main", "image": "x", "tty": False}]}
    wanted = {"containers": [{"name": "main", "image": "x"}]}
    assert drift(live, wanted) == wanted


def test_item_added_to_a_list_that_is_one_value_is_drift() -> None:
    assert drift({"command": ["a", "b"]}, {"command": ["a"]}) == {"command": ["a", "b"]}


def test_string_data_drifts_with_the_live_data() -> None:
    live = an("v1", "Secret", data={"a": "Yw=="})
    found = objects.declared(live, an("v1", "Secret", stringData={"a": "b"}))
    assert found["stringData"] == {"a": "c"}


# --- import ---


def test_import_takes_what_people_set_and_not_what_controllers_did() -> None:
    live = an("v1", "Thing", spec={"a": 1, "b": 2, "items": [{"name": "x", "v": 1, "w": 2}]})
    item: Object = {".": {}, "f:name": {}, "f:v": {}}
    ours: Object = {"f:spec": {"f:a": {}, "f:items": {'k:{"name":"x"}': item}}}
    theirs: Object = {"f:spec": {"f:b": {}}}
    live["metadata"]["managedFields"] = [
        {"manager": "kubectl", "fieldsV1": ours},
        {"manager": "kube-controller-manager", "fieldsV1": theirs},
    ]
    assert objects.imported(live)["spec"] == {"a": 1, "items": [{"name": "x", "v": 1}]}


def test_import_leaves_status_out() -> None:
    live = an("v1", "Thing", status={"phase": "Active"})
    entry = {"manager": "x", "subresource": "status", "fieldsV1": {"f:status": {"f:phase": {}}}}
    live["metadata"]["managedFields"] = [entry]
    assert "status" not in objects.imported(live)


# --- secrets in messages ---


def test_what_the_server_may_quote_of_a_secret_is_known() -> None:
    inputs = from_plain_map(an("v1", "Secret", stringData={"a": 'say "friend"'}))
    assert {'say "friend"', 'say \\"friend\\"', "c2F5ICJmcmllbmQi"} <= objects.secrets_of(inputs)


def test_plain_inputs_hide_nothing() -> None:
    assert objects.secrets_of({"a": PropertyValue("visible")}) == set()


# --- replacement ---


@pytest.mark.parametrize(
    ("api_version", "kind", "before", "after"),
    [
        ("apps/v1", "Deployment", {"spec": {"selector": 1}}, {"spec": {"selector": 2}}),
        ("apps/v1", "StatefulSet", {"spec": {"serviceName": 1}}, {"spec": {"serviceName": 2}}),
        ("batch/v1", "Job", {"spec": {"template": 1}}, {"spec": {"template": 2}}),
        ("v1", "Service", {"spec": {"clusterIP": "None"}}, {"spec": {}}),
        ("v1", "PersistentVolumeClaim", {"spec": {"volumeName": 1}}, {"spec": {"volumeName": 2}}),
        ("v1", "ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "2"}}),
        ("storage.k8s.io/v1", "StorageClass", {"parameters": {"a": "1"}}, {}),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", {"roleRef": 1}, {"roleRef": 2}),
    ],
)
def test_immutable_field_forces_a_replacement(
    api_version: str, kind: str, before: Object, after: Object
) -> None:
    old, new = an(api_version, kind, **before), an(api_version, kind, **after)
    found = diff(old, new, Mutability())
    assert found.replaces
    assert found.delete_before_replace


@pytest.mark.parametrize(
    ("api_version", "kind", "before", "after"),
    [
        ("apps/v1", "Deployment", {"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}),
        ("v1", "Service", {"spec": {"ports": [1]}}, {"spec": {"ports": [2]}}),
        (
            "v1",
            "PersistentVolumeClaim",
            {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
            {"spec": {"resources": {"requests": {"storage": "2Gi"}}}},
        ),
    ],
)
def test_other_field_is_updated_in_place(
    api_version: str, kind: str, before: Object, after: Object
) -> None:
    found = diff(an(api_version, kind, **before), an(api_version, kind, **after), Mutability())
    assert found.changes
    assert not found.replaces


def test_config_map_changes_in_place_where_configured_so() -> None:
    old, new = an("v1", "ConfigMap", data={"a": "1"}), an("v1", "ConfigMap", data={"a": "2"})
    assert not diff(old, new, Mutability(config_maps=True)).replaces


def test_immutable_config_map_is_replaced_all_the_same() -> None:
    old = an("v1", "ConfigMap", data={"a": "1"}, immutable=True)
    new = an("v1", "ConfigMap", data={"a": "2"}, immutable=True)
    assert diff(old, new, Mutability(config_maps=True)).replaces


def test_generated_name_needs_no_deletion_first() -> None:
    old, new = an("v1", "ConfigMap", data={"a": "1"}), an("v1", "ConfigMap", data={"a": "2"})
    for obj in (old, new):
        obj["metadata"]["annotations"] = {objects.AUTONAMED: "true"}
    assert not diff(old, new, Mutability()).delete_before_replace


def test_same_quantity_is_no_change() -> None:
    old, new = an("a/v1", "B", spec={"cpu": "1"}), an("a/v1", "B", spec={"cpu": "1000m"})
    assert not diff(old, new, Mutability()).changes
