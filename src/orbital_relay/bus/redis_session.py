"""The connections to one Redis, or to the nodes of a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

from redis.crc import key_slot

from orbital_relay.bus.redis_address import RedisAddress
from orbital_relay.bus.redis_link import RedisLink

PING_S: Final = 2.0
"""How often Redis is pinged; a connection without an answer by the next ping is closed."""


class RedisSession:
    """
    One stretch of being connected: a link to a Redis, or one to each master of a Cluster.

    It ends as a whole at the first trouble with any of its links; the next one starts again.
    """

    def __init__(self, address: RedisAddress, take: Callable[[bytes, bytes], None]) -> None:
        self._address = address
        self._take = take
        self._links: list[RedisLink] = []
        self._slots: list[RedisLink] = []
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def open(self) -> None:
        """Connect, and on a Cluster of Redis 7 or later to all its masters."""
        seed = await self._connect()
        about = await seed.hello(self._address)
        if about.get(b"mode") == b"cluster" and int(bytes(about.get(b"version", b"0")).split(b".")[0]) >= 7:
            await self._open_cluster(seed)

    async def _open_cluster(self, seed: RedisLink) -> None:
        ranges = await seed.ask(b"CLUSTER", b"SLOTS")
        masters: dict[tuple[str, int], RedisLink] = {}
        slots: list[RedisLink | None] = [None] * 16384
        for first, last, master, *_ in ranges:
            # A node that does not know its own name means the address that it was asked at.
            where = (bytes(master[0] or b"").decode() or self._address.host, int(master[1]))
            link = masters.get(where)
            if link is None:
                link = masters[where] = await self._connect(*where, sharded=True)
                await link.hello(self._address)
            slots[first : last + 1] = [link] * (last + 1 - first)
        if None in slots:
            raise ConnectionError("some slots of the Redis cluster have no server")
        self._links.remove(seed)
        seed.close()
        self._slots = [link for link in slots if link is not None]

    async def _connect(self, host: str | None = None, port: int | None = None, *, sharded: bool = False) -> RedisLink:
        link = RedisLink(self._take, self._lost, sharded=sharded)
        await self._address.connect(link, host, port)
        self._links.append(link)
        return link

    def _lost(self, link: RedisLink, error: Exception) -> None:
        if link in self._links and not self._broken.done():
            self._broken.set_exception(error)

    def _of(self, channel: bytes) -> RedisLink:
        return self._slots[key_slot(channel)] if self._slots else self._links[0]

    def publish(self, channel: bytes, message: bytes) -> bool:
        """Send; return whether there was room."""
        return self._of(channel).publish(channel, message)

    def publish_surely(self, channel: bytes, message: bytes) -> asyncio.Future[Any]:
        """Send; the future ends when Redis has taken it: answers come in the order of commands."""
        link = self._of(channel)
        link.publish(channel, message)
        return link.ask(b"PING")

    def follow(self, channel: bytes) -> asyncio.Future[None]:
        """Ask for a channel; the future ends when it is confirmed."""
        return self._of(channel).follow(channel)

    def follow_all(self, channels: Collection[bytes]) -> asyncio.Future[list[None]]:
        """Ask for channels; the future ends when all are confirmed."""
        return asyncio.gather(*(self.follow(channel) for channel in channels))

    def unfollow(self, channel: bytes) -> None:
        """Give a channel back."""
        self._of(channel).unfollow(channel)

    async def live(self) -> None:
        """
        Ask each link now and then whether it lives, until one does not.

        Raises:
            OSError: What ended the session.
        """
        while True:
            pings = [link.ask(b"PING") for link in self._links]
            done, _ = await asyncio.wait([self._broken], timeout=PING_S)
            if done:
                self._broken.result()
            for ping in pings:
                if not ping.done():
                    raise TimeoutError(f"no answer to PING in {PING_S:g} s")
                ping.result()

    def close(self) -> None:
        """End every link."""
        links, self._links = self._links, []
        for link in links:
            link.close()
        self._broken.cancel()
