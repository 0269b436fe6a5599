"""The relay in interleavings that disorder meets too seldom: each is arranged, and happens in every run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orbital_relay import wire
from orbital_relay.errors import Unavailable
from orbital_relay.model import Page
from orbital_relay.relay import repair
from orbital_relay.relay.catch_up import CHUNK_BYTES
from tests.sim.world import Client, World, create_groups, message


async def _listening(world: World, *, room: int = 10_000, pace: int = 10_000) -> tuple[str, Client]:
    """Start the servers; returns a group and a listener of it on the first server."""
    for node in world.nodes:
        await node.start()
    (group_id,) = await create_groups(world, 1)
    client = Client(world, world.nodes[0], world.users[0], room=room, pace=pace)
    world.clients.append(client)
    client.subscribe([group_id])
    await world.wait_idle()
    return group_id, client


async def _idle(world: World) -> None:
    """Let the tasks of the first server end."""
    while world.nodes[0].relay._tasks.running:
        await asyncio.sleep(0)


def _elsewhere(world: World, group_id: str, number: int) -> None:
    """Store an event whose bus message is lost."""
    world.store._one(message(world.users[0], group_id, number, 4), 0)


async def test_heads_are_compared_when_the_bus_is_back():
    """[INTER1] When the bus is reachable again, events whose bus messages were lost are delivered at once."""
    world = World(7, nodes=1)
    group_id, client = await _listening(world)
    for number in (1, 2):
        _elsewhere(world, group_id, number)

    world.nodes[0].relay.compare_soon()
    world.nodes[0].relay.compare_soon()
    await _idle(world)

    assert client.received[group_id] == [-7, 7, 8]
    await world.close()


async def test_the_store_is_unreachable_when_the_bus_is_back():
    """[INTER8] If the store is unreachable when the bus is back, a later comparison delivers, and nothing is lost."""
    world = World(7, nodes=1)
    group_id, client = await _listening(world)
    _elsewhere(world, group_id, 1)

    world.store.away = True
    world.nodes[0].relay.compare_soon()
    await _idle(world)
    assert client.received[group_id] == [-7]

    world.store.away = False
    world.nodes[0].relay.compare_soon()
    await _idle(world)
    assert client.received[group_id] == [-7, 7]
    await world.close()


async def test_the_last_listener_leaves_while_heads_are_read(monkeypatch):
    """[INTER2] A group whose last listener leaves while heads are read is not repaired."""
    world = World(7, nodes=1)
    group_id, client = await _listening(world)
    _elsewhere(world, group_id, 1)
    heads = world.store.heads

    async def heads_and_leave(group_ids: list[str]) -> Any:
        found = await heads(group_ids)
        client.say("unsubscribe", group_ids=[group_id])
        return found

    monkeypatch.setattr(world.store, "heads", heads_and_leave)
    await world.nodes[0].relay.compare()
    await _idle(world)

    assert client.received[group_id] == [-7]
    assert group_id not in world.nodes[0].relay.hub.groups
    await world.close()


async def test_a_page_that_does_not_follow(monkeypatch):
    """[INTER3] A page that does not follow the listener's position is not written but read again."""
    world = World(7, nodes=1)
    group_id, _ = await _listening(world)
    for number in range(100):
        await world.append(world.nodes[0], message(world.users[0], group_id, number, 4))
    read, broken = world.store.read, []

    async def read_with_a_hole(group_id: str, *, after: int, limit: int) -> Page:
        page = await read(group_id, after=after, limit=limit)
        if not broken and len(page.events) > 1:
            broken.append(after)
            return Page([page.events[0], *page.events[2:]], page.head)
        return page

    monkeypatch.setattr(world.store, "read", read_with_a_hole)
    late = Client(world, world.nodes[0], world.users[1], room=100_000, pace=100_000)
    world.clients.append(late)
    late.subscribe([group_id], {group_id: 0})
    await world.wait_idle()

    assert broken
    assert late.received[group_id] == [-1, *range(1, 107)]
    await world.close()


async def test_a_transport_that_is_full_after_a_chunk():
    """[INTER4] A replay is written in chunks of 128 KiB, and stops after the chunk with which the transport is full."""
    world = World(7, nodes=1)
    group_id, _ = await _listening(world, room=10**7, pace=10**7)
    for number in range(12):
        await world.append(world.nodes[0], message(world.users[0], group_id, number, 50_000))
    slow = Client(world, world.nodes[0], world.users[1], room=1_000, pace=0)
    written: list[int] = []
    write = slow.write

    def noting(wire_bytes: bytes) -> None:
        written.append(len(wire_bytes))
        write(wire_bytes)

    slow.write = noting  # type: ignore[method-assign]
    world.clients.append(slow)
    slow.subscribe([group_id], {group_id: 6})
    while slow.writable:
        await asyncio.sleep(0)
    await _idle(world)

    assert CHUNK_BYTES <= written[-1] < CHUNK_BYTES + 60_000
    assert slow.received[group_id] == [-7, 7, 8, 9]

    slow.pace = 10**7
    await world.wait_idle()
    assert slow.received[group_id] == [-7, *range(7, 19)]
    await world.close()


async def test_a_gap_while_the_store_fails(monkeypatch):
    """[INTER5] A listener that lost its position is subscribed again once the store answers, however often it fails."""
    monkeypatch.setattr(repair, "RETRY_S", 0)
    world = World(7, nodes=1)
    group_id, client = await _listening(world)
    for number in range(3):
        _elsewhere(world, group_id, number)
    group = world.store.groups[group_id]
    group.floor = group.head.seq
    memberships, failures = world.store.memberships, [None] * 3

    async def failing(user: int, group_ids: list[str]) -> Any:
        if failures:
            failures.pop()
            raise Unavailable("away")
        return await memberships(user, group_ids)

    monkeypatch.setattr(world.store, "memberships", failing)
    await world.nodes[0].relay.compare()
    await world.wait_idle()
    await world.append(world.nodes[0], message(world.users[0], group_id, 9, 4))
    await world.wait_idle()

    assert not failures
    assert client.received[group_id] == [-7, -10, 10]
    await world.close()


@pytest.mark.parametrize("bus_works", [True, False])
async def test_typing_over_the_bus(bus_works: bool):
    """[INTER6] Typing reaches the other members on every server; if the bus loses it, those on the same server."""
    world = World(7, nodes=2, loss=0 if bus_works else 1)
    group_id, author = await _listening(world)
    others = [Client(world, node, world.users[1], room=10_000, pace=10_000) for node in world.nodes]
    world.clients += others
    for other in others:
        other.subscribe([group_id])
    await world.wait_idle()

    typing = wire.TypingIndicator("t", author.user.user_id, author.user.username, is_typing=True)
    world.nodes[0].relay.notify_typing(group_id, typing)
    await world.wait_idle()

    # The bus may carry it twice, which does no harm.
    seen = ["typing_indicator" in [kind for kind, *_ in client.trace] for client in (author, *others)]
    assert seen == [False, True, bus_works]
    await world.close()


async def test_a_bus_message_that_is_no_message():
    """[INTER7] A malformed bus message changes nothing, and the events after it are delivered."""
    world = World(7, nodes=1)
    group_id, client = await _listening(world)

    for payload in (b"", b"\x00", b"\xff" * 40, json.dumps({"type": "nothing"}).encode()):
        world.nodes[0].relay.receive(group_id, payload)
    await world.append(world.nodes[0], message(world.users[0], group_id, 1, 4))
    await world.wait_idle()

    assert client.received[group_id] == [-7, 7]
    await world.close()
