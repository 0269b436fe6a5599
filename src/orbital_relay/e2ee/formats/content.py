"""What is encrypted: a kind, the place it belongs to, a body, and where its sender stood in the log; padded."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.protobuf import decode, encode
from orbital_relay.e2ee.formats.schemas import CONTENT
from orbital_relay.e2ee.texts import uuid_bytes, uuid_text

PAD_BYTES: Final = 160
"""Lengths are whole multiples of this after PKCS#7; the padding leaves room for its one byte."""


class ContentKind(IntEnum):
    """
    Kinds of content.

    The context is: of a message 16 random bytes, of title and body the same 16 random bytes, of a reply its thread, of
    media its id, of an annotation its target.
    """

    MESSAGE = 1
    TITLE = 2
    BODY = 3
    REPLY = 4
    MEDIA = 5
    NAME = 6
    ANNOTATION = 7


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One content.

    Attributes:
        kind: A ContentKind; other numbers are free.
        group: Its group.
        context: 16 bytes.
        at: The sender's clock, milliseconds since the epoch: shown, never trusted.
        body: What is said.
        head_seq: The group's last event that the sender has processed.
        head_hash: The first 16 bytes of that frame's hash.
        nonce: 16 bytes, the same on every retry of one draft.
    """

    kind: int
    group: str
    context: bytes
    at: int
    body: bytes
    head_seq: int | None = None
    head_hash: bytes | None = None
    nonce: bytes


def write_content(content: Content) -> bytes:
    """Write a content, padded to 160·n - 1 bytes."""
    data = encode(CONTENT, {**msgspec.structs.asdict(content), "group": uuid_bytes(content.group)})
    length = -(-(len(data) + 2) // PAD_BYTES) * PAD_BYTES - 1
    return (data + b"\x80").ljust(length, b"\0")


def read_content(padded: bytes) -> Content:
    """
    Parse a content.

    Raises:
        E2eeError: `malformed`, also when the padding or the length is not as `write_content` makes it.
    """
    if (len(padded) + 1) % PAD_BYTES:
        raise E2eeError("malformed", f"content of {len(padded)} bytes is not padded to a multiple of {PAD_BYTES}")
    marked = padded.rstrip(b"\0")
    if not marked.endswith(b"\x80"):
        raise E2eeError("malformed", "content without the mark of its padding")
    fields = decode(CONTENT, marked[:-1])
    return Content(**{**fields, "group": uuid_text(fields["group"])})
