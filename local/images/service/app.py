"""Stand-in for every service of the catalogue: real connections, real time limits, faults at will.

It learns from its environment whom it calls and which data it uses, as a real service would. Each
`GET /` is one unit of work: it calls every service, uses Redis, writes to its topics in Kafka, then
writes a row to PostgreSQL. Topics that it consumes are read all the while. MongoDB is left alone
(`MONGODB_HOSTS` is not read): no server of it can be had on a machine like this one.

    GET    /                 200 done, 503 a dependency failed, 504 the deadline has passed
    GET    /cached/<kind>    an entry of a cache, with its age; stale while its store is down
    GET    /health/startup, /health/ready, /health/live
    GET    /metrics          for Prometheus; work alone is counted
    GET    /fault            what is wrong with this process on purpose
    POST   /fault?kind=…     see `FAULTS`; ends by itself after `seconds`
    DELETE /fault            ends all of them

Work may be asked for twice: its `X-Request-Id` is the key of all that it writes. `X-Deadline-Ms` is
the time that the caller still has, `X-Call-Depth` the number of calls above this one.

Environment: PORT, SERVICE (default: from the Pod's name), SECRETS (a folder for each data system,
with the files `username` and `password`), SHUTDOWN_SECONDS, STUCK_SECONDS, and FAULTS=off, which
turns off the faults that this stand-in takes from whoever reaches its port.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import queue
import random
import select
import signal
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

# Beside this file in the image:
import caches  # type: ignore[import-not-found]
import events  # type: ignore[import-not-found]

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 2.0
SENTINEL_SECONDS = 0.5
"""Shorter than the others: there are more Sentinels to ask."""

BUDGET_SECONDS, MOST_BUDGET_SECONDS = 5.0, 60.0
"""For a unit of work whose caller names no deadline; and the most that a caller can name. Enough to
wait for one silent address and to succeed with the next."""

MOST_DEPTH = 4
"""Calls in a row; from there nobody is called, so a cycle in the catalogue ends."""

POOL_SIZE, POOL_SECONDS = 8, 60.0
"""Idle connections to PostgreSQL, and how old they get: young ones find new poolers."""

TICK_SECONDS = 0.2
SAMPLE = 100
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DICE = random.SystemRandom()
CACHED = "/cached/"

# glibc's resolver would wait 5 s for each silent server, and no client's time limit covers it. Full
# names of the cluster are asked as they are before the search list is tried.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2 ndots:3")


T = TypeVar("T")
Driver = Any
"""What a driver makes. Drivers are in the image alone, so nothing is known of their types here."""


# Deadlines and retries --------------------------------------------------------------------------


class LateError(Exception):
    """The caller no longer waits, so work that has not begun is not begun."""


@dataclass(frozen=True)
class Work:
    """One unit of work, as the caller asked for it."""

    id: uuid.UUID
    depth: int
    ends: float
    """On the monotonic clock; nobody waits for the answer after it."""

    @property
    def left(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.ends - time.monotonic()

    def at_most(self, seconds: float) -> float:
        """Seconds for one step: its own limit, or what is left."""
        if self.left <= 0:
            raise LateError
        return min(seconds, self.left)


def retried(work: Work, attempt: Callable[[], T], passing: tuple[type[Exception], ...]) -> T:
    """Make an attempt that may safely be made twice, and a second one if the first may pass.

    One retry finds the next address after a failover. More would multiply the load on whatever is
    struggling; the pause is random, so that clients which failed together do not return together.
    """
    try:
        return attempt()
    except passing:
        pause = DICE.uniform(0.05, 0.25)
        if work.left <= pause:
            raise
        time.sleep(pause)
        return attempt()


# What a service depends on ----------------------------------------------------------------------


def call(url: str, work: Work) -> None:
    """Ask another service to do its work; a new connection each, for these are what is balanced.

    Raises:
        OSError: if it does not answer in time, or does not answer 200. An answer is not asked for
            again, only a connection: whoever answered has already retried what could be.
    """
    if work.depth >= MOST_DEPTH:
        return
    target = urlsplit(url)
    status = 0

    def attempt() -> None:
        nonlocal status
        connection = http.client.HTTPConnection(
            target.hostname or "", target.port, timeout=work.at_most(CONNECT_SECONDS)
        )
        try:
            connection.connect()
            connection.sock.settimeout(work.at_most(MOST_BUDGET_SECONDS))
            headers = {
                "X-Request-Id": str(work.id),
                "X-Call-Depth": str(work.depth + 1),
                "X-Deadline-Ms": str(int(work.left * 1000)),
            }
            connection.request("GET", "/", headers=headers)
            status = connection.getresponse().status
        finally:
            connection.close()

    retried(work, attempt, (OSError,))
    if status != HTTPStatus.OK:
        raise OSError(f"answered {status}")


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
            except self._driver.RedisError:
                # The next attempt asks the Sentinels again, and logs in with today's password.
                self._client = None
                raise

        return retried(work, attempt, (self._driver.RedisError,))

    def _connected(self) -> Driver:
        # By default the driver asks a Sentinel that is lost three times more, with seconds in
        # between, before it asks the next.
        common = self._login.read() | {"retry": self._retry(self._no_backoff(), 0)}
        sentinels = self._driver.Sentinel(
            self._sentinels,
            sentinel_kwargs=common | _socket_limits(SENTINEL_SECONDS, SENTINEL_SECONDS),
            **common,
            **_socket_limits(CONNECT_SECONDS, ANSWER_SECONDS),
        )
        return sentinels.master_for(self._master)


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


def secrets_folder(environment: Mapping[str, str]) -> Path:
    """Holds a folder with the credentials of each data system."""
    return Path(environment.get("SECRETS", "/etc/secrets"))


def in_words(error: Exception, secrets: Path) -> str:
    """An error in one line, without the passwords that drivers put into theirs."""
    text = f"{type(error).__name__}: {error}"
    for file in secrets.glob("*/password"):
        text = text.replace(file.read_text().strip(), "***")
    return text.partition("\n")[0][:200]


def name_of(environment: Mapping[str, str]) -> str:
    """The service that this stands for."""
    return environment.get("SERVICE") or socket.gethostname().rsplit("-", 2)[0]


def dependencies(
    environment: Mapping[str, str],
) -> tuple[dict[str, Callable[[Work], None]], caches.Caches | None]:
    """Everything that a unit of work needs, in the order of use; and what is kept in Redis.

    The row comes last: where it is, all of the work was done.
    """
    service = name_of(environment)
    secrets = secrets_folder(environment)
    redis = postgres = None
    found: dict[str, Callable[[Work], None]] = {}
    for key, url in sorted(environment.items()):
        if key.endswith("_URL"):
            name = key.removesuffix("_URL").lower().replace("_", "-")
            found[name] = lambda work, url=url: call(url, work)  # type: ignore[misc]
    if sentinels := environment.get("REDIS_SENTINELS"):
        master = environment["REDIS_MASTER_NAME"]
        redis = Redis(sentinels, master, Login(secrets / "redis"), service)
        found["redis"] = redis.use
    if events.topics(environment, "produces"):
        found["kafka"] = events.Producer(environment, Login(secrets / "kafka").read, service).use
    if "PGHOST" in environment:
        uri = environment.get("POSTGRES_URI", "")
        postgres = Postgres(uri, Login(secrets / "postgres"), service)
        found["postgres"] = postgres.use
    if redis is None:
        return found, None
    make = postgres.read if postgres else lambda _: str(time.time())
    return found, caches.Caches(service, caches.limits(environment, service), redis, make)


# Faults -----------------------------------------------------------------------------------------

SECONDS = (30.0, 0.1, 600.0)
FAULTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "slow": {"ms": (500, 1, 600_000)},  # each unit of work first waits
    "fail": {"rate": (1, 0, 1), "status": (500, 400, 599)},  # this share of work is refused
    "hang": {},  # work is never answered
    "stuck": {},  # the process's own loop stands still: liveness fails
    "unready": {},  # readiness fails
    "leak": {"mib": (64, 1, 65_536)},  # this much memory is held
    "crash": {},  # the process ends at once
}
"""What can be wrong, and with which parameters: the default, the least and the most. `SECONDS` is
one more of each."""


def fault_of(query: str) -> tuple[str, dict[str, float]]:
    """Read a fault's kind and parameters; ValueError if they are none of `FAULTS`."""
    given = dict(parse_qsl(query))
    kind = given.pop("kind", "")
    if kind not in FAULTS:
        raise ValueError(f"kind is {kind or 'missing'}; there are {', '.join(FAULTS)}")
    bounds = {**FAULTS[kind], "seconds": SECONDS}
    if unknown := set(given) - set(bounds):
        raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}")
    values = {name: float(given.get(name, default)) for name, (default, _, _) in bounds.items()}
    for name, (_, least, most) in bounds.items():
        if not least <= values[name] <= most:
            raise ValueError(f"{name} is {given[name]}; it is between {least:g} and {most:g}")
    return kind, values


class Faults:
    """What is wrong now; at most one fault of each kind, each with its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[str, tuple[float, dict[str, float], bytes]] = {}

    def begin(self, kind: str, values: dict[str, float]) -> None:
        """Begin a fault; one of the same kind is replaced."""
        # Written to, because untouched pages take no memory.
        ballast = b"x" * (int(values.get("mib", 0)) * 2**20)
        with self._lock:
            self._active[kind] = (time.monotonic() + values["seconds"], values, ballast)

    def end_all(self) -> None:
        """End every fault."""
        with self._lock:
            self._active.clear()

    def get(self, kind: str) -> dict[str, float] | None:
        """The parameters of a fault that is active."""
        return self.active().get(kind)

    def active(self) -> dict[str, dict[str, float]]:
        """Parameters by kind; what has ended is forgotten, its memory included."""
        now = time.monotonic()
        with self._lock:
            self._active = {kind: fault for kind, fault in self._active.items() if fault[0] > now}
            return {kind: values for kind, (_, values, _) in self._active.items()}


# The service ------------------------------------------------------------------------------------


class Metrics:
    """Counts of work, for Prometheus."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._consumed: Counter[str] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0
        self.in_flight = 0

    @contextmanager
    def flight(self) -> Iterator[None]:
        """Count work as under way."""
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def answered(self, code: str, seconds: float) -> int:
        """Count an answer, and say how many there have been."""
        with self._lock:
            self._codes[code] += 1
            self._seconds += seconds
            self._buckets.update(bound for bound in BUCKETS if seconds <= bound)
            return self._codes.total()

    def failed(self, dependency: str) -> None:
        """Count an error of a dependency."""
        with self._lock:
            self._errors[dependency] += 1

    def consumed(self, topic: str) -> None:
        """Count a record that was read."""
        with self._lock:
            self._consumed[topic] += 1

    def text(self) -> str:
        """Prometheus' text format."""
        with self._lock:
            total = self._codes.total()
            return "\n".join(
                [
                    "# TYPE requests_total counter",
                    *(f'requests_total{{code="{c}"}} {n}' for c, n in sorted(self._codes.items())),
                    "# TYPE request_seconds histogram",
                    *(f'request_seconds_bucket{{le="{b:g}"}} {self._buckets[b]}' for b in BUCKETS),
                    f'request_seconds_bucket{{le="+Inf"}} {total}',
                    f"request_seconds_sum {self._seconds:.6f}",
                    f"request_seconds_count {total}",
                    "# TYPE dependency_errors_total counter",
                    *(
                        f'dependency_errors_total{{dependency="{name}"}} {count}'
                        for name, count in sorted(self._errors.items())
                    ),
                    "# TYPE consumed_total counter",
                    *(
                        f'consumed_total{{topic="{topic}"}} {count}'
                        for topic, count in sorted(self._consumed.items())
                    ),
                    "# TYPE in_flight gauge",
                    f"in_flight {self.in_flight}\n",
                ]
            )


@dataclass
class Answer:
    """Status and JSON of an answer."""

    status: int
    body: dict[str, Any]


@dataclass
class Application:
    """One process of a service: its work, its health, and what is wrong with it."""

    needs: Mapping[str, Callable[[Work], None]]
    secrets: Path
    stuck_seconds: float
    """The loop makes progress, or else the process is restarted after so long."""
    faults_allowed: bool
    kept: caches.Caches | None = None
    faults: Faults = field(default_factory=Faults)
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False
    beat: float | None = None
    """When the loop last came round."""

    def loop(self) -> None:
        """The process's own work, which liveness watches: here, to end faults."""
        while True:
            while self.faults.get("stuck"):
                time.sleep(TICK_SECONDS)
            self.beat = time.monotonic()
            time.sleep(TICK_SECONDS)

    def live(self) -> bool:
        """Whether the loop makes progress: if not, a restart helps, and nothing else does."""
        return self.beat is not None and time.monotonic() - self.beat < self.stuck_seconds

    def ready(self) -> bool:
        """Whether this process itself can work, whatever it depends on.

        A shared dependency fails for all replicas at once. Were they all unready, callers would be
        refused connections by a Service without Pods, and their callers in turn; now they get an
        answer that names what is missing, and work resumes with the dependency's first answer.
        """
        return self.live() and not self.stopping and self.faults.get("unready") is None

    def perform(self, work: Work) -> Answer | None:
        """Do one unit of work; none: never answer."""
        if self.stopping:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, {"failed": "stopping"})
        if self.faults.get("hang"):
            while self.faults.get("hang") and not self.stopping:
                time.sleep(TICK_SECONDS)
            return None
        if slow := self.faults.get("slow"):
            time.sleep(max(0.0, min(slow["ms"] / 1000, work.left)))
        fail = self.faults.get("fail")
        if fail and DICE.random() < fail["rate"]:
            return Answer(int(fail["status"]), {"failed": "fault"})
        return self._use_all(work)

    def _use_all(self, work: Work) -> Answer:
        milliseconds: dict[str, float] = {}
        body: dict[str, Any] = {"id": str(work.id), "ms": milliseconds}
        for name, use in self.needs.items():
            begun = time.monotonic()
            try:
                work.at_most(BUDGET_SECONDS)
                use(work)
            except LateError:
                return Answer(HTTPStatus.GATEWAY_TIMEOUT, body | {"failed": f"deadline: {name}"})
            except Exception as error:  # noqa: BLE001, any driver's error is an answer that names it
                self.metrics.failed(name)
                reason = in_words(error, self.secrets)
                return Answer(
                    HTTPStatus.SERVICE_UNAVAILABLE, body | {"failed": name, "error": reason}
                )
            finally:
                milliseconds[name] = round((time.monotonic() - begun) * 1000, 1)
        if work.left <= 0:
            return Answer(HTTPStatus.GATEWAY_TIMEOUT, body | {"failed": "deadline"})
        return Answer(HTTPStatus.OK, body)


class Server(ThreadingHTTPServer):
    """A thread for each connection, and a connection for each request."""

    request_queue_size = 128

    def __init__(self, port: int, application: Application) -> None:
        self.application = application
        super().__init__(("", port), Handler)


class Handler(BaseHTTPRequestHandler):
    """Routes of one request. HTTP/1.0 closes each connection, so callers spread over the Pods."""

    server: Server
    timeout = 10
    """Seconds for a silent client."""

    def do_GET(self) -> None:
        """Work, health, metrics."""
        application = self.server.application
        path = urlsplit(self.path).path
        health = {
            "/health/startup": lambda: application.beat is not None,
            "/health/ready": application.ready,
            "/health/live": application.live,
        }
        if path == "/":
            self._work(application)
        elif path.startswith(CACHED):
            self._cached(application, path.removeprefix(CACHED))
        elif path in health:
            self._answer(HTTPStatus.OK if health[path]() else HTTPStatus.SERVICE_UNAVAILABLE)
        elif path == "/metrics":
            self._send(HTTPStatus.OK, "text/plain; version=0.0.4", application.metrics.text())
        elif path == "/fault":
            self._answer(HTTPStatus.OK, application.faults.active())
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Begin a fault."""
        target = urlsplit(self.path)
        if target.path != "/fault" or not self.server.application.faults_allowed:
            return self._answer(HTTPStatus.NOT_FOUND)
        try:
            kind, values = fault_of(target.query)
        except ValueError as error:
            return self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        if kind == "crash":
            os._exit(os.EX_SOFTWARE)
        self.server.application.faults.begin(kind, values)
        return self._answer(HTTPStatus.OK, {kind: values})

    def do_DELETE(self) -> None:
        """End all faults."""
        if urlsplit(self.path).path != "/fault":
            return self._answer(HTTPStatus.NOT_FOUND)
        self.server.application.faults.end_all()
        return self._answer(HTTPStatus.OK)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base class's name
        """Say nothing: `_work` logs what is worth it."""

    def _work(self, application: Application) -> None:
        begun = time.monotonic()
        with application.metrics.flight():
            try:
                work = self._asked(begun)
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            answer = application.perform(work)
            seconds = time.monotonic() - begun
            code = str(answer.status) if answer else "none"
            count = application.metrics.answered(code, seconds)
            if code != "200" or count % SAMPLE == 0:
                body = answer.body if answer else {}
                line = {"at": time.time(), "code": code, "seconds": round(seconds, 3), **body}
                sys.stdout.write(json.dumps(line | {"id": str(work.id)}) + "\n")
            if answer:
                self._answer(answer.status, answer.body)

    def _cached(self, application: Application, kind: str) -> None:
        own = application.kept
        if own is None or kind not in own.limits:
            return self._answer(HTTPStatus.NOT_FOUND)
        try:
            entry = own.read(kind, self._asked(time.monotonic()))
        except Exception as error:  # noqa: BLE001, any driver's error is an answer that names it
            reason = in_words(error, application.secrets)
            return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"failed": kind, "error": reason})
        body = {"value": entry.value, "age": round(entry.age, 3), "stale": entry.stale}
        return self._answer(HTTPStatus.OK, body)

    def _asked(self, begun: float) -> Work:
        """Read what the caller wants; ValueError if it cannot be read."""
        headers = self.headers
        budget = float(headers.get("X-Deadline-Ms", BUDGET_SECONDS * 1000)) / 1000
        return Work(
            id=uuid.UUID(headers.get("X-Request-Id") or str(uuid.uuid4())),
            depth=int(headers.get("X-Call-Depth", "0")),
            ends=begun + min(budget, MOST_BUDGET_SECONDS),
        )

    def _answer(self, status: int, body: object = None) -> None:
        self._send(status, "application/json", json.dumps(body or {}) + "\n")

    def _send(self, status: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        with suppress(OSError):  # the caller has left
            self.end_headers()
            self.wfile.write(content)


def stop(server: Server, seconds: float) -> bool:
    """Finish what is under way, readiness refused; whether that was done in time."""
    ends = time.monotonic() + seconds
    server.application.stopping = True
    while server.application.metrics.in_flight and time.monotonic() < ends:
        time.sleep(0.05)
    server.shutdown()
    return server.application.metrics.in_flight == 0


def main() -> int:
    """Serve until SIGTERM."""
    environment = os.environ
    signals = (signal.SIGTERM, signal.SIGINT)
    # Before there are threads, which inherit it: the signal then waits for `sigwait`.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    needs, kept = dependencies(environment)
    application = Application(
        needs=needs,
        kept=kept,
        secrets=secrets_folder(environment),
        stuck_seconds=float(environment.get("STUCK_SECONDS", "5")),
        faults_allowed=environment.get("FAULTS", "on") == "on",
    )
    server = Server(int(environment.get("PORT", "8080")), application)
    tasks = [application.loop, server.serve_forever]
    if events.topics(environment, "consumes"):
        login = Login(secrets_folder(environment) / "kafka").read
        tasks.append(lambda: events.consume(environment, login, application.metrics.consumed))
    for task in tasks:
        threading.Thread(target=task, daemon=True).start()
    signal.sigwait(signals)
    done = stop(server, float(environment.get("SHUTDOWN_SECONDS", "25")))
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
