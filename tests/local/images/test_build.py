"""Images are built when their inputs change, found otherwise, and stand for upstream's."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.images import build
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
    ],
)
def test_an_upstream_image_has_a_local_one_in_its_place(upstream: str, name: str) -> None:
    images = {
        each: image(each) for each in ("redis", "postgres", "service", "redis-exporter", "neo4j")
    }
    assert build.replacements(images, [upstream]) == {upstream: f"node.local/{name}:1"}


@pytest.mark.unit
def test_the_port_of_a_registry_is_no_tag() -> None:
    assert build._repository("registry.example:5000/team/app") == "registry.example:5000/team/app"


@pytest.mark.unit
@pytest.mark.parametrize("upstream", ["mongo:8", "neo4j:5.26.12-enterprise"])
def test_an_image_that_nothing_replaces_is_left_out(upstream: str) -> None:
    images = {"redis": image("redis"), "neo4j": image("neo4j")}
    assert build.replacements(images, [upstream]) == {}


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
