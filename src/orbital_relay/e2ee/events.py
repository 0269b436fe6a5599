"""The events of the log that the encryption layer reads: which fields are encrypted, and what each must hold."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from orbital_relay.e2ee.errors import E2eeError
from orbital_relay.e2ee.formats.content import Content, ContentKind
from orbital_relay.e2ee.formats.envelope import read_envelope
from orbital_relay.e2ee.formats.sender_key import SenderKeyMessage, read_sender_key_message
from orbital_relay.e2ee.rows import Item, ItemStatus, LogEvent
from orbital_relay.e2ee.texts import from_base64

FREE: Final = ""
SHARED: Final = "="


class EventPart(msgspec.Struct, frozen=True):
    """
    An encrypted field.

    Attributes:
        field: Its name.
        kind: The kind of content that it must hold.
        context: Where its context stands: in a field of the event, in the part before it (SHARED), or nowhere (FREE).
    """

    field: str
    kind: ContentKind
    context: str = FREE


class ContentEvent(msgspec.Struct, frozen=True):
    """An event with encrypted fields, and the field that names its author."""

    author: str
    parts: tuple[EventPart, ...]


CONTENT_EVENTS: Final[dict[str, ContentEvent]] = {
    "new_message": ContentEvent("sender_id", (EventPart("encrypted_envelope", ContentKind.MESSAGE),)),
    "new_thread": ContentEvent(
        "author_id",
        (EventPart("encrypted_title", ContentKind.TITLE), EventPart("encrypted_body", ContentKind.BODY, SHARED)),
    ),
    "new_reply": ContentEvent("author_id", (EventPart("encrypted_body", ContentKind.REPLY, "thread_id"),)),
    "media_uploaded": ContentEvent("author_id", (EventPart("encrypted_metadata", ContentKind.MEDIA, "media_id"),)),
    "new_annotation": ContentEvent("author_id", (EventPart("encrypted_body", ContentKind.ANNOTATION, "target_id"),)),
}

EPOCH_EVENTS: Final = frozenset({"member_joined", "member_left", "identity_changed", "new_record"})
"""Events that change the members, or the devices that may be given keys."""


class ReadPart(msgspec.Struct, frozen=True):
    """An encrypted field, parsed."""

    field: str
    message: SenderKeyMessage


def bytes_of(value: object) -> bytes | None:
    """Return the bytes of what the server sends as base64; None when it is not: no event may stop the log."""
    if not isinstance(value, str):
        return None
    try:
        return from_base64(value)
    except ValueError:
        return None


def parse_parts(event: LogEvent) -> list[ReadPart] | Literal["unreadable", "other_version"]:
    """Parse the messages of an event's encrypted fields; or name why they cannot be parsed."""
    fields = event.fields
    parts = []
    for part in CONTENT_EVENTS[event.type].parts:
        data = bytes_of(fields.get(part.field))
        if data is None:
            return "unreadable"
        try:
            content = read_envelope(data).content
            if content is None:
                return "unreadable"
            parts.append(ReadPart(part.field, read_sender_key_message(content)))
        except E2eeError as exc:
            return "other_version" if exc.code == "unsupported" else "unreadable"
    return parts


def item_of(event: LogEvent, author: str, status: ItemStatus, **more: Any) -> Item:
    """Make the item of an event."""
    encrypted = {part.field for part in CONTENT_EVENTS[event.type].parts}
    plain = {name: value for name, value in event.fields.items() if name not in encrypted}
    data = LogEvent.of(group_id="", seq=0, type="", data=plain, hash="").data
    return Item(
        group=event.group_id,
        seq=event.seq,
        hash=event.hash,
        type=event.type,
        status=status,
        author=author,
        data=data,
        **more,
    )


def is_in_place(event: LogEvent, contents: list[Content]) -> bool:
    """Return whether kind, group and context of decrypted contents are the event's."""
    fields = event.fields
    for part, content in zip(CONTENT_EVENTS[event.type].parts, contents, strict=True):
        if content.kind != part.kind or content.group != event.group_id:
            return False
        if part.context == SHARED and content.context != contents[0].context:
            return False
        if part.context not in {FREE, SHARED}:
            named = fields.get(part.context)
            if not isinstance(named, str) or content.context.hex() != named.replace("-", ""):
                return False
    return True
