"""Posts over a WebSocket: the same use cases, idempotency keys and answers as over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Final, assert_never

import msgspec

from orbital_relay import wire
from orbital_relay.api.frames import PostMessageData, PostReplyData, PostThreadData
from orbital_relay.errors import ValidationFailed
from orbital_relay.model import IdempotencyKey, Principal, ThreadId
from orbital_relay.ports import Appended
from orbital_relay.services import messages, threads
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import make_idempotency_key, read, read_uuid

POST_MESSAGE: Final = "post_message"
POST_THREAD: Final = "post_thread"
POST_REPLY: Final = "post_reply"
POST_ANNOTATION: Final = "post_annotation"
"""Names of the operations that an idempotency key is bound to."""


_message = msgspec.json.Decoder(PostMessageData)
_thread = msgspec.json.Decoder(PostThreadData)
_reply = msgspec.json.Decoder(PostReplyData)
_whole: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def from_frame(context: ServiceContext, principal: Principal, frame: wire.PostFrame) -> asyncio.Future[Appended]:
    """
    Queue what a `post_…` frame asks for, before this returns: the order of frames is the order of the log.

    Raises:
        ValidationFailed: If the data does not have the form of the POST's body.
        PayloadTooLarge: If an encrypted field is over the limit.
    """
    if frame.data == wire.ABSENT:
        raise ValidationFailed("data is missing.", field="data")
    match frame:
        case wire.PostMessageFrame():
            message = read(_message, frame.data)
            idempotency_key = _key_of(message.idempotency_key, POST_MESSAGE, data=frame.data)
            return messages.post(context, principal, message, idempotency_key=idempotency_key)
        case wire.PostThreadFrame():
            thread = read(_thread, frame.data)
            idempotency_key = _key_of(thread.idempotency_key, POST_THREAD, data=frame.data)
            return threads.post(context, principal, thread, idempotency_key=idempotency_key)
        case wire.PostReplyFrame():
            reply = read(_reply, frame.data)
            thread_id = ThreadId(read_uuid("thread_id", reply.thread_id))
            idempotency_key = _key_of(reply.idempotency_key, POST_REPLY, thread_id, data=frame.data)
            return threads.reply(context, principal, thread_id, reply, idempotency_key=idempotency_key)
        case _:
            assert_never(frame)


def _key_of(key: str | None, operation: str, *ids: str, data: msgspec.Raw) -> IdempotencyKey | None:
    if key is None:
        return None
    # Reading all of it is stricter than reading the fields that matter: a number may be out of range.
    body = read(_whole, data)
    del body["idempotency_key"]
    if ids:
        del body["thread_id"]
    return make_idempotency_key(key, operation, *ids, body=body)
