"""The certificates with which CloudNativePG and the Barman Cloud plugin know each other.

Each side trusts exactly the other's certificate, so both sign themselves: no authority is needed.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from components.manifest import Document

VALID_DAYS = 365
RENEW_DAYS = 30
"""A certificate that is valid for no longer than this is replaced."""


@dataclass(frozen=True)
class Identity:
    """Who shows a certificate: its Secret, its name, and what it is for."""

    secret: str
    name: str
    usage: x509.ObjectIdentifier


# The Secrets' names are those in the plugin's manifest; the server's name is its Service's, which
# CloudNativePG verifies.
SERVER = Identity("barman-cloud-server-tls", "barman-cloud", ExtendedKeyUsageOID.SERVER_AUTH)
CLIENT = Identity("barman-cloud-client-tls", "barman-cloud-client", ExtendedKeyUsageOID.CLIENT_AUTH)


def secret(identity: Identity, namespace: str, now: datetime.datetime) -> Document:
    """A Secret with a new key and its certificate, valid from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(identity, key, now)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": identity.secret, "namespace": namespace},
        "data": {
            "tls.crt": _encoded(certificate.public_bytes(serialization.Encoding.PEM)),
            "tls.key": _encoded(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            ),
        },
    }


def is_good(present: Mapping[str, object], now: datetime.datetime) -> bool:
    """Whether a Secret's certificate need not be renewed yet."""
    data = present.get("data")
    if not isinstance(data, Mapping) or not {"tls.crt", "tls.key"} <= data.keys():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    except ValueError:
        return False
    return certificate.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)


def _sign(
    identity: Identity, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([identity.usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identity.name)]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
