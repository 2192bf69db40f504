"""Certificates that cert-manager has signed, and renews, for servers whose clients verify them."""

from __future__ import annotations

from collections.abc import Iterable

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from components import parts
from components.alerts import Alert, Severity
from stacks.values import DAY


def certificate(
    resource: str,
    metadata: parts.Object,
    issuer: str,
    hosts: Iterable[str],
    opts: pulumi.ResourceOptions,
    *,
    days: int,
    renewed_days: int,
) -> CustomResource:
    """Ask for a Secret with `tls.crt`, `tls.key` (PKCS #8) and `ca.crt`.

    Args:
        resource: name of the resource in the stack.
        metadata: of the Certificate; its name is the Secret's.
        issuer: name of the ClusterIssuer.
        hosts: every name that the servers are connected to by.
        opts: of the resource.
        days: how long it is valid.
        renewed_days: how long before its end there is another.
    """
    return CustomResource(
        resource,
        api_version="cert-manager.io/v1",
        kind="Certificate",
        metadata=metadata,
        spec={
            "secretName": metadata["name"],
            "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": issuer},
            "dnsNames": list(hosts),
            # Servers are each other's clients.
            "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
            "duration": f"{days * 24}h0m0s",
            "renewBefore": f"{renewed_days * 24}h0m0s",
            "privateKey": {
                "algorithm": "RSA",
                "encoding": "PKCS8",
                "size": 3072,
                "rotationPolicy": "Always",
            },
        },
        opts=opts,
    )


def told(what: str, name: str, namespace: str) -> str:
    """A metric of cert-manager, however its own namespace is told apart when it is scraped.

    Args:
        what: of the metric's name, after `certmanager_certificate_`.
        name: of the Certificate.
        namespace: likewise.
    """
    both = (
        f'certmanager_certificate_{what}{{name="{name}",{label}="{namespace}"}}'
        for label in ("exported_namespace", "namespace")
    )
    return f"({' or '.join(both)})"


def not_renewed(alert: str, name: str, namespace: str, days: int, runbook: str) -> Alert:
    """Watch that a certificate does not end, and that somebody knows when it does.

    Args:
        alert: its name.
        name: of the Certificate.
        namespace: likewise.
        days: before its end, by when it should have been renewed.
        runbook: page below `docs/runbooks/`.
    """
    ends = f"max({told('not_after_timestamp_seconds', name, namespace)})"
    unknown = f"absent({told('ready_status', name, namespace)})"
    return Alert(
        alert,
        f"{ends} - time() < {days * DAY} or {unknown}",
        600,
        Severity.WARNING,
        f"The certificate ends within {days} days, or cert-manager knows of none",
        runbook,
    )
