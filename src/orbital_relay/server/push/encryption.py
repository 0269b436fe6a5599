"""Encryption of push messages: `aes128gcm` with the keys of a subscription (RFC 8188, RFC 8291)."""

from __future__ import annotations

import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orbital_relay.model import PushTarget

MESSAGE_BYTES: Final = 4096
"""RFC 8030 §7.2: a push service must accept a message of this size, and may refuse a larger one."""
_HEADER_BYTES: Final = 16 + 4 + 1 + 65
"""RFC 8188 §2.1: salt, record size, size of the key, key."""
_TAG_BYTES: Final = 16
PAYLOAD_BYTES: Final = MESSAGE_BYTES - _HEADER_BYTES - _TAG_BYTES - 1
"""Largest payload; one byte ends it (RFC 8188 §2)."""
PADDED_BYTES: Final = 512
"""Payloads are padded to a multiple of this, so that a push service does not learn how long a message is."""


def seal(
    payload: bytes,
    target: PushTarget,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
    padded_bytes: int = PADDED_BYTES,
) -> bytes:
    """
    Encrypt a payload for a device.

    Args:
        payload: At most `PAYLOAD_BYTES`.
        target: Whose keys.
        key: The key of this message alone; a new one by default.
        salt: 16 bytes; random by default.
        padded_bytes: The payload is padded to a multiple of this; 1 pads nothing.

    Raises:
        ValueError: If the payload is too large, or `p256dh` is not a point of P-256.
    """
    if len(payload) > PAYLOAD_BYTES:
        raise ValueError(f"a payload of {len(payload)} bytes is larger than {PAYLOAD_BYTES}")
    key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    salt = os.urandom(16) if salt is None else salt
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), target.p256dh))
    # RFC 8291 §3.4.
    secret = _derive(shared, salt=target.auth, info=b"WebPush: info\0" + target.p256dh + public, size=32)
    content_key = _derive(secret, salt=salt, info=b"Content-Encoding: aes128gcm\0", size=16)
    nonce = _derive(secret, salt=salt, info=b"Content-Encoding: nonce\0", size=12)
    sealed = AESGCM(content_key).encrypt(
        nonce, payload + b"\x02" + bytes(_padding(len(payload) + 1, padded_bytes)), None
    )
    return salt + MESSAGE_BYTES.to_bytes(4) + bytes([len(public)]) + public + sealed


def _padding(size: int, multiple: int) -> int:
    return min(-(-size // multiple) * multiple, PAYLOAD_BYTES + 1) - size


def _derive(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=info).derive(secret)
