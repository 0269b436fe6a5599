"""The wire format of the client's frames, and their decoding."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from orbital_relay.errors import ValidationFailed
from orbital_relay.explain import explain, field_of
from orbital_relay.wire.server import ReplyTo

FrameId = Annotated[str, msgspec.Meta(max_length=64)] | int


class SinceHash(msgspec.Struct):
    """A position with the hash of its frame."""

    seq: Annotated[int, msgspec.Meta(ge=0)]
    hash: str | None = None


class SubscribeData(msgspec.Struct):
    """The data of `subscribe`."""

    group_ids: list[str]
    since: dict[str, Annotated[int, msgspec.Meta(ge=0)] | SinceHash] | None = None


class UnsubscribeData(msgspec.Struct):
    """The data of `unsubscribe`."""

    group_ids: list[str]


class TypingData(msgspec.Struct):
    """The state of the user's own typing; other members are ignored."""

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
    """Unsubscribes the connection from groups."""

    data: UnsubscribeData
    id: FrameId | None = None


class Pong(msgspec.Struct, tag_field="type", tag="pong"):
    """Answers a `ping` (heartbeat); its `data` is ignored."""

    id: FrameId | None = None


class TypingFrame(msgspec.Struct, tag_field="type", tag="typing_indicator"):
    """The user started or stopped typing in a thread."""

    data: TypingData
    id: FrameId | None = None


class Authenticate(msgspec.Struct, tag_field="type", tag="authenticate"):
    """Renews the connection's authentication with a newer token."""

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
    Subscribe | Unsubscribe | Pong | TypingFrame | Authenticate | PostMessageFrame | PostThreadFrame | PostReplyFrame
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
