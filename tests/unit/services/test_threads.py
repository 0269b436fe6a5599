"""Threads and replies: form and draft."""

from __future__ import annotations

from typing import Any

import pytest

from orbital_relay.api.threads import ReplyBody, ThreadBody
from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.model import IdempotencyKey, PostReply, PostThread, ThreadId
from orbital_relay.services import threads
from tests.unit.services.desk import ADA, ANSWER, GROUP, NOW_MS, OTHER, Desk

_THREAD = ThreadId(OTHER)


async def test_a_thread_becomes_a_draft():
    """[USE2] The draft has the user, time, group and content, and a new id."""
    desk, idempotency_key = Desk(), IdempotencyKey("key", b"")

    answer = await threads.post(
        desk.context, ADA, ThreadBody(GROUP, "AAAA", "BBBB", OTHER), idempotency_key=idempotency_key
    )
    await threads.post(desk.context, ADA, ThreadBody(GROUP, "AAAA", "BBBB"))

    first, second = desk.drafts
    assert isinstance(first, PostThread)
    assert answer == ANSWER
    assert (first.actor, first.at_ms, first.idempotency_key, first.group_id) == (ADA, NOW_MS, idempotency_key, GROUP)
    assert (first.encrypted_title, first.encrypted_body, first.root_message_id) == ("AAAA", "BBBB", OTHER)
    assert (second.idempotency_key, second.root_message_id) == (None, None)
    assert first.thread_id != second.thread_id


async def test_a_reply_becomes_a_draft():
    """[USE2] The draft has the user, time, thread and content, and a new id."""
    desk, idempotency_key = Desk(), IdempotencyKey("key", b"")

    answer = await threads.reply(desk.context, ADA, _THREAD, ReplyBody("AAAA", GROUP), idempotency_key=idempotency_key)
    await threads.reply(desk.context, ADA, _THREAD, ReplyBody("AAAA"))

    first, second = desk.drafts
    assert isinstance(first, PostReply)
    assert answer == ANSWER
    assert (first.actor, first.at_ms, first.idempotency_key, first.thread_id) == (ADA, NOW_MS, idempotency_key, _THREAD)
    assert (first.encrypted_body, first.message_id) == ("AAAA", GROUP)
    assert (second.idempotency_key, second.message_id) == (None, None)
    assert first.reply_id != second.reply_id


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        (ThreadBody("nope", "AAAA", "AAAA"), ValidationFailed, "group_id"),
        (ThreadBody(GROUP, "", "AAAA"), ValidationFailed, "encrypted_title"),
        (ThreadBody(GROUP, "AAAA" * 11, "AAAA"), PayloadTooLarge, "encrypted_title"),
        (ThreadBody(GROUP, "AAAA", "not base64"), ValidationFailed, "encrypted_body"),
        (ThreadBody(GROUP, "AAAA", "AAAA" * 11), PayloadTooLarge, "encrypted_body"),
        (ThreadBody(GROUP, "AAAA", "AAAA", "nope"), ValidationFailed, "root_message_id"),
        (ReplyBody("A"), ValidationFailed, "encrypted_body"),
        (ReplyBody("AAAA" * 11), PayloadTooLarge, "encrypted_body"),
        (ReplyBody("AAAA", ""), ValidationFailed, "message_id"),
    ],
)
async def test_invalid_input_queues_nothing(body: Any, error: Any, field: str):
    """[USE2] Invalid input is refused at once, and nothing is queued."""
    desk = Desk()

    where = () if isinstance(body, ThreadBody) else (_THREAD,)
    act: Any = threads.reply if where else threads.post
    with pytest.raises(error) as refused:
        act(desk.context, ADA, *where, body)

    assert refused.value.details["field"] == field
    assert desk.drafts == []
