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

import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import caches, events
from .faults import Faults, fault_of
from .metrics import Metrics
from .stores import Login, Postgres, Redis
from .work import BUDGET_SECONDS, DICE, MOST_BUDGET_SECONDS, LateError, Work, call

TICK_SECONDS = 0.2
LEAVE_SECONDS = 5.0
SAMPLE = 100
CACHED = "/cached/"

# glibc's resolver would wait 5 s for each silent server, and no client's time limit covers it. Full
# names of the cluster are asked as they are before the search list is tried.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2 ndots:4")


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
    for task in (application.loop, server.serve_forever):
        threading.Thread(target=task, daemon=True).start()
    over, readers = threading.Event(), []
    if events.topics(environment, "consumes"):
        login = Login(secrets_folder(environment) / "kafka").read
        given = (environment, login, application.metrics.consumed, over)
        readers = [threading.Thread(target=events.consume, args=given, daemon=True)]
    for reader in readers:
        reader.start()
    signal.sigwait(signals)
    over.set()
    done = stop(server, float(environment.get("SHUTDOWN_SECONDS", "25")))
    for reader in readers:
        reader.join(LEAVE_SECONDS)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
