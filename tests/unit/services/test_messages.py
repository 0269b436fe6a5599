"""Messages: form, draft, and pages made from stored frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.api.messages import MessageBody
from orbital_relay.errors import PayloadTooLarge, ValidationFailed
from orbital_relay.model import Event, GroupId, IdempotencyKey, PostMessage
from orbital_relay.services import messages
from tests.unit.services.desk import ADA, ANSWER, GROUP, NOW_MS, OTHER, Desk


async def test_a_message_becomes_a_draft():
    """[USE2] The draft has the user, time, group and content, and a new id."""
    desk, idempotency_key = Desk(), IdempotencyKey("key", b"")

    futures = [
        messages.post(desk.context, ADA, MessageBody(GROUP, "AAAA", timestamp), idempotency_key=idempotency_key)
        for timestamp in (0, 2**53 - 1)
    ]

    first, second = desk.drafts
    assert isinstance(first, PostMessage)
    assert (first.actor, first.at_ms, first.idempotency_key) == (ADA, NOW_MS, idempotency_key)
    assert (first.group_id, first.encrypted_envelope) == (GROUP, "AAAA")
    assert first.message_id != second.message_id
    assert [await future for future in futures] == [ANSWER, ANSWER]


async def test_messages_are_queued_at_once():
    """[USE3] Messages are queued in the order of the calls before any call is awaited."""
    desk = Desk()

    futures = [messages.post(desk.context, ADA, MessageBody(GROUP, text, 0)) for text in ("AAAA", "BBBB", "CCCC")]

    assert [draft.encrypted_envelope for draft in desk.drafts] == ["AAAA", "BBBB", "CCCC"]
    assert len({await future for future in futures}) == 1


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        (MessageBody("nope", "AAAA", 0), ValidationFailed, "conversation_id"),
        (MessageBody(GROUP, "hello!", 0), ValidationFailed, "encrypted_envelope"),
        (MessageBody(GROUP, "AAAA" * 11, 0), PayloadTooLarge, "encrypted_envelope"),
    ],
)
async def test_invalid_input_queues_nothing(body: MessageBody, error: Any, field: str):
    """[USE2] Invalid input is refused at once, and nothing is queued."""
    desk = Desk()

    with pytest.raises(error) as refused:
        messages.post(desk.context, ADA, body)

    assert refused.value.details["field"] == field
    assert desk.drafts == []


class _Log:
    def __init__(self, events: list[Event], *, more: bool) -> None:
        self.answer, self.asked = (events, more), {}

    async def messages(self, user: int, **asked: Any) -> tuple[list[Event], bool]:
        self.asked = {"user": user, **asked}
        return self.answer


def _event(seq: int, envelope: str, group_id: str = GROUP) -> Event:
    data = wire.NewMessage(f"id {seq}", group_id, envelope, 1000 + seq, "bob")
    frame = wire.seal(data, group_id=group_id, seq=seq, stamp_ms=1000 + seq, prev="p" * 43)
    return Event(GroupId(group_id), seq, 1000 + seq, frame)


async def test_a_page_contains_frame_data_and_numbers():
    """[USE4] Each message of a page is the data of its frame, byte for byte, followed by `seq`."""
    log = _Log([_event(3, "AAAA"), _event(12, "B+/=", OTHER)], more=True)

    page = await messages.page(Desk(store=log).context, ADA, since_ms=5, limit=2, group_id=None)

    assert log.asked == {"user": ADA.key, "since_ms": 5, "limit": 2, "group_id": None}
    assert json.loads(page) == {
        "messages": [
            {
                "message_id": f"id {seq}",
                "conversation_id": group,
                "encrypted_envelope": envelope,
                "server_timestamp": 1000 + seq,
                "sender_id": "bob",
                "seq": seq,
            }
            for seq, envelope, group in ((3, "AAAA", GROUP), (12, "B+/=", OTHER))
        ],
        "has_more": True,
    }


async def test_an_empty_page():
    """[USE4] A page without messages is an empty list."""
    page = await messages.page(Desk(store=_Log([], more=False)).context, ADA, since_ms=0, limit=1, group_id=None)

    assert json.loads(page) == {"messages": [], "has_more": False}
