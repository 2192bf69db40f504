"""Jobs, which run to their end: once, or again and again by a schedule.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components import parts
from components.alerts import Alert, Severity

_RETRIES = 2
"""Pods after a first one that failed."""

_START_SECONDS = 600
"""A run that could not begin for so long is left to the next one."""

_KEPT = 3
"""Finished runs whose Pods can still be looked at: of those that succeeded, and of those not."""

_LATE = 2
"""Intervals after which a run counts as missing: one may be slow, or fail once."""


@dataclass(frozen=True)
class Run:
    """What one run is."""

    labels: parts.Object
    """Of its Pod; the name among them is what network policies know it by."""
    service_account: str
    priority_class: str
    user: int
    limit_seconds: int
    """A run that takes longer is ended, and counts as failed."""
    containers: Sequence[parts.Object]
    """The last one; those before it run first, one after the other."""
    volumes: Sequence[parts.Object]
    forget_seconds: int | None = None
    """When its Job goes after its end, with volumes that live as long as its Pods; None: stays."""


def once(run: Run) -> parts.Object:
    """Spec of a Job."""
    first = list(run.containers[:-1])
    ttl = run.forget_seconds
    return {
        **({} if ttl is None else {"ttlSecondsAfterFinished": ttl}),
        "backoffLimit": _RETRIES,
        "activeDeadlineSeconds": run.limit_seconds,
        "template": {
            "metadata": {"labels": run.labels},
            "spec": {
                "serviceAccountName": run.service_account,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "priorityClassName": run.priority_class,
                "securityContext": parts.pod_security(run.user),
                "tolerations": parts.tolerations(),
                **({"initContainers": first} if first else {}),
                "containers": [run.containers[-1]],
                "volumes": list(run.volumes),
            },
        },
    }


def scheduled(run: Run, schedule: str) -> parts.Object:
    """Spec of a CronJob of which no two runs overlap.

    Args:
        run: what each run is.
        schedule: five fields of cron, in UTC; see `stacks/schedules.py`.
    """
    return {
        "schedule": schedule,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": _START_SECONDS,
        "successfulJobsHistoryLimit": _KEPT,
        "failedJobsHistoryLimit": _KEPT,
        "jobTemplate": {"spec": once(run)},
    }


def overdue(
    name: str, namespace: str, cron_job: str, every: int, *, severity: Severity, runbook: str
) -> Alert:
    """Watch when a backup last succeeded; one that never did counts from its CronJob's beginning.

    Args:
        name: of the alert.
        namespace: of the CronJob.
        cron_job: its name.
        every: seconds between two runs.
        severity: who hears of it.
        runbook: page below `docs/runbooks/`.
    """
    it = f'{{namespace="{namespace}",cronjob="{cron_job}"}}'
    created = f"kube_cronjob_created{it}"
    last = f"max(kube_cronjob_status_last_successful_time{it} or {created})"
    return Alert(
        name,
        f"time() - {last} > {_LATE * every} or absent({created})",
        600,
        severity,
        "No backup has succeeded for twice its interval",
        runbook,
    )
