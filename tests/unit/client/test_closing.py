"""Closing a client: from anywhere, at any moment, and nothing of it is left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orbital_relay.client import Api, Closed, MemoryPositions, Orbital, Position, State, StateChange
from tests.support.fake import GROUP, OTHER, FakeServer
from tests.support.sdk import client


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether it is code of the SDK that a task runs."""
    coroutine: Any = task.get_coro()
    return Path(coroutine.cr_code.co_filename).parts[-3:-1] == ("orbital_relay", "client")


@pytest.fixture
async def clean(server: FakeServer) -> AsyncIterator[FakeServer]:
    """The server, for a test that must leave no task behind and give the loop nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    before = asyncio.all_tasks()
    yield server
    await server.end()  # so that no task of a connection's own, on either side, is mistaken for the client's
    async with asyncio.timeout(60):
        await server.until(lambda: not server.sockets)
        while left := {task for task in asyncio.all_tasks() - before if is_ours(task)}:
            assert all(task.cancelling() for task in left), left
            await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def closed(orbital: Orbital) -> None:
    """Wait until a client that is closing is closed."""
    async with asyncio.timeout(60):
        await orbital.close()
    assert orbital.state.state is State.CLOSED
    with pytest.raises(Closed):
        await orbital.api.groups()


async def test_close_in_a_subscription_callback(clean: FakeServer) -> None:
    """[PYCLO1] A callback may close its client: it completes, its event counts as handled, and no event follows."""
    clean.log(events=3)
    store = MemoryPositions()
    got: list[int] = []
    async with asyncio.timeout(60), client(clean, store=store) as orbital:

        async def on_event(event: Any) -> None:
            await orbital.close()
            await asyncio.sleep(0)
            got.append(event.seq)

        await orbital.subscribe(GROUP, since=0, on_event=on_event).finished()
        await closed(orbital)
        while got != [1] or await store.load(GROUP) is None:
            await asyncio.sleep(0)

    assert got == [1]
    position = await store.load(GROUP)
    assert position is not None
    assert position.seq == 1


async def test_close_in_a_signal_callback(clean: FakeServer) -> None:
    """[PYCLO2] A callback registered with `on` may close its client, too."""
    ends: list[State] = []
    orbital = client(clean)

    async def on_change(change: StateChange) -> None:
        if change.state is State.OPEN:
            await orbital.close()
            ends.append(orbital.state.state)

    orbital.on(StateChange, on_change)
    async with asyncio.timeout(60), orbital:
        while not ends:
            await asyncio.sleep(0)

    await closed(orbital)
    assert ends == [State.CLOSED]


async def test_close_in_a_task_that_a_callback_awaits(clean: FakeServer) -> None:
    """[PYCLO3] A callback that waits for a task which closes the client does not deadlock."""
    clean.log(events=1)
    async with client(clean) as orbital:

        async def on_event(_: Any) -> None:
            await asyncio.create_task(orbital.close())

        subscription = orbital.subscribe(GROUP, since=0, on_event=on_event)
        async with asyncio.timeout(60):
            await subscription.finished()
        await closed(orbital)


async def test_a_cancelled_close(clean: FakeServer) -> None:
    """[PYCLO4] A cancelled `close` still closes the client."""
    clean.log(events=3)
    orbital = await client(clean).__aenter__()
    sending = asyncio.create_task(orbital.subscribe(GROUP).ready())
    closing = asyncio.create_task(orbital.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    await closed(orbital)
    await sending


async def test_buffered_events_are_read_after_close(clean: FakeServer) -> None:
    """[PYCLO5] After close, a reader receives the buffered events and the end; no request is sent to the server."""
    clean.log(events=50)
    async with client(clean, buffer=10) as orbital:
        subscription = orbital.subscribe(GROUP, since=0)
        first = await anext(subscription)
        while len(subscription._items) < 9:
            await asyncio.sleep(0)
    asked = len(clean.requests)

    assert [first.seq, *[item.seq async for item in subscription]] == list(range(1, 11))
    assert len(clean.requests) == asked


async def test_a_closed_subscription_does_not_affect_the_next(clean: FakeServer) -> None:
    """[PYCLO6] Reading from a closed subscription does not change the buffer of the subscription that replaced it."""
    clean.log(events=20)
    async with client(clean, buffer=8) as orbital:
        old = orbital.subscribe(GROUP, since=0)
        await anext(old)
        while len(old._items) < 7:
            await asyncio.sleep(0)
        await old.close()
        new = orbital.subscribe(GROUP, since=0)
        await new.ready()
        while len(new._items) < 8:
            await asyncio.sleep(0)

        assert len([item async for item in old]) >= 7
        assert orbital._conversation._streams[GROUP].waiting == len(new._items)


async def test_a_client_that_was_never_opened(clean: FakeServer) -> None:
    """[PYCLO7] A client that was never opened raises an error instead of blocking, and closes without an error."""
    orbital = client(clean, store=MemoryPositions())
    with pytest.raises(RuntimeError, match="not open: write `async with"):
        orbital.subscribe(GROUP, since=0, on_event=lambda _: None)
    for use in (lambda: orbital.send(GROUP, b"x"), orbital.wait_open, lambda: orbital.reply("t", b"x")):
        with pytest.raises(RuntimeError, match="not open: write `async with"):
            await use()
    orbital.wake()

    await closed(orbital)


async def test_a_closed_client_stays_closed(clean: FakeServer) -> None:
    """[PYCLO8] Every method of a closed client raises an error; so does a second `open`."""
    orbital = client(clean)
    async with orbital:
        with pytest.raises(RuntimeError, match="open already"):
            await orbital.__aenter__()
        assert orbital.state.state is State.OPEN

    async def download() -> None:
        async with orbital.api.download("m"):
            pass

    for use in (orbital.__aenter__, orbital.api.groups, orbital.wait_open, download, lambda: orbital.send(GROUP, b"x")):
        with pytest.raises(Closed):
            await use()
    orbital.wake()
    orbital.typing("t")
    orbital.typing("t", is_typing=False)
    assert len(clean.handshakes) == 1
    api = Api(clean.url, token="t")
    await api.close()
    with pytest.raises(Closed, match="closed"):
        await api.groups()


def test_a_client_is_bound_to_its_event_loop() -> None:
    """[PYCLO9] A client is bound to the event loop that opened it; in another loop it is closed and raises an error."""

    async def first() -> Orbital:
        async with FakeServer() as server, client(server) as orbital:
            return orbital

    async def second(orbital: Orbital) -> None:
        await orbital.close()
        with pytest.raises(Closed):
            await orbital.__aenter__()
        with pytest.raises(Closed):
            await orbital.send(GROUP, b"x")

    asyncio.run(second(asyncio.run(first())))


class Locked(MemoryPositions):
    """A store of somebody's own, on a database that is locked; what it raises is of no class that we know."""

    async def save(self, group_id: str, position: Position) -> None:
        """Fail."""
        raise LookupError("the database is locked")


async def test_a_store_fails_during_close(clean: FakeServer) -> None:
    """[PYCLO10] Any exception that a store raises during close does not prevent the rest from being closed."""
    clean.log(events=1)
    clean.log(OTHER, events=1)
    async with asyncio.timeout(60), client(clean, store=Locked()) as orbital:
        for group_id in (GROUP, OTHER):
            assert (await anext(orbital.subscribe(group_id, since=0))).seq == 1

    await closed(orbital)
