"""Certificates of a small authority, for tests of TLS: `python -m tests.beds.certificates DIRECTORY` makes the usual ones and prints their paths.

Each is NAME.pem (its chain, leaf first) and NAME.key in one directory; an authority's own is NAME.pem.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "example.org"
SPIFFE_ID = f"spiffe://{TRUST_DOMAIN}/ns/lab/sa/operator"
DNS_NAME = "operator.example.org"
COMMON_NAME = "operator"
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's file and its key's."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """Certificate and key."""
        return self.certificate.read_bytes(), self.key.read_bytes()


class Authority:
    """Signs certificates, and keeps them in a directory. `parent` signs its own; else it is a root."""

    def __init__(self, directory: Path, name: str = "ca", parent: Authority | None = None) -> None:
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"virtrpc tests' {name}")])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = directory / f"{name}.pem"
        signer = parent or self
        made = _begun(self.name, signer.name, self.key, datetime.now(UTC) - DAY, 30 * DAY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(_usage(ca=True), critical=True)
        own = made.sign(signer.key, SHA256()).public_bytes(Encoding.PEM)
        self.chain: bytes = b"" if parent is None else own + parent.chain
        """What a client sends after its own certificate."""
        self.path.write_bytes(own)

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        common_name: str = "",
        begins: datetime | None = None,
        lasts: timedelta = 2 * DAY,
        server: bool = False,
        client: bool | None = None,
    ) -> Pair:
        """NAME.pem and NAME.key, with these names in it; it `begins` a day ago. A second one of a name takes the first's place.

        It is a `client`'s where it is no `server`'s; a proxy's is both.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        made = _begun(subject, self.name, key, begins or datetime.now(UTC) - DAY, lasts)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
        purposes += [ExtendedKeyUsageOID.CLIENT_AUTH] if client or (client is None and not server) else []
        made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False).add_extension(_usage(ca=False), critical=True)
        names: list[x509.GeneralName] = [
            *map(x509.DNSName, dns),
            *map(x509.UniformResourceIdentifier, uris),
            *(x509.IPAddress(ip_address(ip)) for ip in ips),
        ]
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = Pair(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        _put(pair.certificate, made.sign(self.key, SHA256()).public_bytes(Encoding.PEM) + self.chain)
        _put(pair.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def server(self, name: str = "server") -> Pair:
        """A server's, for this machine under its usual names and virtrpc.test."""
        return self.issue(name, dns=("localhost", "virtrpc.test"), ips=("127.0.0.1", "::1"), server=True)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The usual ones."""

    ca: Path
    """The authority that servers and clients trust."""
    server: Pair
    client: Pair
    """A client with SPIFFE_ID."""
    dns: Pair
    """One with DNS_NAME only."""
    cn: Pair
    """One with COMMON_NAME only."""
    expired: Pair
    """SPIFFE_ID, until yesterday."""
    other_ca: Path
    """An authority that no server trusts."""
    other: Pair
    """SPIFFE_ID, signed by the other authority."""


def make(directory: Path) -> Certificates:
    """The usual ones, in a directory that is made where it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    ca, other = Authority(directory), Authority(directory, "other-ca")
    long_ago = datetime.now(UTC) - 3 * DAY
    return Certificates(
        ca=ca.path,
        server=ca.server(),
        client=ca.issue("client", uris=[SPIFFE_ID]),
        dns=ca.issue("dns", dns=[DNS_NAME]),
        cn=ca.issue("cn", common_name=COMMON_NAME),
        expired=ca.issue("expired", uris=[SPIFFE_ID], begins=long_ago, lasts=2 * DAY),
        other_ca=other.path,
        other=other.issue("other", uris=[SPIFFE_ID]),
    )


def _put(path: Path, data: bytes) -> None:
    """A new file in an old one's place: written into that, it could have the same size, and the same time by a clock that ticks rarely."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, lasts: timedelta) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return made.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(begins + lasts)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    for path in (
        made.ca,
        *(path for pair in (made.server, made.client, made.dns, made.cn, made.expired, made.other) for path in (pair.certificate, pair.key)),
    ):
        print(path)
