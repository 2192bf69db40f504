"""Keys and certificates of one cluster: made once, kept beside the control plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from local.pki import Pki


def ensure(folder: Path) -> Pki:
    """The authority of a cluster that keeps its keys in this folder."""
    pki = Pki(folder)
    pki.ensure_authority()
    return pki


def certificate(pki: Pki, name: str, common: str, hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key of a member, made if need be; Kafka reads keys as PKCS #8 alone.

    Args:
        pki: the cluster's.
        name: of the files.
        common: its common name, by which Kafka knows a user.
        hosts: the names it is reached by; none for a client.
    """
    pki.ensure_member(name, common, hosts)
    key = serialization.load_pem_private_key(pki.key(name).read_bytes(), None)
    return pki.certificate(name).read_bytes(), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
