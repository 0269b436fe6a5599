"""HMAC-SHA-256, HKDF-SHA-256, AES-256-GCM and AES-256-CBC, in the forms that the formats use."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from orbital_relay.e2ee.errors import E2eeError

BLOCK_BITS: Final = 128


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """Return 32 bytes (RFC 2104)."""
    return hmac.digest(key, message, "sha256")


def hkdf(material: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive `length` bytes (RFC 5869); an empty salt counts as 32 zeros."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(material)


def sha256(data: bytes) -> bytes:
    """Return 32 bytes."""
    return hashlib.sha256(data).digest()


def gcm_seal(key: bytes, nonce: bytes, plain: bytes, aad: bytes | None = None) -> bytes:
    """Return ciphertext and tag. A nonce of 12 bytes never comes twice with one key."""
    return AESGCM(key).encrypt(nonce, plain, aad)


def gcm_open(key: bytes, nonce: bytes, sealed: bytes, aad: bytes | None = None) -> bytes:
    """
    Open what `gcm_seal` made.

    Raises:
        E2eeError: `cannot_open`.
    """
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag as exc:
        raise E2eeError("cannot_open", "a ciphertext that does not open: another key, or changed in transit") from exc


def cbc_encrypt(key: bytes, iv: bytes, plain: bytes) -> bytes:
    """Encrypt by AES-256-CBC with PKCS#7."""
    padder = PKCS7(BLOCK_BITS).padder()
    encryptor = Cipher(AES256(key), CBC(iv)).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """
    Decrypt AES-256-CBC with PKCS#7. The caller has verified a signature over the ciphertext before.

    Raises:
        E2eeError: `cannot_open` when the padding is not PKCS#7.
    """
    decryptor = Cipher(AES256(key), CBC(iv)).decryptor()
    unpadder = PKCS7(BLOCK_BITS).unpadder()
    try:
        return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
    except ValueError as exc:
        raise E2eeError("cannot_open", "the message does not decrypt") from exc
