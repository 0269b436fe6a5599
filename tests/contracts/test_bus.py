"""What `ports.Bus` promises, of every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orbital_relay.bus.local import LocalBus
from orbital_relay.model import GroupId
from orbital_relay.ports import Bus
from tests.contracts.drafts import new_id


class Heard:
    """What a server heard, and a way to wait for it."""

    def __init__(self) -> None:
        self.rumours: list[tuple[GroupId, bytes]] = []
        self._changed = asyncio.Event()

    def __call__(self, group_id: GroupId, payload: bytes) -> None:
        self.rumours.append((group_id, payload))
        self._changed.set()

    async def until(self, count: int) -> list[tuple[GroupId, bytes]]:
        """Return what was heard once it is that much."""
        async with asyncio.timeout(30):
            while len(self.rumours) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.rumours


class Servers:
    """The buses of two servers; `others` tells whether the adapter has any."""

    def __init__(self, one: Bus, two: Bus, heard: Heard, *, others: bool) -> None:
        self.one, self.two, self.heard, self.others = one, two, heard, others


@pytest.fixture(params=["local", pytest.param("redis", marks=pytest.mark.redis)])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """Two servers, of which the second remembers what it hears."""
    heard = Heard()
    if request.param == "local":
        yield Servers(LocalBus(), LocalBus(), heard, others=False)
        return
    from orbital_relay.bus.redis import RedisBus

    url = request.getfixturevalue("redis_server").url
    one = RedisBus(url, receive=heard, on_reconnected=lambda: None)
    two = RedisBus(url, receive=heard, on_reconnected=lambda: None)
    await one.start()
    await two.start()
    yield Servers(one, two, heard, others=True)
    await one.close()
    await two.close()


async def test_what_is_followed_is_heard(servers: Servers):
    """[CLUSTER] After `follow` returned, what others publish to the group is heard, byte for byte; nothing else is."""
    followed, other = GroupId(new_id()), GroupId(new_id())
    await servers.two.follow(followed)

    rumours = [bytes([index]) * index for index in range(50)] + [b"\r\n$-1\r\n\0\xff"]
    for rumour in rumours:
        await servers.one.publish(other, b"not for you")
        await servers.one.publish(followed, rumour)

    expected = [(followed, rumour) for rumour in rumours] if servers.others else []
    assert await servers.heard.until(len(expected)) == expected


async def test_nobody_hears_itself(servers: Servers):
    """[CLUSTER] A server's own rumours do not come back to it: it has handed the event on already."""
    group_id = GroupId(new_id())
    await servers.one.follow(group_id)
    await servers.two.follow(group_id)

    await servers.one.publish(group_id, b"from one")
    await servers.two.publish(group_id, b"from two")

    assert sorted(await servers.heard.until(2 * servers.others)) == (
        [(group_id, b"from one"), (group_id, b"from two")] if servers.others else []
    )


async def test_unfollowed_is_not_heard(servers: Servers):
    """[CLUSTER] A group is heard from `follow` to `unfollow`, and again from the next `follow`, however often."""
    group_id, last = GroupId(new_id()), GroupId(new_id())
    await servers.two.unfollow(group_id)
    for _ in range(3):
        await asyncio.gather(*(servers.two.follow(group_id) for _ in range(3)))
        await servers.one.publish(group_id, b"heard")
        expected = len(servers.heard.rumours) + servers.others
        await servers.heard.until(expected)
        await servers.two.unfollow(group_id)
        await servers.two.unfollow(group_id)
        await servers.two.follow(last)
        await servers.one.publish(group_id, b"not heard")
        await servers.one.publish(last, b"last")
        await servers.heard.until(expected + servers.others)

    assert b"not heard" not in [payload for _, payload in servers.heard.rumours]
    assert len(servers.heard.rumours) == 6 * servers.others


async def test_a_late_unfollow_does_not_win(servers: Servers):
    """[CLUSTER] The last word counts: followed, unfollowed and followed in one go is followed."""
    group_id = GroupId(new_id())
    await asyncio.gather(servers.two.follow(group_id), servers.two.unfollow(group_id), servers.two.follow(group_id))

    await servers.one.publish(group_id, b"heard")

    await servers.heard.until(servers.others)
    assert len(servers.heard.rumours) == servers.others


async def test_ready(servers: Servers):
    """[RUNNING] A bus that reaches the other servers, or has none, is ready."""
    assert servers.one.connected is True
