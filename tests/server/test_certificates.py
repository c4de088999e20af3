"""Whose a certificate is, by what stands in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from tests.beds.certificates import Authority
from virtrpc_server.certificates import subject_of

ID = "spiffe://example.org/admin"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs what is asked."""
    return Authority(tmp_path_factory.mktemp("ca"))


def names(ca: Authority, *, common_names: bool = True, **fields: Any) -> tuple[str, ...]:
    """The names of a certificate with these fields."""
    return subject_of(ca.issue("some", **fields).certificate.read_bytes(), common_names).names


def test_spiffe_comes_first_and_cn_last(ca: Authority) -> None:
    """All names count; the SPIFFE id is the caller's own, then other URIs, DNS names, and the CN."""
    made = names(ca, uris=["https://example.org/x", ID], dns=["A.example.org"], common_name="operator")
    assert made == (ID, "https://example.org/x", "dns:a.example.org", "cn:operator")
    assert names(ca, dns=["a"], common_name="operator", common_names=False) == ("dns:a",)


@pytest.mark.parametrize("text", [ID, "unix", "tcp", f"cn:{ID}", "dns:a"])
def test_no_name_passes_for_one_of_another_kind(ca: Authority, text: str) -> None:
    """A CN, or a DNS name, that looks like a SPIFFE id or a caller of another way stays what it is."""
    assert names(ca, common_name=text) == (f"cn:{text}",)
    assert all(name.startswith("dns:") for name in names(ca, dns=[text]))


@pytest.mark.parametrize("uri", ["dns:a.example.org", "cn:root", "jwt:x", "group:admin", "unix", "SPIFFE://example.org/admin", "spiffe:x", "a b:c"])
def test_a_uri_of_a_reserved_kind_is_nobody(ca: Authority, uri: str) -> None:
    """A URI does not pass for a DNS name, a CN, a token's subject or a malformed SPIFFE id."""
    assert names(ca, uris=[uri]) == ()


@pytest.mark.parametrize(
    "uri",
    ["spiffe://example.org", "spiffe://example.org/", "spiffe:///admin", "spiffe://example.org/a/../admin", "spiffe://example.org//admin",
     "spiffe://example.org/admin?x", "spiffe://user@example.org/admin", "spiffe://example.org:1/admin", "spiffe://example.org/%61dmin"],
)  # fmt: skip
def test_what_is_no_spiffe_id_is_nobody(ca: Authority, uri: str) -> None:
    """SPIFFE ids are taken as the standard writes them, and in no other form."""
    assert names(ca, uris=[uri]) == ()


def test_two_spiffe_ids_are_nobody(ca: Authority) -> None:
    """A certificate with two SPIFFE ids names nobody, not even by its other names."""
    assert names(ca, uris=[ID, "spiffe://example.org/viewer"], dns=["a"], common_name="b") == ()


def test_more_names_than_anybody_has_are_nobody(ca: Authority) -> None:
    """Names beyond what is looked at are not left out silently: a rule could be meant for one of them."""
    assert len(names(ca, dns=[f"n{number}" for number in range(32)])) == 32
    assert names(ca, dns=[f"n{number}" for number in range(33)]) == ()


@pytest.mark.parametrize("text", [" a", "a ", "a\nb", "a\x00b", "\u202eabc"])
def test_a_cn_that_cannot_be_shown_is_nobody(ca: Authority, text: str) -> None:
    """A CN that would look like another one is none."""
    assert names(ca, common_name=text) == ()


def test_what_is_no_certificate_is_nobodys() -> None:
    """Nor does it end as a fault of this server's."""
    assert subject_of(b"nonsense", True).names == ()


@pytest.mark.parametrize("names_in_it", [b"\x30\x03\x99\x01A", b"\x30\x04\xa3\x02\x30\x00", b"\x30\x05\x86\x03\xff\xfe\xfd", b"\x30\x05\x87\x03abc"])
def test_names_that_cannot_be_read_are_nobodys(names_in_it: bytes) -> None:
    """TLS takes such a certificate, whose other name is the CN; it is not taken for that."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2049, 1, 1, tzinfo=UTC))
    builder = builder.add_extension(x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names_in_it), critical=False)
    assert subject_of(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), True).names == ()
