"""
Keys that check signatures, each tied to the one algorithm of its kind (RFC 8725 §3.1).

So a public key never becomes the secret of an HMAC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms

from orbital_relay.errors import SettingsInvalid, Unauthorized


class _Hmac(HMACAlgorithm):
    """
    HS256 with a secret that was looked at once, when the server started.

    The library asks of every single token whether the secret looks like a public key; here no public key can get in.
    """

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)

    def prepare_key(self, key: str | bytes) -> bytes:
        """Take the secret as it is."""
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: bytes) -> str | None:  # noqa: ARG002 - a short secret was reported at the start
        """Do not repeat at each token what was said at the start."""
        return None


def _signatures(name: str, algorithm: Algorithm) -> jwt.PyJWS:
    """Return a reader of signatures that knows one algorithm alone."""
    signatures = jwt.PyJWS(algorithms=[])
    signatures.register_algorithm(name, algorithm)
    return signatures


_AnyKey: TypeAlias = bytes | rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Key:
    """A key with the one algorithm that it is for."""

    __slots__ = ("_key", "_signatures", "algorithm")

    def __init__(self, algorithm: str, key: _AnyKey, *, how: Algorithm | None = None) -> None:
        self.algorithm = algorithm
        self._key = key
        self._signatures = _signatures(algorithm, how or get_default_algorithms()[algorithm])

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
                    options={"enforce_minimum_key_length": self.algorithm != "HS256"},
                )["payload"]
            )
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            # Which of the library's reasons it was helps only who forges.
            raise Unauthorized("The token's signature is invalid.") from exc


class SecretKey(Key):
    """
    The server's own key, which also signs.

    Args:
        secret: What tokens are signed with.
        accepted: A second secret, whose tokens are accepted while one secret replaces the other; it never signs.
    """

    __slots__ = ("_accepted", "_secret")

    def __init__(self, secret: bytes, accepted: bytes | None = None) -> None:
        super().__init__("HS256", secret, how=_Hmac())
        self._secret = secret
        self._accepted = None if accepted is None else Key("HS256", accepted, how=_Hmac())

    def open(self, token: str) -> bytes:
        """
        Return the payload of a token that one of the secrets signed.

        Raises:
            Unauthorized: If none did.
        """
        try:
            return super().open(token)
        except Unauthorized:
            if self._accepted is None:
                raise
            return self._accepted.open(token)

    def sign(self, payload: bytes) -> str:
        """Make a token."""
        return self._signatures.encode(payload, self._secret, algorithm=self.algorithm)


def public_key(key: object) -> Key | None:
    """Tie a public key to the one algorithm that it is for (RFC 7518 §3.3, §3.4; RFC 8037 §3.1); None if to none."""
    match key:
        case rsa.RSAPublicKey() if key.key_size >= 2048:
            return Key("RS256", key)
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return Key("ES256", key)
        case ed25519.Ed25519PublicKey():
            return Key("EdDSA", key)
        case _:
            return None


class OutsideKeys(Protocol):
    """The public keys of an outside identity provider."""

    algorithms: frozenset[str]
    """The algorithms that its keys may have."""

    def now(self, algorithm: str, kid: str | None) -> Key | None:
        """Return the key if it is at hand."""
        ...

    async def find(self, algorithm: str, kid: str | None) -> Key | None:
        """
        Return the key, fetching keys if need be; None when the provider has no such key.

        Raises:
            Unavailable: If no keys could be fetched yet.
        """
        ...

    async def close(self) -> None:
        """Cancel a fetch that is under way."""
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
            raise SettingsInvalid(f"{name} holds no public key in PEM form.") from exc
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
        """Nothing is under way: the key is at hand."""
