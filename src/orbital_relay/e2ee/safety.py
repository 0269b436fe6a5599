"""
Safety number (fingerprint): two people compare 60 digits or scan 74 bytes, and detect a key in the middle.

Signal's numeric fingerprint, version 0 with 5,200 rounds of SHA-512. For one device each the digits are libsignal's;
for several the key is the sorted identity keys of the person's devices, one behind the other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from orbital_relay.e2ee.formats.protobuf import Field, Schema, decode, encode
from orbital_relay.e2ee.texts import uuid_bytes

ROUNDS: Final = 5200
VERSION: Final = bytes(2)
SCAN_VERSION: Final = 2
"""Version of the scannable form that belongs to it."""

HALF: Final[Schema] = {1: Field(name="content", type="bytes", length=32, required=True)}
COMBINED: Final[Schema] = {
    1: Field(name="version", type="uint", required=True),
    2: Field(name="local", type="message", schema=HALF, required=True),
    3: Field(name="remote", type="message", schema=HALF, required=True),
}


class SafetyNumber(msgspec.Struct, frozen=True):
    """
    What two people compare.

    Attributes:
        digits: 60 digits, the same for both.
        scannable: 74 bytes for a QR code, each other's mirror.
    """

    digits: str
    scannable: bytes

    @property
    def spaced(self) -> str:
        """The digits as twelve blocks of five, in three lines."""
        blocks = [self.digits[at : at + 5] for at in range(0, 60, 5)]
        return "\n".join(" ".join(blocks[at : at + 4]) for at in range(0, 12, 4))


def _fingerprint(user: str, identities: Sequence[bytes]) -> bytes:
    if not identities:
        raise ValueError(f"{user} has no device to compare")
    key = b"".join(sorted(identities))
    digest = VERSION + key + uuid_bytes(user)
    for _ in range(ROUNDS):
        digest = hashlib.sha512(digest + key).digest()
    return digest


def _digits(fingerprint: bytes) -> str:
    return "".join(f"{int.from_bytes(fingerprint[at : at + 5]) % 100_000:05d}" for at in range(0, 30, 5))


def safety_number(
    user: str, identities: Sequence[bytes], other: str, other_identities: Sequence[bytes]
) -> SafetyNumber:
    """
    Compute the safety number of two people, as the first one sees it.

    Args:
        user: A UUID.
        identities: The 33-byte keys of the person's devices, at least one.
        other: The other person's UUID.
        other_identities: The other person's keys.

    Raises:
        ValueError: If a person has no device.
    """
    mine, theirs = _fingerprint(user, identities), _fingerprint(other, other_identities)
    halves = {"version": SCAN_VERSION, "local": {"content": mine[:32]}, "remote": {"content": theirs[:32]}}
    return SafetyNumber("".join(sorted((_digits(mine), _digits(theirs)))), encode(COMBINED, halves))


def matches_scan(own: bytes, scanned: bytes) -> bool:
    """
    Compare what was scanned with one's own scannable bytes.

    Raises:
        E2eeError: `malformed` when what was scanned is no safety number.
    """
    mine, theirs = decode(COMBINED, own), decode(COMBINED, scanned)
    same = hmac.compare_digest(mine["local"]["content"], theirs["remote"]["content"])
    mirrored = hmac.compare_digest(mine["remote"]["content"], theirs["local"]["content"])
    return bool(mine["version"] == theirs["version"] and same and mirrored)
