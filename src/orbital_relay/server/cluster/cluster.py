"""The Redis side of one server of a cluster: bus, presence, tickets and rate limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orbital_relay.bus.redis import RedisBus
from orbital_relay.model import GroupId
from orbital_relay.ports import BusReceiver, Clock
from orbital_relay.server.cluster.presence import SharedPresence
from orbital_relay.server.cluster.redis_client import SharedRedis
from orbital_relay.server.cluster.tickets import SharedTickets
from orbital_relay.server.limits.shared_limiter import SharedLimiter
from orbital_relay.server.sessions.presence import Here


class Cluster:
    """
    The Redis side of one server: limiter, tickets, bus and presence. A server starts without it when Redis is
    unreachable.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        clock: The time.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._url = url
        self._redis = SharedRedis(url)
        self.limiter = SharedLimiter.of(url, clock=clock, clustered=self._redis.clustered)
        self.tickets = SharedTickets(self._redis, clock)

    def make_presence(self, here: Here, live: Callable[[], Iterable[GroupId]]) -> SharedPresence:
        """
        Make the presence of all servers.

        Args:
            here: Returns the connections of this server.
            live: Returns the groups that this server has listeners of.
        """
        return SharedPresence(self._redis, here, live)

    def make_bus(
        self, *, receive: BusReceiver, on_reconnected: Callable[[], None], on_revoked: Callable[[], None]
    ) -> RedisBus:
        """Make the bus; `RedisBus` explains the arguments."""
        return RedisBus(self._url, receive=receive, on_reconnected=on_reconnected, on_revoked=on_revoked)

    async def close(self) -> None:
        """Close the connections of the limiter and of tickets and presence."""
        await self.limiter.close()
        await self._redis.close()
