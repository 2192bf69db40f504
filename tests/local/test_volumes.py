"""Claims and snapshots of real nodes, served on the real API server with simulated nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from local.api import Api
from local.cluster import Cluster
from local.errors import LocalError
from local.volumes.folders import Folders
from local.volumes.service import (
    CONTENTS,
    SNAPSHOT_API,
    STORAGE_CLASSES,
    VOLUMES,
    size,
    size_in_bytes,
)
from tests.conftest import TOPOLOGY
from tests.waiting import LIMIT_SECONDS, eventually

PROVISIONER = "volumes.test"
SPACE = "/api/v1/namespaces/volumes"
CLAIMS = f"{SPACE}/persistentvolumeclaims"
SNAPSHOTS = f"{SNAPSHOT_API}/namespaces/volumes/volumesnapshots"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SELECTED = "volume.kubernetes.io/selected-node"
HERE, ELSEWHERE = (f"{zone}-1" for zone in TOPOLOGY.zones[:2])

Made = dict[str, Any]


def storage_class(name: str, policy: str, binding: str = "WaitForFirstConsumer") -> Made:
    return {
        "metadata": {"name": name},
        "provisioner": PROVISIONER,
        "reclaimPolicy": policy,
        "volumeBindingMode": binding,
        "allowVolumeExpansion": True,
        "mountOptions": ["noatime"],
    }


def snapshot_class(name: str, policy: str) -> Made:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name},
        "driver": PROVISIONER,
        "deletionPolicy": policy,
    }


class Server:
    """The process under test."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.start()

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "local.volumes", str(self._cluster.folder)]
        self._process = subprocess.Popen([*command, "--provisioner", PROVISIONER])

    def stop(self) -> int:
        """End it as its supervisor does; the exit status."""
        self._process.terminate()
        return self._process.wait(LIMIT_SECONDS)


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    with cluster.api() as api:
        api.create("/api/v1/namespaces", {"metadata": {"name": "volumes"}})
        api.create(STORAGE_CLASSES, storage_class("deleted", "Delete"))
        api.create(STORAGE_CLASSES, storage_class("retained", "Retain"))
        for policy in ("Delete", "Retain"):
            body = snapshot_class(f"snapshots-{policy.lower()}", policy)
            api.create(f"{SNAPSHOT_API}/volumesnapshotclasses", body)
        eventually("Pods may be made", lambda: api.items(f"{SPACE}/serviceaccounts"))
    server = Server(cluster)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def api(cluster: Cluster, server: Server) -> Iterator[Api]:
    """The API while nobody simulates volumes: KWOK would serve every claim there is."""
    kwok = cluster.part("kwok").pid()
    assert kwok is not None
    with cluster.api() as api:
        eventually("the nodes' leases are fresh", lambda: leases_are_fresh(api))
        os.kill(kwok, signal.SIGSTOP)
        try:
            yield api
        finally:
            os.kill(kwok, signal.SIGCONT)


def leases_are_fresh(api: Api) -> bool:
    """Whether every node has half a minute until it counts as lost: KWOK renews each 10 s."""
    oldest = datetime.now(UTC) - timedelta(seconds=15)
    renewed = [datetime.fromisoformat(each["spec"]["renewTime"]) for each in api.items(LEASES)]
    return all(time > oldest for time in renewed)


def make_claim(api: Api, name: str, storage: str = "deleted", **spec: object) -> None:
    body = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage,
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }
    assert api.create(CLAIMS, body)


def use(api: Api, name: str, node: str = HERE) -> None:
    """Have the scheduler place a Pod that uses a claim."""
    container = {
        "name": "main",
        "image": "example.com/any:1",
    }
    body = {
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "nodeSelector": {"kubernetes.io/hostname": node},
            # On a busy machine a test may take longer than the node's lease, which nobody renews.
            "tolerations": [{"operator": "Exists"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        },
    }
    assert api.create(f"{SPACE}/pods", body)


def bound(api: Api, name: str) -> Made:
    """The volume that a claim was bound to."""
    claim = f"{CLAIMS}/{name}"
    eventually(f"{name} is bound", lambda: api.get(claim)["status"]["phase"] == "Bound")
    return api.get(f"{VOLUMES}/{api.get(claim)['spec']['volumeName']}")


def annotations_of(api: Api, name: str) -> dict[str, str]:
    """The annotations of a claim."""
    found: dict[str, str] = api.get(f"{CLAIMS}/{name}")["metadata"].get("annotations", {})
    return found


def volume_for(
    api: Api, name: str, storage: str = "deleted", node: str = HERE, **spec: Any
) -> Made:
    make_claim(api, name, storage, **spec)
    use(api, name, node)
    return bound(api, name)


def folder_of(volume: Made) -> Path:
    return Path(volume["spec"]["local"]["path"])


def release(api: Api, name: str) -> None:
    api.delete(f"{SPACE}/pods/{name}?gracePeriodSeconds=0")
    api.delete(f"{CLAIMS}/{name}")


def names(api: Api, path: str) -> list[str]:
    return [item["name"] for item in api.metadata(path)]


def take_snapshot(api: Api, name: str, policy: str = "delete", **source: str) -> None:
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"source": source, "volumeSnapshotClassName": f"snapshots-{policy}"},
    }
    if "volumeSnapshotContentName" in source:
        del body["spec"]["volumeSnapshotClassName"]  # type: ignore[attr-defined]
    assert api.create(SNAPSHOTS, body)


def ready(api: Api, name: str) -> Made:
    """The status of a snapshot that is ready."""

    def status() -> Made:
        found: Made = api.get(f"{SNAPSHOTS}/{name}").get("status", {})
        return found

    eventually(f"{name} is ready", lambda: status().get("readyToUse"), status)
    return status()


def snapshot_source(name: str) -> Made:
    return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}


def events(api: Api, name: str) -> list[str]:
    return [
        f"{event['reason']}: {event['message']}"
        for event in api.items(f"{SPACE}/events")
        if event["involvedObject"]["name"] == name and event["source"]["component"] == PROVISIONER
    ]


@pytest.mark.cluster
def test_a_claim_is_bound_to_a_folder_of_the_node_that_its_pod_is_scheduled_to(
    api: Api, cluster: Cluster
) -> None:
    volume = volume_for(api, "first", node=ELSEWHERE)
    folder = cluster.folder / "nodes" / ELSEWHERE / "volumes" / volume["metadata"]["name"]
    assert folder_of(volume) == folder
    assert folder.stat().st_mode & 0o7777 == 0o777
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert {e["key"]: e["values"] for term in terms for e in term["matchExpressions"]} == {
        "kubernetes.io/hostname": [ELSEWHERE],
        "topology.kubernetes.io/zone": [TOPOLOGY.zones[1]],
    }
    pod = f"{SPACE}/pods/first"
    eventually("the Pod is there", lambda: api.get(pod)["spec"].get("nodeName") == ELSEWHERE)


@pytest.mark.cluster
def test_a_volume_has_what_its_claim_and_its_class_say(api: Api) -> None:
    volume = volume_for(api, "described", "retained")
    assert volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == PROVISIONER
    spec = volume["spec"]
    assert spec["capacity"] == {"storage": "1Gi"}
    assert spec["accessModes"] == ["ReadWriteOnce"]
    assert spec["mountOptions"] == ["noatime"]
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.cluster
def test_a_released_volume_is_deleted_with_its_folder(api: Api) -> None:
    volume = volume_for(api, "short")
    (folder_of(volume) / "file").write_text("x")
    release(api, "short")
    name = volume["metadata"]["name"]
    eventually("the volume is gone", lambda: name not in names(api, VOLUMES))
    assert not folder_of(volume).exists()


@pytest.mark.cluster
def test_a_retained_volume_stays_when_released(api: Api) -> None:
    volume = volume_for(api, "kept", "retained")
    path = f"{VOLUMES}/{volume['metadata']['name']}"
    release(api, "kept")
    eventually("it is released", lambda: api.get(path)["status"]["phase"] == "Released")
    other = volume_for(api, "after-kept")  # a whole turn later
    assert folder_of(volume).exists()
    assert folder_of(other).exists()
    assert api.get(path)["status"]["phase"] == "Released"


@pytest.mark.cluster
def test_it_ends_on_sigterm_and_the_next_goes_on(
    api: Api, cluster: Cluster, server: Server
) -> None:
    volume = volume_for(api, "before")
    (folder_of(volume) / "file").write_text("x")
    assert server.stop() == 0
    try:
        make_claim(api, "meanwhile")
        use(api, "meanwhile")
        eventually("a node is selected", lambda: SELECTED in annotations_of(api, "meanwhile"))
        uid = api.get(f"{CLAIMS}/meanwhile")["metadata"]["uid"]
        half_done = Folders(cluster.folder).volume(HERE, f"pvc-{uid}")
        half_done.mkdir(mode=0o777)  # as if it had ended between the folder and its volume
    finally:
        server.start()
    assert folder_of(bound(api, "meanwhile")) == half_done
    assert (folder_of(volume) / "file").read_text() == "x"


@pytest.mark.cluster
def test_a_second_run_waits_and_takes_over(api: Api, cluster: Cluster, server: Server) -> None:
    second = Server(cluster)
    try:
        (lock,) = cluster.folder.glob("volumes-*.lock")
        with pytest.raises(Timeout):
            FileLock(lock, timeout=0).acquire()
        server.stop()
        assert folder_of(volume_for(api, "taken-over")).is_dir()
        server.start()
    finally:
        assert second.stop() == 0
    assert folder_of(volume_for(api, "taken-back")).is_dir()


@pytest.mark.cluster
def test_a_larger_claim_is_granted(api: Api) -> None:
    volume = volume_for(api, "growing")
    larger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    claim = f"{CLAIMS}/growing"
    api.merge(claim, larger)
    wanted = {"storage": "3Gi"}
    eventually("the claim is larger", lambda: api.get(claim)["status"]["capacity"] == wanted)
    path = f"{VOLUMES}/{volume['metadata']['name']}"
    assert api.get(path)["spec"]["capacity"] == wanted


@pytest.mark.cluster
def test_a_snapshot_is_restored_on_another_node(api: Api) -> None:
    original = folder_of(volume_for(api, "original"))
    (original / "file").write_text("then")
    (original / "file").chmod(0o640)
    os.chown(original / "file", 26, 26)
    take_snapshot(api, "point", persistentVolumeClaimName="original")
    status = ready(api, "point")
    (original / "file").write_text("now")
    restored = volume_for(api, "restored", node=ELSEWHERE, dataSource=snapshot_source("point"))
    copy = folder_of(restored) / "file"
    assert copy.read_text() == "then"
    assert (copy.stat().st_uid, copy.stat().st_mode & 0o777) == (26, 0o640)
    assert ELSEWHERE in folder_of(restored).parts
    assert status["restoreSize"] == "1Gi"
    content = api.get(f"{CONTENTS}/{status['boundVolumeSnapshotContentName']}")
    assert content["status"]["readyToUse"]
    assert content["spec"]["volumeSnapshotRef"]["name"] == "point"


@pytest.mark.cluster
def test_a_snapshot_needs_as_large_a_claim(api: Api) -> None:
    volume_for(api, "large", resources={"requests": {"storage": "2Gi"}})
    take_snapshot(api, "large-point", persistentVolumeClaimName="large")
    ready(api, "large-point")
    make_claim(api, "too-small", dataSource=snapshot_source("large-point"))
    use(api, "too-small")
    eventually("it is told", lambda: events(api, "too-small"))
    assert "needs 2Gi, but 1Gi is asked for" in events(api, "too-small")[0]


@pytest.mark.cluster
def test_a_deleted_snapshot_takes_its_copy_along(api: Api, cluster: Cluster) -> None:
    volume_for(api, "source")
    take_snapshot(api, "passing", persistentVolumeClaimName="source")
    content = ready(api, "passing")["boundVolumeSnapshotContentName"]
    assert Folders(cluster.folder).snapshot(content).is_dir()
    api.delete(f"{SNAPSHOTS}/passing")
    eventually("its content is gone", lambda: content not in names(api, CONTENTS))
    assert not Folders(cluster.folder).snapshot(content).exists()


@pytest.mark.cluster
def test_a_retained_copy_can_be_bound_to_a_new_snapshot(api: Api) -> None:
    folder = folder_of(volume_for(api, "lasting"))
    (folder / "file").write_text("then")
    take_snapshot(api, "lost", "retain", persistentVolumeClaimName="lasting")
    handle = ready(api, "lost")["boundVolumeSnapshotContentName"]
    api.delete(f"{SNAPSHOTS}/lost")
    content = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": "found-again"},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": PROVISIONER,
            "source": {"snapshotHandle": handle},
            "volumeSnapshotRef": {"namespace": "volumes", "name": "found"},
        },
    }
    assert api.create(CONTENTS, content)
    take_snapshot(api, "found", volumeSnapshotContentName="found-again")
    assert ready(api, "found")["boundVolumeSnapshotContentName"] == "found-again"
    restored = volume_for(api, "found", dataSource=snapshot_source("found"))
    assert (folder_of(restored) / "file").read_text() == "then"
    assert handle in names(api, CONTENTS)


@pytest.mark.cluster
def test_a_snapshot_of_a_claim_without_volume_says_what_it_waits_for(api: Api) -> None:
    make_claim(api, "unused")
    take_snapshot(api, "early", persistentVolumeClaimName="unused")
    early = f"{SNAPSHOTS}/early"
    error = eventually("it says so", lambda: api.get(early).get("status", {}).get("error"))
    assert error["message"] == "waiting for PersistentVolumeClaim unused to be bound"
    use(api, "unused")
    assert "error" not in ready(api, "early")


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"storageClassName": "at-once"}, "set volumeBindingMode to WaitForFirstConsumer"),
        ({"accessModes": ["ReadWriteMany"]}, "ask for ReadWriteOnce"),
        ({"volumeMode": "Block"}, "use Filesystem"),
    ],
    ids=["at-once", "shared", "block"],
)
def test_what_a_folder_cannot_be_is_refused_in_an_event(
    api: Api, spec: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    name = f"refused-{request.node.callspec.id}"
    api.create(STORAGE_CLASSES, storage_class("at-once", "Delete", "Immediate"))
    make_claim(api, name, **spec)
    eventually("it is told", lambda: events(api, name))
    assert events(api, name)[0].startswith("ProvisioningFailed: ")
    assert events(api, name)[0].endswith(message)


@pytest.mark.cluster
def test_only_allowed_zones_get_volumes(api: Api) -> None:
    zones = {"key": "topology.kubernetes.io/zone", "values": [TOPOLOGY.zones[1]]}
    topologies = [{"matchLabelExpressions": [zones]}]
    body = storage_class("second-zone", "Delete") | {"allowedTopologies": topologies}
    api.create(STORAGE_CLASSES, body)
    make_claim(api, "wrong-zone", "second-zone")
    api.merge(f"{CLAIMS}/wrong-zone", {"metadata": {"annotations": {SELECTED: HERE}}})
    eventually("it is told", lambda: events(api, "wrong-zone"))
    assert f"node {HERE} is in none of the allowedTopologies" in events(api, "wrong-zone")[0]
    assert folder_of(volume_for(api, "right-zone", "second-zone", ELSEWHERE)).is_dir()


@pytest.mark.cluster
def test_a_claim_on_a_node_that_is_gone_is_given_back_to_the_scheduler(api: Api) -> None:
    make_claim(api, "nowhere")
    api.merge(f"{CLAIMS}/nowhere", {"metadata": {"annotations": {SELECTED: "gone"}}})
    eventually("no node is selected", lambda: SELECTED not in annotations_of(api, "nowhere"))


def test_a_copy_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    source, target = folders.volume("a", "one"), folders.snapshot("two")
    folders.make(source)
    (target.parent / ".two.partial").mkdir(parents=True)
    (target.parent / ".two.partial" / "rest").touch()
    folders.make(target, source)
    assert [path.name for path in target.parent.rglob("*")] == ["two"]


@pytest.fixture
def copied(tmp_path: Path) -> Folders:
    """Folders with a volume `one` of node `a`, which holds a file."""
    folders = Folders(tmp_path)
    folders.make(folders.volume("a", "one"))
    (folders.volume("a", "one") / "file").touch()
    return folders


def have_cp(folders: Folders, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Callable[[], int]:
    """Have cp copy and then run these lines; tells how often it ran."""
    stand_in, runs = folders.root / "cp", folders.root / "runs"
    script = [f"PATH={os.environ['PATH']}", 'cp "$@"', f"echo >>{runs}", *lines]
    stand_in.write_text("#!/bin/sh\n" + "\n".join(script))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(folders.root))
    return lambda: len(runs.read_text())


def test_files_that_vanish_while_they_are_copied_are_left_out(
    copied: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "cp: cannot stat 'x': No such file or directory"
    have_cp(copied, monkeypatch, f'echo "{message}" >&2; exit 1')
    copied.make(copied.snapshot("two"), copied.volume("a", "one"))
    assert (copied.snapshot("two") / "file").exists()


def test_a_copy_without_files_that_were_replaced_is_made_anew(
    copied: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "cp: skipping file 'x', as it was replaced while being copied"
    once = f"[ $(wc -l <{copied.root}/runs) -gt 1 ] && exit 0"
    runs = have_cp(copied, monkeypatch, once, f'echo "{message}" >&2; exit 1')
    copied.make(copied.snapshot("two"), copied.volume("a", "one"))
    assert runs() == 2


def test_a_copy_that_fails_for_good_says_why(
    copied: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = have_cp(copied, monkeypatch, 'echo "cp: No space left on device" >&2; exit 1')
    with pytest.raises(LocalError, match="No space left"):
        copied.make(copied.snapshot("two"), copied.volume("a", "one"))
    assert runs() == 1
    assert not copied.snapshot("two").exists()


def test_a_copy_that_fails_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    with pytest.raises(LocalError, match="nothing to copy"):
        folders.make(folders.snapshot("two"), folders.volume("a", "missing"))
    assert not folders.snapshot("two").exists()


@pytest.mark.parametrize("handle", ["../nodes", "/etc", "a/../../b"])
def test_a_handle_leads_nowhere_outside(tmp_path: Path, handle: str) -> None:
    with pytest.raises(LocalError, match="outside"):
        Folders(tmp_path).snapshot(handle)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("5", 5), ("2k", 2000), ("1Ki", 1024), ("1500M", 1_500_000_000), ("10Gi", 10 * 2**30)],
)
def test_sizes_are_read_as_the_api_server_writes_them(quantity: str, amount: int) -> None:
    assert size_in_bytes(quantity) == amount


@pytest.mark.parametrize(("amount", "quantity"), [(0, "0"), (1500, "1500"), (3 * 2**30, "3Gi")])
def test_sizes_are_written_in_the_largest_whole_unit(amount: int, quantity: str) -> None:
    assert size(amount) == quantity
