"""Load on PostgreSQL: every write is one transaction, acknowledged when its COMMIT returned.

Where the server is comes from `--dsn` (several are tried in turn) and libpq's environment
(`PGHOST`, `PGUSER`, `PGPASSWORD`, …).

    python3 -m drills.load.postgres prepare
    python3 -m drills.load.postgres run --seconds 60
    python3 -m drills.load.postgres stored

Two traps are avoided here. A server-side `statement_timeout` also ends the wait for a synchronous
standby, and then COMMIT *succeeds* with a mere warning although no standby has the row; so the
deadline is the client's, and a commit that carries that warning counts as unknown. And a network
that was cut swallows packets silently, so no call may wait for the kernel's own timeouts.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any

import psycopg2
import psycopg2.extensions

from drills.load import attempts
from drills.load.attempts import DEADLINE_SECONDS, FailedError, UnknownError

TABLE = "drill_writes"
_PAYLOAD = "x" * 100
_NOT_REPLICATED = "synchronous replication"
"""In the warning with which a commit returns whose wait for a standby was cancelled."""


_FAILURES = (psycopg2.Error, TimeoutError)


class Postgres:
    """One connection at a time; the next server of the list after each failure."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = cycle(servers)
        self._connection: Any = None

    def write(self, worker: int, sequence: int) -> None:
        """Insert one row in a transaction of its own."""
        connection = self._connected()
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    f"begin; insert into {TABLE} values (%s, %s, %s)",  # noqa: S608 (a constant)
                    (worker, sequence, _PAYLOAD),
                )
        except _FAILURES as error:
            raise FailedError(_name(error)) from error
        connection.notices.clear()
        try:
            with connection.cursor() as cursor:
                cursor.execute("commit")
                tag = cursor.statusmessage
        except _FAILURES as error:
            raise UnknownError(_name(error)) from error
        if tag != "COMMIT":
            raise FailedError("RolledBack")
        if any(_NOT_REPLICATED in notice for notice in connection.notices):
            raise UnknownError("NotReplicated")

    def read(self) -> None:
        """Read one row."""
        connection = self._connected()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"select sequence from {TABLE} limit 1")  # noqa: S608
                cursor.fetchall()
        except _FAILURES as error:
            raise FailedError(_name(error)) from error

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None

    def _connected(self) -> Any:  # noqa: ANN401 (psycopg2 has no types)
        if self._connection is None:
            try:
                self._connection = connect(next(self._servers))
            except _FAILURES as error:
                raise FailedError(f"connect:{_name(error)}") from error
        return self._connection


def connect(server: str) -> Any:  # noqa: ANN401 (psycopg2 has no types)
    """Open a connection whose every call is one request to the server, and ends by the deadline.

    Its transactions are begun and ended by hand: the driver would hide which of the two broke.
    """
    connection = psycopg2.connect(server, connect_timeout=int(DEADLINE_SECONDS))
    connection.autocommit = True
    return connection


def wait(connection: Any) -> None:  # noqa: ANN401 (psycopg2 has no types)
    """Drive a connection until its answer is there, at most for the deadline.

    Raises:
        TimeoutError: and the driver closes the connection.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = deadline - time.monotonic()
        wanted = [connection.fileno()]
        readers, writers = (wanted, []) if state == psycopg2.extensions.POLL_READ else ([], wanted)
        if left <= 0 or not any(select.select(readers, writers, [], left)):
            raise TimeoutError


def prepare(server: str) -> None:
    """Start with an empty table. No unique key: a row stored twice must show.

    Each row knows when it was written, by the server's clock: a restore is held to it.
    """
    _execute(
        server,
        f"drop table if exists {TABLE}",
        f"create table {TABLE} (worker int, sequence int, payload text, "
        "written timestamptz default clock_timestamp())",
    )


def stored(server: str) -> list[tuple[int, int]]:
    """Every row of the table."""
    rows = _execute(server, f"select worker, sequence from {TABLE}")  # noqa: S608 (a constant)
    return [(int(worker), int(sequence)) for worker, sequence in rows]


def _execute(server: str, *statements: str) -> list[Any]:
    """Run statements in one transaction, with no deadline; return the rows of the last."""
    connection = psycopg2.connect(server)
    try:
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def _name(error: Exception) -> str:
    return type(error).__name__


def main(arguments: list[str]) -> int:
    """Run one command."""
    parser = attempts.parser(__doc__)
    parser.add_argument("--dsn", action="append", help="of a server; may be given several times")
    given = parser.parse_args(arguments)
    servers = given.dsn or [""]
    if given.command == "prepare":
        prepare(servers[0])
        return 0
    if given.command == "stored":
        attempts.print_stored(stored(servers[0]))
        return 0
    psycopg2.extensions.set_wait_callback(wait)
    return attempts.run(lambda: Postgres(servers), attempts.bounds(given), given.folder)


if __name__ == "__main__":
    attempts.end(main(sys.argv[1:]))
