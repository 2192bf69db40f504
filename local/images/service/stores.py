"""Redis and PostgreSQL, as a service uses them: through Sentinels, and through a pooler."""

from __future__ import annotations

import importlib
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .work import ANSWER_SECONDS, CONNECT_SECONDS, Work, retried

SENTINEL_SECONDS = 0.5
"""Shorter than the others: there are more Sentinels to ask."""

POOL_SIZE, POOL_SECONDS = 8, 60.0
"""Idle connections to PostgreSQL, and how old they get: young ones find new poolers."""

T = TypeVar("T")
Driver = Any
"""What a driver makes. Drivers are in the image alone, so nothing is known of their types here."""


@dataclass(frozen=True)
class Login:
    """Credentials of one data system, read anew for each connection, since they are rotated."""

    folder: Path

    def read(self) -> dict[str, str]:
        """The arguments `username` and `password`."""
        return {key: (self.folder / key).read_text().strip() for key in ("username", "password")}


class Redis:
    """The master that the Sentinels name, through a client that many threads share.

    Its time limits are fixed, not shortened by the deadline.
    """

    def __init__(self, sentinels: str, master: str, login: Login, service: str) -> None:
        self._driver = importlib.import_module("redis")
        self._retry = importlib.import_module("redis.retry").Retry
        self._no_backoff = importlib.import_module("redis.backoff").NoBackoff
        self._sentinels = [
            (host, int(port))
            for host, _, port in (address.rpartition(":") for address in sentinels.split(","))
        ]
        self._master, self._login, self._service = master, login, service
        self._addresses: list[tuple[str, int]] = []
        self._client: Driver = None

    def use(self, work: Work) -> None:
        """Write a key and read it back."""
        key = f"work:{self._service}:{work.id}"
        self.set(key, str(work.id), 60, work)
        self.get(key, work)

    def set(self, key: str, value: str, seconds: int | None, work: Work) -> None:
        """Keep a value for so long; None: until it is evicted."""
        self._asked(work, lambda client: client.set(key, value, ex=seconds))

    def get(self, key: str, work: Work) -> str | None:
        """What is kept; None if nothing is."""
        found: bytes | None = self._asked(work, lambda client: client.get(key))
        return None if found is None else found.decode()

    def _asked(self, work: Work, question: Callable[[Driver], T]) -> T:
        def attempt() -> T:
            work.at_most(ANSWER_SECONDS)
            client = self._client = self._client or self._connected()
            try:
                return question(client)
            except self._driver.RedisError as error:
                # The next attempt asks the Sentinels again, and logs in with today's password.
                self._client = None
                if isinstance(error, self._driver.sentinel.MasterNotFoundError):
                    self._addresses = []
                raise

        return retried(work, attempt, (self._driver.RedisError,))

    def _connected(self) -> Driver:
        # By default the driver asks a Sentinel that is lost three times more, with seconds in
        # between, before it asks the next.
        common = self._login.read() | {"retry": self._retry(self._no_backoff(), 0)}
        # Names are looked up once, and again only if no Sentinel knows the master: the addresses
        # stay, and a name server that is lost with the master would be asked in vain for seconds.
        self._addresses = self._addresses or [
            (_address(host), port) for host, port in self._sentinels
        ]
        sentinels = self._driver.Sentinel(
            self._addresses,
            sentinel_kwargs=common | _socket_limits(SENTINEL_SECONDS, SENTINEL_SECONDS),
            **common,
            **_socket_limits(CONNECT_SECONDS, ANSWER_SECONDS),
        )
        return sentinels.master_for(self._master)


def _address(host: str) -> str:
    """Where a name leads; the name itself if nobody can tell now."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host


def _socket_limits(connect: float, answer: float) -> dict[str, Any]:
    return {"socket_connect_timeout": connect, "socket_timeout": answer}


@dataclass(frozen=True)
class Pooled:
    """An idle connection."""

    connection: Driver
    born: float


class Postgres:
    """The database that `POSTGRES_URI` names, through a pooler in transaction mode.

    So nothing outlives a transaction: no prepared statement, no session setting. Without a URI,
    libpq's variables say where it is.
    """

    INSERT = (
        "set local statement_timeout = '2s';"  # as ANSWER_SECONDS
        "insert into work (service, id) values (%s, %s) on conflict do nothing"
    )
    # Two that create it at once would fail, even with `if not exists`.
    CREATE = (
        "select pg_advisory_xact_lock(hashtext('work'));"
        "create table if not exists work (service text, id uuid,"
        " at timestamptz not null default now(), primary key (service, id))"
    )
    UNDEFINED_TABLE = "42P01"

    def __init__(self, uri: str, login: Login, service: str) -> None:
        self._driver = importlib.import_module("psycopg2")
        self._driver.extensions.set_wait_callback(self._wait)
        self._uri, self._login, self._service = uri, login, service
        self._idle: queue.LifoQueue[Pooled] = queue.LifoQueue(POOL_SIZE)
        self._patience = threading.local()

    def use(self, work: Work) -> None:
        """Add the work's row, unless it is there already."""
        retried(work, lambda: self._insert(work), self._passing)

    def read(self, work: Work) -> str:
        """Something that only the database can tell: its own time."""
        asked = "select now()::text"
        return str(retried(work, lambda: self._transaction(work, asked), self._passing))

    @property
    def _passing(self) -> tuple[type[Exception], ...]:
        driver = self._driver
        return (driver.OperationalError, driver.InterfaceError, driver.InternalError, OSError)

    def _insert(self, work: Work) -> None:
        row = (self._service, str(work.id))
        try:
            self._transaction(work, self.INSERT, row)
        except self._driver.ProgrammingError as error:
            if error.pgcode != self.UNDEFINED_TABLE:
                raise
            self._transaction(work, self.CREATE)
            self._transaction(work, self.INSERT, row)

    def _transaction(self, work: Work, statement: str, values: tuple[str, ...] = ()) -> object:
        """Make a transaction of it; returns the first value that it answers with."""
        pooled = self._take() or self._connect(work)
        self._patience.ends = time.monotonic() + work.at_most(ANSWER_SECONDS)
        try:
            cursor = pooled.connection.cursor()
            cursor.execute(statement, values)
            found = cursor.fetchone()[0] if cursor.description else None
            pooled.connection.commit()
        except BaseException:
            pooled.connection.close()
            raise
        self._keep(pooled)
        return found

    def _connect(self, work: Work) -> Pooled:
        self._patience.ends = time.monotonic() + work.at_most(CONNECT_SECONDS)
        login = self._login.read()
        connection = self._driver.connect(
            self._uri, user=login["username"], password=login["password"]
        )
        return Pooled(connection, time.monotonic())

    def _take(self) -> Pooled | None:
        while True:
            try:
                pooled = self._idle.get_nowait()
            except queue.Empty:
                return None
            if time.monotonic() - pooled.born < POOL_SECONDS:
                return pooled
            pooled.connection.close()

    def _keep(self, pooled: Pooled) -> None:
        try:
            self._idle.put_nowait(pooled)
        except queue.Full:
            pooled.connection.close()

    def _wait(self, connection: Driver) -> None:
        """Wait for the server, but not beyond the limit of the step under way.

        A server that has stopped keeps no `statement_timeout`, and libpq would wait for it forever.
        """
        states = self._driver.extensions
        while (state := connection.poll()) != states.POLL_OK:
            poll = select.poll()
            wanted = select.POLLIN if state == states.POLL_READ else select.POLLOUT
            poll.register(connection.fileno(), wanted)
            if not poll.poll(max(0.0, self._patience.ends - time.monotonic()) * 1000):
                raise TimeoutError("timed out")
