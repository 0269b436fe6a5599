"""TLS: certificate files, reloaded without a restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509

from orbital_relay.config import Settings
from orbital_relay.errors import SettingsInvalid

log = logging.getLogger("orbital.server")

HANDSHAKE_S: Final = 10.0
"""How long a client may take for the TLS handshake, in seconds; a slow mobile network needs three."""


class Certificate:
    """
    The certificate that new connections are shown.

    Args:
        cert: PEM file of the certificate with its chain.
        key: PEM file of the private key; None if `cert` holds it too.

    Raises:
        SettingsInvalid: If they cannot be read or do not belong together.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert = cert
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §2: TLS 1.0 and 1.1 are not used.
        self.context.set_alpn_protocols(["http/1.1"])
        self._load(self.context)

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """Return the settings' certificate; None if the server speaks plain HTTP."""
        return None if settings.tls_cert is None else cls(settings.tls_cert, settings.tls_key)

    def reload(self) -> None:
        """
        Read the files again for connections that come from now on; open ones continue.

        Files that cannot be used are logged, and the certificate before them stays.
        """
        try:
            # On a context of its own first: a half-written pair must not become the one that is shown.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            expires = self._load(self.context)
        except SettingsInvalid as exc:
            log.error(  # noqa: TRY400 - the operator's files, not an internal bug
                "the certificate was not renewed; the one before stays", extra={"reason": str(exc)}
            )
            return
        log.info("certificate read", extra={"file": str(self._cert), "expires": expires})

    def _load(self, context: ssl.SSLContext) -> str:
        """Load the pair into a context, and return when the certificate ends."""

        def refuse_password() -> str:
            raise SettingsInvalid(
                f"The private key {self._key or self._cert} has a password, which nobody can type for a server. "
                "Store it without one (openssl pkey -in FILE -out NEW), readable by the server's user alone."
            )

        pem = _read("ORBITAL_TLS_CERT", self._cert)
        if self._key is not None:
            _read("ORBITAL_TLS_KEY", self._key)
        try:
            expires = x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
        except ValueError as exc:
            raise SettingsInvalid(f"ORBITAL_TLS_CERT, {self._cert}, contains no certificate in PEM form.") from exc
        try:
            context.load_cert_chain(self._cert, self._key, refuse_password)
        except ssl.SSLError as exc:
            raise SettingsInvalid(
                f"ORBITAL_TLS_CERT, {self._cert}, and ORBITAL_TLS_KEY, {self._key or 'not set'}, are no pair: "
                f"{exc.reason or exc}. The first holds the certificate with its chain, the second its private key."
            ) from exc
        return expires.isoformat()


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsInvalid(f"{name}, {path}, cannot be read: {exc.strerror}.") from exc
