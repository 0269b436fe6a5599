"""Pages of the log."""

from __future__ import annotations

import json

import pytest

from orbital_relay import wire
from orbital_relay.model import Event, GroupId, Head, Page
from orbital_relay.services import events
from tests.unit.services.desk import ADA, GROUP, Desk


def _frame(seq: int) -> bytes:
    data = wire.MemberJoined(GROUP, "bob", "Bob é", "2026-01-01T00:00:00.000Z")
    return wire.seal(data, group_id=GROUP, seq=seq, stamp_ms=seq, prev="p" * 43)


class _Log:
    def __init__(self, head: int) -> None:
        self.head = head

    async def events(self, user: int, group_id: GroupId, *, after: int, limit: int) -> Page:
        assert (user, group_id) == (ADA.key, GROUP)
        found = [Event(group_id, seq, seq, _frame(seq)) for seq in range(after + 1, min(after + limit, self.head) + 1)]
        return Page(found, Head(self.head, 0, self.head, "h" * 43))


@pytest.mark.parametrize(
    ("after", "limit", "seqs", "more"),
    [(0, 2, [1, 2], True), (3, 2, [4, 5], False), (3, 9, [4, 5], False), (5, 9, [], False), (9, 9, [], False)],
)
async def test_a_page_says_whether_more_follows(after: int, limit: int, seqs: list[int], *, more: bool):
    """[USE5] `last_seq` is the group's last number; `has_more` says whether the page ends before it."""
    page = await events.page(Desk(store=_Log(5)).context, ADA, GroupId(GROUP), after=after, limit=limit)

    assert page.frames == [_frame(seq) for seq in seqs]
    assert (page.last_seq, page.has_more) == (5, more)


async def test_frames_are_written_byte_for_byte():
    """[USE6] Frames are sent one per line or in one JSON object, with the stored text in both forms."""
    page = await events.page(Desk(store=_Log(2)).context, ADA, GroupId(GROUP), after=0, limit=5)

    assert page.lines() == _frame(1) + b"\n" + _frame(2) + b"\n"
    assert page.json() == b'{"events":[' + _frame(1) + b"," + _frame(2) + b'],"last_seq":2,"has_more":false}'
    assert json.loads(page.json())["events"] == [json.loads(_frame(1)), json.loads(_frame(2))]
