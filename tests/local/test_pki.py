"""Certificates: verified by their authority, private, and stable."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from local.pki import Pki

pytestmark = pytest.mark.unit


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.ensure()
    return made


@pytest.mark.parametrize("identity", ["server", "etcd", "admin", "scheduler", "etcd-client"])
def test_every_certificate_is_signed_by_the_authority(pki: Pki, identity: str) -> None:
    authority = x509.load_pem_x509_certificate(pki.authority.read_bytes())
    certificate = x509.load_pem_x509_certificate(pki.certificate(identity).read_bytes())
    certificate.verify_directly_issued_by(authority)


def test_openssl_accepts_the_chain(pki: Pki) -> None:
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", pki.authority, pki.certificate("server")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_the_administrator_is_of_the_group_that_may_do_all(pki: Pki) -> None:
    certificate = x509.load_pem_x509_certificate(pki.certificate("admin").read_bytes())
    groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [group.value for group in groups] == ["system:masters"]


def test_private_keys_are_readable_by_their_owner_alone(pki: Pki) -> None:
    assert {path.stat().st_mode & 0o777 for path in pki.folder.glob("*.key")} == {0o600}


def test_what_is_there_stays(pki: Pki) -> None:
    before = pki.authority.read_bytes()
    pki.ensure()
    assert pki.authority.read_bytes() == before
