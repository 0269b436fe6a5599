"""VAPID: the server's identification to push services (RFC 8292)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from orbital_relay.ports import Clock

LIFE_S: Final = 12 * 3600
"""How long a token holds; RFC 8292 §2 allows 24 hours."""
FRESH_S: Final = 3600
"""A token is used for so long: services with a clock that is wrong by hours accept it."""
MOST_TOKENS: Final = 100
"""Push services whose tokens are kept; there are some five."""


def new_private_key() -> bytes:
    """Make a key pair; return it as it is stored (PKCS #8)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class Vapid:
    """
    Signs tokens for push services. Its text never shows the private key.

    Args:
        private_key: As `new_private_key` made it.
        contact: Where the operator can be reached: a `mailto:` or `https:` URL.
        clock: The time.

    Attributes:
        public_key: The public key in base64url.
    """

    def __init__(self, private_key: bytes, *, contact: str, clock: Clock) -> None:
        key = load_der_private_key(private_key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the stored VAPID key is not one of P-256")
        self._key = key
        self._contact = contact
        self._clock = clock
        self._tokens: dict[str, tuple[float, str]] = {}
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public_key = urlsafe_b64encode(point).rstrip(b"=").decode()

    def authorization(self, endpoint: str) -> str:
        """Return the `Authorization` header for a push service (RFC 8292 §3)."""
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        now_s = self._clock.wall_ms() / 1000
        made_s, token = self._tokens.get(origin, (0.0, ""))
        if not 0 <= now_s - made_s < FRESH_S:
            if len(self._tokens) >= MOST_TOKENS:
                self._tokens.clear()
            claims = {"aud": origin, "exp": int(now_s) + LIFE_S, "sub": self._contact}
            token = jwt.encode(claims, self._key, algorithm="ES256")
            self._tokens[origin] = now_s, token
        return f"vapid t={token}, k={self.public_key}"
