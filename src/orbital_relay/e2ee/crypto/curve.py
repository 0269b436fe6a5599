"""
Curve25519 keys that sign, as Signal's XEdDSA specification has them.

A public key is the u-coordinate behind the type byte 0x05, and the sign of the Edwards point is in the top bit of
the signature, which Ed25519 leaves unused. The signing itself is the library's Ed25519. What is computed here handles
public values only, so its time reveals nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orbital_relay.e2ee.errors import E2eeError

KEY_TYPE: Final = 0x05
"""First byte of a serialized Curve25519 public key."""
SIGN_BIT: Final = 0x80
P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Order of the base point (RFC 8032 §5.1)."""
LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""The u-coordinates of low order on the curve and its twist (RFC 7748 §6.1 and §7)."""
IMPORTED: Final = 256
"""Public keys kept in their Edwards form: the conversion costs more than a verification."""


def check_public_key(key: bytes) -> int:
    """
    Check a serialized public key: type byte, length, canonical encoding, no point of low order.

    Returns:
        Its u-coordinate.

    Raises:
        E2eeError: `bad_key`.
    """
    if len(key) != 33 or key[0] != KEY_TYPE:
        raise E2eeError("bad_key", f"not a Curve25519 public key: {len(key)} bytes, first {key[:1].hex() or 'missing'}")
    u = int.from_bytes(key[1:], "little")
    if u >= P:
        raise E2eeError("bad_key", "a public key that is not in its canonical form")
    if u in LOW_ORDER:
        raise E2eeError("bad_key", "a public key of low order")
    return u


def to_curve(edwards: bytes) -> bytes:
    """Return the 33 bytes of an Ed25519 public key's Curve25519 form: u = (1 + y) / (1 - y)."""
    y = int.from_bytes(edwards, "little") & (2**255 - 1)
    u = (1 + y) * pow(1 - y, -1, P) % P
    return bytes([KEY_TYPE]) + u.to_bytes(32, "little")


@lru_cache(maxsize=IMPORTED)
def _edwards(key: bytes, sign: int) -> Ed25519PublicKey:
    """Return the Ed25519 form of a public key: y = (u - 1) / (u + 1)."""
    u = check_public_key(key)
    y = (u - 1) * pow(u + 1, -1, P) % P
    return Ed25519PublicKey.from_public_bytes((y | sign << 248).to_bytes(32, "little"))


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """
    Verify an XEdDSA signature. S ≥ ℓ is refused, which Ed25519 libraries do not all do.

    Args:
        key: 33 bytes.
        message: What was signed.
        signature: 64 bytes.

    Returns:
        Whether it is valid; False for a bad key too.
    """
    if len(signature) != 64:
        return False
    sign = signature[63] & SIGN_BIT
    plain = signature[:63] + bytes([signature[63] & ~SIGN_BIT])
    if int.from_bytes(plain[32:], "little") >= ORDER:
        return False
    try:
        _edwards(key, sign).verify(plain, message)
    except (E2eeError, InvalidSignature, ValueError):
        return False
    return True


class SigningKey(msgspec.Struct, frozen=True):
    """
    A key that signs, as it is stored.

    Attributes:
        seed: 32 bytes, private.
        edwards: Its Ed25519 public key.
    """

    seed: bytes
    edwards: bytes

    @classmethod
    def of_seed(cls, seed: bytes) -> SigningKey:
        """Restore a key from its seed of 32 bytes."""
        return cls(seed, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key."""
        return cls.of_seed(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public_key(self) -> bytes:
        """Its Curve25519 public key, 33 bytes."""
        return to_curve(self.edwards)

    def sign(self, message: bytes) -> bytes:
        """Sign as XEdDSA does; 64 bytes."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        return signature[:63] + bytes([signature[63] | self.edwards[31] & SIGN_BIT])

    def __repr__(self) -> str:
        return "SigningKey(…)"
