"""What is watched of a Kafka cluster, and when a person is called.

Names of metrics are those of Strimzi 1.2's metrics reporter, Kafka Exporter and cluster operator.
"""

from __future__ import annotations

from components import certificates, strimzi
from components.alerts import Alert, Severity, volume_filling
from stacks.values import DAY

_CERTIFICATE_DAYS = 21
"""Strimzi and cert-manager renew 30 days ahead: after that, renewal has failed for a week."""

_CONSUMER_MINUTES = 10
_LAG = 10_000


def of(
    name: str, namespace: str, brokers: int, controllers: int, *, issued: bool = False
) -> list[Alert]:
    """Every alert of a cluster.

    Args:
        name: of the cluster.
        namespace: where it runs.
        brokers: how many there should be.
        controllers: how many there should be.
        issued: whether services are shown a certificate of cert-manager's.
    """
    found = [
        *_servers(name, namespace, brokers, controllers),
        *_partitions(name, namespace),
        *_consumers(name, namespace),
        *_slowly(name, namespace),
    ]
    if issued:
        found.append(
            certificates.not_renewed(
                "KafkaCertificateNotRenewed",
                strimzi.tls_secret(name),
                namespace,
                _CERTIFICATE_DAYS,
                "kafka.md#certificates",
            )
        )
    return found


def _servers(name: str, namespace: str, brokers: int, controllers: int) -> list[Alert]:
    def up(role: str) -> str:
        return (
            f'(count(up{{namespace="{namespace}",pod=~"{name}-{role}-[0-9]+"}} == 1) or vector(0))'
        )

    return [
        Alert(
            "KafkaBrokerDown",
            f"{up('broker')} < {brokers}",
            120,
            Severity.WARNING,
            f"{{{{ $value }}}} of {brokers} brokers answer",
            "kafka.md#broker-down",
        ),
        Alert(
            "KafkaControllersWithoutMajority",
            f"{up('controller')} < {controllers // 2 + 1}",
            30,
            Severity.CRITICAL,
            f"{{{{ $value }}}} of {controllers} controllers answer: no leader can be elected",
            "kafka.md#controllers",
        ),
        Alert(
            "KafkaActiveControllers",
            "sum(kafka_controller_kafkacontroller_activecontrollercount"
            f'{{namespace="{namespace}",pod=~"{name}-.*"}}) != 1',
            30,
            Severity.CRITICAL,
            "There are {{ $value }} active controllers instead of one",
            "kafka.md#controllers",
        ),
    ]


def _partitions(name: str, namespace: str) -> list[Alert]:
    pods = f'namespace="{namespace}",pod=~"{name}-.*"'
    return [
        Alert(
            "KafkaOfflinePartitions",
            f"max(kafka_controller_kafkacontroller_offlinepartitionscount{{{pods}}}) > 0",
            30,
            Severity.CRITICAL,
            "{{ $value }} partitions have no leader: nobody reads or writes them",
            "kafka.md#offline-partitions",
        ),
        Alert(
            "KafkaUnderMinIsr",
            f"sum(kafka_server_replicamanager_underminisrpartitioncount{{{pods}}}) > 0",
            30,
            Severity.CRITICAL,
            "{{ $value }} partitions have too few copies in sync: they refuse writes",
            "kafka.md#under-min-isr",
        ),
        Alert(
            "KafkaUnderReplicated",
            f"sum(kafka_server_replicamanager_underreplicatedpartitions{{{pods}}}) > 0",
            300,
            Severity.WARNING,
            "{{ $value }} partitions lack a copy: the next failure may stop writes",
            "kafka.md#under-replicated",
        ),
    ]


def _consumers(name: str, namespace: str) -> list[Alert]:
    exporter = f'namespace="{namespace}",pod=~"{name}-kafka-exporter-.*"'
    lag = f"sum by (consumergroup, topic) (kafka_consumergroup_lag{{{exporter}}})"
    moved = (
        "sum by (consumergroup, topic) "
        f"(increase(kafka_consumergroup_current_offset{{{exporter}}}[{_CONSUMER_MINUTES}m]))"
    )
    return [
        Alert(
            "KafkaConsumerStuck",
            f"{lag} > 0 and {moved} == 0",
            300,
            Severity.WARNING,
            "{{ $labels.consumergroup }} no longer reads {{ $labels.topic }}",
            "kafka.md#consumer-lag",
        ),
        Alert(
            "KafkaConsumerLag",
            f"{lag} > {_LAG}",
            600,
            Severity.WARNING,
            "{{ $labels.consumergroup }} is {{ $value }} records behind in {{ $labels.topic }}",
            "kafka.md#consumer-lag",
        ),
    ]


def _slowly(name: str, namespace: str) -> list[Alert]:
    volumes = f'namespace="{namespace}",persistentvolumeclaim=~"data-0-{name}-.*"'
    ends = (
        "strimzi_certificate_expiration_timestamp_ms"
        f'{{cluster="{name}",resource_namespace="{namespace}"}}'
    )
    return [
        volume_filling("KafkaDiskFilling", volumes, "kafka.md#disk", Severity.CRITICAL, 300),
        Alert(
            "KafkaCertificateExpires",
            f"{ends} / 1000 - time() < {_CERTIFICATE_DAYS * DAY} or absent({ends})",
            300,
            Severity.CRITICAL,
            "The certificate {{ $labels.type }} was not renewed, or nobody reads the operator's "
            "metrics: no client or server trusts the others once it has expired",
            "kafka.md#certificates",
        ),
    ]
