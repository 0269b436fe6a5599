"""Invite links: after the `#` stand the invite secret and the hash of the founder's identity key, 43 letters."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from orbital_relay.e2ee.crypto.mac import sha256
from orbital_relay.e2ee.formats.schemas import HASH_BYTES, SECRET_BYTES
from orbital_relay.e2ee.texts import from_base64, to_base64url

TEXT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Invite(msgspec.Struct, frozen=True):
    """
    What an invite link carries.

    Attributes:
        secret: The invite secret, 16 bytes.
        founder: The first 16 bytes of the SHA-256 of the founder's identity key.
    """

    secret: bytes
    founder: bytes

    def __repr__(self) -> str:
        return f"Invite(founder={self.founder.hex()})"


def founder_hash(identity: bytes) -> bytes:
    """Return the 16 bytes by which an invite names the founder's identity key."""
    return sha256(identity)[:HASH_BYTES]


def write_invite(invite: Invite) -> str:
    """Return the 43 letters of an invite."""
    return to_base64url(invite.secret + invite.founder)


def read_invite(text: str) -> Invite | None:
    """Read an invite; white space is skipped. None when it is not one."""
    bare = "".join(text.split())
    if TEXT.fullmatch(bare) is None:
        return None
    data = from_base64(bare)
    # The last letter carries two bits too many; another spelling of the same bytes is not accepted.
    return Invite(data[:SECRET_BYTES], data[SECRET_BYTES:]) if to_base64url(data) == bare else None
