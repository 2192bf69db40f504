"""What a lost zone, or a lost region, leaves: judged over all settings of a system together.

The rules of each system find the setting that is wrong; these find settings that are right alone
but do not survive together. `policies/survival.py` computes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies import survival
from policies.model import Resource
from policies.rule import Finding, Options, Scope, Severity, rule
from policies.survival import Domain
from policies.world import World

_BACKED_UP = frozenset({"postgres", "mongodb", "neo4j"})
"""Systems that another region is restored from; Kafka is mirrored there by that region's own
stack, which `policies/parity.py` compares, and Redis is a cache that is filled again."""


@rule(
    "survival-zone",
    Severity.HIGH,
    kinds=survival.KINDS,
    scope=Scope.STACK,
    why="A zone fails as a whole, for hours: what has lost its quorum or its write path with it is "
    "away for as long.",
    source="https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/"
    "availability-zones.html",
    remedy="Run as many servers, in as many zones, that those left are enough.",
    passing="{kind: StatefulSet, metadata: {name: redis}, spec: {replicas: 3}}",
    failing="""
        kind: StatefulSet
        metadata: {name: redis}
        spec: {replicas: 4}
        ---
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 2
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
)
def survival_zone(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Take the worst zone away, and look whether what is left goes on."""
    system = survival.system_of(resource, world)
    if system is None or survival.verdict(system, Domain.ZONE, world).survives:
        return
    for group in system.groups:
        left, needed = group.left(Domain.ZONE), max(group.quorum, group.writes)
        if left < needed:
            yield Finding(
                f"{system.kind}: {group.role}",
                f"{left} of {group.placement.servers} left when one zone is gone, "
                f"but {needed} are needed",
                f"Run more {group.role}, or spread them over zones so that one takes at most "
                f"{max(group.placement.servers - needed, 0)}.",
            )


@rule(
    "survival-region",
    Severity.HIGH,
    kinds=survival.KINDS,
    scope=Scope.STACK,
    why="Backups in the region that is lost are lost with it.",
    source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-time-control.html",
    remedy="Copy the bucket of the backups to another region, all of it and what KMS encrypts too, "
    "with Replication Time Control.",
    passing="{kind: StatefulSet, metadata: {name: redis}, spec: {replicas: 3}}",
    failing="""
        type: aws:s3/bucketReplicationConfig:BucketReplicationConfig
        name: backup
        $delete: true
    """,
)
def survival_region(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Look for a copy of what a system is restored from."""
    system = survival.system_of(resource, world)
    if system is None or system.kind not in _BACKED_UP or system.backup_loss is None:
        return
    if survival.copy_delay(system, world) is None:
        yield Finding(
            "BucketReplicationConfig",
            f"none copies all backups of {system.kind} to another region in a time that is known",
            "Declare aws.s3.BucketReplicationConfig from their bucket to one in another region, "
            "with a rule of status Enabled, without a filter, with destination.replicationTime "
            "{status: Enabled, time: {minutes: 15}} and, where KMS encrypts, "
            "sourceSelectionCriteria.sseKmsEncryptedObjects.status: Enabled.",
        )
