"""SenderKeyMessage and SKDM, version 3, byte for byte as libsignal writes them."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode
from orbital_relay.e2ee.formats.schemas import DISTRIBUTION_MESSAGE, SENDER_KEY_MESSAGE, SIGNATURE_BYTES

VERSION_BYTE: Final = 0x33
"""High half: the message's version; low half: the version that its writer has."""
BLOCK_BYTES: Final = 16
"""A block of AES."""


class SenderKeyMessage(msgspec.Struct, frozen=True, kw_only=True):
    """
    A content as it travels.

    Attributes:
        distribution: 16 bytes.
        chain: 31 bits.
        iteration: Of its key.
        ciphertext: Whole blocks of AES.
        signed: The bytes that the signature covers.
        signature: 64 bytes.
    """

    distribution: bytes
    chain: int
    iteration: int
    ciphertext: bytes
    signed: bytes
    signature: bytes


class Skdm(msgspec.Struct, frozen=True, kw_only=True):
    """A sender key distribution message: it gives a chain from one iteration on."""

    distribution: bytes
    chain: int
    iteration: int
    chain_key: bytes
    signing_key: bytes


def sender_key_body(distribution: bytes, chain: int, iteration: int, ciphertext: bytes) -> bytes:
    """Return the bytes to sign; the signature follows them."""
    fields = {"distribution": distribution, "chain": chain, "iteration": iteration, "ciphertext": ciphertext}
    return bytes([VERSION_BYTE]) + encode(SENDER_KEY_MESSAGE, fields)


def read_sender_key_message(data: bytes) -> SenderKeyMessage:
    """
    Parse a SenderKeyMessage. Its signature is not verified here.

    Raises:
        E2eeError: `unsupported` for another version byte, `malformed`.
    """
    _check_version(data, "a SenderKeyMessage")
    if len(data) < 1 + SIGNATURE_BYTES:
        raise E2eeError("malformed", "a SenderKeyMessage shorter than its signature")
    signed = data[:-SIGNATURE_BYTES]
    fields = decode(SENDER_KEY_MESSAGE, signed[1:])
    length = len(fields["ciphertext"])
    if length == 0 or length % BLOCK_BYTES:
        raise E2eeError("malformed", f"a ciphertext of {length} bytes is not made of whole blocks")
    return SenderKeyMessage(**fields, signed=signed, signature=data[-SIGNATURE_BYTES:])


def write_skdm(skdm: Skdm) -> bytes:
    """Write a distribution message."""
    return bytes([VERSION_BYTE]) + encode(DISTRIBUTION_MESSAGE, msgspec.structs.asdict(skdm))


def read_skdm(data: bytes) -> Skdm:
    """
    Parse a distribution message. Its signing key is not checked here.

    Raises:
        E2eeError: `unsupported` for another version byte, `malformed`.
    """
    _check_version(data, "a distribution message")
    return Skdm(**decode(DISTRIBUTION_MESSAGE, data[1:]))


def _check_version(data: bytes, what: str) -> None:
    if data[:1] != bytes([VERSION_BYTE]):
        found = str(data[0]) if data else "missing"
        raise E2eeError("unsupported", f"{what} of version byte {found}, not {VERSION_BYTE}")
