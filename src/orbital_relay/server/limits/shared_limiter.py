"""Rate limits shared by a cluster: counters in Redis (adapter of the port Limiter)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisClusterStorage, RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from orbital_relay.ports import Clock, Limiter
from orbital_relay.server.limits.limiter import LocalLimiter

log = logging.getLogger("orbital.limits")

ANSWER_S: Final = 1.0
"""Longest wait for a storage elsewhere."""


class SharedLimiter:
    """
    Counts in a storage that several servers share, by the library `limits` and its moving window.

    While the storage is unreachable each server counts for itself: a limit may then take effect later, but no client is
    refused wrongly.

    Args:
        storage: Where it counts, or what finds it out when it is first needed; `SharedLimiter.of` does for Redis.
        clock: The time. The storage stamps attempts by its `wall_ms`.
        away: What it raises when it is unreachable, besides the library's own error.
        answer_s: Longest wait for it, whatever the library tries again automatically.
    """

    AWAY_S: Final = 5
    """How long a storage that failed is left alone, so that not every request waits for it."""

    def __init__(
        self,
        storage: Storage | Callable[[], Awaitable[Storage]],
        *,
        clock: Clock,
        away: tuple[type[Exception], ...] = (),
        answer_s: float = ANSWER_S,
    ) -> None:
        self._find: Callable[[], Awaitable[Storage]] | None = None
        self._strategy: MovingWindowRateLimiter | None = None
        if isinstance(storage, Storage):
            self._strategy = MovingWindowRateLimiter(storage)
        else:
            self._find = storage
        self._away: tuple[type[Exception], ...] = (StorageError, TimeoutError, *away)
        self._answer_s = answer_s
        self._clock = clock
        self._alone = LocalLimiter(clock)
        self._away_until_s = 0.0

    @classmethod
    def of(
        cls, redis_url: str, *, clock: Clock, clustered: Callable[[], Awaitable[bool]] | None = None
    ) -> SharedLimiter:
        """
        Count in Redis, with keys that begin `orbital:limit`; connects when first asked.

        Args:
            redis_url: `redis://`, `rediss://` or `unix://`.
            clock: The time.
            clustered: Returns whether it is a Redis Cluster, once it answers; a single Redis when None.
        """
        from redis.exceptions import RedisClusterException, RedisError  # noqa: PLC0415 - redis is an extra

        even = _EvenClock(clock)

        async def find() -> Storage:
            return _on_redis(redis_url, clock=even, clustered=clustered is not None and await clustered())

        # A Cluster that is unreachable as a whole raises an error that is not a RedisError.
        return cls(find, clock=even, away=(RedisError, RedisClusterException, OSError))

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; what is refused does not count."""
        if self._clock.steady_s() < self._away_until_s:
            return await self._alone.hit(name, key, limit=limit, window_s=window_s)
        item = _item(limit, window_s)
        try:
            async with asyncio.timeout(self._answer_s):
                strategy = self._strategy or await self._found()
                if await strategy.hit(item, name, key):
                    return None
                return await self._wait_s(strategy, item, name, key)
        except self._away as exc:
            self._note_unreachable(exc)
            return await self._alone.hit(name, key, limit=limit, window_s=window_s)

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Return what `hit` would return, without counting."""
        if self._clock.steady_s() < self._away_until_s:
            return await self._alone.peek(name, key, limit=limit, window_s=window_s)
        item = _item(limit, window_s)
        try:
            async with asyncio.timeout(self._answer_s):
                strategy = self._strategy or await self._found()
                if await strategy.test(item, name, key):
                    return None
                return await self._wait_s(strategy, item, name, key)
        except self._away as exc:
            self._note_unreachable(exc)
            return await self._alone.peek(name, key, limit=limit, window_s=window_s)

    async def close(self) -> None:
        """Close the connections."""
        storage = None if self._strategy is None else self._strategy.storage
        if isinstance(storage, RedisStorage) and isinstance(storage.bridge, RedispyBridge):
            await storage.bridge.storage.aclose()

    async def _wait_s(
        self, strategy: MovingWindowRateLimiter, item: RateLimitItemPerSecond, name: str, key: str
    ) -> float:
        """Return the seconds until the oldest attempt leaves the window; it may just have."""
        stats = await strategy.get_window_stats(item, name, key)
        return max(0.001, stats.reset_time - self._clock.wall_ms() / 1000)

    async def _found(self) -> MovingWindowRateLimiter:
        """Find the storage; of many who look at once, one's is kept."""
        if self._find is None:
            raise AssertionError("a limiter has a storage, or what finds it")
        found = await self._find()
        if self._strategy is None:
            self._strategy = MovingWindowRateLimiter(found)
        return self._strategy

    def _note_unreachable(self, exc: Exception) -> None:
        self._away_until_s = self._clock.steady_s() + self.AWAY_S
        reason = str(getattr(exc, "storage_error", exc))
        log.warning("limits are counted by this server alone", extra={"reason": reason})


class _EvenClock:
    """
    The wall clock as it was once, and the steady clock since: a wall clock that leaps neither ends a window early nor
    prolongs it. Servers share windows by it, so their clocks should agree when they start.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_ms = clock.wall_ms() - clock.steady_s() * 1000

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch, never stepping back."""
        return int(self._start_ms + self._clock.steady_s() * 1000)

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start."""
        return self._clock.steady_s()


class _SingleRedis(RedisStorage):
    """
    One Redis. Attempts are stamped by a clock of ours, where the library's storages read the system's wall clock.

    The scripts are the library's own (`limits/resources/redis/lua_scripts`).
    """

    STORAGE_SCHEME: list[str] = []  # noqa: RUF012 - the library declares it so

    clock: Clock

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` attempts if that many are left of `limit` in the last `expiry` seconds."""
        bridge, stamp_s = self._scripts(), self.clock.wall_ms() / 1000
        key = bridge.prefixed_key(key)
        return bool(await bridge.lua_acquire_moving_window([key], [stamp_s, limit, expiry, amount]))

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest attempt of the last `expiry` seconds was, and how many there were."""
        bridge, stamp_s = self._scripts(), self.clock.wall_ms() / 1000
        found = await bridge.lua_moving_window([bridge.prefixed_key(key)], [stamp_s - expiry, limit])
        return (float(found[0]), int(found[1])) if found else (stamp_s, 0)

    def _scripts(self) -> RedispyBridge:
        if not isinstance(self.bridge, RedispyBridge):
            raise AssertionError("_on_redis asks for redis-py")  # noqa: TRY004 - a bug, not a caller's type
        return self.bridge


class _RedisCluster(_SingleRedis, RedisClusterStorage):
    """A Redis Cluster."""

    STORAGE_SCHEME: list[str] = []  # noqa: RUF012 - the library declares it so


def _on_redis(redis_url: str, *, clock: Clock, clustered: bool) -> Storage:
    """Make the library's storage; it connects when first asked."""
    from redis.asyncio.connection import SSLConnection, parse_url  # noqa: PLC0415 - redis is an extra

    url, options = redis_url, dict[str, Any]()
    if clustered:
        # The library's address of a Cluster knows neither TLS nor options, and a Cluster no numbered databases.
        given = parse_url(redis_url)
        options = {name: value for name, value in given.items() if name in {"username", "password"} or "ssl" in name}
        options["ssl"] = given.get("connection_class") is SSLConnection
        url = f"redis+cluster://{urlsplit(redis_url).netloc}"
    elif url.startswith("unix://"):
        # The library spells a Unix socket so.
        url = url.replace("unix://", "redis+unix://", 1)
    storage = (_RedisCluster if clustered else _SingleRedis)(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="orbital:limit",
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        **options,
    )
    storage.clock = clock
    return storage


@lru_cache(maxsize=64)
def _item(limit: int, window_s: int) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(limit, window_s)


_: type[Limiter] = SharedLimiter
