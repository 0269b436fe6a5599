"""Posts over the socket: the same use cases as over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.model import PostMessage, PostReply, PostThread
from orbital_relay.services import posting
from orbital_relay.services.forms import make_idempotency_key
from tests.unit.services.desk import ADA, ANSWER, GROUP, OTHER, Desk

_MESSAGE = {"conversation_id": GROUP, "encrypted_envelope": "AAAA", "timestamp": 1}
_THREAD = {"group_id": GROUP, "encrypted_title": "AAAA", "encrypted_body": "BBBB"}
_REPLY = {"encrypted_body": "AAAA"}
_IN_THREAD = {**_REPLY, "thread_id": OTHER}


def _frame(kind: str, data: Any) -> wire.PostFrame:
    frame = wire.decode(json.dumps({"type": kind, "data": data}).encode())
    assert isinstance(frame, wire.PostFrame)
    return frame


async def test_frames_become_the_drafts_of_the_posts():
    """[POST1] Each kind of frame creates the same draft as the POST of its name, at once and in order."""
    desk = Desk()

    futures = [
        posting.from_frame(desk.context, ADA, _frame(kind, data))
        for kind, data in (("post_message", _MESSAGE), ("post_thread", _THREAD), ("post_reply", _IN_THREAD))
    ]

    message, thread, reply = desk.drafts
    assert isinstance(message, PostMessage)
    assert (message.group_id, message.encrypted_envelope, message.idempotency_key) == (GROUP, "AAAA", None)
    assert isinstance(thread, PostThread)
    assert (thread.group_id, thread.encrypted_title, thread.encrypted_body) == (GROUP, "AAAA", "BBBB")
    assert isinstance(reply, PostReply)
    assert (reply.thread_id, reply.encrypted_body) == (OTHER, "AAAA")
    assert [await future for future in futures] == [ANSWER] * 3


@pytest.mark.parametrize(
    ("kind", "data", "operation", "ids", "body"),
    [
        ("post_message", _MESSAGE, posting.POST_MESSAGE, (), _MESSAGE),
        ("post_message", {**_MESSAGE, "more": [1]}, posting.POST_MESSAGE, (), {**_MESSAGE, "more": [1.0]}),
        ("post_thread", _THREAD, posting.POST_THREAD, (), _THREAD),
        ("post_reply", _IN_THREAD, posting.POST_REPLY, (OTHER,), _REPLY),
    ],
)
async def test_a_key_is_shared_by_frames_and_requests(
    kind: str, data: dict[str, Any], operation: str, ids: tuple[str, ...], body: dict[str, Any]
):
    """[POST2] A frame's key and an equal `Idempotency-Key` of a POST with the same body are one request."""
    desk = Desk()

    await posting.from_frame(desk.context, ADA, _frame(kind, {**data, "idempotency_key": "key"}))

    assert desk.drafts[0].idempotency_key == make_idempotency_key("key", operation, *ids, body=body)


async def test_a_null_key_is_no_key():
    """[POST2] A key of null is the same as no key."""
    desk = Desk()

    await posting.from_frame(desk.context, ADA, _frame("post_message", {**_MESSAGE, "idempotency_key": None}))

    assert desk.drafts[0].idempotency_key is None


@pytest.mark.parametrize(
    ("kind", "data", "error", "field"),
    [
        ("post_message", None, ValidationFailed, None),
        ("post_message", [], ValidationFailed, None),
        ("post_message", {}, ValidationFailed, "conversation_id"),
        ("post_message", {**_MESSAGE, "timestamp": "now"}, ValidationFailed, "timestamp"),
        ("post_message", {**_MESSAGE, "timestamp": -1}, ValidationFailed, "timestamp"),
        ("post_message", {**_MESSAGE, "timestamp": 2**53}, ValidationFailed, "timestamp"),
        ("post_message", {**_MESSAGE, "encrypted_envelope": "hi there"}, ValidationFailed, "encrypted_envelope"),
        ("post_message", {**_MESSAGE, "encrypted_envelope": "A" * 100}, PayloadTooLarge, "encrypted_envelope"),
        ("post_message", {**_MESSAGE, "idempotency_key": 7}, ValidationFailed, "idempotency_key"),
        ("post_message", {**_MESSAGE, "idempotency_key": ""}, ValidationFailed, "Idempotency-Key"),
        ("post_thread", {**_THREAD, "group_id": "nope"}, ValidationFailed, "group_id"),
        ("post_thread", {**_THREAD, "root_message_id": 1}, ValidationFailed, "root_message_id"),
        ("post_reply", _REPLY, ValidationFailed, "thread_id"),
        ("post_reply", {**_REPLY, "thread_id": "nope"}, ValidationFailed, "thread_id"),
        ("post_reply", {"thread_id": OTHER}, ValidationFailed, "encrypted_body"),
    ],
)
async def test_invalid_data_queues_nothing(kind: str, data: Any, error: Any, field: str | None):
    """[POST3] Data that the POST would refuse is refused at once with the field's name; nothing is queued."""
    desk = Desk()

    with pytest.raises(error) as refused:
        posting.from_frame(desk.context, ADA, _frame(kind, data))

    assert refused.value.details.get("field") == field
    assert desk.drafts == []


async def test_a_number_out_of_range_is_refused():
    """[POST3] A number outside JSON's usual range in an unknown field is refused without an unhandled exception."""
    data = json.dumps({**_MESSAGE, "idempotency_key": "key"})[:-1] + ', "more": 1e999}'
    frame = wire.decode(b'{"type": "post_message", "data": ' + data.encode() + b"}")
    assert isinstance(frame, wire.PostFrame)
    desk = Desk()

    with pytest.raises(ValidationFailed):
        posting.from_frame(desk.context, ADA, frame)

    assert desk.drafts == []
