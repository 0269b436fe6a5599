"""What goes over the socket: the frames of both directions, and the making of durable ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import msgspec

from orbital_relay.errors import ValidationFailed
from orbital_relay.explain import explain, field_of

# Chapter: values


def iso(at_ms: int) -> str:
    """Write a moment, milliseconds since the epoch, as RFC 3339 in UTC with `Z` and milliseconds."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


_ENCRYPTED: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}|[A-Za-z0-9_-]+={0,2}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Return whether `text` is a UUID as the protocol writes them: lower case, with hyphens."""
    return _UUID.fullmatch(text) is not None


def read_uuid(text: str) -> str | None:
    """Return a UUID as the protocol writes it, from one in any case (RFC 9562 §4); None if it is not one."""
    if is_uuid(text):
        return text
    # Only ASCII: some letters of other scripts have a lower case inside it.
    lower = text.lower() if text.isascii() else ""
    return lower if is_uuid(lower) else None


def decoded_size(text: str) -> int:
    """Return how many bytes the base64 `text` stands for, without decoding it."""
    return len(text.rstrip("=")) * 3 // 4


def is_base64(text: str) -> bool:
    """
    Return whether `text` is base64 of at least one byte.

    Standard or URL-safe alphabet, not both; padding may be left out, but not be wrong (RFC 4648 §3.2, §4, §5).
    """
    if _ENCRYPTED.fullmatch(text) is None:
        return False
    body = len(text.rstrip("="))
    padding = len(text) - body
    return body % 4 != 1 and (padding == 0 or (body + padding) % 4 == 0)


# Chapter: durable events, as their `data` stands on the wire


class NewMessage(msgspec.Struct, frozen=True):
    """A Signal Protocol envelope was posted."""

    kind: ClassVar = "new_message"

    message_id: str
    conversation_id: str
    encrypted_envelope: str
    server_timestamp: int
    sender_id: str


class NewThread(msgspec.Struct, frozen=True, omit_defaults=True):
    """A thread was opened; `root_message_id` stands there when its author named a message."""

    kind: ClassVar = "new_thread"

    thread_id: str
    group_id: str
    author_id: str
    author_username: str
    encrypted_title: str
    encrypted_body: str
    created_at: str
    root_message_id: str | None = None


class NewReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply was written in a thread; `message_id` stands there when its author named a message."""

    kind: ClassVar = "new_reply"

    reply_id: str
    thread_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    created_at: str
    message_id: str | None = None


class MediaUploaded(msgspec.Struct, frozen=True):
    """A photo or video is there, whole, until `expires_at`."""

    kind: ClassVar = "media_uploaded"

    media_id: str
    thread_id: str
    author_id: str
    encrypted_metadata: str
    size_bytes: int
    expires_at: str


class MediaExpired(msgspec.Struct, frozen=True):
    """The server no longer has the bytes; who has not fetched them asks a member."""

    kind: ClassVar = "media_expired"

    media_id: str
    thread_id: str
    expired_at: str


class MemberJoined(msgspec.Struct, frozen=True):
    """Somebody is in the group now; number 1 of a group is its creator's."""

    kind: ClassVar = "member_joined"

    group_id: str
    user_id: str
    username: str
    joined_at: str


class MemberLeft(msgspec.Struct, frozen=True):
    """Somebody is no longer in the group; `reason` is `left` or `removed`."""

    kind: ClassVar = "member_left"

    group_id: str
    user_id: str
    username: str
    left_at: str
    reason: str


EventData = NewMessage | NewThread | NewReply | MediaUploaded | MediaExpired | MemberJoined | MemberLeft

EVENTS: Final[dict[str, type[EventData]]] = {
    cls.kind: cls for cls in (NewMessage, NewThread, NewReply, MediaUploaded, MediaExpired, MemberJoined, MemberLeft)
}

_encode = msgspec.json.Encoder().encode
_HEADS: Final = {kind: b'{"type":"%b","data":' % kind.encode() for kind in EVENTS}


def seal(data: EventData, *, group_id: str, seq: int, stamp_ms: int, prev: str) -> bytes:
    """
    Make the text of a durable frame, once and for ever.

    The order of its members is fixed, so that `prev` always ends the text (core/chain.py reads it there).

    Args:
        data: The event.
        group_id: Its group.
        seq: Its number in the group.
        stamp_ms: Its `server_timestamp`.
        prev: The hash of the frame before, or of the group's id for number 1.
    """
    tail = f',"server_timestamp":{stamp_ms},"group_id":"{group_id}","seq":{seq},"prev":"{prev}"}}'
    return b"".join((_HEADS[data.kind], _encode(data), tail.encode()))


def kind_of(frame: bytes) -> str:
    """Return the `type` of a frame that `seal` made."""
    return frame[9 : frame.index(b'"', 9)].decode()


class _DurableFrame(msgspec.Struct):
    """The members of a durable frame that a reader of the log takes apart."""

    type: str
    data: msgspec.Raw
    server_timestamp: int
    group_id: str
    seq: int
    prev: str


_decode_durable = msgspec.json.Decoder(_DurableFrame).decode
_decode_member_left = msgspec.json.Decoder(MemberLeft).decode
_decode_member_joined = msgspec.json.Decoder(MemberJoined).decode


def open_frame(frame: bytes) -> _DurableFrame:
    """Take a durable frame apart; `data` stays as it was written."""
    return _decode_durable(frame)


def event_data(frame: bytes) -> EventData:
    """Return the typed `data` of a durable frame."""
    parts = _decode_durable(frame)
    return msgspec.json.decode(parts.data, type=EVENTS[parts.type])


# Chapter: the server's other frames


class GroupState(msgspec.Struct, omit_defaults=True):
    """Where a group stands for a connection that subscribes; `recovered` only when `since` was given."""

    seq: int
    recovered: bool | msgspec.UnsetType = msgspec.UNSET


class AuthSuccess(msgspec.Struct):
    """The first frame."""

    kind: ClassVar = "auth_success"

    user_id: str
    username: str
    connected_at: str
    session_id: str
    heartbeat_seconds: float
    max_frame_bytes: int
    expires_at: str


class Subscribed(msgspec.Struct):
    """The answer to `subscribe`."""

    kind: ClassVar = "subscribed"

    group_ids: list[str]
    subscribed_at: str
    groups: dict[str, GroupState]


class Unsubscribed(msgspec.Struct):
    """The connection is no longer subscribed to these groups: `requested`, `left` or `removed`."""

    kind: ClassVar = "unsubscribed"

    group_ids: list[str]
    reason: str


class Ping(msgspec.Struct):
    """Asks for a `pong`."""

    kind: ClassVar = "ping"

    server_time: int


class TypingIndicator(msgspec.Struct):
    """Somebody writes in a thread, or stopped."""

    kind: ClassVar = "typing_indicator"

    thread_id: str
    user_id: str
    username: str
    is_typing: bool


class TokenExpiring(msgspec.Struct):
    """The token ends soon; `authenticate` with a newer one keeps the connection."""

    kind: ClassVar = "token_expiring"

    expires_at: str


class Authenticated(msgspec.Struct):
    """The newer token holds."""

    kind: ClassVar = "authenticated"

    expires_at: str


ReplyTo = str | int | msgspec.Raw | None
"""The `id` of the frame that is answered; as it was written, when it is too long for an integer of Python's."""

ServerData = AuthSuccess | Subscribed | Unsubscribed | Ping | TypingIndicator | TokenExpiring | Authenticated


def frame(data: ServerData, *, stamp_ms: int, reply_to: ReplyTo = None) -> bytes:
    """Make the text of a frame that is not durable."""
    return _frame(data.kind, _encode(data), stamp_ms, reply_to)


def posted_frame(receipt: msgspec.Struct | None, *, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    """Make the `posted` frame, whose data is the body that answers the same POST over HTTP."""
    return _frame("posted", _encode(receipt), stamp_ms, reply_to)


def error_frame(code: str, message: str, details: dict[str, Any], *, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    """Make an `error` frame; `details` stand beside `code` and `message`."""
    return _frame("error", _encode({"code": code, "message": message, **details}), stamp_ms, reply_to)


def _frame(kind: str, data: bytes, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    tail = b"" if reply_to is None else b',"reply_to":' + _encode(reply_to)
    return b'{"type":"%b","data":%b,"server_timestamp":%d%b}' % (kind.encode(), data, stamp_ms, tail)


# Chapter: the client's frames

FrameId = Annotated[str, msgspec.Meta(max_length=64)] | int


class SinceHash(msgspec.Struct):
    """A position with the hash of its frame."""

    seq: Annotated[int, msgspec.Meta(ge=0)]
    hash: str | None = None


class SubscribeData(msgspec.Struct):
    """What `subscribe` asks for."""

    group_ids: list[str]
    since: dict[str, Annotated[int, msgspec.Meta(ge=0)] | SinceHash] | None = None


class UnsubscribeData(msgspec.Struct):
    """What `unsubscribe` asks for."""

    group_ids: list[str]


class TypingData(msgspec.Struct):
    """What a client says of its own typing; anything else in it is not believed."""

    thread_id: str
    is_typing: bool


class AuthenticateData(msgspec.Struct):
    """A newer token of the same user."""

    token: str


class Subscribe(msgspec.Struct, tag_field="type", tag="subscribe"):
    """Subscribes the connection to groups."""

    data: SubscribeData
    id: FrameId | None = None


class Unsubscribe(msgspec.Struct, tag_field="type", tag="unsubscribe"):
    """Removes groups."""

    data: UnsubscribeData
    id: FrameId | None = None


class Pong(msgspec.Struct, tag_field="type", tag="pong"):
    """Proves life; what its `data` holds does not matter."""

    id: FrameId | None = None


class Typing(msgspec.Struct, tag_field="type", tag="typing_indicator"):
    """The user writes in a thread, or stopped."""

    data: TypingData
    id: FrameId | None = None


class Authenticate(msgspec.Struct, tag_field="type", tag="authenticate"):
    """Carries a newer token."""

    data: AuthenticateData
    id: FrameId | None = None


ABSENT: Final = msgspec.Raw()
"""Stands for the `data` of a post that brought none: the use case refuses it, so that its answer waits for its turn."""


class PostMessageFrame(msgspec.Struct, tag_field="type", tag="post_message"):
    """The body of `POST /v1/messages`, and perhaps an `idempotency_key`."""

    data: msgspec.Raw = ABSENT
    id: FrameId | None = None


class PostThreadFrame(msgspec.Struct, tag_field="type", tag="post_thread"):
    """The body of `POST /api/threads`, and perhaps an `idempotency_key`."""

    data: msgspec.Raw = ABSENT
    id: FrameId | None = None


class PostReplyFrame(msgspec.Struct, tag_field="type", tag="post_reply"):
    """The body of `POST /api/threads/{thread_id}/replies` with `thread_id`, and perhaps an `idempotency_key`."""

    data: msgspec.Raw = ABSENT
    id: FrameId | None = None


PostFrame = PostMessageFrame | PostThreadFrame | PostReplyFrame
ClientFrame = (
    Subscribe | Unsubscribe | Pong | Typing | Authenticate | PostMessageFrame | PostThreadFrame | PostReplyFrame
)

_decode_client: Callable[[bytes], ClientFrame] = msgspec.json.Decoder(ClientFrame).decode


class _IdOnly(msgspec.Struct):
    id: FrameId | None = None


class _RawIdOnly(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")


_decode_id = msgspec.json.Decoder(_IdOnly).decode
_decode_raw_id = msgspec.json.Decoder(_RawIdOnly).decode
_INTEGER: Final = re.compile(rb"-?[0-9]+")


def decode(text: bytes) -> ClientFrame:
    """
    Read a client's frame.

    Raises:
        ValidationFailed: If it is not JSON, has no known `type`, or the wrong `data`; the text says which.
    """
    try:
        return _decode_client(text)
    except (ValueError, RecursionError) as exc:
        raise ValidationFailed(explain(exc), field=field_of(exc)) from exc


def id_of(text: bytes) -> ReplyTo:
    """
    Return the `id` of a client's frame that `decode` refused, if it has a usable one.

    Python makes no integer of more than 4,300 digits: such a number is returned as it was written.
    """
    try:
        return _decode_id(text).id
    except (ValueError, RecursionError):
        pass
    try:
        raw = _decode_raw_id(text).id
    except (ValueError, RecursionError):
        return None
    return raw if _INTEGER.fullmatch(bytes(raw)) else None
