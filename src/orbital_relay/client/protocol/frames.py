"""Decode one frame of the server: envelope, class, and the typed event of a durable frame."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

import msgspec

from orbital_relay import wire
from orbital_relay.client.errors import ClientError
from orbital_relay.client.events import (
    MAX_SEQ,
    Deleted,
    Event,
    IdentityChanged,
    MediaExpired,
    MediaUploaded,
    MemberJoined,
    MemberLeft,
    NewAnnotation,
    NewKeys,
    NewMessage,
    NewRecord,
    NewReply,
    NewThread,
    RoleChanged,
    UnknownEvent,
)
from orbital_relay.core.chain import HASH_LENGTH, digest

# Chapter: the envelope (spec/vectors/frames.json)


class Makes(Enum):
    """What a frame is for a client."""

    EVENT = "event"
    EPHEMERAL = "ephemeral"
    PING = "ping"
    CONTROL = "control"
    IGNORED = "ignored"


class Frame(msgspec.Struct, frozen=True):
    """A parsed frame; `data` is the text of its member. `seq`, `group_id` and `prev` belong to a durable event."""

    makes: Makes
    type: str
    data: bytes
    server_timestamp: int = 0
    group_id: str = ""
    seq: int = 0
    prev: str | None = None
    reply_to: str | int | None = None


class BadFrame(ClientError):
    """What came is not a frame; the text says why."""


class _Envelope(msgspec.Struct):
    """The members of any frame of the server, as loosely as the protocol allows."""

    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    server_timestamp: Any = 0
    group_id: Any = None
    seq: Any = msgspec.UNSET
    prev: Any = msgspec.UNSET
    reply_to: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode
"""Read any JSON object."""
_HASH: Final = re.compile(rf"[A-Za-z0-9_-]{{{HASH_LENGTH}}}")

_CONTROL: Final = frozenset(
    {"auth_success", "subscribed", "unsubscribed", "error", "token_expiring", "authenticated", "posted"}
)
_EPHEMERAL: Final = frozenset({"typing_indicator", wire.KeysLow.kind, wire.StateChanged.kind, *wire.EVENTS})


def read_frame(text: bytes) -> Frame:
    """
    Take a text frame of the server apart.

    Args:
        text: The UTF-8 text, byte for byte.

    Raises:
        BadFrame: If it is not a frame, as spec/vectors/README.md defines it.
    """
    try:
        envelope = _decode_envelope(text)
        data = bytes(envelope.data)
        decode_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadFrame(f"This is not a frame: {exc}.") from exc
    if not envelope.type:
        raise BadFrame("The frame's type is empty.")
    stamp = envelope.server_timestamp if isinstance(envelope.server_timestamp, int) else 0
    if envelope.seq is not msgspec.UNSET:
        _check_durable(envelope)
        prev = None if envelope.prev is msgspec.UNSET else envelope.prev
        return Frame(Makes.EVENT, envelope.type, data, stamp, envelope.group_id, envelope.seq, prev)
    if envelope.type == "ping":
        makes = Makes.PING
    elif envelope.type in _CONTROL:
        makes = Makes.CONTROL
    elif envelope.type in _EPHEMERAL:
        makes = Makes.EPHEMERAL
    else:
        makes = Makes.IGNORED
    return Frame(makes, envelope.type, data, stamp, reply_to=envelope.reply_to)


def _check_durable(envelope: _Envelope) -> None:
    """Refuse a durable frame whose place in the order cannot be read."""
    if type(envelope.seq) is not int or not 1 <= envelope.seq <= MAX_SEQ:
        raise BadFrame("The frame's seq is not an integer from 1 to 2^53 - 1.")
    if not isinstance(envelope.group_id, str) or not envelope.group_id:
        raise BadFrame("The frame has a seq and no group_id.")
    if envelope.prev is not msgspec.UNSET and (
        not isinstance(envelope.prev, str) or _HASH.fullmatch(envelope.prev) is None
    ):
        raise BadFrame("The frame's prev is not a hash.")


_CLASSES: Final[dict[str, tuple[type[Any], msgspec.json.Decoder[Any]]]] = {
    wire.NewMessage.kind: (NewMessage, msgspec.json.Decoder(wire.NewMessage)),
    wire.NewThread.kind: (NewThread, msgspec.json.Decoder(wire.NewThread)),
    wire.NewReply.kind: (NewReply, msgspec.json.Decoder(wire.NewReply)),
    wire.NewAnnotation.kind: (NewAnnotation, msgspec.json.Decoder(wire.NewAnnotation)),
    wire.MediaUploaded.kind: (MediaUploaded, msgspec.json.Decoder(wire.MediaUploaded)),
    wire.MediaExpired.kind: (MediaExpired, msgspec.json.Decoder(wire.MediaExpired)),
    wire.MemberJoined.kind: (MemberJoined, msgspec.json.Decoder(wire.MemberJoined)),
    wire.MemberLeft.kind: (MemberLeft, msgspec.json.Decoder(wire.MemberLeft)),
    wire.IdentityChanged.kind: (IdentityChanged, msgspec.json.Decoder(wire.IdentityChanged)),
    wire.NewKeys.kind: (NewKeys, msgspec.json.Decoder(wire.NewKeys)),
    wire.NewRecord.kind: (NewRecord, msgspec.json.Decoder(wire.NewRecord)),
    wire.Deleted.kind: (Deleted, msgspec.json.Decoder(wire.Deleted)),
    wire.RoleChanged.kind: (RoleChanged, msgspec.json.Decoder(wire.RoleChanged)),
}


def event_of(frame: Frame, text: bytes) -> Event:
    """
    Make the typed event of a durable frame.

    One of a type of the future, or with data that this version cannot read, is an UnknownEvent: it keeps its place.

    Args:
        frame: What `read_frame` made of it.
        text: The frame's text, byte for byte.
    """
    known = _CLASSES.get(frame.type)
    hash_ = digest(text)
    if known is not None:
        cls, decoder = known
        try:
            event: Event = cls(
                group_id=frame.group_id,
                seq=frame.seq,
                server_timestamp=frame.server_timestamp,
                prev=frame.prev,
                hash=hash_,
                frame=text,
                data=decoder.decode(frame.data),
            )
        except msgspec.ValidationError:
            pass
        else:
            return event
    return UnknownEvent(
        group_id=frame.group_id,
        seq=frame.seq,
        server_timestamp=frame.server_timestamp,
        prev=frame.prev,
        hash=hash_,
        frame=text,
        kind=frame.type,
        data=decode_object(frame.data),
    )
