"""What `ports.Bus` promises, of every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orbital_relay.bus.local import LocalBus
from orbital_relay.model import GroupId
from orbital_relay.ports import Bus
from tests.contracts.drafts import new_id


class Received:
    """What a server received, and a way to wait for it."""

    def __init__(self) -> None:
        self.messages: list[tuple[GroupId, bytes]] = []
        self._changed = asyncio.Event()

    def __call__(self, group_id: GroupId, payload: bytes) -> None:
        self.messages.append((group_id, payload))
        self._changed.set()

    async def until(self, count: int) -> list[tuple[GroupId, bytes]]:
        """Return what was received once it is that much."""
        async with asyncio.timeout(60):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


class Servers:
    """The buses of two servers; `others` is whether the adapter has any."""

    def __init__(self, one: Bus, two: Bus, received: Received, *, others: bool) -> None:
        self.one, self.two, self.received, self.others = one, two, received, others


@pytest.fixture(params=["local", pytest.param("redis", marks=pytest.mark.redis)])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """Two servers, of which the second records what it receives."""
    received = Received()
    if request.param == "local":
        yield Servers(LocalBus(), LocalBus(), received, others=False)
        return
    from orbital_relay.bus.redis import RedisBus

    url = request.getfixturevalue("redis_server").url
    one = RedisBus(url, receive=received, on_reconnected=lambda: None)
    two = RedisBus(url, receive=received, on_reconnected=lambda: None)
    await one.start()
    await two.start()
    yield Servers(one, two, received, others=True)
    await one.close()
    await two.close()


async def test_followed_groups_are_received(servers: Servers):
    """[CLUSTER13] After `follow` returned, messages of others to the group arrive byte for byte, and nothing else."""
    followed, other = GroupId(new_id()), GroupId(new_id())
    await servers.two.follow(followed)

    messages = [bytes([index]) * index for index in range(50)] + [b"\r\n$-1\r\n\0\xff"]
    for message in messages:
        await servers.one.publish(other, b"not for you")
        await servers.one.publish(followed, message)

    expected = [(followed, message) for message in messages] if servers.others else []
    assert await servers.received.until(len(expected)) == expected


async def test_a_server_receives_no_message_of_its_own(servers: Servers):
    """[CLUSTER14] A server does not receive its own messages: it has delivered the event already."""
    group_id = GroupId(new_id())
    await servers.one.follow(group_id)
    await servers.two.follow(group_id)

    await servers.one.publish(group_id, b"from one")
    await servers.two.publish(group_id, b"from two")

    assert sorted(await servers.received.until(2 * servers.others)) == (
        [(group_id, b"from one"), (group_id, b"from two")] if servers.others else []
    )


async def test_unfollowed_groups_are_not_received(servers: Servers):
    """[CLUSTER15] A group is received from `follow` to `unfollow`, and again from the next `follow`, repeatedly."""
    group_id, last = GroupId(new_id()), GroupId(new_id())
    await servers.two.unfollow(group_id)
    for _ in range(3):
        await asyncio.gather(*(servers.two.follow(group_id) for _ in range(3)))
        await servers.one.publish(group_id, b"payload")
        expected = len(servers.received.messages) + servers.others
        await servers.received.until(expected)
        await servers.two.unfollow(group_id)
        await servers.two.unfollow(group_id)
        await servers.two.follow(last)
        await servers.one.publish(group_id, b"not payload")
        await servers.one.publish(last, b"last")
        await servers.received.until(expected + servers.others)

    assert b"not payload" not in [payload for _, payload in servers.received.messages]
    assert len(servers.received.messages) == 6 * servers.others


async def test_the_last_call_of_follow_or_unfollow_wins(servers: Servers):
    """[CLUSTER16] The last call wins: follow, unfollow and follow at once means followed."""
    group_id = GroupId(new_id())
    await asyncio.gather(servers.two.follow(group_id), servers.two.unfollow(group_id), servers.two.follow(group_id))

    await servers.one.publish(group_id, b"payload")

    await servers.received.until(servers.others)
    assert len(servers.received.messages) == servers.others


async def test_ready(servers: Servers):
    """[RUNNING1] A bus that reaches the other servers, or needs none, is ready."""
    assert servers.one.connected is True
