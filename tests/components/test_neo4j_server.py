"""A real Neo4j Community server on the rendered files: it starts, keeps data, is dumped, restored.

It shows clients the certificate that it is given, and its administration looks into Enterprise's
configuration as far as it knows its settings.

It runs from the local image's jars and scripts, on loopback.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import neo4j
import pytest
from neo4j.exceptions import ServiceUnavailable

from components.neo4j_server import configuration
from components.neo4j_tls import FOLDER as TLS_FOLDER
from local.images import maven
from local.images.definition import DIGESTS, FOLDER, definitions
from local.process import free_port
from stacks.systems.neo4j import Neo4jSettings
from tests.components.test_neo4j import COMMUNITY, ENCRYPTED, ENCRYPTED_COMMUNITY, _args

pytestmark = pytest.mark.dataplane

START_SECONDS = 180
HOST = "localhost"
PASSWORD = "correct-horse-battery"
LOGIN = ("neo4j", PASSWORD)
SCRIPTS = Path("components/neo4j_files").resolve()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image holds in /opt/neo4j, and its programs in `bin`."""
    made = tmp_path_factory.mktemp("neo4j")
    image = definitions()["neo4j"]
    assert image.maven is not None
    maven.install(image.maven.jars, FOLDER / "neo4j" / DIGESTS, made / "lib")
    (made / "bin").mkdir()
    shutil.copy(FOLDER / "neo4j" / "Server.java", made)
    for name in ("neo4j", "neo4j-admin"):
        shutil.copy(FOLDER / "neo4j" / name, made / "bin")
    return made


class Server:
    """One server, with a volume of its own; clients sign in at `address`."""

    def __init__(
        self, home: Path, folder: Path, settings: Neo4jSettings = COMMUNITY, tls: Path | None = None
    ) -> None:
        self.port = free_port()
        self.tls, scheme = tls, "bolt+s" if tls else "bolt"
        self.address = f"{scheme}://{HOST}:{self.port}"
        self.data, self.run, self.files = folder / "data", folder / "run", folder / "files"
        for path in (self.data, self.run, self.files, folder / "secrets"):
            path.mkdir(parents=True)
        (folder / "secrets" / "password").write_text(PASSWORD)
        own = configuration("cards", _args(settings))
        told = {key: value.replace(TLS_FOLDER, str(tls)) for key, value in own.items()} | {
            "server.default_listen_address": "127.0.0.1",
            "server.bolt.listen_address": f"127.0.0.1:{self.port}",
            "server.directories.data": str(self.data),
            "server.directories.logs": str(self.run / "logs"),
            "server.directories.run": str(self.run / "run"),
            "server.directories.import": str(self.run / "import"),
            "server.memory.heap.initial_size": "256m",
            "server.memory.heap.max_size": "256m",
            "server.memory.pagecache.size": "64m",
        }
        (self.files / "neo4j.conf").write_text("".join(f"{k}={v}\n" for k, v in told.items()))
        (self.files / "neo4j.conf").chmod(0o555)  # as a ConfigMap is mounted
        self.environment = {
            **os.environ,
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
            "NEO4J_HOME": str(home),
            "NEO4J_FILES": str(self.files),
            "NEO4J_SECRETS": str(folder / "secrets"),
            "NEO4J_DATA": str(self.data),
            "NEO4J_RUN": str(self.run),
            "NEO4J_CONF": str(self.run / "conf"),
            "ADDRESS": HOST,
            "DUMP_SECONDS": "3600",
        }

    @contextmanager
    def running(self) -> Iterator[neo4j.Driver]:
        """Run it for as long as the context lasts."""
        log = (self.run / "server.log").open("ab")
        process = subprocess.Popen(
            ["sh", str(SCRIPTS / "start.sh")],
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            self._await_ready(process)
            with neo4j.GraphDatabase.driver(self.address, auth=LOGIN) as driver:
                yield driver
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        script = "ready-tls.sh" if self.tls else "ready.sh"
        asked = ["bash", str(SCRIPTS / script), str(self.port)]
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            log = (self.run / "server.log").read_text()[-2000:]
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.5)

    def admin(self, *arguments: str) -> None:
        """Run a command of neo4j-admin; it must succeed."""
        done = subprocess.run(
            ["neo4j-admin", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _cards(driver: neo4j.Driver) -> list[list[object]]:
    query = "match (c:Card)-[r:BEATS]->(d) return c.name, r.odds, d.name order by c.name"
    return [list(record.values()) for record in driver.execute_query(query).records]


def test_what_was_written_is_in_the_next_dump_row_by_row(home: Path, tmp_path: Path) -> None:
    first, second = Server(home, tmp_path / "first"), Server(home, tmp_path / "second")
    with first.running() as driver:
        driver.execute_query(
            "unwind range(1, 1000) as n "
            "create (:Card {name: n})-[:BEATS {odds: n / 1000.0}]->(:Card {name: -n})"
        )
        written = _cards(driver)
    with first.running() as driver:  # it dumps before it starts again
        assert _cards(driver) == written
    second.data.joinpath("dumps").mkdir()
    dump = first.data / "dumps" / "neo4j.dump"
    shutil.copy(dump, second.data / "dumps")
    (second.run / "conf").mkdir()
    shutil.copy(second.files / "neo4j.conf", second.run / "conf")
    second.admin(
        "database", "load", "neo4j", f"--from-path={second.data / 'dumps'}",
        "--overwrite-destination=true",
    )  # fmt: skip
    with second.running() as driver:
        assert _cards(driver) == written
        assert len(written) == 1000


def _with_admin(
    server: Server, home: Path, programs: Path, script: str, **told: Path
) -> dict[str, str]:
    """The environment of a server whose scripts find another `neo4j-admin` first."""
    programs.mkdir()
    (programs / "neo4j-admin").write_text(script)
    (programs / "neo4j-admin").chmod(0o755)
    return {
        **server.environment,
        "PATH": f"{programs}:{server.environment['PATH']}",
        "REAL": str(home / "bin" / "neo4j-admin"),
        **{name: str(path) for name, path in told.items()},
    }


INTERRUPTED = """#!/bin/sh
# In place of a dump that takes long: half of it is there when it is stopped.
if [ "$2" != dump ]; then exec "$REAL" "$@"; fi
echo half >"$NEO4J_DATA/dumps/new/$3.dump"
echo begun >>"$TOLD"
exec sleep 60
"""


def test_a_stop_during_a_dump_comes_through_and_leaves_the_one_before(
    home: Path, tmp_path: Path
) -> None:
    server, programs, told = Server(home, tmp_path / "it"), tmp_path / "bin", tmp_path / "told"
    (server.data / "databases" / "neo4j").mkdir(parents=True)
    (server.data / "dumps").mkdir()
    (server.data / "dumps" / "neo4j.dump").write_text("whole")
    process = subprocess.Popen(
        ["sh", str(SCRIPTS / "start.sh")],
        env=_with_admin(server, home, programs, INTERRUPTED, TOLD=told),
        start_new_session=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)  # to the shell alone, as a container's first process
    assert process.wait(10) == 143
    assert (server.data / "dumps" / "neo4j.dump").read_text() == "whole"
    assert told.read_text() == "begun\n"


RESTORES = """#!/bin/sh
# In place of Enterprise's restore: loads a dump. All else is upstream's own.
set -eu
if [ "$2" != restore ]; then exec "$REAL" "$@"; fi
echo "$*" >"$TOLD"
exec "$REAL" database load neo4j --from-path="$DUMPS" --overwrite-destination=true
"""


def test_what_is_restored_is_dumped_for_the_cluster_to_take(home: Path, tmp_path: Path) -> None:
    """Restoring is Enterprise's alone; the command is recorded, and another puts the data there."""
    first, second = Server(home, tmp_path / "first"), Server(home, tmp_path / "second")
    with first.running() as driver:
        driver.execute_query("create (:Card {name: 1})-[:BEATS {odds: 0.5}]->(:Card {name: 2})")
        written = _cards(driver)
    with first.running():
        pass  # it dumps before it starts again
    programs, scratch, target = (tmp_path / name for name in ("bin", "scratch", "target"))
    scratch.mkdir()
    target.mkdir()
    told, dumps = tmp_path / "told", first.data / "dumps"
    done = subprocess.run(
        ["sh", str(SCRIPTS / "restore.sh")],
        env={
            **_with_admin(second, home, programs, RESTORES, TOLD=told, DUMPS=dumps),
            "NEO4J_DATA": str(scratch),
            "BACKUP": "s3://games-backups/cards/neo4j-2026-01-31T10-50-36.backup",
            "UNTIL": "2026-01-31 10:30:15",
            "DATABASE": "neo4j",
            "TARGET": str(target),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert told.read_text().split(" ", 2)[2] == (
        "--from-path=s3://games-backups/cards/neo4j-2026-01-31T10-50-36.backup "
        f"--restore-until=2026-01-31 10:30:15 --temp-path={scratch}/chain "
        "--overwrite-destination=true neo4j\n"
    )
    shutil.copy(second.files / "neo4j.conf", second.run / "conf" / "neo4j.conf")
    second.admin(
        "database", "load", "neo4j", f"--from-path={target}", "--overwrite-destination=true"
    )
    with second.running() as driver:
        assert _cards(driver) == written


# Encryption -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cert-manager's Secret holds as it is mounted, for a server that is reached as HOST."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "trusted").mkdir()
    authority = ["-keyout", "ca.key", "-out", "trusted/ca.crt", "-subj", "/CN=authority"]
    server = [
        "-CA", "trusted/ca.crt", "-CAkey", "ca.key",
        "-keyout", "private.key", "-out", "public.crt", "-subj", "/CN=cards",
        "-addext", f"subjectAltName=DNS:{HOST}",
        "-addext", "extendedKeyUsage=serverAuth,clientAuth",
    ]  # fmt: skip
    for own in (authority, server):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-noenc", "-days", "2", *own],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture(scope="module")
def encrypted(
    home: Path, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with an issuer, whose authority this process trusts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificates / "trusted" / "ca.crt"))
        server = Server(
            home, tmp_path_factory.mktemp("encrypted"), ENCRYPTED_COMMUNITY, certificates
        )
        with server.running():
            yield server


def _asks(uri: str) -> int:
    with neo4j.GraphDatabase.driver(uri, auth=LOGIN, max_transaction_retry_time=1) as driver:
        answer: int = driver.execute_query("return 42 as it").records[0]["it"]
        return answer


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s"])
def test_clients_that_verify_the_server_are_served(encrypted: Server, scheme: str) -> None:
    assert _asks(f"{scheme}://{HOST}:{encrypted.port}") == 42


def test_nobody_is_served_in_clear(encrypted: Server) -> None:
    with pytest.raises(ServiceUnavailable):
        _asks(f"bolt://{HOST}:{encrypted.port}")


def test_clients_refuse_a_server_under_another_name(encrypted: Server) -> None:
    with pytest.raises(ServiceUnavailable, match="SSLCertVerificationError"):
        _asks(f"bolt+s://127.0.0.1:{encrypted.port}")


def test_clients_refuse_an_authority_that_they_do_not_trust(
    encrypted: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ServiceUnavailable, match="SSLCertVerificationError"):
        _asks(encrypted.address)


def test_a_server_in_clear_is_not_ready_for_clients_that_encrypt(
    home: Path, tmp_path: Path
) -> None:
    server = Server(home, tmp_path)
    with server.running():
        asked = ["bash", str(SCRIPTS / "ready-tls.sh"), str(server.port)]
        assert subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode != 0


# The administration's own judgement -------------------------------------------------------------

UNKNOWN = re.compile(r"Unrecognized setting. No declared setting with name: (\S+)\.")


def _judged(home: Path, folder: Path, told: dict[str, str]) -> str:
    """What upstream's `neo4j-admin server validate-config` says.

    Its own start program is used: the image's knows no configuration of log files.
    """
    (folder / "neo4j.conf").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    program = "org.neo4j.server.startup.Neo4jAdminCommand"
    done = subprocess.run(
        [
            *("java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", f"{home / 'lib'}/*"),
            *(program, "server", "validate-config"),
        ],
        env={**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("settings", [COMMUNITY, ENCRYPTED_COMMUNITY], ids=["clear", "encrypted"])
def test_the_administration_finds_no_issue_in_communitys_configuration(
    settings: Neo4jSettings, home: Path, tmp_path: Path
) -> None:
    said = _judged(home, tmp_path, configuration("cards", _args(settings)))
    assert "Configuration file validation successful.\n" in said


def test_the_administration_misses_only_enterprises_own_settings(
    home: Path, tmp_path: Path
) -> None:
    """It knows Community's settings, and the policies of encryption, between servers too."""
    told = configuration("cards", _args(ENCRYPTED))
    said = _judged(home, tmp_path, told | {"server.config.strict_validation.enabled": "false"})
    assert "Configuration file validation successful (with warnings).\n" in said
    assert set(UNKNOWN.findall(said)) == {
        "dbms.cluster.discovery.resolver_type",
        "dbms.cluster.discovery.v2.endpoints",
        "dbms.cluster.discovery.version",
        "dbms.cluster.minimum_initial_system_primaries_count",
        "dbms.databases.seed_from_uri_providers",
        "initial.dbms.default_primaries_count",
        "server.backup.enabled",
        "server.backup.listen_address",
        "server.cluster.listen_address",
        "server.cluster.raft.listen_address",
        "server.metrics.csv.enabled",
        "server.metrics.filter",
        "server.metrics.prometheus.enabled",
        "server.metrics.prometheus.endpoint",
    }


def test_the_administration_refuses_a_value_that_cannot_be(home: Path, tmp_path: Path) -> None:
    told = configuration("cards", _args(ENCRYPTED_COMMUNITY))
    said = _judged(home, tmp_path, told | {"dbms.ssl.policy.bolt.client_auth": "SURE"})
    assert "Error evaluating value for setting 'dbms.ssl.policy.bolt.client_auth'" in said
