"""The plugin's certificates: both sides accept each other, nobody else, and they are renewed."""

from __future__ import annotations

import base64
import datetime
import ssl
from pathlib import Path

import pytest

from components.manifest import Document
from local.addons.certificates import CLIENT, SERVER, Identity, is_good, secret

pytestmark = pytest.mark.unit

NOW = datetime.datetime.now(datetime.UTC)


def files(folder: Path, name: str, body: Document) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(base64.b64decode(body["data"]["tls.crt"]))
    key.write_bytes(base64.b64decode(body["data"]["tls.key"]))
    return certificate, key


def shake_hands(folder: Path, shown_by_client: Document, trusted_client: Document) -> None:
    """A TLS handshake in memory, both sides verified, as operator and plugin do it."""
    server = files(folder, "server", secret(SERVER, "here", NOW))
    trusted = files(folder, "trusted", trusted_client)
    client = files(folder, "client", shown_by_client)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.verify_mode = ssl.CERT_REQUIRED
    accepting.load_cert_chain(*server)
    accepting.load_verify_locations(trusted[0])
    calling = ssl.create_default_context(cafile=str(server[0]))
    calling.load_cert_chain(*client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        accepting.wrap_bio(to_server, to_client, server_side=True),
        calling.wrap_bio(to_client, to_server, server_hostname="barman-cloud"),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].getpeercert() is not None


def test_operator_and_plugin_accept_each_other(tmp_path: Path) -> None:
    client = secret(CLIENT, "here", NOW)
    shake_hands(tmp_path, client, client)


def test_another_client_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, secret(CLIENT, "here", NOW), secret(CLIENT, "here", NOW))


@pytest.mark.parametrize("identity", [SERVER, CLIENT])
def test_a_secret_is_named_as_the_plugins_manifest_expects(identity: Identity) -> None:
    body = secret(identity, "here", NOW)
    assert body["metadata"] == {"name": identity.secret, "namespace": "here"}
    assert body["type"] == "kubernetes.io/tls"


def test_a_new_certificate_is_kept() -> None:
    assert is_good(secret(SERVER, "here", NOW), NOW)


@pytest.mark.parametrize(("days", "kept"), [(334, True), (336, False), (400, False)])
def test_a_certificate_is_kept_until_a_month_before_its_end(days: int, kept: bool) -> None:
    later = NOW + datetime.timedelta(days=days)
    assert is_good(secret(SERVER, "here", NOW), later) is kept


@pytest.mark.parametrize(
    "damaged", [{}, {"data": {}}, {"data": {"tls.crt": "bm9uc2Vuc2U=", "tls.key": ""}}]
)
def test_a_damaged_secret_is_made_anew(damaged: Document) -> None:
    assert not is_good(damaged, NOW)
