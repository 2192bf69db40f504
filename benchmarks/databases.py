"""How the time of a preview grows with the number of databases.

Run as ``python -m benchmarks.databases``; its part of build/bench.json:

- growth.preview_databases: seconds of a preview of an environment with so many databases of each
  kind (PostgreSQL, MongoDB, Neo4j, Kafka, Redis), each with its companions. With none there are a
  ConfigMap and a password: what engine and providers need to start and end.
- preview_50_databases_over_50_times_one, …_over_5_times_ten: the same growth as a ratio, the start
  taken off both sides. Above 1, it would be faster than linear. One database alone takes a fraction
  of a second, so the first ratio carries more noise than the second.

The engine, the components and the API server, which tries each object, are real; the provider
`kubernetes` is the local world's stand-in. Sizes take turns, so that a change of the machine's load
meets them all. Every figure is a median.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from pulumi_kubernetes.core.v1 import ConfigMap
from pulumi_random import RandomPassword

from benchmarks import results
from components.kafka import Kafka, KafkaArgs, User
from components.mongodb import Mongodb, MongodbArgs
from components.neo4j import Neo4j, Neo4jArgs
from components.parts import Client
from components.postgres import Postgres, PostgresArgs
from components.redis import Redis, RedisArgs
from local import world
from local.engine import Engine
from local.errors import LocalError
from local.world import World
from stacks import loader
from stacks.settings import Settings
from stacks.systems.kafka import TopicSettings

STACK: Final = "prod"
SIZES: Final = (0, 1, 10, 50)
TIMES: Final = 3
MANAGER: Final = "benchmarks"


def declare(count: int, settings: Settings) -> None:
    """Declare so many databases of each kind, all as the settings say."""
    gc.disable()  # as the project's program does
    ConfigMap("start", metadata={"name": "start", "namespace": "default"}, data={"it": "begins"})
    RandomPassword("start", length=16)
    for number in range(count):
        _databases(number, settings)


def namespace(number: int) -> str:
    """Name the namespace of the databases of one number; a namespace has room for one Kafka."""
    return f"games-{number}"


def _databases(number: int, settings: Settings) -> None:
    client = Client("default", "engine")
    own: dict[str, Any] = {
        "namespace": namespace(number),
        "zones": settings.zones,
        "priority_class": "system-cluster-critical",
        "storage_class": "gp3",
        "protect": True,
    }
    kept = {**own, "backup_bucket": "games-backups", "clients": (client,)}
    objectives = settings.objectives
    Postgres(
        f"postgres-{number}",
        PostgresArgs(
            settings=settings.postgres,
            objective=objectives.postgres,
            snapshot_class="snapshots",
            **kept,
        ),
    )
    Mongodb(
        f"mongodb-{number}",
        MongodbArgs(
            settings=settings.mongodb,
            objective=objectives.mongodb,
            region=settings.region,
            **kept,
        ),
    )
    Neo4j(
        f"neo4j-{number}",
        Neo4jArgs(
            settings=settings.neo4j,
            objective=objectives.neo4j,
            scratch_class="gp3-scratch",
            **kept,
        ),
    )
    Redis(f"redis-{number}", RedisArgs(settings=settings.redis, **kept))
    Kafka(
        f"kafka-{number}",
        KafkaArgs(
            settings=settings.kafka,
            topics={"moves": TopicSettings(key="game")},
            users=(User(client, produces=("moves",), consumes=("moves",)),),
            standby=False,
            region_rpo=objectives.region.rpo,
            **own,
        ),
    )


def measure() -> list[tuple[int, float]]:
    """Seconds of a preview of each size, median of turns.

    Raises:
        LocalError: if a preview fails, or declares another number of objects than it should.
    """
    settings = loader.from_file(STACK)
    with tempfile.TemporaryDirectory() as folder:
        target = World(STACK, Path(folder), world.SIMULATED)
        with target.locked():
            try:
                engine = Engine.prepare(target, target.start(settings, _say), _nothing)
                _make_room(target)
                _preview(engine, 1, settings)  # imports what a program imports once
                turns = [
                    {size: _preview(engine, size, settings) for size in SIZES} for _ in range(TIMES)
                ]
            finally:
                target.stop()
    start, one = turns[0][0][1], turns[0][1][1]
    for size in SIZES:
        counts = {turn[size][1] for turn in turns}
        if counts != {start + size * (one - start)}:
            raise LocalError(f"{size} databases of each kind are {counts} objects")
    return [(size, median(turn[size][0] for turn in turns)) for size in SIZES]


def _make_room(target: World) -> None:
    """Without their namespaces, the API server would try none of the objects."""
    with target.cluster.api() as api:
        for number in range(max(SIZES)):
            name = namespace(number)
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            api.apply(f"/api/v1/namespaces/{name}", body, MANAGER)


def _preview(engine: Engine, size: int, settings: Settings) -> tuple[float, int]:
    """Seconds, and the number of objects that would be created."""
    own = replace(engine, program=partial(declare, size, settings))
    outcome = own.preview(refresh=False, policies=False)
    if not outcome.succeeded:
        raise LocalError("\n".join(outcome.errors))
    created = sum(step.operation == "create" for step in outcome.steps)
    _say(f"{size:3d} of each kind: {created:5d} objects in {outcome.seconds:.1f} s")
    return outcome.seconds, created


def _over(by_size: dict[int, float], large: int, small: int) -> float:
    """How much longer the larger takes than the smaller does for each, the start taken off."""
    start = by_size[0]
    return round((by_size[large] - start) / (large / small * (by_size[small] - start)), 2)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _nothing(_: str) -> None:
    """What the engine tells of slow resources would drown the rest."""


def main() -> None:
    """Measure, print and write.

    Raises:
        SystemExit: if a preview fails.
    """
    try:
        curve = measure()
    except LocalError as error:
        raise SystemExit(f"error: {error}") from None
    by_size = dict(curve)
    ratios = {
        "preview_50_databases_over_50_times_one": _over(by_size, 50, 1),
        "preview_50_databases_over_5_times_ten": _over(by_size, 50, 10),
    }
    growth = {"preview_databases": curve}
    results.record(ratios, growth)
    sys.stdout.write(json.dumps({"ratios": ratios, "growth": growth}, indent=2) + "\n")


if __name__ == "__main__":
    main()
