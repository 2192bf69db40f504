"""A real PostgreSQL server on what the component renders, and the published way in to it.

The server is this machine's, an older one than the images': it judges the parameters. Passwords,
poolers and certificates are the operator's work and have no part in this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from local.process import free_port
from stacks import loader
from tests.components.test_postgres import _cluster, _postgres

pytestmark = pytest.mark.dataplane

_START_SECONDS = 180.0
_HOST = "127.0.0.1"
_SMALL = {"shared_buffers": "64MB"}
"""As much as a test may take, in the place of a share of the Pod's memory."""


class Server:
    """One server in a folder of its own, which the server's user may reach."""

    def __init__(self, folder: Path, parameters: dict[str, str]) -> None:
        self.port, self._data = free_port(), folder / "data"
        if fresh := not self._data.exists():
            owned(self._data)
            as_server("initdb", "--auth=trust", "--username=app", f"--pgdata={self._data}")
        given = {
            **parameters,
            **_SMALL,
            "port": str(self.port),
            "listen_addresses": _HOST,
            "unix_socket_directories": "",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in given.items())
        self._process = subprocess.Popen(
            ["postgres", "-D", self._data], stderr=subprocess.DEVNULL, **_user()
        )
        self._until_it_answers()
        if fresh:
            self.ask("create database app", "postgres")

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask("select 1", "postgres")
            except psycopg2.OperationalError:
                assert self._process.poll() is None, "the server refused its configuration"
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
            else:
                return

    def ask(self, query: str, database: str = "app") -> Any:
        """The first value of a query."""
        connection = psycopg2.connect(
            host=_HOST, port=self.port, user="app", dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchone()[0] if cursor.description else None
        finally:
            connection.close()

    def stop(self) -> None:
        """End it at once."""
        self._process.terminate()
        self._process.wait(timeout=_START_SECONDS)


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {} if os.geteuid() else {"user": "postgres"}


def owned(folder: Path) -> Path:
    """Make a folder that is the server's own."""
    folder.mkdir(mode=0o700)
    if not os.geteuid():
        shutil.chown(folder, "postgres")
    return folder


def as_server(*command: str) -> None:
    """Run one of PostgreSQL's programs to its end."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_user())
    assert done.returncode == 0, done.stderr


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that the server's user reaches, who reaches none of another's; skips without it."""
    if not all(map(shutil.which, ("initdb", "postgres", "pg_basebackup"))):
        pytest.skip("this machine has no PostgreSQL server")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with scratch() as folder:
        running = Server(folder, _cluster()["postgresql"]["parameters"])
        try:
            yield running
        finally:
            running.stop()


def test_a_real_server_starts_on_the_parameters(server: Server) -> None:
    assert server.ask("show archive_timeout") == "5min"
    assert server.ask("show max_slot_wal_keep_size") == "10GB"
    assert server.ask("show idle_in_transaction_session_timeout") == "1min"


@pytest.mark.parametrize("stack", loader.stacks())
def test_a_real_server_takes_every_stacks_parameters_as_they_are(
    stack: str, server: Server
) -> None:
    """It looks up each name, and holds each value to its bounds and units."""
    settings = loader.from_file(stack).postgres
    parameters = _cluster(settings)["postgresql"]["parameters"]
    for name, value in parameters.items():
        server.ask(f"alter system set {name} = '{value}'")
    server.ask("alter system reset all")


def _uri(server: Server) -> str:
    """The published connection string, led to the test's server, which has no certificate."""
    published = _postgres().one("ConfigMap", "database-client").inputs["data"]["POSTGRES_URI"]
    parts = urlsplit(published)
    query = parts.query.replace("sslmode=require", "sslmode=disable")
    uri: str = urlunsplit(parts._replace(netloc=f"app@{_HOST}:{server.port}", query=query))
    return uri


def test_the_published_connection_string_connects(server: Server) -> None:
    connection = psycopg2.connect(_uri(server))
    try:
        assert connection.get_dsn_parameters()["tcp_user_timeout"] == "5000"
    finally:
        connection.close()
