"""Faults that occur rarely: odd frames and answers, a connection that carries nothing, a bug of the client itself."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orbital_relay import wire
from orbital_relay.client import (
    Api,
    BadAnswer,
    Closed,
    MemoryOutbox,
    Position,
    Problem,
    State,
    StoreDamaged,
)
from orbital_relay.client import connection as connections
from orbital_relay.client import life as lives
from orbital_relay.client.http import ANSWER_BYTES, retry_after_s
from orbital_relay.client.protocol import typing as typing_rule
from orbital_relay.client.protocol.conversation import ClientProtocol
from orbital_relay.client.protocol.effects import Notify, Opened
from orbital_relay.client.stores import MemoryPositions, QueuedPost
from orbital_relay.client.tokens import Tokens
from orbital_relay.client.typing import Typists
from orbital_relay.core.backoff import Backoff
from tests.support.fake import GROUP, OTHER, STAMP, USER, FakeServer, page_of, refusal
from tests.support.sdk import client, read, signals_of, when

# Chapter: frames


def _control(type_: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "data": data, "server_timestamp": STAMP}).encode()


def test_a_frame_of_a_later_version() -> None:
    """[PYRARE1] A frame of a type that this version does not know, without a number, is ignored."""
    talk = ClientProtocol()
    talk.received(_control("auth_success", {"user_id": USER, "username": "anna", "session_id": "s"}), now_ms=1)

    assert talk.received(_control("weather_report", {"rain": True}), now_ms=1) == []
    assert talk.is_open


def test_an_unreadable_signal() -> None:
    """[PYRARE23] An ephemeral frame whose data cannot be read is reported; the connection stays."""
    effects = ClientProtocol().received(_control("typing_indicator", {"thread_id": 7}), now_ms=1)

    [notify] = effects
    assert isinstance(notify, Notify)
    assert notify.signal.code == "BAD_FRAME"


@pytest.mark.parametrize(
    ("expires_at", "life_s"),
    [("2025-11-13T02:00:00.000Z", 7_200.0), ("soon", None), ("2025-11-12T23:00:00.000Z", None), (7, None)],
)
def test_a_token_without_a_readable_expiry(expires_at: Any, life_s: float | None) -> None:
    """[PYRARE2] A token's expiry is used if it is readable and later than the server's time; else it is unknown."""
    greeting = {"user_id": USER, "username": "anna", "session_id": "s", "expires_at": expires_at}
    start_ms = 1_762_992_000_000  # 2025-11-13T00:00:00Z
    text = json.dumps({"type": "auth_success", "data": greeting, "server_timestamp": start_ms}).encode()

    [opened] = [effect for effect in ClientProtocol().received(text, now_ms=1) if isinstance(effect, Opened)]

    assert opened.token_life_s == life_s


# Chapter: values and answers


def test_a_position_with_an_invalid_hash() -> None:
    """[PYRARE3] A position whose hash is no text is refused where it is made."""
    hash_: Any = b"bytes"

    with pytest.raises(ValueError, match="hash is text or None"):
        Position(1, hash_)


def test_retry_after_without_a_zone() -> None:
    """[PYRARE4] A date in Retry-After whose zone is unknown (`-0000`, RFC 5322 §3.3) is read as UTC."""
    assert retry_after_s({"Retry-After": "Thu, 13 Nov 2025 00:00:00 -0000"}) == 0


def _api(answer: Callable[[httpx.Request], httpx.Response]) -> Api:
    return Api("http://orbital.test", token="t", transport=httpx.MockTransport(answer))


async def test_a_whole_body_that_is_too_large() -> None:
    """[PYRARE5] The bound of an answer also holds where a transport of the program's own returns whole bodies."""
    async with _api(lambda _: httpx.Response(200, content=b" " * (ANSWER_BYTES + 1))) as api:
        with pytest.raises(BadAnswer, match="larger than"):
            await api.groups()


@pytest.mark.parametrize(
    ("frame", "message"),
    [(b"no frame", "an invalid frame"), (_control("ping", {}), "a frame without a number, of the type 'ping'")],
)
async def test_a_log_with_something_else(frame: bytes, message: str) -> None:
    """[PYRARE6] A page of a log that contains anything but events raises BadAnswer."""
    async with _api(lambda _: page_of([frame], last_seq=1)) as api:
        with pytest.raises(BadAnswer, match=message):
            await api.events(GROUP)


async def test_a_newer_token_is_there_already() -> None:
    """[PYRARE7] Of two requests that renew a refused token, the second takes the token of the first."""
    made = 0

    async def next_token() -> str:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return f"token-{made}"

    tokens = Tokens(next_token)
    first = await tokens.get()

    renewed = await asyncio.gather(tokens.renew(first), tokens.renew(first))

    assert renewed == [True, True]
    assert await tokens.get() == "token-2"


# Chapter: typing


async def test_typing_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYRARE8] The stop is sent once, after the last keystroke; a later keystroke delays it."""
    monkeypatch.setattr(typing_rule, "TYPING_STOP_MS", 30)
    said: list[tuple[str, bool]] = []
    stopped = asyncio.Event()

    def say(thread_id: str, is_typing: bool) -> None:
        said.append((thread_id, is_typing))
        if said[-1] == ("b", False):
            stopped.set()

    typists = Typists(say)
    for thread_id, is_typing in (("a", True), ("a", False), ("b", True)):
        typists.typing(thread_id, is_typing=is_typing)
    # Before the timers of both threads: the one of `b` finds a later keystroke.
    asyncio.get_running_loop().call_later(0.01, lambda: typists.typing("b", is_typing=True))
    async with asyncio.timeout(60):
        await stopped.wait()

    assert said == [("a", True), ("a", False), ("b", True), ("b", False)]


# Chapter: the connection


async def test_a_connection_that_carries_nothing(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYRARE9] If frames wait up to the bound, the connection is replaced, and the client subscribes again."""
    monkeypatch.setattr(connections, "OUTGOING_FRAMES", 3)
    async with client(server) as orbital:
        changes = signals_of(orbital, connections.StateChange)
        await orbital.subscribe(GROUP).ready()
        for number in range(5):  # none is written before the loop runs again
            orbital.typing(f"thread {number}")

        lost = await when(changes, lambda change: change.state is State.CONNECTING)
        await when(changes, lambda change: change.state is State.OPEN)
        await server.until(lambda: len(server.received_of("subscribe")) == 2)

    assert "3 frames wait to be written" in lost.reason


async def test_typing_while_not_connected(server: FakeServer) -> None:
    """[PYRARE10] A frame for a connection that is gone is dropped; the next connection does not send it."""
    async with client(server) as orbital:
        changes = signals_of(orbital, connections.StateChange)
        orbital._connection.write(json.dumps({"type": "before"}))
        await server.until(lambda: len(server.received) == 1)
        server.cut()
        await when(changes, lambda change: change.state is State.CONNECTING)

        orbital._connection.write(json.dumps({"type": "between"}))
        await when(changes, lambda change: change.state is State.OPEN)
        await orbital.subscribe(GROUP).ready()

    assert [frame["type"] for frame in server.received] == ["before", "subscribe"]


async def test_a_wake_while_the_connection_ends(server: FakeServer) -> None:
    """[PYRARE11] A connection that ends while a wake probes it is replaced once, without an error."""
    async with client(server) as orbital:
        changes = signals_of(orbital, connections.StateChange)
        probing = asyncio.create_task(orbital._connection.probe())
        await asyncio.sleep(0)  # the ping is written
        server.cut()

        await probing
        await when(changes, lambda change: change.state is State.OPEN)

    assert len(server.handshakes) == 2


async def test_the_expiry_of_a_renewed_token(server: FakeServer) -> None:
    """[PYRARE22] After a renewal over the socket the client keeps time for the new token: it renews that one, too."""
    made = 0

    def token() -> str:
        nonlocal made
        made += 1
        return f"token-{made}"

    async with client(server, token=token):
        await server.send(_control("token_expiring", {"expires_at": ""}))
        await server.until(lambda: server.received_of("authenticate") == [{"token": "token-2"}])
        soon = wire.iso(STAMP + 40)
        await server.send(_control("authenticated", {"expires_at": soon}))
        await server.until(lambda: {"token": "token-3"} in server.received_of("authenticate"))


async def test_a_bug_in_a_task_ends_the_client(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """[PYRARE12] A bug in a task of the client ends its subscriptions with the error: no reader waits for ever."""

    async def buggy() -> None:
        raise LookupError("a bug")

    with caplog.at_level(logging.CRITICAL, "orbital.client"):
        async with client(server) as orbital:
            subscription = orbital.subscribe(GROUP)
            await subscription.ready()
            orbital._own(buggy())

            with pytest.raises(LookupError, match="a bug"):
                async with asyncio.timeout(60):
                    await anext(subscription)
            assert subscription.ended == "bug"


async def test_known_threads_are_bounded(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """[PYRARE13] The client remembers the groups of a bounded number of threads, those that were used last."""
    monkeypatch.setattr(lives, "THREADS_KNOWN", 2)
    async with client(server) as orbital:
        for thread_id in ("a", "b", "a", "c"):
            orbital._know_thread(thread_id, GROUP)

        assert list(orbital._thread_groups) == ["a", "c"]


# Chapter: subscriptions


async def test_a_subscription_that_was_dropped(server: FakeServer) -> None:
    """[PYRARE14] A subscription that the program drops without a close is unsubscribed at the next event."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP)
        await subscription.ready()
        del subscription
        gc.collect()

        await server.append()
        await server.until(lambda: server.received_of("unsubscribe") == [{"group_ids": [GROUP]}])


async def test_a_position_of_a_dropped_subscription(server: FakeServer) -> None:
    """[PYRARE15] What a dropped subscription handled is saved before the next one of the group asks the store."""
    server.log(events=3)
    store = MemoryPositions()
    async with client(server, store=store) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        assert await read(subscription, 3) == [1, 2, 3]
        del subscription
        gc.collect()

        following = orbital.subscribe(GROUP, since=0)
        assert await read(following, 1) == [3]


async def test_a_token_function_that_fails_during_a_read(server: FakeServer) -> None:
    """[PYRARE16] If the token function fails while a page is read, it is reported and the page read again."""
    failures = 0

    def rest(request: httpx.Request) -> httpx.Response | None:
        nonlocal failures
        if request.url.path == "/v1/events" and not failures:
            failures += 1
            raise LookupError("the token function")
        return None

    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        server.rest = rest
        await server.append(hush=True)
        await server.append()

        assert await read(subscription, 2) == [1, 2]
        problem = await when(problems)

    assert (problem.code, "the token function" in problem.message) == ("TOKEN", True)


async def test_closing_while_a_page_is_read(server: FakeServer) -> None:
    """[PYRARE17] A page that is being read when the client is closed is not asked for again."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await orbital.api.close()
        await server.append(hush=True)
        await server.append()
        fetching = [task for task in orbital._tasks if "fetch" in repr(task.get_coro())]
        async with asyncio.timeout(60):
            while not fetching:
                await asyncio.sleep(0)
                fetching = [task for task in orbital._tasks if "fetch" in repr(task.get_coro())]
            await asyncio.gather(*fetching)

        assert [request.url.path for request in server.requests] == []


# Chapter: posts


async def test_discarding_a_post(server: FakeServer) -> None:
    """[PYRARE18] `discard` of the client removes a post that waits, and says whether there was one."""
    server.rest = lambda _: refusal(503, "UNAVAILABLE")
    async with client(server, backoff=Backoff(steps_ms=(600_000,), jitter_ms=1)) as orbital:
        posting = asyncio.create_task(orbital.send(GROUP, b"x", idempotency_key="mine"))
        await server.until(lambda: len(server.requests) == 1)

        assert await orbital.discard("mine")
        assert not await orbital.discard("mine")
        with pytest.raises(Exception, match="mine was discarded"):
            await posting


async def test_closed_while_a_post_is_tried(server: FakeServer) -> None:
    """[PYRARE19] A post that is tried when the REST side is closed raises Closed; it is not retried."""
    async with client(server) as orbital:
        await orbital.api.close()

        with pytest.raises(Closed):
            await orbital.send(GROUP, b"x")
        outbox = orbital._outbox
    with pytest.raises(Closed, match="The client is closed"):
        await outbox.post(GROUP, "/v1/messages", {}, Any)

    assert server.requests == []


class _Damaged(MemoryOutbox):
    """An outbox's store that keeps each new post, and cannot note a try of it later."""

    async def put(self, post: QueuedPost) -> None:
        if post.key == "second" and post.tried_ms is not None:
            raise StoreDamaged("the disk is broken")
        await super().put(post)


async def test_a_store_that_cannot_note_a_try(server: FakeServer) -> None:
    """[PYRARE20] A caller that waits for its post gets the store's error; nothing is sent without a note of it."""
    async with client(server, outbox=_Damaged()) as orbital:
        first = asyncio.create_task(orbital.send(GROUP, b"x", idempotency_key="first"))
        second = asyncio.create_task(orbital.send(GROUP, b"y", idempotency_key="second"))

        assert (await first).seq == 1
        with pytest.raises(StoreDamaged, match="disk is broken"):
            await second

    assert [request.headers["Idempotency-Key"] for request in server.requests] == ["first"]


async def test_other_groups_are_not_disturbed(server: FakeServer) -> None:
    """[PYRARE21] A refusal of one group's subscription ends that subscription alone."""
    server.forbidden.add(OTHER)
    async with client(server) as orbital:
        good, bad = orbital.subscribe(GROUP), orbital.subscribe(OTHER)
        await good.ready()
        with pytest.raises(Exception, match=OTHER):
            await anext(bad)
        await server.append()

        assert await read(good, 1) == [1]
