"""Load on Redis through its Sentinels: a write is one RPUSH, acknowledged by its reply.

With `--wait N` a write is acknowledged only once N replicas confirmed it. Where the Sentinels are
comes from the environment: `REDIS_SENTINELS` (host:port,…), `REDIS_MASTER_NAME`, `REDIS_USERNAME`
and `REDIS_PASSWORD`.

    python3 -m drills.load.redis prepare
    python3 -m drills.load.redis run --wait 1 --seconds 60
    python3 -m drills.load.redis stored

It speaks through a bare connection, so that an error before a command was sent (it had no effect)
is told from one after it (unknown), and nothing is repeated behind its back.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from drills.load import attempts
from drills.load.attempts import DEADLINE_SECONDS, FailedError, UnknownError

PREFIX = "drill:"
_MOST_WORKERS = 64
_WAIT_MILLISECONDS = int(DEADLINE_SECONDS * 500)
"""Half the deadline, so that the answer `too few` arrives before the connection is given up."""


@dataclass(frozen=True)
class Access:
    """Where the Sentinels are, and how to log in to them and to the servers they name."""

    sentinels: tuple[tuple[str, int], ...]
    master_name: str
    username: str | None
    password: str | None

    @classmethod
    def of_environment(cls) -> Access:
        """Read it from the variables that the platform gives to every client.

        The Sentinels' names are looked up here, once: their addresses stay, and a name server that
        is lost together with the master would be asked in vain for seconds.
        """
        pairs = (entry.rsplit(":", 1) for entry in os.environ["REDIS_SENTINELS"].split(","))
        return cls(
            sentinels=tuple((socket.gethostbyname(host), int(port)) for host, port in pairs),
            master_name=os.environ["REDIS_MASTER_NAME"],
            username=os.environ.get("REDIS_USERNAME"),
            password=os.environ.get("REDIS_PASSWORD"),
        )

    def master(self) -> Any:  # noqa: ANN401 (redis-py 4.3 has no types)
        """Open a connection to the server that a Sentinel names as master now."""
        login = {"username": self.username, "password": self.password}
        limits = {
            "socket_timeout": DEADLINE_SECONDS,
            "socket_connect_timeout": DEADLINE_SECONDS / 4,
        }
        # By default a Sentinel that is lost is asked three times more, with seconds in between.
        once = {"retry": Retry(NoBackoff(), 0)}
        sentinel = redis.sentinel.Sentinel(
            self.sentinels, sentinel_kwargs={**login, **limits, **once}
        )
        try:
            host, port = sentinel.discover_master(self.master_name)
        finally:
            for server in sentinel.sentinels:
                server.connection_pool.disconnect()
        connection = redis.Connection(
            host=host, port=port, decode_responses=True, **{**limits, **login}
        )
        connection.connect()
        return connection


class Redis:
    """One connection at a time, always to the master of the moment."""

    def __init__(self, access: Access, replicas: int) -> None:
        self._access, self._replicas = access, replicas
        self._connection: Any = None

    def write(self, worker: int, sequence: int) -> None:
        """Append to the worker's list, and wait for as many replicas as were asked for."""
        connection = self._connected()
        try:
            ask(connection, "RPUSH", f"{PREFIX}{worker}", sequence)
        except redis.ResponseError as error:
            raise FailedError(_name(error)) from error
        except redis.RedisError as error:
            raise UnknownError(_name(error)) from error
        if self._replicas:
            try:
                confirmed = ask(connection, "WAIT", self._replicas, _WAIT_MILLISECONDS)
            except redis.RedisError as error:
                raise UnknownError(f"wait:{_name(error)}") from error
            if int(confirmed) < self._replicas:
                raise UnknownError("wait:TooFewReplicas")

    def read(self) -> None:
        """Read the end of a list."""
        try:
            ask(self._connected(), "LINDEX", f"{PREFIX}0", -1)
        except redis.RedisError as error:
            raise FailedError(_name(error)) from error

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            with suppress(redis.RedisError, OSError):
                self._connection.disconnect()
        self._connection = None

    def _connected(self) -> Any:  # noqa: ANN401 (redis-py 4.3 has no types)
        if self._connection is None:
            try:
                self._connection = self._access.master()
            except redis.RedisError as error:
                raise FailedError(f"connect:{_name(error)}") from error
        return self._connection


def ask(connection: Any, *command: object) -> Any:  # noqa: ANN401 (redis-py 4.3 has no types)
    """Send one command; return its reply."""
    connection.send_command(*command)
    return connection.read_response()


def prepare(access: Access) -> None:
    """Forget what earlier runs stored."""
    connection = access.master()
    for worker in range(_MOST_WORKERS):
        ask(connection, "DEL", f"{PREFIX}{worker}")
    connection.disconnect()


def stored(access: Access) -> list[tuple[int, int]]:
    """Every entry that the master of the moment holds."""
    connection = access.master()
    rows = [
        (worker, int(sequence))
        for worker in range(_MOST_WORKERS)
        for sequence in ask(connection, "LRANGE", f"{PREFIX}{worker}", 0, -1)
    ]
    connection.disconnect()
    return rows


def _name(error: Exception) -> str:
    return type(error).__name__


def main(arguments: list[str]) -> int:
    """Run one command."""
    parser = attempts.parser(__doc__)
    parser.add_argument("--wait", type=int, default=0, help="replicas that must confirm a write")
    given = parser.parse_args(arguments)
    access = Access.of_environment()
    if given.command == "prepare":
        prepare(access)
        return 0
    if given.command == "stored":
        attempts.print_stored(stored(access))
        return 0
    return attempts.run(lambda: Redis(access, given.wait), attempts.bounds(given), given.folder)


if __name__ == "__main__":
    attempts.end(main(sys.argv[1:]))
