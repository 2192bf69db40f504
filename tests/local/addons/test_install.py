"""The add-ons on a real API server: accepted to the last field, kept apart, and left alone."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.manifest import Document, find
from components.releases import CNPG_NAMESPACE as NAMESPACE
from local import addons
from local.addons import certificates
from local.api import Api, RefusedError
from local.cluster import Cluster
from local.errors import LocalError
from local.pki import Pki
from tests.waiting import eventually

IMAGES = {name: f"node.local/{name}:0123456789ab" for name in addons.IMAGES} | {
    "postgres": "node.local/postgres:15.14-0123456789ab"
}
DEPLOYMENTS = [where for kind, *where in addons.PROGRAMS if kind == "Deployment"]
HELD_BACK = ("webhookconfigurations/", "apiservices/")
"""What would have the API server call Pods, which do not run on simulated nodes."""


class Careful(Api):
    """Applies everything for real but what would break the cluster for other tests."""

    def __init__(self, server: str, pki: Pki) -> None:
        super().__init__(server, pki)
        self.applied: list[str] = []

    def __enter__(self) -> Careful:
        return self

    def apply(self, path: str, body: Any, manager: str) -> None:
        """Hold back what is held back, and remember the rest."""
        dry = any(part in path for part in HELD_BACK)
        super().apply(f"{path}?dryRun=All" if dry else path, body, manager)
        if not dry:
            self.applied.append(path)


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Careful]:
    """The shared cluster, without add-ons again afterwards."""
    with Careful(cluster.server, cluster.pki) as careful:
        try:
            yield careful
        finally:
            for path in dict.fromkeys(reversed(careful.applied)):
                careful.delete(path)
            eventually("all is gone", lambda: gone(careful, f"/api/v1/namespaces/{NAMESPACE}"))


def gone(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except RefusedError as refusal:
        return refusal.status == httpx.codes.NOT_FOUND
    return False


def versions(api: Careful) -> dict[str, tuple[int, str]]:
    """What tells a changed object from an unchanged one, whatever happens to its status."""
    found = {}
    for path in api.applied:
        metadata = api.get(path)["metadata"]
        fields = [f for f in metadata.get("managedFields", []) if f["manager"] == "local-addons"]
        found[path] = (metadata.get("generation", 0), str(fields))
    return found


@pytest.mark.unit
def test_an_image_that_is_not_known_is_named() -> None:
    known = {name: image for name, image in IMAGES.items() if name != "pgbouncer"}
    with pytest.raises(LocalError, match="no image is known for: pgbouncer"):
        addons.documents(known, print)


@pytest.mark.unit
@pytest.mark.parametrize(("namespace", "name"), DEPLOYMENTS)
def test_each_deployment_survives_a_zone(namespace: str, name: str) -> None:
    documents = addons.documents(IMAGES, print)
    deployment = find(documents, "Deployment", name)
    assert deployment["metadata"]["namespace"] == namespace
    assert deployment["spec"]["replicas"] == 2
    assert find(documents, "PodDisruptionBudget", name)


@pytest.mark.unit
def test_nothing_is_pulled_and_nothing_comes_from_upstream() -> None:
    kinds = {kind for kind, *_ in addons.PROGRAMS}
    programs = [b for b in addons.documents(IMAGES, print) if b["kind"] in kinds]
    assert len(programs) == len(addons.PROGRAMS)
    containers = [c for p in programs for c in p["spec"]["template"]["spec"]["containers"]]
    assert {c["image"] for c in containers} <= set(IMAGES.values())
    assert {c["imagePullPolicy"] for c in containers} == {"IfNotPresent"}


@pytest.mark.unit
def test_the_name_server_is_where_policies_and_kubelets_look() -> None:
    documents = addons.documents(IMAGES, print)
    service = find(documents, "Service", "kube-dns")
    pod = find(documents, "DaemonSet", "coredns")["spec"]["template"]
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert pod["metadata"]["labels"]["k8s-app"] == "kube-dns"
    ports = pod["spec"]["containers"][0]["ports"]
    assert {(port["containerPort"], port["protocol"]) for port in ports} == {
        (53, "UDP"),
        (53, "TCP"),
    }


@pytest.mark.dataplane
@pytest.mark.parametrize(
    ("deployment", "program", "ask"),
    [
        ("cnpg-controller-manager", "cnpg-manager", "--help"),
        ("barman-cloud", "barman-manager", "--help"),
        ("metrics-server", "metrics-server", "--version"),
    ],
)
def test_the_pinned_program_knows_every_argument(
    tools: dict[str, Path], deployment: str, program: str, ask: str
) -> None:
    """It reads all arguments before it answers the last."""
    pod = find(addons.documents(IMAGES, print), "Deployment", deployment)["spec"]["template"]
    arguments = pod["spec"]["containers"][0]["args"]
    asked = subprocess.run(
        [tools[program], *arguments, ask], capture_output=True, text=True, check=False, timeout=30
    )
    assert asked.returncode == 0, asked.stderr


@pytest.mark.cluster
def test_before_an_installation_everything_is_missing(api: Careful) -> None:
    assert addons.ready(api) == [f"{ns}/{name} not installed" for _, ns, name in addons.PROGRAMS]


@pytest.mark.cluster
def test_all_is_accepted_runs_in_two_zones_and_stays_as_it_is(api: Careful) -> None:
    addons.install(api, IMAGES, print)
    eventually("all is ready", lambda: not addons.ready(api), lambda: addons.ready(api))
    for namespace, name in DEPLOYMENTS:
        assert len({zone for zone, _ in places(api, namespace, name)}) == 2
    before = versions(api)
    addons.install(api, IMAGES, print)
    assert versions(api) == before


@pytest.mark.cluster
def test_each_node_has_a_name_server_and_asks_it(api: Careful) -> None:
    """A node that is lost takes no other's name server along."""
    addons.install(api, IMAGES, print)
    eventually("all is ready", lambda: not addons.ready(api), lambda: addons.ready(api))
    nodes = {node["metadata"]["name"] for node in api.items("/api/v1/nodes")}
    assert {node for _, node in places(api, "kube-system", "coredns")} == nodes
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
    chosen = f"{slices}?labelSelector=kubernetes.io/service-name=kube-dns"

    def hints() -> list[tuple[str, list[str]]]:
        ends = [end for each in api.items(chosen) for end in each["endpoints"] or []]
        asked = [end.get("hints", {}).get("forNodes", []) for end in ends]
        return sorted(
            (end["nodeName"], [node["name"] for node in by])
            for end, by in zip(ends, asked, strict=True)
        )

    wanted = [(node, [node]) for node in sorted(nodes)]
    eventually("each node asks its own", lambda: hints() == wanted, hints)


@pytest.mark.cluster
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, _, name in addons.PROGRAMS[:2]])
def test_what_does_not_run_yet_is_named_with_how_much_does(
    api: Careful, kind: str, name: str
) -> None:
    addons.install(api, IMAGES, print)
    eventually("all is ready", lambda: not addons.ready(api), lambda: addons.ready(api))
    wanted = len(places(api, "kube-system", name))
    # No node is that large, so the new revision's first Pod waits and the old ones stay.
    path = f"/apis/apps/v1/namespaces/kube-system/{kind.lower()}s/{name}"
    body = find(addons.documents(IMAGES, print), kind, name)
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "999"}}
    api.apply(path, body, "local-addons")
    assert addons.ready(api) == [f"kube-system/{name} 0/{wanted}"]
    updated = "updatedNumberScheduled" if kind == "DaemonSet" else "updatedReplicas"
    eventually("one Pod is of the new revision", lambda: api.get(path)["status"].get(updated) == 1)
    assert addons.ready(api) == [f"kube-system/{name} 0/{wanted}"]


@pytest.mark.cluster
def test_a_certificate_is_replaced_only_when_it_is_no_good(api: Careful) -> None:
    addons.install(api, IMAGES, print)
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{certificates.SERVER.secret}"
    first = api.get(path)["data"]
    api.merge(path, {"data": {"tls.crt": "bm9uc2Vuc2U="}})
    addons.install(api, IMAGES, print)
    second = api.get(path)["data"]
    addons.install(api, IMAGES, print)
    assert second["tls.crt"] not in {first["tls.crt"], "bm9uc2Vuc2U="}
    assert api.get(path)["data"] == second


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
def test_the_operators_own_authority_survives_an_installation(api: Careful, kind: str) -> None:
    """The operator writes it when it starts; without it, every write of a Cluster would fail."""
    whole = next(b for b in addons.documents(IMAGES, print) if b["kind"] == kind)
    body = meeting_nothing(whole)
    collection = f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s"
    path = f"{collection}/{body['metadata']['name']}"
    try:
        Api.apply(api, path, body, "local-addons")
        written = api.get(path)
        for webhook in written["webhooks"]:
            webhook["clientConfig"]["caBundle"] = "bm9uc2Vuc2U="
        api.merge(path, {"webhooks": written["webhooks"]})
        Api.apply(api, path, body, "local-addons")
        kept = [webhook["clientConfig"].get("caBundle") for webhook in api.get(path)["webhooks"]]
        assert kept == ["bm9uc2Vuc2U="] * len(body["webhooks"])
    finally:
        api.delete(path)


@pytest.mark.cluster
def test_a_misspelled_field_is_refused(api: Careful) -> None:
    body = find(addons.documents(IMAGES, print), "ConfigMap", "coredns") | {"dtaa": {}}
    with pytest.raises(RefusedError, match="dtaa"):
        api.apply("/api/v1/namespaces/kube-system/configmaps/coredns", body, "local-addons")


def places(api: Api, namespace: str, program: str) -> set[tuple[str, str]]:
    """Zone and node of each of a program's Pods."""
    nodes = {n["metadata"]["name"]: n["metadata"]["labels"] for n in api.items("/api/v1/nodes")}
    return {
        (nodes[name]["topology.kubernetes.io/zone"], name)
        for pod in api.items(f"/api/v1/namespaces/{namespace}/pods")
        if pod["metadata"]["name"].startswith(f"{program}-")
        and (name := pod["spec"].get("nodeName"))
    }


def meeting_nothing(configuration: Document) -> Document:
    """The same webhooks under another name, for no object of the shared cluster."""
    body = copy.deepcopy(configuration)
    body["metadata"]["name"] += "-for-nothing"
    for webhook in body["webhooks"]:
        webhook["objectSelector"] = {"matchLabels": {"no-object-has": "this-label"}}
    return body
