"""Durable events on the wire: membership (`member_left` is a tombstone), messages, media; and their encoding."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, get_args

import msgspec


def _one_of(*values: str) -> msgspec.Meta:
    """Describe a text that is one of these, for the documents only: clients read other values, too."""
    return msgspec.Meta(extra_json_schema={"enum": list(values)})


class NewMessage(msgspec.Struct, frozen=True):
    """A Signal Protocol envelope was posted."""

    kind: ClassVar = "new_message"

    message_id: str
    conversation_id: str
    encrypted_envelope: str
    server_timestamp: int
    sender_id: str


class NewThread(msgspec.Struct, frozen=True, omit_defaults=True):
    """A thread was opened; `root_message_id` is present if its author sent one."""

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
    """A reply was written in a thread; `message_id` is present if its author sent one."""

    kind: ClassVar = "new_reply"

    reply_id: str
    thread_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    created_at: str
    message_id: str | None = None


class NewAnnotation(msgspec.Struct, frozen=True):
    """A thread, a reply or a medium in it was annotated; what that means is inside the ciphertext."""

    kind: ClassVar = "new_annotation"

    annotation_id: str
    thread_id: str
    target_id: str
    author_id: str
    author_username: str
    encrypted_body: str
    created_at: str


class MediaUploaded(msgspec.Struct, frozen=True):
    """A photo or video is complete, and available until `expires_at`."""

    kind: ClassVar = "media_uploaded"

    media_id: str
    thread_id: str
    author_id: str
    encrypted_metadata: str
    size_bytes: int
    expires_at: str


class MediaExpired(msgspec.Struct, frozen=True):
    """The server has deleted the bytes; a member who has not downloaded them can ask another member."""

    kind: ClassVar = "media_expired"

    media_id: str
    thread_id: str
    expired_at: str


class Deleted(msgspec.Struct, frozen=True):
    """The member `by` deleted a message, a reply, or a thread with all that was in it."""

    kind: ClassVar = "deleted"

    target_id: str
    content_kind: Annotated[str, _one_of("message", "thread", "reply")] = msgspec.field(name="kind")
    by: str


class MemberJoined(msgspec.Struct, frozen=True):
    """A user joined the group; event number 1 of a group is its creator's."""

    kind: ClassVar = "member_joined"

    group_id: str
    user_id: str
    username: str
    joined_at: str


class MemberLeft(msgspec.Struct, frozen=True):
    """A user left the group; `reason` is `left` or `removed`."""

    kind: ClassVar = "member_left"

    group_id: str
    user_id: str
    username: str
    left_at: str
    reason: Annotated[str, _one_of("left", "removed")]


class RoleChanged(msgspec.Struct, frozen=True):
    """The founder `by` gave a member the role `admin` or `member`."""

    kind: ClassVar = "role_changed"

    group_id: str
    user_id: str
    username: str
    role: Annotated[str, _one_of("admin", "member")]
    by: str
    changed_at: str


class IdentityChanged(msgspec.Struct, frozen=True):
    """A member's device was `added` or `removed`, or has a new `identity` key; not signed by the device."""

    kind: ClassVar = "identity_changed"

    user_id: str
    device_id: int
    change: Annotated[str, _one_of("added", "identity", "removed")]
    identity_key: str


class NewKeys(msgspec.Struct, frozen=True):
    """An envelope with keys for devices of the group was posted."""

    kind: ClassVar = "new_keys"

    keys_id: str
    group_id: str
    sender_id: str
    encrypted_envelope: str


class NewRecord(msgspec.Struct, frozen=True):
    """A signed record of the group's roster was posted."""

    kind: ClassVar = "new_record"

    record_id: str
    group_id: str
    author_id: str
    record: str
    created_at: str


EventData = (
    NewMessage
    | NewThread
    | NewReply
    | MediaUploaded
    | MediaExpired
    | MemberJoined
    | MemberLeft
    | IdentityChanged
    | NewKeys
    | NewRecord
    | RoleChanged
    | NewAnnotation
    | Deleted
)

EVENTS: Final[dict[str, type[EventData]]] = {cls.kind: cls for cls in get_args(EventData)}

EPOCH_KINDS: Final = frozenset({"member_joined", "member_left", "identity_changed", "new_record"})
"""Kinds of events after which content may have to be sealed for other devices: the last one's number is the epoch."""

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


def open_frame(frame: bytes) -> _DurableFrame:
    """Take a durable frame apart; `data` stays as it was written."""
    return _decode_durable(frame)


def event_data(frame: bytes) -> EventData:
    """Return the typed `data` of a durable frame."""
    parts = _decode_durable(frame)
    return msgspec.json.decode(parts.data, type=EVENTS[parts.type])
