"""Requests about a group's log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from orbital_relay.client.errors import BadAnswer
from orbital_relay.client.events import MAX_SEQ, Event
from orbital_relay.client.http import Http
from orbital_relay.client.protocol.frames import BadFrame, Makes, event_of, read_frame


class FramePage(msgspec.Struct, frozen=True):
    """
    A page of a group's log as the frames that are stored, byte for byte, so that they can be hashed.

    Attributes:
        frames: Their texts, in order.
        last_seq: The number of the group's last event, even if the page ends before it.
        has_more: Whether there are events after the page's last.
    """

    frames: list[bytes]
    last_seq: int
    has_more: bool


class EventPage(msgspec.Struct, frozen=True):
    """
    A page of a group's log, as the events that a subscription yields.

    Attributes:
        events: In order.
        last_seq: The number of the group's last event, even if the page ends before it.
        has_more: Whether there are events after the page's last.
    """

    events: list[Event]
    last_seq: int
    has_more: bool


class LogRequests(Http):
    """A group's log: read a page, iterate. And posts as they are, for the outbox."""

    async def event_frames(self, group_id: str, *, after_seq: int = 0, limit: int | None = None) -> FramePage:
        """
        Read a page of a group's log as the stored frames.

        Raises:
            ApiError: With code `GONE` and `details["oldest_seq"]` when events after `after_seq` are no longer kept.
        """
        answer = await self._request(
            "GET",
            "/v1/events",
            query={"group_id": group_id, "after_seq": after_seq, "limit": limit},
            headers={"Accept": "application/x-ndjson"},
        )
        last_seq = answer.headers.get("X-Last-Seq", "")
        # A portal's empty page must not count as a log without events.
        if not (last_seq.isascii() and last_seq.isdigit() and len(last_seq) <= 16 and int(last_seq) <= MAX_SEQ):
            raise BadAnswer("The response is not a page of a log: it has no X-Last-Seq.")
        frames = [line for line in answer.content.split(b"\n") if line]
        return FramePage(frames, int(last_seq), answer.headers.get("X-Has-More") == "true")

    async def events(self, group_id: str, *, after_seq: int = 0, limit: int | None = None) -> EventPage:
        """
        Read a page of a group's log as the events that a subscription yields, with their hashes.

        Raises:
            ApiError: With code `GONE` and `details["oldest_seq"]` when events after `after_seq` are no longer kept.
        """
        page = await self.event_frames(group_id, after_seq=after_seq, limit=limit)
        return EventPage([event_from(text) for text in page.frames], page.last_seq, page.has_more)

    async def iter_events(self, group_id: str, *, after_seq: int = 0) -> AsyncIterator[Event]:
        """Iterate over a group's log up to its present end, a page at a time."""
        while True:
            page = await self.events(group_id, after_seq=after_seq)
            for event in page.events:
                yield event
            if not page.has_more or not page.events or page.events[-1].seq <= after_seq:
                return
            after_seq = page.events[-1].seq

    async def post(self, path: str, body: bytes, *, idempotency_key: str) -> bytes:
        """Post JSON as it is and return the answer as it is; for the outbox."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        return (await self._request("POST", path, content=body, headers=headers)).content


def event_from(text: bytes) -> Event:
    """
    Read a stored frame.

    Raises:
        BadAnswer: If it is not an event of a log.
    """
    try:
        frame = read_frame(text)
    except BadFrame as exc:
        raise BadAnswer(f"The log contains an invalid frame: {exc}") from exc
    if frame.makes is not Makes.EVENT:
        raise BadAnswer(f"The log contains a frame without a number, of the type {frame.type!r}.")
    return event_of(frame, text)
