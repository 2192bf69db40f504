"""Encryption of Neo4j: one certificate for all servers of a database, and what it is used for.

cert-manager has it signed by the issuer that the settings name, and renews it. Clients see it over
Bolt and verify it; servers show it to each other, and to whoever takes backups, and take nobody who
shows none. Why so: docs/decisions/neo4j-tls.md.
"""

from __future__ import annotations

from typing import Final

from components import parts

FOLDER: Final = "/etc/neo4j-tls"
"""Where servers and backups find the files that `volume` holds."""

_VOLUME: Final = "tls"
_KEY, _CERTIFICATE, _TRUSTED = "private.key", "public.crt", "trusted"

VALID_DAYS: Final = 365
RENEWED_DAYS: Final = 90
"""Before its end a certificate is renewed. A server shows the new one from its next start on, so
this is how long a start may be away: node images are mostly replaced once a month."""


def bolt() -> dict[str, str]:
    """What a server is told of its clients' connections."""
    return {"server.bolt.tls_level": "REQUIRED", **_policy("bolt", "NONE")}


def between_servers() -> dict[str, str]:
    """What a server is told of the others, and of those who take backups."""
    return {**_policy("cluster", "REQUIRE"), **backup()}


def backup() -> dict[str, str]:
    """What both ends of a backup are told: each shows a certificate, and wants to see one."""
    return _policy("backup", "REQUIRE")


def _policy(scope: str, client_auth: str) -> dict[str, str]:
    told = {
        "enabled": "true",
        "base_directory": FOLDER,
        "private_key": _KEY,
        "public_certificate": _CERTIFICATE,
        "client_auth": client_auth,
    }
    if client_auth == "REQUIRE":
        told |= {"trusted_dir": _TRUSTED, "verify_hostname": "true"}
    return {f"dbms.ssl.policy.{scope}.{key}": value for key, value in told.items()}


def volume(secret: str) -> parts.Object:
    """The certificate's files, under the names that Neo4j looks for."""
    files = {
        "tls.key": _KEY,
        "tls.crt": _CERTIFICATE,
        "ca.crt": f"{_TRUSTED}/ca.crt",
    }
    items = [{"key": key, "path": path} for key, path in files.items()]
    return {
        "name": _VOLUME,
        "secret": {"secretName": secret, "defaultMode": 0o440, "items": items},
    }


def mount() -> parts.Object:
    """Where a container finds `volume`."""
    return {"name": _VOLUME, "mountPath": FOLDER, "readOnly": True}
