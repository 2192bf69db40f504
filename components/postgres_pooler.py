"""The poolers in front of a PostgreSQL cluster: PgBouncers that lead to whoever is primary.

As in `components/parts.py`, nothing here registers a resource.
"""

from __future__ import annotations

from typing import Final

from components import parts

METRICS_PORT: Final = 9127

_INSTANCES = 3
_CPU, _MEMORY = "100m", "128Mi"
_POOL_SIZE, _POOL_CLIENTS = 25, 1000
"""Connections of each pooler to a database, and of clients to the pooler."""
_OWN_CONNECTIONS = 25
"""Of standbys, operator, backups and people: with one database, 100 in all as PostgreSQL has it."""

_PATIENCE = {
    # After a failed login, by default, clients are refused for 15 s: longer than a failover takes.
    "server_login_retry": "1",
    "server_connect_timeout": "3",
    # A server that vanished without a word is noticed within 8 s instead of two hours, and one
    # that does not acknowledge what was sent within 5 s.
    "tcp_keepidle": "5",
    "tcp_keepintvl": "1",
    "tcp_keepcnt": "3",
    "tcp_user_timeout": "5000",
}
"""How long a pooler bears with a server that does not answer, in seconds (the last: ms)."""


def name_of(cluster: str) -> str:
    """Name the poolers of a cluster, and their Service."""
    return f"{cluster}-pooler"


def selector(cluster: str) -> dict[str, str]:
    """Select the poolers' Pods."""
    return {"cnpg.io/poolerName": name_of(cluster)}


def connections(databases: int) -> int:
    """How many the server must allow.

    Each pooler holds a pool for each database; the rest is for whoever looks after them.
    """
    return _INSTANCES * _POOL_SIZE * databases + _OWN_CONNECTIONS


def spec(cluster: str, priority_class: str) -> parts.Object:
    """Spec of the Pooler."""
    return {
        "cluster": {"name": cluster},
        "type": "rw",
        "instances": _INSTANCES,
        "deploymentStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "pgbouncer": {
            "poolMode": "transaction",
            "parameters": {
                "default_pool_size": str(_POOL_SIZE),
                "max_client_conn": str(_POOL_CLIENTS),
                # Lets drivers that prepare statements work with pooled transactions.
                "max_prepared_statements": "100",
                **_PATIENCE,
            },
        },
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/part-of": "platform"}},
            "spec": {
                "priorityClassName": priority_class,
                "tolerations": parts.tolerations(),
                "dnsConfig": parts.dns(),
                "topologySpreadConstraints": parts.spread(selector(cluster)),
                "containers": [
                    {
                        "name": "pgbouncer",
                        "resources": parts.container_resources(_CPU, _MEMORY),
                    }
                ],
            },
        },
    }
