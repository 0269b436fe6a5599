"""The client for synchronous programs and threads, against a real server."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orbital_relay.client import ApiError, Closed, Portal, Refused
from tests.support.client import Person
from tests.support.server import Server


async def test_portal(shared: Server) -> None:
    """[PYPORT1] From any thread a portal posts, reads and sends requests, and raises their exceptions."""
    anna = await Person.sign_up(shared.url)
    group = await anna.make_group()

    async def blocking(portal: Portal) -> None:
        portal.send(group.id, b"x")

    def program() -> list[int]:
        with Portal(shared.url, token=anna.token) as portal:
            sent = [portal.send(group.id, f"{number}".encode()).seq for number in range(3)]
            with pytest.raises(ApiError):
                portal.run(lambda orbital: orbital.api.quota("no-uuid"))
            with pytest.raises(ValueError, match="whole number"):
                portal.subscribe(group.id, since=-1)
            with portal.subscribe(group.id, since=0) as events:
                seen = [next(events).seq for _ in range(4)]
                assert events.next(timeout_s=0.05) is None
                assert events.ended is None
            others: list[int] = []
            threads = [
                threading.Thread(target=lambda: others.append(portal.send(group.id, b"x").seq)) for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(others) == [5, 6, 7, 8, 9]
            with pytest.raises(RuntimeError, match="own thread"):
                portal.run(lambda _: blocking(portal))
        with pytest.raises(Closed):
            portal.send(group.id, b"x")
        portal.close()
        assert sent == [2, 3, 4]
        return seen

    async with asyncio.timeout(60):
        assert await asyncio.to_thread(program) == [1, 2, 3, 4]
    assert not [thread for thread in threading.enumerate() if thread.name == "orbital-portal"]
    await anna.close()


async def test_a_portal_that_is_refused(shared: Server) -> None:
    """[PYPORT2] A portal that cannot open raises the reason, and leaves no thread."""

    def program() -> None:
        with pytest.raises(Refused), Portal(shared.url, token="no.such.token"):
            pass

    async with asyncio.timeout(60):
        await asyncio.to_thread(program)
    assert not [thread for thread in threading.enumerate() if thread.name == "orbital-portal"]


async def test_iterating_over_a_portal(shared: Server) -> None:
    """[PYPORT3] A loop over a portal's subscription ends when that is closed; its position is the last event."""
    anna = await Person.sign_up(shared.url)
    group = await anna.make_group()

    def program() -> list[int]:
        seen = []
        with Portal(shared.url, token=anna.token) as portal:
            with pytest.raises(RuntimeError, match="opened only once"):
                portal.open()
            sent = portal.send(group.id, b"x")
            events = portal.subscribe(group.id, since=0)
            for event in events:
                assert event.group_id == events.group_id == group.id
                seen.append(event.seq)
                if event.seq == sent.seq:
                    events.commit()
                    events.close()
            assert events.position is not None
            assert events.position.seq == sent.seq
        return seen

    async with asyncio.timeout(60):
        assert await asyncio.to_thread(program) == [1, 2]
    await anna.close()


async def test_a_portal_that_is_closed_during_a_call(shared: Server) -> None:
    """[PYPORT4] A call that waits when its portal is closed by another thread raises Closed, and no thread is left."""
    anna = await Person.sign_up(shared.url)

    def program() -> None:
        portal = Portal(shared.url, token=anna.token).open()
        waits = threading.Event()
        raised: list[BaseException] = []

        async def for_ever(_: object) -> None:
            waits.set()
            await asyncio.Event().wait()

        def call() -> None:
            try:
                portal.run(for_ever)
            except Closed as exc:
                raised.append(exc)

        caller = threading.Thread(target=call)
        caller.start()
        assert waits.wait(30)
        portal.close()
        caller.join(30)
        assert [str(exc) for exc in raised] == ["The portal was closed during the call."]

    async with asyncio.timeout(60):
        await asyncio.to_thread(program)
    assert not [thread for thread in threading.enumerate() if thread.name == "orbital-portal"]
    await anna.close()
