"""What the leading checkers of Kubernetes enforce, row by row, and the rules that do it here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

RELIABILITY: Mapping[str, str] = {
    "at least 2 or 3 replicas": "workload-replicas",
    "a disruption budget exists, selects something, does not block every eviction, is not more "
    "than the replicas": "workload-disruption-budget disruption-budget-selects "
    "disruption-budget-allows-eviction disruption-budget-within-replicas "
    "workload-single-disruption-budget disruption-budget-bound",
    "minAvailable below the autoscaler's minimum": "disruption-budget-below-autoscaler",
    "unhealthyPodEvictionPolicy": "disruption-budget-unhealthy-eviction",
    "autoscaler: bounds, target, one for each target, no static replicas": "autoscaler-bounds "
    "autoscaler-target-exists autoscaler-single-per-target workload-no-static-replicas",
    "spread over hosts and zones": "workload-zone-spread workload-host-spread",
    "probes: present, not identical, on a declared port": "container-readiness-probe "
    "container-liveness-probe container-probes-differ container-probe-port",
    "requests and limits of CPU, memory, ephemeral storage": "container-requests container-limits "
    "container-limits-reserved",
    "PriorityClass": "pod-priority-class",
    "rolling update; grace period": "workload-rolling-update pod-grace-period",
    "image by tag, by digest": "container-image-tag container-image-digest",
    "headless Service of a StatefulSet; deadline and schedule of a CronJob; no bare Pods": (
        "statefulset-headless-service cronjob-deadline cronjob-schedule job-restart-policy "
        "pod-not-bare"
    ),
    "no dangling Service, Ingress, NetworkPolicy, monitor": "service-selects "
    "ingress-backend-exists network-policy-selects monitor-selects workload-selects-its-pods",
    "deprecated or removed API": "resource-api-version",
    "backups: valid schedule, least retention, an RPO": "backup-schedule backup-interval "
    "backup-active backup-retention objective-rpo",
    "managed databases": "database-multi-az database-zones database-failover "
    "database-backup-retention "
    "database-deletion-protection",
}

SECURITY: Mapping[str, str] = {
    "non-root, no escalation, not privileged, capabilities, seccomp, read-only root, no host": (
        "container-non-root container-no-privilege-escalation container-not-privileged "
        "container-capabilities container-seccomp container-read-only-root "
        "pod-no-host-namespaces pod-no-host-path container-no-host-port namespace-pod-security"
    ),
    "a NetworkPolicy for every Pod": "pod-network-policy",
    "no secrets in env, no default account, no token without need": "container-no-secret-env "
    "container-secret-files pod-service-account pod-no-token",
    "no cluster-admin, no wildcards": "binding-no-cluster-admin role-no-wildcards",
    "not in the default namespace, no node port, no unplanned load balancer": "resource-namespace "
    "service-no-node-port service-load-balancer",
    "strict mutual TLS, AuthorizationPolicy": "mesh-mutual-tls mesh-authorization",
}

OPERATED: Mapping[str, str] = {
    "Kafka": "kafka-replication-factor kafka-min-isr kafka-controllers kafka-rack "
    "kafka-zone-spread kafka-unclean-election kafka-internal-topics kafka-auto-creation "
    "kafka-delete-claim kafka-topic-replicas kafka-topic-min-isr kafka-user-acls",
    "PostgreSQL": "postgres-instances postgres-synchronous postgres-durability "
    "postgres-failover-quorum postgres-zone-affinity postgres-scheduled-backup "
    "postgres-wal-archive postgres-delays postgres-backup-method postgres-isolation-check "
    "postgres-isolated-shutdown postgres-wal-volume postgres-external-clusters "
    "postgres-pooler-instances",
    "MongoDB": "mongodb-members mongodb-no-arbiter mongodb-zone-spread mongodb-point-in-time "
    "mongodb-tls mongodb-unsafe-flags",
    "Redis": "redis-sentinels redis-quorum redis-min-replicas-to-write redis-persistence "
    "redis-memory-policy",
    "Neo4j": "neo4j-primaries neo4j-default-primaries neo4j-edition neo4j-backup",
    "Istio": "virtual-service-retry-arithmetic virtual-service-retry-product "
    "destination-rule-limits destination-rule-ejection virtual-service-idempotent-retries "
    "destination-rule-retry-budget service-mesh-policy",
    "KEDA": "scaled-object-trigger scaled-object-query scaled-object-fallback "
    "scaled-object-fallback-metric",
    "across zones and regions": "survival-zone survival-region",
    "name servers that are lost with a node": "pod-name-lookup",
    "objectives": "objective-rpo objective-rto objective-region-rpo",
}

_ELSEWHERE = {
    "staging equals production; dr mirrors production": "`python -m policies parity`",
    "recovery: an alert for every component, a runbook for every alert, bounds of every action": (
        "not judged yet"
    ),
    "degradation: a flag for every service that is not core, tiers and priorities": (
        "not judged yet"
    ),
}


def markdown() -> Iterator[str]:
    """The comparison as a section of docs/policies.md."""
    yield "\n## What other checkers enforce, and what none does\n"
    yield "The first rows are what Polaris, kube-score, kube-linter, Kyverno, Checkov, Trivy,"
    yield "Datree and Pulumi's compliance policies check between them; from Kafka on, none does.\n"
    yield "| check | rules |"
    yield "|---|---|"
    for rows in (RELIABILITY, SECURITY, OPERATED):
        for check, rules in rows.items():
            yield f"| {check} | {', '.join(f'`{each}`' for each in rules.split())} |"
    for check, place in _ELSEWHERE.items():
        yield f"| {check} | {place} |"
