"""The restore drill's moments, queries and accounts, against real servers with a real archive.

Plain PostgreSQL with a folder as its archive: what the operator and the plugin do with a bucket,
without them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from drills.load import postgres as load
from drills.restore import (
    _ARCHIVED,
    _ROWS,
    _WRITTEN,
    Row,
    compare,
    loss,
    moment_between,
    parse_rows,
)
from tests.components.test_postgres_server import Server, as_server, owned, scratch

pytestmark = pytest.mark.dataplane

_BEFORE, _AFTER, _LATER, _ALONE = 30, 40, 20, 10
"""Rows before the base backup, until the moment is chosen, archived after it, and not archived."""


@dataclass(frozen=True)
class Scene:
    """What one server wrote, and what is left of it."""

    folder: Path
    truth: list[Row]
    count: int
    moment: str


def _dsn(server: Server) -> str:
    return f"host=127.0.0.1 port={server.port} user=app dbname=app"


def _rows(server: Server) -> list[Row]:
    connection = psycopg2.connect(_dsn(server))
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ROWS)
            return parse_rows("\n".join("|".join(map(str, row)) for row in cursor))
    finally:
        connection.close()


def _write(server: Server, numbers: Sequence[int]) -> None:
    session = load.Postgres([_dsn(server)])
    for number in numbers:
        session.write(0, number)
    session.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with scratch() as folder:
        archive = owned(folder / "archive")
        parameters = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f"}
        server = Server(folder, parameters)
        try:
            yield _played(server, folder)
        finally:
            server.stop()


def _played(server: Server, folder: Path) -> Scene:
    load.prepare(_dsn(server))
    _write(server, range(_BEFORE))
    owned(folder / "base")
    as_server(
        "pg_basebackup",
        "--checkpoint=fast",
        f"--dbname={_dsn(server)}",
        f"--pgdata={folder / 'base'}",
    )
    complete, begun = time.time(), _BEFORE
    _write(server, range(begun, begun + _AFTER))
    count, moment = moment_between(_rows(server), complete)
    _write(server, range(begun + _AFTER, begun + _AFTER + _LATER))
    segment = server.ask(_WRITTEN)
    server.ask("select pg_switch_wal()")
    deadline = time.monotonic() + 60
    while server.ask(_ARCHIVED) < segment:
        assert time.monotonic() < deadline, "nothing was archived"
        time.sleep(0.1)
    _write(server, range(begun + _AFTER + _LATER, begun + _AFTER + _LATER + _ALONE))
    return Scene(folder, _rows(server), count, moment)


def _restored(scene: Scene, name: str, target: dict[str, str]) -> list[Row]:
    """What a server has that is made of the base backup and the archive."""
    folder = scene.folder / name
    folder.mkdir()
    data = folder / "data"
    owned(data)
    as_server("cp", "-a", f"{scene.folder}/base/.", str(data))
    (data / "recovery.signal").touch()
    server = Server(
        folder,
        {
            "archive_mode": "off",
            "restore_command": f"cp {scene.folder}/archive/%f %p",
            "recovery_target_action": "promote",
            **target,
        },
    )
    try:
        deadline = time.monotonic() + 60
        while server.ask("select pg_is_in_recovery()"):
            assert time.monotonic() < deadline, "the recovery did not end"
            time.sleep(0.1)
        return _rows(server)
    finally:
        server.stop()


def test_the_moment_has_every_row_before_it_and_none_after(scene: Scene) -> None:
    restored = _restored(scene, "moment", {"recovery_target_time": scene.moment})
    assert _BEFORE < scene.count < _BEFORE + _AFTER
    assert compare(scene.truth[: scene.count], restored).identical


def test_the_archive_alone_lacks_what_came_after_its_last_segment(scene: Scene) -> None:
    restored = _restored(scene, "newest", {})
    found = loss(scene.truth, restored, scene.count)
    assert (found.rows, found.holes, found.archived) == (_ALONE, 0, 0)
    assert compare(scene.truth[:-_ALONE], restored).identical
