"""Receipts: the acknowledgement (ack) of a post, as the HTTP response body and in a `posted` frame."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay.api.groups import GroupCreated, GroupJoined
from orbital_relay.api.keys import KeysPosted, RecordCreated
from orbital_relay.api.media import MediaStored
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.thread_annotations import AnnotationCreated
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.model import (
    AnyDraft,
    CreateGroup,
    FinishMedia,
    JoinGroup,
    PostAnnotation,
    PostKeys,
    PostMessage,
    PostRecord,
    PostReply,
    PostThread,
)

Receipt = (
    MessagePosted
    | ThreadCreated
    | ReplyCreated
    | AnnotationCreated
    | GroupCreated
    | GroupJoined
    | MediaStored
    | KeysPosted
    | RecordCreated
)

_KINDS: Final[dict[type[AnyDraft], type[Receipt]]] = {
    PostMessage: MessagePosted,
    PostThread: ThreadCreated,
    PostReply: ReplyCreated,
    PostAnnotation: AnnotationCreated,
    CreateGroup: GroupCreated,
    JoinGroup: GroupJoined,
    FinishMedia: MediaStored,
    PostKeys: KeysPosted,
    PostRecord: RecordCreated,
}
"""What each kind of draft comes to that takes an idempotency key. LeaveGroup, ExpireMedia and DeleteContent take none:
they are DELETE requests, which may be repeated by their method (RFC 9110 §9.2.2)."""

encode: Final = msgspec.json.Encoder().encode


def decode(kind: type[AnyDraft], text: bytes) -> Receipt:
    """Return a receipt that was stored under the idempotency key of a draft of that kind."""
    return msgspec.json.decode(text, type=_KINDS[kind])
