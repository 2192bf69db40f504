"""Objectives: what an outage may cost, against what the declared settings let it cost.

A Namespace says what the systems in it may cost, in annotations such as
`fault-tolerance/postgres-rpo-seconds`, `…-rto-seconds` and `fault-tolerance/region-rpo-seconds`.
Where it says nothing, there is nothing to judge.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies import survival
from policies.model import Resource
from policies.rule import Finding, Options, Scope, Severity, rule
from policies.world import World

_RELIABILITY = (
    "https://docs.aws.amazon.com/wellarchitected/latest/reliability-pillar/"
    "disaster-recovery-dr-objectives.html"
)


def _objective(name: str, seconds: int) -> str:
    return f"""
        kind: Namespace
        metadata:
          name: games
          annotations: {{fault-tolerance/{name}-seconds: "{seconds}"}}
    """


@rule(
    "objective-rpo",
    Severity.CRITICAL,
    kinds=survival.KINDS,
    scope=Scope.STACK,
    why="What is neither on another server nor in a backup is lost: for as long as the interval "
    "between two backups, or the lag that a failover forgives.",
    source=_RELIABILITY,
    remedy="Back up, or archive the log, at least once within the RPO.",
    passing=_objective("postgres-rpo", 300),
    failing=_objective("postgres-rpo", 60),
)
def objective_rpo(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare what a failover or a restore may lose with the objective."""
    system = survival.system_of(resource, world)
    wanted = survival.objectives(system, world).rpo if system else None
    if system is None or wanted is None:
        return
    losses = [system.failover_loss]
    if system.backup_loss is not None:
        losses.append(system.backup_loss)
    if None in losses or max(each or 0 for each in losses) > wanted:
        found = "all" if None in losses else f"{max(each or 0 for each in losses):g} s"
        yield Finding(
            f"{system.kind}: RPO",
            f"{wanted:g} s, but {found} of writes may be lost",
            "Shorten the interval of its backups or its archive, or the lag that it tolerates, to "
            f"{wanted:g} s.",
        )


@rule(
    "objective-rto",
    Severity.HIGH,
    kinds=survival.KINDS,
    scope=Scope.STACK,
    why="Detection, failover and promotion come one after the other: their sum is the outage.",
    source=_RELIABILITY,
    remedy="Shorten detection or the old primary's shutdown, or promise less.",
    passing=_objective("postgres-rto", 300),
    failing=_objective("postgres-rto", 30),
)
def objective_rto(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare the sum with the objective."""
    system = survival.system_of(resource, world)
    wanted = survival.objectives(system, world).rto if system else None
    if system is not None and wanted is not None and system.failover_time > wanted:
        yield Finding(
            f"{system.kind}: RTO",
            f"{wanted:g} s, but detection, failover and promotion take up to "
            f"{system.failover_time:g} s",
            f"Shorten its timeouts by {system.failover_time - wanted:g} s (Cluster: "
            "switchoverDelay; Sentinel: down-after-milliseconds), or raise the objective.",
        )


@rule(
    "objective-region-rpo",
    Severity.HIGH,
    kinds=survival.KINDS,
    scope=Scope.STACK,
    why="What the other region is restored from is late twice: until it is backed up, and until "
    "the backup is copied.",
    source=_RELIABILITY,
    remedy="Keep backup interval + replication delay within the region's RPO.",
    passing=_objective("region-rpo", 1200),
    failing=_objective("region-rpo", 600),
)
def objective_region_rpo(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Add the two up; `survival-region` tells of what is not copied at all."""
    system = survival.system_of(resource, world)
    wanted = survival.objectives(system, world, regional=True).rpo if system else None
    if system is None or wanted is None:
        return
    loss = survival.region_loss(system, world)
    if loss is not None and loss > wanted:
        delay = survival.copy_delay(system, world) or 0
        yield Finding(
            f"{system.kind}: RPO of the region",
            f"{wanted:g} s, but {system.backup_loss:g} s until it is backed up and {delay:g} s "
            f"until that is copied are {loss:g} s",
            f"Back up every {max(wanted - delay, 0):g} s or oftener.",
        )
