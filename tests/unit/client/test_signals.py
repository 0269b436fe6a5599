"""Other people's callbacks: whatever they do, the client continues."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orbital_relay.client import (
    CaughtUp,
    MemoryPositions,
    NotAMember,
    Position,
    Problem,
    State,
    StateChange,
    Typing,
)
from tests.support.fake import GROUP, OTHER, FakeServer
from tests.support.sdk import client, read, signals_of, when


async def test_a_failing_callback_is_isolated(server: FakeServer) -> None:
    """[CAL1] An exception in a callback is reported; the next event and the other callbacks are still called."""
    got: list[int] = []

    async def on_event(event: Any) -> None:
        got.append(event.seq)
        if event.seq == 1:
            raise RuntimeError("a bug of the program")

    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)

        def bad(_: CaughtUp) -> None:
            raise RuntimeError("another")

        orbital.on(CaughtUp, bad)
        reported = signals_of(orbital, CaughtUp)
        subscription = orbital.subscribe(GROUP, since=0, on_event=on_event)
        await subscription.ready()
        await when(reported)
        assert "another" in (await when(problems)).message
        await server.append()
        assert "a bug of the program" in (await when(problems)).message
        await server.append()
        await server.send(json.dumps({"type": "ping", "data": {}, "server_timestamp": 1}))
        await server.until(lambda: len(server.received_of("pong")) == 1)

    assert got == [1, 2]


async def test_a_blocked_callback_delays_no_other(server: FakeServer) -> None:
    """[CAL2] While one callback blocks, events are read, pings are answered and memory is bounded."""
    never = asyncio.Event()

    async def hang(_: Any) -> None:
        await never.wait()

    async with client(server, buffer=5) as orbital:
        orbital.on(StateChange, hang)
        orbital.on(Typing, hang)
        subscription = orbital.subscribe(GROUP, since=0, on_event=hang)
        other = orbital.subscribe(OTHER, since=0)
        await other.ready()
        for _ in range(50):
            await server.append()
        typing = {"thread_id": "t", "user_id": "u", "username": "b", "is_typing": True}
        for _ in range(1_200):
            await server.send(json.dumps({"type": "typing_indicator", "data": typing, "server_timestamp": 1}))
        await server.append(OTHER)

        assert await read(other, 1) == [1]
        assert len(subscription._items) <= 6
        assert len(orbital._signals._waiting) <= 1_000


async def test_a_callback_is_removed(server: FakeServer) -> None:
    """[CAL3] A removed callback is not called again."""
    async with client(server) as orbital:
        got: list[Any] = []
        off = orbital.on(StateChange, got.append)
        states = signals_of(orbital, StateChange)
        off()
        off()
        server.cut()
        await when(states, lambda change: change.state is State.OPEN)

    assert got == []


async def test_a_finished_callback_task(server: FakeServer) -> None:
    """[CAL5] With a callback the caller can await the end of the stream, which raises the error that ended it."""
    store = MemoryPositions()
    never = asyncio.Event()
    begun = asyncio.Event()

    async def hang(_: Any) -> None:
        begun.set()
        await never.wait()

    async with client(server, store=store) as orbital:
        got: list[Any] = []
        left = orbital.subscribe(OTHER, since=0, on_event=got.append)
        await left.ready()
        await server.append(OTHER)
        gone = {"group_ids": [OTHER], "reason": "left"}
        await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": 1}))
        await left.finished()
        assert [item.seq for item in got] == [1]
        hanging = orbital.subscribe(GROUP, since=0, on_event=hang)
        await server.append()
        await begun.wait()
        waiting = asyncio.create_task(hanging.finished())

    await waiting
    assert await store.load(GROUP) is None, "the callback had not returned"
    server.forbidden = {GROUP}
    async with client(server) as orbital:
        refused = orbital.subscribe(GROUP, since=0, on_event=hang)
        with pytest.raises(NotAMember):
            await refused.finished()


async def test_pump_returns_how_it_ended(server: FakeServer) -> None:
    """[CAL4] With callbacks, a stream that ends with an error is reported as a Problem."""
    server.forbidden = {GROUP}
    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)
        subscription = orbital.subscribe(GROUP, since=0, on_event=lambda _: None)

        reported = await when(problems, lambda problem: problem.code == "SUBSCRIPTION")

        assert reported.details == {"group_id": GROUP}
        assert isinstance(subscription.error, NotAMember)


async def test_a_callback_with_a_cancelled_task(server: FakeServer) -> None:
    """[CAL6] A callback that awaits its own cancelled task counts as a callback that raised."""
    got: list[Any] = []

    async def cancelled(item: Any) -> None:
        got.append(item)
        gone = asyncio.create_task(asyncio.Event().wait())
        gone.cancel()
        await gone

    server.log(events=2)
    async with client(server) as orbital:
        problems = signals_of(orbital, Problem)
        orbital.on(CaughtUp, cancelled)
        subscription = orbital.subscribe(GROUP, since=0, on_event=cancelled)
        await subscription.ready()
        for _ in range(3):
            assert "cancelled itself" in (await when(problems)).message

    assert sorted(item.seq for item in got) == [1, 2, 2]


class FullDisk(MemoryPositions):
    """A store whose disk is full at first."""

    full = True

    async def save(self, group_id: str, position: Position) -> None:
        """Fail, or not."""
        if self.full:
            raise OSError(28, "No space left on device")
        await super().save(group_id, position)


async def test_a_failing_store_stops_no_callback(server: FakeServer) -> None:
    """[CAL7] With callbacks, a failure to save the position is reported once; events continue and it is saved later."""
    store = FullDisk()
    got: list[int] = []
    async with client(server, store=store) as orbital:
        problems = signals_of(orbital, Problem)
        subscription = orbital.subscribe(GROUP, since=0, on_event=lambda event: got.append(event.seq))
        await server.append()
        reported = await when(problems)
        assert (reported.code, reported.details) == ("STORE", {"group_id": GROUP})
        await server.append()
        await when(problems)
        store.full = False
        await server.append()
        gone = {"group_ids": [GROUP], "reason": "left"}
        await server.send(json.dumps({"type": "unsubscribed", "data": gone, "server_timestamp": 1}))
        async with asyncio.timeout(60):
            await subscription.finished()

        assert problems.empty()
    assert got == [1, 2, 3]
    position = await store.load(GROUP)
    assert position is not None
    assert position.seq == 3


async def test_a_store_of_any_class(server: FakeServer) -> None:
    """[CAL8] An exception in a store ends at most the subscription that uses it, not the client."""

    class Away(MemoryPositions):
        async def load(self, group_id: str) -> Position | None:
            if group_id == OTHER:
                raise LookupError("the database cannot be reached")
            return await super().load(group_id)

    async with client(server, store=Away()) as orbital:
        problems = signals_of(orbital, Problem)
        refused = orbital.subscribe(OTHER, on_event=lambda _: None)
        with pytest.raises(LookupError, match="cannot be reached"):
            await refused.ready()
        assert (await when(problems)).code == "STORE"
        subscription = orbital.subscribe(GROUP, since=0)
        await server.append()

        assert (await anext(subscription)).seq == 1
        assert orbital.state.state is State.OPEN
