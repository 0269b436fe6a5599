"""A certificate authority of the tests' own, which issues certificates as a public one does."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """
    A root certificate, in `root.pem` of a folder, and what it signs.

    Args:
        folder: Where its files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        self._name = _named("The tests' own authority")
        made = (
            x509.CertificateBuilder(self._name, self._name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_signs_certificates(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.root.write_bytes(made.public_bytes(_PEM))

    @property
    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=self.root)

    def issue(self, cert: Path, key: Path, *names: str, ends_h: float = 24) -> int:
        """
        Write a certificate for names and addresses, and its key; return the serial number.

        It ends in `ends_h` hours; negative for one that has ended.

        `cert` and `key` may be the same file, which then holds both.
        """
        private = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder(self._name, _named(names[0]), private.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(hours=ends_h))
            .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
            # Python 3.13 and later refuse a chain without it (RFC 5280 §4.2.1.1).
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secret = private.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        cert.write_bytes(made.public_bytes(_PEM))
        if cert == key:
            cert.write_bytes(cert.read_bytes() + secret)
        else:
            key.write_bytes(secret)
        return made.serial_number


def _signs_certificates() -> x509.KeyUsage:
    """Return the usage of a key that signs certificates, and nothing else."""
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def serial_of(host: str, port: int, trust: ssl.SSLContext) -> int:
    """Return the serial number of the certificate that a server shows to a new client."""
    with (
        socket.create_connection((host, port), timeout=60) as line,
        trust.wrap_socket(line, server_hostname=host) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number
