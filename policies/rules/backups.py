"""Backups: a schedule that comes, often enough, kept long enough."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policies import cron
from policies.model import Resource, is_true, listing, mapping, text
from policies.rule import Finding, Option, Options, Severity, rule
from policies.rules.postgres import SCHEDULED_BACKUP
from policies.rules.references import schedule_problem
from policies.world import World

VELERO_SCHEDULE = "velero.io/Schedule"
OBJECT_STORE = "barmancloud.cnpg.io/ObjectStore"
_SIX_FIELDS = frozenset({SCHEDULED_BACKUP})
"""What CloudNativePG reads begins with the seconds."""
_BOTH_DAYS = frozenset({VELERO_SCHEDULE})
"""Velero 1.18 reads with netresearch/go-cron: both days must match where both are restricted."""

_SCHEDULES = "https://cloudnative-pg.io/docs/1.30/backup/#scheduled-backups"
_RETENTION = "https://cloudnative-pg.io/plugin-barman-cloud/docs/retention/"
_HOUR = 3600
_RETENTION_DAYS = {"d": 1, "w": 7, "m": 30}


@rule(
    "backup-schedule",
    Severity.CRITICAL,
    kinds=(SCHEDULED_BACKUP, VELERO_SCHEDULE),
    why="With a field too few, CloudNativePG takes the minute for the second: `0 3 * * *` is 3 "
    "minutes past every hour, 24 base backups a day. What cannot be read, or a date that never "
    "comes, makes no backups, and is noticed at the restore.",
    source=_SCHEDULES,
    remedy="Write six fields for CloudNativePG (the first is the second), five for Velero.",
    passing='{kind: ScheduledBackup, metadata: {name: postgres}, spec: {schedule: "0 0 3 * * *"}}',
    failing='{kind: ScheduledBackup, metadata: {name: postgres}, spec: {schedule: "0 3 * * *"}}',
)
def backup_schedule(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Read the schedule as its operator will."""
    schedule = text(resource.props, "spec", "schedule")
    seconds = resource.kind in _SIX_FIELDS
    problem = schedule_problem(schedule, seconds=seconds, both_days=resource.kind in _BOTH_DAYS)
    if problem:
        example = '"0 0 3 * * *" (with seconds)' if seconds else '"0 3 * * *"'
        yield Finding(
            "spec.schedule", f"{schedule!r}: {problem}", f"Write, for example, {example}."
        )


@rule(
    "backup-interval",
    Severity.HIGH,
    kinds=(SCHEDULED_BACKUP, VELERO_SCHEDULE),
    why="The older the last backup, the longer a restore takes to replay, and the more is lost "
    "where nothing can be replayed.",
    source=_SCHEDULES,
    remedy="Run it at least every so many hours as the option says.",
    options={"hours": Option(24, {"type": "integer", "minimum": 1}, "Between two backups.")},
    passing='{kind: ScheduledBackup, metadata: {name: postgres}, spec: {schedule: "0 0 3 * * *"}}',
    failing='{kind: ScheduledBackup, metadata: {name: postgres}, spec: {schedule: "0 0 3 * * 0"}}',
)
def backup_interval(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Compare the longest time between two runs; `backup-schedule` tells of unreadable ones."""
    schedule = text(resource.props, "spec", "schedule")
    try:
        gap = cron.longest_gap(
            schedule,
            seconds=resource.kind in _SIX_FIELDS,
            both_days=resource.kind in _BOTH_DAYS,
        )
    except ValueError:
        return
    most = options["hours"]
    if gap is not None and gap > most * _HOUR:
        yield Finding(
            "spec.schedule",
            f"{schedule!r}, up to {gap // _HOUR} h between two backups",
            f"Schedule it at least every {most} h.",
        )


@rule(
    "backup-active",
    Severity.HIGH,
    kinds=(SCHEDULED_BACKUP, VELERO_SCHEDULE),
    why="A suspended schedule looks like a backup and is none.",
    source=_SCHEDULES,
    remedy="Remove suspend (CloudNativePG) or paused (Velero).",
    passing="{kind: Schedule, metadata: {name: platform}, spec: {paused: false}}",
    failing="{kind: Schedule, metadata: {name: platform}, spec: {paused: true}}",
)
def backup_active(resource: Resource, _: World, __: Options) -> Iterator[Finding]:
    """Find schedules that are switched off."""
    key = "suspend" if resource.kind == SCHEDULED_BACKUP else "paused"
    if is_true(resource.props, "spec", key):
        yield Finding(f"spec.{key}", "true", f"Remove spec.{key}.")


@rule(
    "backup-retention",
    Severity.HIGH,
    kinds=(OBJECT_STORE, VELERO_SCHEDULE),
    why="Damage is often found days later: by then every backup that is kept may hold it.",
    source=_RETENTION,
    remedy="Keep backups for at least so many days as the option says.",
    options={"days": Option(14, {"type": "integer", "minimum": 1}, "That backups are kept.")},
    passing="{kind: ObjectStore, metadata: {name: postgres}, spec: {retentionPolicy: 30d}}",
    failing="{kind: ObjectStore, metadata: {name: postgres}, spec: {retentionPolicy: 3d}}",
)
def backup_retention(resource: Resource, _: World, options: Options) -> Iterator[Finding]:
    """Compare how long backups are kept."""
    velero = resource.kind == VELERO_SCHEDULE
    path = ("spec", "template", "ttl") if velero else ("spec", "retentionPolicy")
    written, least = text(resource.props, *path), options["days"]
    kept = cron.go_seconds(written or "720h0m0s") if velero else _barman_seconds(written)
    if kept is not None and kept >= least * cron.DAY:
        return
    where = ".".join(path)
    wanted = f"{least * 24}h" if velero else f"{least}d"
    found = written or "not set"
    yield Finding(where, found, f"Set {where} to {wanted} or more.")


def _barman_seconds(written: str) -> int | None:
    match = re.fullmatch(r"(\d+)([dwm])", written, re.ASCII)
    return int(match[1]) * _RETENTION_DAYS[match[2]] * cron.DAY if match else None


@rule(
    "postgres-object-store-encryption",
    Severity.HIGH,
    kinds=(OBJECT_STORE,),
    why="A base backup is the whole database. What asks for an encryption of its own gets a key "
    "that nobody can take away: for aws:kms without a key that of AWS, whichever the bucket has.",
    source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html",
    remedy="Leave configuration.data.encryption and configuration.wal.encryption out, so that the "
    "bucket's own key is taken; or name a key with --sse-kms-key-id.",
    passing="""
        kind: ObjectStore
        metadata: {name: postgres}
        spec: {configuration: {data: {jobs: 2}, wal: {maxParallel: 1}}}
    """,
    failing="""
        kind: ObjectStore
        metadata: {name: postgres}
        spec: {configuration: {data: {encryption: "aws:kms"}}}
    """,
)
def postgres_object_store_encryption(
    resource: Resource, _: World, __: Options
) -> Iterator[Finding]:
    """Look for an encryption that overrides the bucket's."""
    configuration = mapping(resource.props, "spec", "configuration")
    arguments = {"data": "additionalCommandArgs", "wal": "archiveAdditionalCommandArgs"}
    for part, more in arguments.items():
        asked = text(configuration, part, "encryption")
        named = any("--sse-kms-key-id" in str(each) for each in listing(configuration, part, more))
        if asked and not named:
            where = f"spec.configuration.{part}.encryption"
            yield Finding(where, asked, f"Leave {where} out.")
