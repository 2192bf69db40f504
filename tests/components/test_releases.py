"""The operators' manifests: their releases', with each change that recovery depends on."""

from __future__ import annotations

import copy

import pytest

from components.manifest import Document, ManifestError, container, find, parse
from components.releases import barman_plugin, cloudnative_pg, without_cert_manager
from local.errors import LocalError
from local.toolchain import build

pytestmark = pytest.mark.unit

OPERATOR, POSTGRES, PGBOUNCER = (
    "node.local/cnpg:1",
    "node.local/postgres:15.14-1",
    "node.local/pgb:1",
)
PLUGIN, SIDECAR = "node.local/plugin:1", "node.local/sidecar:1"


@pytest.fixture(scope="module")
def cnpg_release() -> list[Document]:
    return parse(build.operator_manifest("cnpg-manager", print).read_text())


@pytest.fixture(scope="module")
def barman_release() -> list[Document]:
    return parse(build.operator_manifest("barman-manager", print).read_text())


def changed_cnpg(release: list[Document]) -> list[Document]:
    return cloudnative_pg(release, operator=OPERATOR, postgres=POSTGRES, pgbouncer=PGBOUNCER)


def changed_barman(release: list[Document]) -> list[Document]:
    return barman_plugin(release, plugin=PLUGIN, sidecar=SIDECAR)


@pytest.fixture
def cnpg(cnpg_release: list[Document]) -> list[Document]:
    return changed_cnpg(cnpg_release)


@pytest.fixture
def barman(barman_release: list[Document]) -> list[Document]:
    return changed_barman(barman_release)


def manager(documents: list[Document]) -> Document:
    return container(find(documents, "Deployment", "cnpg-controller-manager"), "manager")


def server(documents: list[Document]) -> Document:
    return container(find(documents, "Deployment", "barman-cloud"), "barman-cloud")


def variables(body: Document) -> dict[str, str]:
    return {v["name"]: v["value"] for v in body["env"] if "value" in v}


def test_the_releases_own_documents_stay_as_they_are(cnpg_release: list[Document]) -> None:
    before = copy.deepcopy(cnpg_release)
    changed_cnpg(cnpg_release)
    assert cnpg_release == before


def test_operator_and_what_it_gives_instances_are_one_image(cnpg: list[Document]) -> None:
    assert manager(cnpg)["image"] == OPERATOR
    assert variables(manager(cnpg))["OPERATOR_IMAGE_NAME"] == OPERATOR


def test_the_operator_starts_without_a_registry(cnpg: list[Document]) -> None:
    assert manager(cnpg)["imagePullPolicy"] == "IfNotPresent"


def test_the_operator_runs_twice_in_two_zones(cnpg: list[Document]) -> None:
    spec = find(cnpg, "Deployment", "cnpg-controller-manager")["spec"]
    assert spec["replicas"] == 2
    assert spec["template"]["spec"]["topologySpreadConstraints"]
    assert find(cnpg, "PodDisruptionBudget", "cnpg-controller-manager")


def test_a_dead_leader_is_replaced_sooner_than_by_default(cnpg: list[Document]) -> None:
    arguments = manager(cnpg)["args"]
    assert {"--leader-elect", "--leader-lease-duration=10", "--leader-renew-deadline=6"} <= {
        *arguments
    }


def test_the_operator_has_room_to_be_quick(cnpg: list[Document]) -> None:
    resources = manager(cnpg)["resources"]
    assert resources["limits"]["cpu"] == "1"
    assert resources["limits"]["memory"]
    assert resources["requests"]["cpu"]


def test_the_operator_reads_the_images_of_databases_and_poolers(cnpg: list[Document]) -> None:
    configuration = find(cnpg, "ConfigMap", "cnpg-controller-manager-config")
    assert configuration["data"] == {
        "POSTGRES_IMAGE_NAME": POSTGRES,
        "PGBOUNCER_IMAGE_NAME": PGBOUNCER,
    }
    assert "--config-map-name=cnpg-controller-manager-config" in manager(cnpg)["args"]


def test_another_default_image_restarts_the_operator(cnpg_release: list[Document]) -> None:
    other = cloudnative_pg(
        cnpg_release, operator=OPERATOR, postgres="node.local/postgres:15.14-2", pgbouncer=PGBOUNCER
    )
    templates = [
        find(documents, "Deployment", "cnpg-controller-manager")["spec"]["template"]
        for documents in (changed_cnpg(cnpg_release), other)
    ]
    assert templates[0] != templates[1]


@pytest.mark.parametrize("tag", ["15", "17.6", "15.14-0123456789ab", "15-0123456789ab"])
def test_an_image_that_tells_its_version_is_taken(cnpg_release: list[Document], tag: str) -> None:
    image = f"node.local/postgres:{tag}"
    changed = cloudnative_pg(cnpg_release, operator=OPERATOR, postgres=image, pgbouncer=PGBOUNCER)
    configuration = find(changed, "ConfigMap", "cnpg-controller-manager-config")
    assert configuration["data"]["POSTGRES_IMAGE_NAME"] == image


@pytest.mark.parametrize("name", ["postgres", "postgres:latest", "postgres:0123456789ab"])
def test_an_image_that_does_not_is_refused_before_the_operator_refuses_it(
    cnpg_release: list[Document], name: str
) -> None:
    with pytest.raises(ManifestError, match="reads PostgreSQL's version"):
        cloudnative_pg(cnpg_release, operator=OPERATOR, postgres=name, pgbouncer=PGBOUNCER)


def test_a_ready_replica_answers_webhooks_whether_it_leads_or_not(cnpg: list[Document]) -> None:
    service = find(cnpg, "Service", "cnpg-webhook-service")
    deployment = find(cnpg, "Deployment", "cnpg-controller-manager")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    port = service["spec"]["ports"][0]["targetPort"]
    assert manager(cnpg)["readinessProbe"]["httpGet"]["port"] == port


def test_a_release_without_its_deployment_is_refused(cnpg_release: list[Document]) -> None:
    without = [body for body in cnpg_release if body["kind"] != "Deployment"]
    with pytest.raises(ManifestError, match="no Deployment cnpg-controller-manager"):
        changed_cnpg(without)


def test_a_release_that_elects_no_leader_is_refused(cnpg_release: list[Document]) -> None:
    release = copy.deepcopy(cnpg_release)
    manager(release)["args"].remove("--leader-elect")
    with pytest.raises(ManifestError, match="not started with --leader-elect"):
        changed_cnpg(release)


def test_the_plugin_and_its_sidecar_get_our_images(barman: list[Document]) -> None:
    assert server(barman)["image"] == PLUGIN
    assert server(barman)["imagePullPolicy"] == "IfNotPresent"
    assert variables(server(barman))["SIDECAR_IMAGE"] == SIDECAR


def test_a_cluster_without_cert_manager_can_have_the_rest(barman: list[Document]) -> None:
    left = without_cert_manager(barman)
    assert not [body for body in left if "cert-manager" in body["apiVersion"]]
    assert find(left, "Deployment", "barman-cloud")


def test_no_secret_holds_an_image_name(barman: list[Document]) -> None:
    assert not [body for body in barman if body["kind"] == "Secret"]


def test_both_replicas_of_the_plugin_serve(barman: list[Document]) -> None:
    spec = find(barman, "Deployment", "barman-cloud")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["type"] == "RollingUpdate"
    assert "--leader-elect" not in server(barman)["args"]


def test_the_plugins_replicas_are_spread_and_guarded(barman: list[Document]) -> None:
    pod = find(barman, "Deployment", "barman-cloud")["spec"]["template"]["spec"]
    assert pod["topologySpreadConstraints"]
    assert find(barman, "PodDisruptionBudget", "barman-cloud")


def test_each_operator_asks_the_plugin_beside_it(
    barman: list[Document], cnpg: list[Document]
) -> None:
    service = find(barman, "Service", "barman-cloud")
    assert service["spec"]["trafficDistribution"] == "PreferSameNode"
    pod = find(barman, "Deployment", "barman-cloud")["spec"]["template"]["spec"]
    [preferred] = pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    beside = preferred["podAffinityTerm"]
    operator = find(cnpg, "Deployment", "cnpg-controller-manager")["spec"]["template"]
    assert beside["labelSelector"]["matchLabels"].items() <= operator["metadata"]["labels"].items()
    assert beside["topologyKey"] == "kubernetes.io/hostname"


def test_a_plugin_of_another_shape_is_refused(barman_release: list[Document]) -> None:
    without = [body for body in barman_release if body["kind"] != "Deployment"]
    with pytest.raises(ManifestError, match="no Deployment barman-cloud"):
        changed_barman(without)


def test_a_release_whose_manifest_is_not_in_the_module_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, _ = build.OPERATOR_MANIFESTS["cnpg-manager"]
    monkeypatch.setitem(build.OPERATOR_MANIFESTS, "cnpg-manager", (module, "cnpg-{version}.txt"))
    with pytest.raises(LocalError, match="cloudnative-pg has no cnpg-1.30.0.txt"):
        build.operator_manifest("cnpg-manager", print)


@pytest.mark.parametrize("allowed", [True, False])
def test_silent_connections_end_soon_only_where_nodes_allow_it(
    cnpg_release: list[Document], allowed: bool
) -> None:
    changed = cloudnative_pg(cnpg_release, unsafe_sysctls=allowed)
    pod = find(changed, "Deployment", "cnpg-controller-manager")["spec"]["template"]["spec"]
    assert ("sysctls" in pod["securityContext"]) is allowed


def test_without_images_the_release_keeps_its_own(cnpg_release: list[Document]) -> None:
    changed = cloudnative_pg(cnpg_release)
    assert manager(changed)["image"] == manager(cnpg_release)["image"]
    names = [body["metadata"]["name"] for body in changed if body["kind"] == "ConfigMap"]
    assert "cnpg-controller-manager-config" not in names
