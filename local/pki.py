"""A certificate authority for one local cluster, and the certificates that its parts show.

Everything is made once per cluster and lies in one folder, readable by its owner alone. Identities
are Kubernetes' own: the common name is the user, the organisation the group.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.files import write_whole

VALID_DAYS = 3650

_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SERVER_ADDRESSES = ("127.0.0.1", "10.96.0.1", "198.18.0.1")
"""On this machine, as a Service of the cluster, and in the network of real nodes."""

_CLIENTS = {
    "admin": ("local-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kwok": ("local-kwok", "system:masters"),
    "etcd-client": ("kube-apiserver", ""),
    "kubelet-client": ("local-kube-apiserver", "system:masters"),
    "front-proxy": ("front-proxy", ""),
    "proxy": ("system:kube-proxy", ""),
}


@dataclass(frozen=True)
class Pki:
    """The folder of one cluster's keys and certificates."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that clients verify the servers with."""
        return self.folder / "ca.crt"

    def certificate(self, name: str) -> Path:
        """The certificate of one identity, such as `admin` or `server`."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key of one identity."""
        return self.folder / f"{name}.key"

    def ensure(self) -> None:
        """Make what is missing; what is there stays, so that kubeconfigs in use stay valid."""
        self.ensure_authority()
        server = [
            (_usage(ExtendedKeyUsageOID.SERVER_AUTH), False),
            (_names(_SERVER_NAMES, _SERVER_ADDRESSES), False),
        ]
        self._issue("server", _name("kube-apiserver", ""), server)
        self._issue("etcd", _name("etcd", ""), server)
        for identity, (user, group) in _CLIENTS.items():
            self._issue(identity, _name(user, group), _CLIENT)
        if not self.key("service-account").exists():
            self._write_private("service-account", ec.generate_private_key(ec.SECP256R1()))

    def ensure_authority(self) -> None:
        """Make the authority alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.authority.exists():
            self._make_authority()

    def ensure_member(self, name: str, user: str, hosts: Sequence[str]) -> None:
        """Make what one of several equals shows, be it server or client of another.

        Args:
            name: of the files.
            user: its common name.
            hosts: the names that it is reached by; none for a client.
        """
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.ExtendedKeyUsage(purposes), False)
        ]
        if hosts:
            extensions.append((_names(hosts, []), False))
        self._issue(name, _name(user, ""), extensions)

    def ensure_node(self, name: str, address: str) -> None:
        """Make what a node shows: to the API server (`<name>`), and as one (`<name>-serving`)."""
        self._issue(name, _name(f"system:node:{name}", "system:nodes"), _CLIENT)
        serving = [
            (_usage(ExtendedKeyUsageOID.SERVER_AUTH), False),
            (_names([name], [address]), False),
        ]
        self._issue(f"{name}-serving", _name(name, ""), serving)

    def _make_authority(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("local-ca", "")
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_key_usage(authority=True), True),
        ]
        self._write("ca", _sign(name, key, name, key, extensions), key)

    def _issue(
        self,
        identity: str,
        subject: x509.Name,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> None:
        """Sign a certificate for an identity that has none yet."""
        if self.certificate(identity).exists():
            return
        authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        authority_key = serialization.load_pem_private_key(self.key("ca").read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)  # noqa: S101, made here
        key = ec.generate_private_key(ec.SECP256R1())
        usual: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(authority=False), True),
        ]
        certificate = _sign(subject, key, authority.subject, authority_key, [*usual, *extensions])
        self._write(identity, certificate, key)

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self._write_private(name, key)
        text = certificate.public_bytes(serialization.Encoding.PEM)
        write_whole(self.certificate(name), text)

    def _write_private(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        write_whole(self.key(name), text, mode=0o600)


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str, organisation: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _names(names: Sequence[str], addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    known: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    known += [x509.IPAddress(ipaddress.ip_address(text)) for text in addresses]
    return x509.SubjectAlternativeName(known)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


_CLIENT: list[tuple[x509.ExtensionType, bool]] = [(_usage(ExtendedKeyUsageOID.CLIENT_AUTH), False)]
