"""Manifests: read without definitions, and never silently without the part that is looked for."""

from __future__ import annotations

import pytest

from components.manifest import (
    ManifestError,
    container,
    find,
    parse,
    restart_on_change,
    set_variable,
)

pytestmark = pytest.mark.unit

MANIFEST = """\
# a comment
apiVersion: v1
kind: Namespace
metadata: {name: here}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  template:
    metadata: {}
    spec:
      containers:
      - {name: main, env: [{name: COLOUR, valueFrom: {fieldRef: {fieldPath: spec}}}]}
"""


def test_every_object_but_definitions_is_read() -> None:
    assert [body["kind"] for body in parse(MANIFEST)] == ["Namespace", "Deployment"]


def test_an_object_that_is_not_there_is_named() -> None:
    with pytest.raises(ManifestError, match="no Deployment elsewhere"):
        find(parse(MANIFEST), "Deployment", "elsewhere")


def test_an_object_of_another_kind_is_not_taken_for_it() -> None:
    with pytest.raises(ManifestError, match="no Deployment here"):
        find(parse(MANIFEST), "Deployment", "here")


def test_a_container_that_is_not_there_is_named() -> None:
    with pytest.raises(ManifestError, match="no container manager"):
        container(find(parse(MANIFEST), "Deployment", "worker"), "manager")


def test_a_variable_gets_a_plain_value_in_the_place_of_a_reference() -> None:
    main = container(find(parse(MANIFEST), "Deployment", "worker"), "main")
    set_variable(main, "COLOUR", "blue")
    assert main["env"] == [{"name": "COLOUR", "value": "blue"}]


def test_a_variable_that_is_not_there_is_named() -> None:
    main = container(find(parse(MANIFEST), "Deployment", "worker"), "main")
    with pytest.raises(ManifestError, match="no variable SHAPE"):
        set_variable(main, "SHAPE", "round")


def test_another_configuration_makes_another_pod_template() -> None:
    templates = []
    for value in ("1", "2", "2"):
        deployment = find(parse(MANIFEST), "Deployment", "worker")
        restart_on_change(deployment, {"data": {"key": value}})
        templates.append(deployment["spec"]["template"])
    assert templates[0] != templates[1]
    assert templates[1] == templates[2]
