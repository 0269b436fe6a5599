"""What a reader gets, and from where, against a server that can do everything wrong."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import httpx
import pytest

from orbital_relay.client import (
    AlreadySubscribed,
    CaughtUp,
    ChainBroken,
    FilePositions,
    MemoryPositions,
    NotAMember,
    Position,
    Problem,
    Reset,
    StoreDamaged,
)
from tests.support.fake import GROUP, OTHER, FakeServer, refusal
from tests.support.sdk import client, read, signals_of, when

# Chapter: events


async def test_each_event_once_over_every_kind_of_loss(server: FakeServer) -> None:
    """[PYEVT1] Despite closes, cuts and gaps the reader receives every number once, in order."""
    server.log(events=3)
    async with client(server, verify=True) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        got = await read(subscription, 3)
        for ending in ("close", "cut", "gap", "close", "cut"):
            if ending == "close":
                await server.end(1012)
            elif ending == "cut":
                server.cut()
            else:
                await server.append(hush=True)
            await server.append()
            await server.append()
            got += await read(subscription, 3 if ending == "gap" else 2)

    assert got == list(range(1, 15))


async def test_from_now(server: FakeServer) -> None:
    """[PYEVT2] Without a position, only events after the confirmation are yielded."""
    server.log(events=5)
    async with client(server) as orbital, orbital.subscribe(GROUP) as subscription:
        assert await subscription.ready() == 5
        await server.append()

        assert await read(subscription, 1) == [6]


async def test_markers(server: FakeServer) -> None:
    """[PYEVT3] CaughtUp is yielded if requested, and always reported to callbacks."""
    server.log(events=2)
    async with client(server) as orbital:
        reported = signals_of(orbital, CaughtUp)
        subscription = orbital.subscribe(GROUP, since=1, marks=True)

        assert [type(await anext(subscription)).__name__ for _ in range(2)] == ["NewMessage", "CaughtUp"]
        assert await when(reported) == CaughtUp(group_id=GROUP, seq=2)


async def test_reset(server: FakeServer) -> None:
    """[PYEVT4] A position below the retention floor yields a Reset and then the retained events."""
    server.log(events=9).floor = 6
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=2)
        reset = await anext(subscription)
        await server.append()

        assert isinstance(reset, Reset)
        assert (reset.last_seq, reset.seq) == (2, 9)
        assert await read(subscription, 1) == [10]


async def test_a_stalled_reader_is_bounded_and_misses_nothing(server: FakeServer) -> None:
    """[PYEVT5] With a buffer of ten, a late reader receives a thousand events; pings are answered meanwhile."""
    async with client(server, buffer=10) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        for _ in range(1_000):
            await server.append()
        await server.send(json.dumps({"type": "ping", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.received_of("pong")) == 1)
        assert len(subscription._items) <= 11

        assert await read(subscription, 1_000) == list(range(1, 1_001))


async def test_verify_raises(server: FakeServer) -> None:
    """[PYEVT6] With `verify`, an event that the server changed is detected at the next event."""
    log = server.log(events=4)
    log.frames[1] = log.frames[1].replace(b"aGk=", b"aGo=")
    async with client(server, verify=True) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        assert await read(subscription, 2) == [1, 2]

        with pytest.raises(ChainBroken, match="Event 3"):
            await anext(subscription)
        with pytest.raises(ChainBroken):
            await anext(subscription)


async def test_not_a_member(server: FakeServer) -> None:
    """[PYEVT7] A group that the user is not a member of raises NotAMember; the other groups continue."""
    server.forbidden = {OTHER}
    async with client(server) as orbital:
        fine = orbital.subscribe(GROUP, since=0)
        with pytest.raises(NotAMember):
            await orbital.subscribe(OTHER, since=0).ready()
        await server.append()

        assert await read(fine, 1) == [1]


async def test_removed_while_behind(server: FakeServer) -> None:
    """[PYEVT8] A user who may no longer read the missing events gets NotAMember, not an endless wait."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        server.forbidden = {GROUP}
        await server.append(hush=True)
        await server.append()

        with pytest.raises(NotAMember):
            await anext(subscription)


async def test_leaving_ends_the_iteration(server: FakeServer) -> None:
    """[PYEVT9] After `unsubscribed` with a reason, the buffered events are yielded and the loop ends."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await server.append()
        gone = {"group_ids": [GROUP], "reason": "removed"}
        await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": 1}))

        assert [item.seq async for item in subscription] == [1]
        assert subscription.ended == "removed"


async def test_reading_the_log_is_retried(server: FakeServer) -> None:
    """[PYEVT10] A gap is filled even if the first read of the log fails."""
    troubles = [refusal(503, "UNAVAILABLE"), refusal(500, "INTERNAL"), httpx.Response(502, text="<html>")]
    troubles += [httpx.Response(302, headers={"Location": "http://portal.test/"}), httpx.Response(200, text="<html>")]
    server.rest = lambda request: troubles.pop() if troubles and request.url.path == "/v1/events" else None
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await subscription.ready()
        await server.append(hush=True)
        await server.append()

        assert await read(subscription, 2) == [1, 2]
    assert troubles == []


async def test_one_subscription_a_group(server: FakeServer) -> None:
    """[PYEVT11] A second subscription to a group is refused until the first is closed or garbage-collected."""
    async with client(server) as orbital:
        first = orbital.subscribe(GROUP, since=0)
        with pytest.raises(AlreadySubscribed):
            orbital.subscribe(GROUP)
        await first.close()
        second = orbital.subscribe(GROUP, since=0)
        await second.ready()
        await server.append()
        assert await read(second, 1) == [1]
        del second
        gc.collect()
        third = orbital.subscribe(GROUP, since=0)

        assert await read(third, 1) == [1]
        with pytest.raises(ValueError, match="whole number from 0"):
            orbital.subscribe(OTHER, since=-1)


async def test_a_bad_frame_is_reported(server: FakeServer) -> None:
    """[PYEVT12] Invalid JSON and binary frames are reported as problems; the connection stays open."""
    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)
        await server.send("{broken")
        assert (await when(problems)).code == "BAD_FRAME"
        for socket in server.sockets:
            await socket.send(b"\x00")
        assert (await when(problems)).message == "The server sent a binary frame."

    assert len(server.handshakes) == 1


async def test_one_reader_at_a_time(server: FakeServer) -> None:
    """[PYEVT13] A second task that reads the same subscription gets an error; the first one continues."""
    async with client(server) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        first = asyncio.create_task(anext(subscription))
        await subscription.ready()
        with pytest.raises(RuntimeError, match="One task at a time"):
            await anext(subscription)
        await server.append()
        assert (await first).seq == 1
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await server.append()

        assert await read(subscription, 1) == [2]


# Chapter: positions


async def test_the_position_advances_after_an_event_is_handled(server: FakeServer) -> None:
    """[POS1] An event whose handling failed is delivered again in the next run; a handled one is not."""
    server.log(events=5)
    store = MemoryPositions()

    with pytest.raises(RuntimeError):  # noqa: PT012 - the error is raised in the midst of reading
        async with client(server, store=store) as orbital:
            async for event in orbital.subscribe(GROUP, since=0):
                if event.seq == 3:
                    raise RuntimeError("the handling of 3 failed")
    async with client(server, store=store) as orbital, orbital.subscribe(GROUP, since=0) as subscription:
        second = await read(subscription, 2)
    async with client(server, store=store) as orbital:
        third = await read(orbital.subscribe(GROUP, since=0), 1)

    assert second == [3, 4]
    assert third == [5]


async def test_commit_and_waiting_save_the_position(server: FakeServer) -> None:
    """[POS2] The position is saved by `commit`, after catching up, and every 64 events during a fast read."""
    server.log(events=200)
    store = MemoryPositions()
    async with client(server, store=store) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        await read(subscription, 130)
        saved = await store.load(GROUP)
        assert saved is not None
        assert 64 <= saved.seq < 130
        await subscription.commit()
        assert await store.load(GROUP) == subscription.position
        assert subscription.position is not None
        assert subscription.position.seq == 130
        await read(subscription, 70)
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.wait_for(_saved(store, 200), 60)
        await server.append()
        assert (await waiting).seq == 201


async def _saved(store: MemoryPositions, seq: int) -> None:
    while (position := await store.load(GROUP)) is None or position.seq != seq:
        await asyncio.sleep(0)


async def test_files_outlive_the_client(server: FakeServer, tmp_path: Any) -> None:
    """[POS3] The next client resumes from the position in the file, with its hash."""
    server.log(events=3)
    path = tmp_path / "positions.json"
    async with client(server, store=FilePositions(path)) as orbital, orbital.subscribe(GROUP, since=0) as first:
        await read(first, 2)
    async with client(server, store=FilePositions(path)) as orbital, orbital.subscribe(GROUP, since=0) as second:
        assert await read(second, 1) == [3]

    since = [data["since"][GROUP] for data in server.received_of("subscribe")]
    assert since[0] == 0
    assert since[1]["seq"] == 2
    assert len(since[1]["hash"]) == 43


async def test_a_damaged_store_is_reported(server: FakeServer, tmp_path: Any) -> None:
    """[POS4] An unreadable store ends the subscription with a message that names the file."""
    path = tmp_path / "positions.json"
    path.write_text("half a fi")
    async with client(server, store=FilePositions(path)) as orbital:
        with pytest.raises(StoreDamaged, match=r"positions\.json is not a file of positions"):
            await orbital.subscribe(GROUP).ready()


async def test_from_now_is_saved(server: FakeServer) -> None:
    """[POS5] The starting point of a reader without a position is saved, so that the next run misses nothing."""
    server.log(events=4)
    store = MemoryPositions()
    async with client(server, store=store) as orbital, orbital.subscribe(GROUP, marks=True) as subscription:
        assert isinstance(await anext(subscription), CaughtUp)
    assert await store.load(GROUP) == Position(4)
    await server.append()
    async with client(server, store=store) as orbital:
        assert await read(orbital.subscribe(GROUP), 1) == [5]

    assert (await store.load(GROUP)) != Position(4)


async def test_a_closed_subscription_does_not_move_the_position(server: FakeServer) -> None:
    """[POS9] Leaving a subscription's block while another task handles an event does not mark it as handled."""
    server.log(events=3)
    store = MemoryPositions()
    handling = asyncio.Event()

    async with client(server, store=store) as orbital:
        async with orbital.subscribe(GROUP, since=0) as subscription:

            async def handle() -> None:
                async for event in subscription:
                    if event.seq == 2:
                        handling.set()
                        await asyncio.Event().wait()

            handler = asyncio.create_task(handle())
            await handling.wait()
        handler.cancel()
        await asyncio.gather(handler, return_exceptions=True)
    position = await store.load(GROUP)
    assert position is not None
    assert position.seq == 1

    async with client(server, store=store) as orbital, orbital.subscribe(GROUP) as subscription:
        event = await asyncio.create_task(anext(subscription))  # as asyncio.wait_for does
        assert event.seq == 2
    position = await store.load(GROUP)
    assert position is not None
    assert position.seq == 2
