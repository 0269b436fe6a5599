"""
HPKE, base mode, one message a context (RFC 9180), with X-Wing, HKDF-SHA-256 and AES-256-GCM: suite 0x647A, 1, 2.

All of it is the `cryptography` library's; a private key is stored as the 32 bytes of the draft's seed
(draft-connolly-cfrg-xwing-kem §5.2).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from orbital_relay.e2ee.errors import E2eeError

PUBLIC_BYTES: Final = 1216
ENC_BYTES: Final = 1120
SEED_BYTES: Final = 32
MLKEM_PUBLIC_BYTES: Final = 1184
MLKEM_SEED_BYTES: Final = 64


@lru_cache(maxsize=1)
def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _halves(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """Expand a seed (draft §5.2)."""
    expanded = hashlib.shake_256(seed).digest(MLKEM_SEED_BYTES + 32)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:MLKEM_SEED_BYTES])
    return mlkem, X25519PrivateKey.from_private_bytes(expanded[MLKEM_SEED_BYTES:])


def public_of(seed: bytes) -> bytes:
    """Return the public key of a seed, 1,216 bytes."""
    mlkem, x25519 = _halves(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def seal(public_key: bytes, info: bytes, plain: bytes) -> bytes:
    """
    Seal for the holder of a key.

    Args:
        public_key: 1,216 bytes.
        info: Binds the place.
        plain: What is sealed.

    Returns:
        The encapsulated key (1,120 bytes), and ciphertext and tag behind it.

    Raises:
        E2eeError: `bad_key`, also for an ML-KEM key that fails the modulus check of FIPS 203 and a point of low order.
    """
    if len(public_key) != PUBLIC_BYTES:
        raise E2eeError("bad_key", f"an X-Wing public key has {PUBLIC_BYTES} bytes, not {len(public_key)}")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[MLKEM_PUBLIC_BYTES:]),
        )
        return _suite().encrypt(plain, key, info)
    except ValueError as exc:
        raise E2eeError("bad_key", "ML-KEM-768 or X25519 refused the public key") from exc


def open_sealed(seed: bytes, info: bytes, sealed: bytes) -> bytes:
    """
    Open what `seal` made.

    Raises:
        E2eeError: `cannot_open`, `malformed` when it is too short, `bad_key` for a point of low order.
    """
    if len(sealed) < ENC_BYTES:
        raise E2eeError("malformed", f"an X-Wing ciphertext has {ENC_BYTES} bytes, not {len(sealed)}")
    try:
        return _suite().decrypt(sealed, MLKEM768X25519PrivateKey(*_halves(seed)), info)
    except InvalidTag as exc:
        raise E2eeError(
            "cannot_open",
            "a delivery that does not open: it was made for another key, place or group, or changed in transit",
        ) from exc
    except ValueError as exc:
        raise E2eeError("bad_key", "X25519 refused the public key") from exc
