"""What the stand-in for a service does, as a process of its own that is asked over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.toolchain.packages import ensure_redis
from tests.components.redis_servers import (
    CLIENT_PASSWORD,
    HOST,
    Servers,
    connections,
    free_ports,
    running,
)
from tests.components.test_redis_servers import rendered_files
from tests.waiting import LIMIT_SECONDS, eventually

PROJECT = Path(__file__).parents[4]
PASSWORD = "never-to-be-seen"
PROBES = ("startup", "ready", "live")
PATIENT = {"X-Deadline-Ms": "60000"}
"""Of a caller that waits as long as any can: on a busy machine, work takes its time."""


@dataclass
class Service:
    """A running stand-in."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(
        self, path: str = "/", method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        status, text = self.text(path, method, headers)
        return status, json.loads(text)

    def text(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Status and text of an answer."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=LIMIT_SECONDS)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def fault(self, query: str) -> None:
        """Begin a fault, which lasts unless the query says for how long."""
        status, answer = self.ask(f"/fault?seconds=600&{query}", "POST")
        assert status == 200, answer

    def mend(self) -> None:
        """End every fault."""
        assert self.ask("/fault", "DELETE") == (200, {})

    def probe(self, name: str) -> int:
        """Status of a probe."""
        return self.text(f"/health/{name}")[0]

    def metric(self, name: str) -> float:
        """The value of a metric; 0 if it is not there."""
        for line in self.text("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return 0

    def memory(self) -> int:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) // 1024

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start stand-ins, with environment variables as keywords; they end with the test."""
    running: list[Service] = []
    for system in ("postgres", "redis"):
        folder = tmp_path / "secrets" / system
        folder.mkdir(parents=True)
        (folder / "username").write_text("client")
        (folder / "password").write_text(PASSWORD)

    def begin(port: int | None = None, **environment: str) -> Service:
        port = port or free_ports(1)[0]
        log = tmp_path / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "local.images.service.app"],
                cwd=PROJECT,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                    "PORT": str(port),
                    "SERVICE": "engine",
                    "SECRETS": str(tmp_path / "secrets"),
                    **environment,
                },
                stdout=output,
                stderr=output,
            )
        service = Service(port, process, log)
        running.append(service)
        eventually("it is ready", lambda: _answers(service))
        return service

    yield begin
    for service in running:
        service.process.kill()
        service.process.wait(timeout=10)


def _answers(service: Service) -> bool:
    assert service.process.poll() is None, service.log.read_text()
    try:
        return service.probe("ready") == 200
    except ConnectionError:
        return False


@dataclass
class Neighbour:
    """A service that notes what it is asked, and answers with the next of its statuses.

    Status 0 closes the connection without an answer.
    """

    statuses: list[int]
    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://localhost:{self.port}"


@contextmanager
def neighbour(*statuses: int) -> Iterator[Neighbour]:
    noted = Neighbour(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            noted.asked.append(dict(self.headers))
            if status := noted.statuses.pop(0):
                self.send_response(status)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, its name there
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    noted.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield noted
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("localhost", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def in_background(ask: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask)


# Work -------------------------------------------------------------------------------------------


def test_a_service_that_needs_nothing_does_its_work(start: Start) -> None:
    status, answer = start().ask()
    assert (status, answer["ms"]) == (200, {})


def test_a_service_does_its_work_without_mongodb(start: Start) -> None:
    service = start(MONGODB_HOSTS="documents-0.invalid:27017", MONGODB_OPTIONS="replicaSet=rs0")
    status, answer = service.ask()
    assert (status, answer.get("failed")) == (200, None)
    assert "mongodb" not in answer["ms"]


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_answers(start: Start, name: str) -> None:
    assert start().probe(name) == 200


def test_work_calls_every_service_of_the_environment(start: Start) -> None:
    with neighbour(200) as replay, neighbour(200) as inference:
        gateway = start(REPLAY_URL=replay.url, AI_INFERENCE_URL=inference.url)
        status, answer = gateway.ask()
    assert (status, set(answer["ms"])) == (200, {"replay", "ai-inference"})
    assert len(replay.asked) == len(inference.asked) == 1


def test_a_service_that_refuses_connections_is_named(start: Start) -> None:
    gateway = start(REPLAY_URL=f"http://localhost:{free_ports(1)[0]}")
    status, answer = gateway.ask()
    assert (status, answer["failed"]) == (503, "replay")


def test_health_does_not_depend_on_other_services(start: Start) -> None:
    gateway = start(REPLAY_URL=f"http://localhost:{free_ports(1)[0]}")
    assert gateway.ask()[0] == 503
    assert [gateway.probe(name) for name in PROBES] == [200, 200, 200]


def test_a_broken_connection_is_tried_once_more(start: Start) -> None:
    with neighbour(0, 200) as replay:
        assert start(REPLAY_URL=replay.url).ask()[0] == 200


def test_a_second_broken_connection_is_not_tried_again(start: Start) -> None:
    with neighbour(0, 0, 200) as replay:
        assert start(REPLAY_URL=replay.url).ask()[0] == 503
        assert len(replay.asked) == 2


def test_a_retry_asks_for_the_same_work(start: Start) -> None:
    with neighbour(0, 200) as replay:
        start(REPLAY_URL=replay.url).ask()
    first, second = replay.asked
    assert first["X-Request-Id"] == second["X-Request-Id"]


def test_an_answer_is_not_asked_for_again(start: Start) -> None:
    with neighbour(503, 200) as replay:
        assert start(REPLAY_URL=replay.url).ask()[0] == 503
        assert len(replay.asked) == 1


def test_a_cycle_of_calls_ends(start: Start) -> None:
    first, second = free_ports(2)
    ping = start(first, PONG_URL=f"http://localhost:{second}")
    pong = start(second, PING_URL=f"http://localhost:{first}")
    assert ping.ask()[0] == 200
    asked = [service.metric('requests_total{code="200"}') for service in (ping, pong)]
    assert asked == [3, 2]


@pytest.mark.parametrize("header", ["X-Deadline-Ms", "X-Call-Depth", "X-Request-Id"])
def test_a_header_that_cannot_be_read_is_refused(start: Start, header: str) -> None:
    assert start().ask(headers={header: "soon"})[0] == 400


# Deadlines --------------------------------------------------------------------------------------


def test_the_time_that_is_left_is_passed_on(start: Start) -> None:
    with neighbour(200) as replay:
        gateway = start(REPLAY_URL=replay.url)
        gateway.fault("kind=slow&ms=200")
        gateway.ask(headers={**PATIENT, "X-Call-Depth": "1"})
    [asked] = replay.asked
    assert 30_000 < int(asked["X-Deadline-Ms"]) <= 59_800
    assert asked["X-Call-Depth"] == "2"


def test_nobody_is_called_after_the_deadline(start: Start) -> None:
    with neighbour(200) as replay:
        status, answer = start(REPLAY_URL=replay.url).ask(headers={"X-Deadline-Ms": "0"})
        assert (status, answer["failed"]) == (504, "deadline: replay")
        assert replay.asked == []


def test_a_silent_service_is_named_at_the_deadline(start: Start) -> None:
    with silence() as port:
        gateway = start(REPLAY_URL=f"http://localhost:{port}")
        begun = time.monotonic()
        status, answer = gateway.ask(headers={"X-Deadline-Ms": "700"})
    assert (status, answer["failed"]) == (503, "replay")
    assert 0.6 < time.monotonic() - begun < 4  # 5 s without a deadline


# Data systems -----------------------------------------------------------------------------------


def postgres_at(port: int) -> dict[str, str]:
    return {"PGHOST": "localhost", "PGPORT": str(port), "PGDATABASE": "app", "PGSSLMODE": "disable"}


def redis_at(*ports: int) -> dict[str, str]:
    sentinels = ",".join(f"localhost:{port}" for port in ports)
    return {"REDIS_SENTINELS": sentinels, "REDIS_MASTER_NAME": "cache", "REDIS_USERNAME": "client"}


@pytest.mark.parametrize(("system", "at"), [("postgres", postgres_at), ("redis", redis_at)])
def test_a_data_system_that_refuses_connections_is_named_at_once(
    start: Start, system: str, at: Callable[[int], dict[str, str]]
) -> None:
    engine = start(**at(free_ports(1)[0]))
    begun = time.monotonic()
    status, answer = engine.ask()
    assert (status, answer["failed"]) == (503, system)
    assert time.monotonic() - begun < 2
    assert engine.metric(f'dependency_errors_total{{dependency="{system}"}}') == 1


@pytest.mark.parametrize(("system", "at"), [("postgres", postgres_at), ("redis", redis_at)])
def test_a_silent_data_system_is_named_within_its_time_limit(
    start: Start, system: str, at: Callable[[int], dict[str, str]]
) -> None:
    with silence() as port:
        engine = start(**at(port))
        begun = time.monotonic()
        status, answer = engine.ask()
    assert (status, answer["failed"]) == (503, system)
    assert time.monotonic() - begun < 5.5


def test_a_silent_database_is_not_waited_for_beyond_the_deadline(start: Start) -> None:
    with silence() as port:
        engine = start(**postgres_at(port))
        begun = time.monotonic()
        assert engine.ask(headers={"X-Deadline-Ms": "500"})[0] == 503
    assert time.monotonic() - begun < 1.9  # 2 s by the database's own limit


def test_readiness_does_not_depend_on_data_systems(start: Start) -> None:
    engine = start(**postgres_at(free_ports(1)[0]))
    assert engine.ask()[0] == 503
    assert engine.probe("ready") == 200


def test_no_password_is_logged(start: Start) -> None:
    refused = free_ports(2)
    engine = start(**postgres_at(refused[0]), **redis_at(refused[1]))
    engine.ask()
    assert engine.lines()
    assert PASSWORD not in engine.log.read_text()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("redis")
    with running(folder, rendered_files(), ensure_redis(print)) as made:
        yield made


def user_of(
    redis: Servers, start: Start, secrets: Path, *first: int, **environment: str
) -> Service:
    """A service that knows the Sentinels, and others on these ports whom it is to ask first."""
    folder = secrets / "redis"
    folder.mkdir(parents=True)
    (folder / "username").write_text("client")
    (folder / "password").write_text(CLIENT_PASSWORD)
    sentinels = [*first, *(sentinel.port for sentinel in redis.sentinels)]
    return start(**redis_at(*sentinels), **environment, SECRETS=str(secrets))


@pytest.mark.dataplane
def test_work_is_written_to_the_master_that_the_sentinels_name(
    start: Start, redis: Servers, tmp_path: Path
) -> None:
    redis.whole()
    status, answer = user_of(redis, start, tmp_path / "own").ask()
    assert status == 200, answer
    assert redis.master.ask("get", f"work:engine:{answer['id']}") == answer["id"]


@pytest.mark.dataplane
def test_a_silent_sentinel_is_asked_once_before_the_next(
    start: Start, redis: Servers, tmp_path: Path
) -> None:
    redis.whole()
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        assert user_of(redis, start, tmp_path / "own", port).ask()[0] == 200
        assert connections(silent) == 1


@pytest.mark.dataplane
def test_work_goes_on_with_the_new_master(start: Start, redis: Servers, tmp_path: Path) -> None:
    redis.whole()
    engine = user_of(redis, start, tmp_path / "own")
    assert engine.ask()[0] == 200
    old = redis.master
    old.kill()
    redis.await_other_master(old)
    eventually("work succeeds again", lambda: engine.ask()[0] == 200)
    assert redis.master is not old


@pytest.mark.dataplane
def test_a_cached_entry_outlives_its_store_for_as_long_as_the_catalogue_says(
    start: Start, redis: Servers, tmp_path: Path
) -> None:
    """One process makes the entry; another, whose database refuses connections, finds it.

    On a busy machine Redis may answer either too late for its time limit, which none of them tells.
    """
    redis.whole()
    caches = {"REDIS_CACHES": json.dumps({"engine": {"cards": {"fresh": 2, "kept": 12}}})}
    maker = user_of(redis, start, tmp_path / "own", **caches)
    cut_off = user_of(redis, start, tmp_path / "other", **caches, **postgres_at(free_ports(1)[0]))

    def ask(service: Service) -> tuple[int, Any, Any]:
        status, answer = service.ask("/cached/cards")
        return status, answer.get("stale"), answer.get("value")

    def found() -> bool:
        made, seen = ask(maker), ask(cut_off)
        assert made[:2] == (200, False)
        return seen == made

    eventually(
        "the other finds it",
        found,
        lambda: (ask(maker), ask(cut_off), cut_off.lines()[-3:]),
    )
    eventually("it is stale, and served", lambda: ask(cut_off)[:2] == (200, True))
    eventually("it is too old to be served", lambda: ask(cut_off)[0] == 503)


@pytest.mark.dataplane
def test_a_fresh_entry_is_not_made_again(start: Start, redis: Servers, tmp_path: Path) -> None:
    redis.whole()
    caches = {"REDIS_CACHES": json.dumps({"engine": {"moves": {"fresh": 60, "kept": 60}}})}
    engine = user_of(redis, start, tmp_path / "own", **caches)
    first, second = (engine.ask("/cached/moves")[1]["value"] for _ in range(2))
    assert first == second


def test_a_kind_that_the_catalogue_does_not_know_is_not_found(start: Start) -> None:
    assert start().ask("/cached/cards")[0] == 404


# Faults -----------------------------------------------------------------------------------------


def test_slow_work_takes_so_much_longer(start: Start) -> None:
    service = start()
    service.fault("kind=slow&ms=400")
    begun = time.monotonic()
    assert service.ask(headers=PATIENT)[0] == 200
    assert time.monotonic() - begun >= 0.4


def test_slow_work_is_given_up_at_the_deadline(start: Start) -> None:
    service = start()
    service.fault("kind=slow&ms=60000")
    begun = time.monotonic()
    assert service.ask(headers={"X-Deadline-Ms": "300"})[0] == 504
    assert time.monotonic() - begun < 60


def test_failing_work_answers_the_status(start: Start) -> None:
    service = start()
    service.fault("kind=fail&status=502")
    assert service.ask()[0] == 502


def test_work_fails_at_the_rate(start: Start) -> None:
    service = start()
    service.fault("kind=fail&rate=0.5")
    statuses = [service.ask()[0] for _ in range(60)]
    assert set(statuses) == {200, 500}


def test_hanging_work_is_not_answered_until_the_fault_ends(start: Start) -> None:
    service = start()
    service.fault("kind=hang")
    with in_background(service.ask) as under_way:
        eventually("it hangs", lambda: service.metric("in_flight") == 1)
        service.mend()
        assert isinstance(under_way.exception(), http.client.RemoteDisconnected)
    assert service.ask()[0] == 200


def test_a_stuck_loop_fails_liveness_and_readiness_but_not_startup(start: Start) -> None:
    service = start(STUCK_SECONDS="1")
    service.fault("kind=stuck")
    eventually("liveness fails", lambda: service.probe("live") == 503)
    assert (service.probe("ready"), service.probe("startup")) == (503, 200)


def test_a_loop_that_goes_on_is_live_again(start: Start) -> None:
    service = start(STUCK_SECONDS="1")
    service.fault("kind=stuck")
    eventually("liveness fails", lambda: service.probe("live") == 503)
    service.mend()
    eventually("it is live again", lambda: service.probe("live") == 200)


def test_an_unready_service_is_live_and_works(start: Start) -> None:
    service = start()
    service.fault("kind=unready")
    assert (service.probe("ready"), service.probe("live"), service.ask()[0]) == (503, 200, 200)


def test_a_leak_takes_memory_until_it_ends(start: Start) -> None:
    service = start()
    before = service.memory()
    service.fault("kind=leak&mib=80")
    assert service.memory() >= before + 75
    service.mend()
    eventually("the memory is free", lambda: service.memory() < before + 20)


def test_a_crash_ends_the_process_with_an_error(start: Start) -> None:
    service = start()
    with pytest.raises(http.client.RemoteDisconnected):
        service.fault("kind=crash")
    assert service.process.wait(LIMIT_SECONDS) != 0


def test_a_fault_ends_by_itself(start: Start) -> None:
    service = start()
    service.fault("kind=fail&seconds=0.5")
    eventually("work succeeds again", lambda: service.ask()[0] == 200)


def test_all_faults_end_on_request(start: Start) -> None:
    service = start()
    service.fault("kind=fail")
    service.fault("kind=unready")
    assert service.ask("/fault", "DELETE")[0] == 200
    assert (service.ask()[0], service.probe("ready"), service.ask("/fault")[1]) == (200, 200, {})


@pytest.mark.parametrize(
    "query",
    [
        "kind=flood",
        "",
        "kind=slow&seconds=601",
        "kind=slow&seconds=nan",
        "kind=slow&ms=soon",
        "kind=fail&rate=2",
        "kind=hang&rate=1",
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(start: Start, query: str) -> None:
    service = start()
    assert service.ask(f"/fault?{query}", "POST")[0] == 400
    assert service.ask("/fault")[1] == {}


def test_faults_can_be_switched_off(start: Start) -> None:
    service = start(FAULTS="off")
    assert service.ask("/fault?kind=fail", "POST")[0] == 404
    assert service.ask()[0] == 200


# The end ----------------------------------------------------------------------------------------


def test_a_stop_finishes_what_is_under_way_and_takes_nothing_new(start: Start) -> None:
    service = start(SHUTDOWN_SECONDS="600")
    service.fault("kind=slow&ms=10000")
    with in_background(lambda: service.ask(headers=PATIENT)) as under_way:
        eventually("it works", lambda: service.metric("in_flight") == 1)
        service.process.send_signal(signal.SIGTERM)
        eventually("it is not ready", lambda: service.probe("ready") == 503)
        assert service.probe("live") == 200
        assert service.ask()[0] == 503
        assert under_way.result()[0] == 200
    assert service.process.wait(LIMIT_SECONDS) == 0


def test_a_stop_without_work_is_immediate(start: Start) -> None:
    service = start(SHUTDOWN_SECONDS="600")
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LIMIT_SECONDS) == 0


def test_work_that_outlasts_the_stop_is_given_up(start: Start) -> None:
    service = start(SHUTDOWN_SECONDS="0.5")
    service.fault("kind=slow&ms=60000")
    with in_background(lambda: service.ask(headers=PATIENT)) as under_way:
        eventually("it works", lambda: service.metric("in_flight") == 1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(LIMIT_SECONDS) == 1
        assert under_way.exception() is not None


# What can be seen -------------------------------------------------------------------------------


def test_metrics_count_work_alone(start: Start) -> None:
    service = start()
    service.ask()
    service.fault("kind=fail&status=502")
    service.ask()
    service.probe("ready")
    for metric, value in (
        ('requests_total{code="200"}', 1),
        ('requests_total{code="502"}', 1),
        ("request_seconds_count", 2),
        ('request_seconds_bucket{le="+Inf"}', 2),
        ("in_flight", 0),
    ):
        assert service.metric(metric) == value, metric


def test_only_errors_and_samples_are_logged(start: Start) -> None:
    service = start()
    for _ in range(101):
        service.ask()
    service.fault("kind=fail")
    service.ask()
    assert [line["code"] for line in service.lines()] == ["200", "500"]
