"""The facade: posts that arrive once, and typing."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from orbital_relay.client import ApiError, Problem
from orbital_relay.client.api import encoded
from orbital_relay.client.protocol import typing
from orbital_relay.core.backoff import Backoff
from tests.support.fake import GROUP, FakeServer, contents, refusal
from tests.support.sdk import client, signals_of, when

# Chapter: posts


async def test_posts_arrive_once_and_in_order(server: FakeServer) -> None:
    """[PYOUT1] Despite lost responses and server errors every post is stored once, in the order of the calls."""
    troubles = [503, "lost", 500, "lost", 429, "page"]

    def rest(request: httpx.Request) -> httpx.Response | None:
        if not troubles or request.url.path != "/v1/messages":
            return None
        trouble = troubles.pop()
        if trouble == "lost":  # it is done, and the answer never comes
            server._post(request)
            raise httpx.ReadError("")
        if trouble == "page":
            return httpx.Response(200, text="<html>Welcome to the hotel")
        return refusal(int(trouble), "UNAVAILABLE")

    server.rest = rest
    async with client(server) as orbital:
        await asyncio.gather(*(orbital.send(GROUP, f"{number:03d}".encode()) for number in range(30)))

    assert contents(server.log()) == [encoded(f"{number:03d}".encode()) for number in range(30)]
    assert troubles == []


async def test_pending_posts_are_sent_after_reconnecting(server: FakeServer) -> None:
    """[PYOUT24] A post in back-off is sent as soon as the client receives `auth_success` again."""
    troubles = [refusal(503, "UNAVAILABLE")]
    server.rest = lambda _: troubles.pop() if troubles else None
    async with client(server) as orbital:
        orbital._outbox._backoff = Backoff(steps_ms=(600_000,), jitter_ms=1)
        posting = asyncio.create_task(orbital.send(GROUP, b"x"))
        await server.until(lambda: troubles == [])
        await server.end(1012)

        async with asyncio.timeout(60):
            assert (await posting).seq == 1


async def test_a_refused_post_raises_and_the_next_is_sent(server: FakeServer) -> None:
    """[PYOUT2] A permanently refused post raises the server's error and does not block other posts."""
    answers = [refusal(413, "PAYLOAD_TOO_LARGE")]
    server.rest = lambda _: answers.pop() if answers else None
    async with client(server) as orbital:
        first, second = await asyncio.gather(
            orbital.send(GROUP, b"large"), orbital.send(GROUP, b"small"), return_exceptions=True
        )

    assert isinstance(first, ApiError)
    assert first.code == "PAYLOAD_TOO_LARGE"
    assert not isinstance(second, BaseException)
    assert second.seq == 1


async def test_a_cancelled_send_is_still_sent(server: FakeServer) -> None:
    """[PYOUT3] A cancelled `send` is still sent; a later refusal is reported as a Problem."""
    answers = [refusal(503, "UNAVAILABLE"), refusal(400, "VALIDATION_ERROR")]
    server.rest = lambda _: answers.pop(0) if answers else None
    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)
        sending = asyncio.create_task(orbital.send(GROUP, b"x"))
        await server.until(lambda: len(server.requests) == 1)
        sending.cancel()

        reported = await when(problems)

        assert reported.code == "VALIDATION_ERROR"
        assert orbital.waiting == 0


# Chapter: typing


async def test_typing_stops_by_itself(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[TYP2] Many keystrokes send one `typing: true`, and inactivity sends `typing: false`."""
    monkeypatch.setattr(typing, "TYPING_STOP_MS", 100)
    async with client(server) as orbital:
        for _ in range(20):
            orbital.typing("t")
        await server.until(lambda: len(server.received_of("typing_indicator")) == 2)
        orbital.typing("t")
        orbital.typing("t", is_typing=False)
        orbital.typing("t", is_typing=False)
        await server.until(lambda: len(server.received_of("typing_indicator")) == 4)

    assert [data["is_typing"] for data in server.received_of("typing_indicator")] == [True, False, True, False]
