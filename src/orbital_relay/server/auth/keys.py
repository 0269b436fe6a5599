"""
Signing keys and verification keys, each bound to one signature algorithm (RFC 8725 §3.1).

So a public key never becomes the secret of an HMAC.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, get_default_algorithms

from orbital_relay.errors import SettingsInvalid, Unauthorized


def _signatures(name: str, algorithm: Algorithm) -> jwt.PyJWS:
    """Return a reader of signatures that knows one algorithm alone."""
    signatures = jwt.PyJWS(algorithms=[])
    signatures.register_algorithm(name, algorithm)
    return signatures


_PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Key(Protocol):
    """A key with the one algorithm that it is for."""

    algorithm: str

    def open(self, token: str) -> bytes:
        """
        Return the payload of a token that this key signed.

        Raises:
            Unauthorized: If it did not.
        """
        ...


class PublicKey:
    """A public key of an outside identity provider."""

    __slots__ = ("_key", "_signatures", "algorithm")

    def __init__(self, algorithm: str, key: _PublicKey) -> None:
        self.algorithm = algorithm
        self._key = key
        self._signatures = _signatures(algorithm, get_default_algorithms()[algorithm])

    def open(self, token: str) -> bytes:
        """
        Return the payload of a token that this key signed.

        Raises:
            Unauthorized: If it did not.
        """
        try:
            return bytes(
                self._signatures.decode_complete(
                    token,
                    self._key,
                    algorithms=[self.algorithm],
                    options={"enforce_minimum_key_length": True},
                )["payload"]
            )
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            # Which of the library's reasons it was helps only who forges.
            raise Unauthorized("The token's signature is invalid.") from exc


class SecretKey:
    """
    The server's own key, HS256, which also signs.

    Opening a token is on the way of every connection after a restart, and is one HMAC after a strict parse
    (RFC 7515 §5.2): 9 µs where the library needs 24.

    Args:
        secret: What tokens are signed with.
        accepted: A second secret, whose tokens are accepted while one secret replaces the other; it never signs.
    """

    __slots__ = ("_keyed", "algorithm")

    def __init__(self, secret: bytes, accepted: bytes | None = None) -> None:
        self.algorithm = "HS256"
        self._keyed = [hmac.new(each, digestmod="sha256") for each in (secret, accepted) if each is not None]

    def open(self, token: str) -> bytes:
        """
        Return the payload of a token that one of the secrets signed.

        The caller has chosen this key by the token's header, so that `alg` is HS256.

        Raises:
            Unauthorized: If none did, or the header names an extension that must be understood (`crit`).
        """
        signed, _, signature = token.rpartition(".")
        try:
            head, payload = signed.split(".")
            header = _decode_header(_unbase64(head))
            if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
                raise ValueError
            given = _unbase64(signature)
            if not any(hmac.compare_digest(_mac(keyed, signed), given) for keyed in self._keyed):
                raise ValueError
            return _unbase64(payload)
        except (ValueError, RecursionError) as exc:
            raise Unauthorized("The token's signature is invalid.") from exc

    def sign(self, payload: bytes) -> str:
        """Make a token."""
        signed = f"{_HS256}.{_base64(payload)}"
        return f"{signed}.{_base64(_mac(self._keyed[0], signed))}"


def _mac(keyed: hmac.HMAC, signed: str) -> bytes:
    mac = keyed.copy()
    mac.update(signed.encode("ascii"))
    return mac.digest()


class _Extensions(msgspec.Struct):
    """Members of a header that change what is signed, or must be understood (RFC 7515 §4.1.11, RFC 7797 §3)."""

    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_header = msgspec.json.Decoder(_Extensions).decode
_ALPHABET: Final = re.compile(rb"[A-Za-z0-9_-]*")


def _unbase64(text: str) -> bytes:
    """
    Decode base64url without padding (RFC 7515 §2), strictly: a token has one spelling.

    Raises:
        ValueError: If it is anything else.
    """
    raw = text.encode("ascii")
    data = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    if _ALPHABET.fullmatch(raw) is None or urlsafe_b64encode(data).rstrip(b"=") != raw:
        raise ValueError
    return data


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


_HS256: Final = _base64(b'{"alg":"HS256","typ":"JWT"}')
"""The header of each token made here."""


def public_key(key: object) -> PublicKey | None:
    """Tie a public key to the one algorithm that it is for (RFC 7518 §3.3, §3.4; RFC 8037 §3.1); None if to none."""
    match key:
        case rsa.RSAPublicKey() if key.key_size >= 2048:
            return PublicKey("RS256", key)
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return PublicKey("ES256", key)
        case ed25519.Ed25519PublicKey():
            return PublicKey("EdDSA", key)
        case _:
            return None


class OutsideKeys(Protocol):
    """The public keys of an outside identity provider."""

    algorithms: frozenset[str]
    """The algorithms that its keys may have."""

    def now(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key if it is available."""
        ...

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """
        Return the key, fetching keys if need be; None when the provider has no such key.

        Raises:
            Unavailable: If no keys could be fetched yet.
        """
        ...

    async def close(self) -> None:
        """Cancel a fetch that is in progress."""
        ...


class PemKey:
    """
    One public key out of a PEM file, or out of a certificate in one.

    Args:
        pem: The file's text.
        allowed: Algorithms that the settings accept.

    Raises:
        SettingsInvalid: If it holds no key that can be used.
    """

    def __init__(self, pem: bytes, *, allowed: Sequence[str]) -> None:
        name = "ORBITAL_JWT_PUBLIC_KEY_FILE"
        try:
            if b"BEGIN CERTIFICATE" in pem:
                key = public_key(x509.load_pem_x509_certificate(pem).public_key())
            else:
                key = public_key(load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise SettingsInvalid(f"{name} contains no public key in PEM form.") from exc
        if key is None:
            raise SettingsInvalid(
                f"{name} holds a key of a kind that is not used: it must be RSA of at least 2048 bits, "
                "EC on the curve P-256, or Ed25519."
            )
        if key.algorithm not in allowed:
            raise SettingsInvalid(f"{name} holds a key for {key.algorithm}, which ORBITAL_JWT_ALGORITHMS leaves out.")
        self.algorithms = frozenset({key.algorithm})
        self._key = key

    def now(self, algorithm: str, kid: str | None) -> Key | None:  # noqa: ARG002 - one key needs no name
        """Return the key when it is for that algorithm."""
        return self._key if algorithm == self._key.algorithm else None

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key when it is for that algorithm."""
        return self.now(algorithm, kid)

    async def close(self) -> None:
        """Nothing is in progress: the key is available."""
