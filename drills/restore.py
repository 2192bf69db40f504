"""Restore PostgreSQL to a chosen moment, and count what the archive alone would lose.

    python -m drills.restore --stack dev

A client writes numbered rows, one after the other, with the configuration that is published to the
services. A base backup is taken while it does. Then a moment is chosen between two rows, and waited
until the log of it is archived, as it comes: by `archive_timeout`. The client writes on for a while
and ends. Two clusters are made from the bucket, one after the other, by the component's own spec:

newest   all that the archive has. What it lacks of the acknowledged rows is what would be lost if
         nothing but the bucket were left.
moment   the database as it was at the moment. It must hold every row before it and none after, each
         as it was written.

The cluster itself is not touched. `build/restore/postgres.json` holds the result; the exit code is
1 if a row is wrong, or more is lost than `archive_timeout` allows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from components import parts
from components.postgres_cluster import PostgresArgs, cluster_spec
from drills import client, run, stop
from drills.__main__ import LocalNodes, place_of
from drills.account import Attempt
from drills.faults import Pod
from drills.kube import Kube
from drills.load.attempts import OK, WRITE
from drills.load.postgres import TABLE
from drills.stores import Postgres, all_ready
from local import world
from local.errors import LocalError
from local.run import build_folder, load, say
from local.toolchain import build
from stacks.problems import SettingsError
from stacks.settings import Settings
from stacks.systems import DataSystem
from stacks.systems.postgres import PostgresSettings, RecoverySettings, archive_timeout

_LOAD = ("--writers", "1", "--readers", "0", "--rate", "20", "--seconds", "3600")
"""One writer: its rows are committed in their order, so a moment between two of them is exact."""
_ROWS_SECONDS = 15.0
"""Of rows before the backup, between backup and moment, and after the moment."""
_ALONE_SECONDS = 30.0
"""How long the client writes on after the moment's log was archived: part of it will be lost."""
_BACKUP_SECONDS, _READY_SECONDS = 300.0, 900.0
_ARCHIVED_SECONDS = 120.0
"""Beyond `archive_timeout`: for the server to notice, and for the upload."""
_LATE_SECONDS = 30.0
"""What may be lost beyond `archive_timeout`, for the same reason."""
_POLL_SECONDS = 1.0
_QUERY_SECONDS = 60.0

_ROWS = (
    "select sequence, to_char(extract(epoch from written), 'FM9999999999.000000') "  # noqa: S608
    f"from {TABLE} order by sequence, written"
)
_ARCHIVED = "select coalesce(left(last_archived_wal, 24), '') from pg_stat_archiver"
_WRITTEN = "select pg_walfile_name(pg_current_wal_lsn())"

_PLUGIN = "barman-cloud.cloudnative-pg.io"
_CNPG = "/apis/postgresql.cnpg.io/v1/namespaces"
_LABEL = "cnpg.io/cluster"


# Rows -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row, and when it was written."""

    number: int
    written: Decimal
    """Seconds since the epoch by the server's clock, to the microsecond."""


@dataclass(frozen=True)
class Comparison:
    """What a restored table has in the place of what it should."""

    expected: int
    restored: int
    missing: tuple[int, ...]
    extra: tuple[int, ...]
    changed: tuple[int, ...]
    """Numbers of rows that were written at another time, or are there twice."""

    @property
    def identical(self) -> bool:
        """Whether both are the same, row by row."""
        return not (self.missing or self.extra or self.changed)


@dataclass(frozen=True)
class Loss:
    """What is lost with everything but the archive."""

    rows: int
    seconds: float
    """From the newest row that the archive has to the newest that was acknowledged."""
    holes: int = 0
    """Rows older than the newest that the archive has."""
    archived: int = 0
    """Rows whose log the server had said to be archived."""


def parse_rows(text: str) -> list[Row]:
    """Read what psql prints for the query of all rows: `number|seconds` a line."""
    fields = (line.split("|") for line in text.split())
    return [Row(int(number), Decimal(written)) for number, written in fields]


def moment_between(rows: Sequence[Row], after: float) -> tuple[int, str]:
    """Choose the moment just before a row in the middle of those written later than `after`.

    The row before was committed by then, since one client wrote one after the other; that row was
    not yet begun.

    Returns:
        How many rows were there then, and the moment as RFC 3339 writes it.

    Raises:
        LocalError: if fewer than two rows were written later.
    """
    later = [place for place, row in enumerate(rows) if row.written > after]
    if len(later) < 2:  # noqa: PLR2004
        raise LocalError("too few rows were written after the base backup: there is no moment")
    place = later[len(later) // 2]
    whole, rest = divmod(int(rows[place].written * 1_000_000) - 1, 1_000_000)
    moment = datetime.fromtimestamp(whole, UTC) + timedelta(microseconds=rest)
    return place, moment.isoformat(timespec="microseconds")


def compare(expected: Sequence[Row], restored: Sequence[Row]) -> Comparison:
    """Compare two tables row by row."""
    wanted, found = _by_number(expected), _by_number(restored)
    return Comparison(
        len(expected),
        len(restored),
        missing=tuple(sorted(wanted.keys() - found.keys())),
        extra=tuple(sorted(found.keys() - wanted.keys())),
        changed=tuple(
            sorted(
                number for number in wanted.keys() & found.keys() if wanted[number] != found[number]
            )
        ),
    )


def _by_number(rows: Sequence[Row]) -> dict[int, list[Decimal]]:
    table: dict[int, list[Decimal]] = {}
    for row in rows:
        table.setdefault(row.number, []).append(row.written)
    return table


def loss(acknowledged: Sequence[Row], archived: Sequence[Row], awaited: int) -> Loss:
    """What the archive lacks of the rows that were acknowledged.

    Args:
        acknowledged: all of them, in their order.
        archived: all that the archive has.
        awaited: how many of the first had their log archived, as the server said.
    """
    missing = set(compare(acknowledged, archived).missing)
    if not missing:
        return Loss(0, 0.0)
    newest = max((row.written for row in archived), default=acknowledged[0].written)
    return Loss(
        len(missing),
        float(acknowledged[-1].written - newest),
        holes=sum(row.number in missing and row.written < newest for row in acknowledged),
        archived=sum(row.number in missing for row in acknowledged[:awaited]),
    )


def not_kept(attempts: Sequence[Attempt], rows: Sequence[Row]) -> int:
    """How many writes the client was told of as done that the server does not have."""
    kept = {row.number for row in rows}
    told = {each.sequence for each in attempts if (each.kind, each.outcome) == (WRITE, OK)}
    return len(told - kept)


def verdict(at_moment: Comparison, newest: Comparison, lost: Loss, timeout: int) -> list[str]:
    """What is wrong, in words; empty if nothing."""
    problems = []
    if not at_moment.identical:
        problems.append(
            f"the restore to the moment has {at_moment.restored} rows instead of "
            f"{at_moment.expected}: {len(at_moment.missing)} missing, {len(at_moment.extra)} too "
            f"many, {len(at_moment.changed)} changed"
        )
    if newest.extra or newest.changed:
        problems.append(
            f"the newest restore has {len(newest.extra)} rows that were never acknowledged and "
            f"{len(newest.changed)} changed ones"
        )
    if lost.holes:
        problems.append(f"the newest restore lacks {lost.holes} rows in the middle")
    if lost.archived:
        problems.append(
            f"the newest restore lacks {lost.archived} rows whose log was said to be archived"
        )
    if lost.seconds > timeout + _LATE_SECONDS:
        problems.append(
            f"the archive lacks the last {lost.seconds:.0f} s, but archive_timeout is {timeout} s"
        )
    return problems


# What is made -----------------------------------------------------------------------------------


def base_backup(namespace: str, name: str, cluster: str) -> dict[str, Any]:
    """A Backup of a cluster, now."""
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Backup",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "cluster": {"name": cluster},
            "method": "plugin",
            "pluginConfiguration": {"name": _PLUGIN},
        },
    }


def arguments(
    live: dict[str, Any], store: dict[str, Any], wanted: Settings, archive: str, moment: str | None
) -> PostgresArgs:
    """Arguments of the component, as of the live cluster but for what is restored.

    Args:
        live: its Cluster, in which images may have been replaced.
        store: its ObjectStore.
        wanted: settings of the stack.
        archive: name that what is restored archives under.
        moment: to which it is restored; None: the newest there is.
    """
    spec = live["spec"]
    bucket = store["spec"]["configuration"]["destinationPath"].removeprefix("s3://").split("/")[0]
    changes = {
        "instances": 1,
        "synchronous": 0,
        "image": spec["imageName"],
        "archive": archive,
        "recovery": RecoverySettings(server=wanted.postgres.archive, target_time=moment),
        "source": None,
    }
    return PostgresArgs(
        namespace=live["metadata"]["namespace"],
        settings=wanted.postgres.model_copy(update=changes),
        objective=wanted.objectives.postgres,
        zones=wanted.zones,
        priority_class=spec["priorityClassName"],
        storage_class=spec["storage"]["storageClass"],
        snapshot_class=spec["backup"]["volumeSnapshot"]["className"],
        backup_bucket=bucket,
        clients=(),
        protect=False,
    )


def restored_cluster(name: str, original: str, args: PostgresArgs) -> dict[str, Any]:
    """A Cluster beside another: it reads the other's archive, and its owner's password."""
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": name, "namespace": args.namespace},
        "spec": cluster_spec(original, args),
    }


def network_policy_for(name: str, original: dict[str, Any]) -> dict[str, Any]:
    """The NetworkPolicy of a cluster, for another one: without it, its Pods reach nobody."""
    own = original["spec"]["podSelector"]["matchLabels"][_LABEL]
    text = json.dumps(original["spec"]).replace(f'"{_LABEL}": "{own}"', f'"{_LABEL}": "{name}"')
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": original["metadata"]["namespace"]},
        "spec": json.loads(text),
    }


# On the cluster ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rehearsal:
    """A stack's PostgreSQL, and where to restore it."""

    kube: Kube
    store: Postgres
    wanted: Settings

    @property
    def timeout(self) -> int:
        return archive_timeout(self._settings, self.wanted.objectives.postgres)

    @property
    def _settings(self) -> PostgresSettings:
        return self.wanted.postgres

    def path(self, kind: str, name: str = "") -> str:
        return f"{_CNPG}/{self.store.namespace}/{kind}" + (f"/{name}" if name else "")

    def ask(self, query: str, pod: Pod | None = None) -> str:
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query]
        database = "app" if TABLE in query else "postgres"
        return self.kube.execute(
            pod or self.store.leader(),
            "postgres",
            [*command, f"--dbname={database}"],
            _QUERY_SECONDS,
        ).strip()

    def rows(self, pod: Pod | None = None) -> list[Row]:
        return parse_rows(self.ask(_ROWS, pod))

    def back_up(self, name: str) -> float:
        """Take a base backup; return when it was complete, in seconds since the epoch."""
        self.kube.api.create(
            self.path("backups"), base_backup(self.store.namespace, name, self.store.name)
        )
        deadline = time.monotonic() + _BACKUP_SECONDS
        while True:
            status = self.kube.api.get(self.path("backups", name)).get("status", {})
            if status.get("phase") == "completed":
                return time.time()
            if status.get("phase") == "failed" or time.monotonic() > deadline:
                raise LocalError(
                    f"backup {name} is {status.get('phase', 'not begun')}: "
                    f"{status.get('error', f'not done within {_BACKUP_SECONDS:.0f} s')}"
                )
            time.sleep(_POLL_SECONDS)

    def await_archived(self) -> float:
        """Wait until the log up to now is archived; return how many seconds it took."""
        segment, began = self.ask(_WRITTEN), time.monotonic()
        limit = self.timeout + _ARCHIVED_SECONDS
        # Names of segments sort as they follow each other, while the primary stays the same.
        while self.ask(_ARCHIVED) < segment:
            if time.monotonic() - began > limit:
                raise LocalError(f"segment {segment} was not archived within {limit:.0f} s")
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    @contextmanager
    def restored(self, name: str, archive: str, moment: str | None) -> Iterator[tuple[Pod, float]]:
        """A cluster made from the archive, for as long as the context lasts.

        Yields:
            Its server, and how many seconds it took.
        """
        namespace, api = self.store.namespace, self.kube.api
        live = api.get(self.path("clusters", self.store.name))
        objects = f"/apis/barmancloud.cnpg.io/v1/namespaces/{namespace}/objectstores"
        store = api.get(f"{objects}/{self.store.name}-backups")
        args = arguments(live, store, self.wanted, archive, moment)
        policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
        policy = network_policy_for(name, api.get(f"{policies}/{self.store.name}"))
        self._remove(name, policies)
        try:
            api.create(policies, policy)
            began = time.monotonic()
            cluster = restored_cluster(name, self.store.name, args)
            if not api.create(self.path("clusters"), cluster):
                raise LocalError(f"cluster {name} of an earlier run is still there")
            server = self._await_ready(name)
            yield server, time.monotonic() - began
        finally:
            self._remove(name, policies)

    def _await_ready(self, name: str) -> Pod:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            cluster = self.kube.api.get(self.path("clusters", name))
            if all_ready(cluster):
                return self.kube.pod(self.store.namespace, cluster["status"]["currentPrimary"])
            if time.monotonic() > deadline:
                phase = cluster.get("status", {}).get("phase", "nothing begun")
                raise LocalError(f"{name} was not ready within {_READY_SECONDS:.0f} s: {phase}")
            time.sleep(_POLL_SECONDS)

    def _remove(self, name: str, policies: str) -> None:
        """Delete a cluster, and wait until its Pods and volumes are gone too."""
        self.kube.api.delete(self.path("clusters", name))
        core = f"/api/v1/namespaces/{self.store.namespace}"
        selector = f"?labelSelector={_LABEL}={name}"
        deadline = time.monotonic() + _READY_SECONDS
        while any(
            self.kube.api.items(f"{core}/{kind}{selector}")
            for kind in ("pods", "persistentvolumeclaims")
        ):
            if time.monotonic() > deadline:
                raise LocalError(f"what {name} consisted of is not gone")
            time.sleep(_POLL_SECONDS)
        self.kube.api.delete(f"{policies}/{name}")


def restore(stack: str) -> int:
    """Restore a stack's PostgreSQL, and report it; 1 if a promise was broken.

    Raises:
        LocalError: if the world has no real nodes, or something did not happen in time.
    """
    wanted = load(stack)
    target = world.named(stack)
    nodes = LocalNodes(target.cluster.folder)
    if not nodes.names():
        raise LocalError(
            f"stack {stack} has no real nodes, so no server to restore: "
            f"start it with `make up STACK={stack}`"
        )
    kubectl = build.ensure(["kubectl"], say)["kubectl"]
    with target.locked(), target.cluster.api() as api:
        kube = Kube(api, kubectl, target.cluster.kubeconfig)
        system = DataSystem.POSTGRES
        store = Postgres(kube, parts.namespace(wanted.prefix, parts.DATA), system)
        result = _rehearse(_Rehearsal(kube, store, wanted), nodes)
    return _report(build_folder() / "restore", result)


def _rehearse(rehearsal: _Rehearsal, nodes: LocalNodes) -> dict[str, Any]:
    store, kube = rehearsal.store, rehearsal.kube
    if run.whole_since(store, run.WHOLE_SECONDS) is None:
        raise LocalError("PostgreSQL is not whole, nothing was done")
    stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    place = place_of(kube, store.name, rehearsal.wanted)
    node = run.node_elsewhere(nodes, store.leader())
    writer = client.start(kube, place, node, store, _LOAD)
    try:
        time.sleep(_ROWS_SECONDS)
        say("taking a base backup")
        complete = rehearsal.back_up(f"restore-{stamp}")
        time.sleep(_ROWS_SECONDS)
        count, moment = moment_between(rehearsal.rows(), complete)
        say(f"chosen: {moment}, after {count} rows; waiting until its log is archived")
        time.sleep(_ROWS_SECONDS)
        waited = rehearsal.await_archived()
        time.sleep(_ALONE_SECONDS)
        writer.stop()
        truth, archived = rehearsal.rows(), rehearsal.ask(_ARCHIVED)
        if forgotten := not_kept(writer.attempts(), truth):
            raise LocalError(f"the primary lacks {forgotten} rows that it acknowledged")
    finally:
        writer.remove()
    say(f"{len(truth)} rows are written; restoring all that the archive has")
    with rehearsal.restored("restored-newest", f"newest-{stamp}", None) as (server, newest_took):
        newest = rehearsal.rows(server)
    moved = rehearsal.ask(_ARCHIVED) != archived
    say("restoring to the moment")
    with rehearsal.restored("restored-moment", f"moment-{stamp}", moment) as (server, took):
        at_moment = rehearsal.rows(server)
    lost = loss(truth, newest, count)
    comparisons = compare(truth[:count], at_moment), compare(truth, newest)
    return {
        "moment": moment,
        "archive_timeout": rehearsal.timeout,
        "waited_for_archive": waited,
        "at_moment": {**asdict(comparisons[0]), "seconds": took},
        "newest": {**asdict(comparisons[1]), "seconds": newest_took},
        "lost": asdict(lost),
        "archived_more_meanwhile": moved,
        "verdict": verdict(*comparisons, lost, rehearsal.timeout),
    }


def _report(folder: Path, result: dict[str, Any]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "postgres.json").write_text(json.dumps(result, indent=2) + "\n")
    lost, at_moment = result["lost"], result["at_moment"]
    say(
        f"to the moment: {at_moment['restored']} of {at_moment['expected']} rows in "
        f"{at_moment['seconds']:.0f} s; with the archive alone, lost: {lost['rows']} rows, "
        f"{lost['seconds']:.1f} s"
    )
    if result["archived_more_meanwhile"]:
        say("the archive went on while it was restored: the loss may have been more than measured")
    problems: list[str] = result["verdict"]
    for problem in problems:
        say(problem)
    return 1 if problems else 0


def main(given: list[str]) -> int:
    """Restore, and tell how it went."""
    parser = argparse.ArgumentParser(prog="python -m drills.restore", description=__doc__)
    parser.add_argument("--stack", default="dev")
    try:
        return restore(parser.parse_args(given).stack)
    except (LocalError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    stop.once(say)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped: what was restored is removed again")
