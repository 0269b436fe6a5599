"""Adapters of the port Limiter: counting in this process, or together with other servers in Redis."""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisClusterStorage, RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from orbital.core.window import Windows
from orbital.ports import Clock, Limiter

log = logging.getLogger("orbital.limits")


class LocalLimiter:
    """
    Counts in this process' memory, and so can answer without waiting; the counting is `core/window.py`.

    It forgets everything when the process ends: a restart opens the doors once more.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, int, float], Windows] = {}

    def hit_now(self, name: str, key: str, *, limit: int, window_s: float) -> float | None:
        """Do as `Limiter.hit`, without waiting."""
        return self._named(name, limit, window_s).hit(key, self._clock.steady_s())

    def peek_now(self, name: str, key: str, *, limit: int, window_s: float) -> float | None:
        """Do as `Limiter.peek`, without waiting."""
        return self._named(name, limit, window_s).peek(key, self._clock.steady_s())

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; what is refused does not count."""
        return self.hit_now(name, key, limit=limit, window_s=window_s)

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Tell what `hit` would, without counting."""
        return self.peek_now(name, key, limit=limit, window_s=window_s)

    def _named(self, name: str, limit: int, window_s: float) -> Windows:
        # The names are few and ours, so this never grows.
        windows = self._windows.get((name, limit, window_s))
        if windows is None:
            windows = self._windows[name, limit, window_s] = Windows(limit=limit, window_s=window_s)
        return windows


class SharedLimiter:
    """
    Counts in a storage that several servers share, by the library `limits` and its moving window.

    While the storage is away each server counts for itself: a limit may then be met later, never a door be shut.

    Args:
        storage: Where it counts; `SharedLimiter.of` makes the one on Redis.
        clock: The time.
        away: What it raises when it is away, besides the library's own error.
    """

    AWAY_S: Final = 5
    """How long a storage that failed is left alone, so that not every request waits for it."""

    def __init__(self, storage: Storage, *, clock: Clock, away: tuple[type[Exception], ...] = ()) -> None:
        self._storage = storage
        self._away: tuple[type[Exception], ...] = (StorageError, *away)
        self._strategy = MovingWindowRateLimiter(storage)
        self._clock = clock
        self._alone = LocalLimiter(clock)
        self._away_until_s = 0.0

    @classmethod
    def of(cls, redis_url: str, *, clock: Clock, timeout_s: float = 1, clustered: bool = False) -> SharedLimiter:
        """
        Count in Redis, with keys that begin `orbital:limit`; connects when first asked.

        Args:
            redis_url: `redis://`, `rediss://` or `unix://`.
            clock: The time.
            timeout_s: Longest wait for an answer.
            clustered: Whether it is a Redis Cluster.
        """
        # The library spells a Unix socket `redis+unix`, and a Cluster has no numbered databases.
        url = redis_url.replace("unix://", "redis+unix://", 1) if redis_url.startswith("unix://") else redis_url
        if clustered:
            parts = urlsplit(url)
            url = f"redis+cluster://{parts.netloc}"
        storage = (RedisClusterStorage if clustered else RedisStorage)(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="orbital:limit",
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        from redis.exceptions import RedisClusterException  # noqa: PLC0415 - redis is an extra

        # A Cluster that is away as a whole says so with an error that is none of redis' own kind.
        return cls(storage, clock=clock, away=(RedisClusterException,))

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; what is refused does not count."""
        if self._clock.steady_s() < self._away_until_s:
            return await self._alone.hit(name, key, limit=limit, window_s=window_s)
        item = _item(limit, window_s)
        try:
            if await self._strategy.hit(item, name, key):
                return None
            return await self._wait_s(item, name, key)
        except self._away as exc:
            self._note_away(exc)
            return await self._alone.hit(name, key, limit=limit, window_s=window_s)

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Tell what `hit` would, without counting."""
        if self._clock.steady_s() < self._away_until_s:
            return await self._alone.peek(name, key, limit=limit, window_s=window_s)
        item = _item(limit, window_s)
        try:
            if await self._strategy.test(item, name, key):
                return None
            return await self._wait_s(item, name, key)
        except self._away as exc:
            self._note_away(exc)
            return await self._alone.peek(name, key, limit=limit, window_s=window_s)

    async def close(self) -> None:
        """Let go of the connections."""
        if isinstance(self._storage, RedisStorage) and isinstance(self._storage.bridge, RedispyBridge):
            await self._storage.bridge.storage.aclose()

    async def _wait_s(self, item: RateLimitItemPerSecond, name: str, key: str) -> float:
        """Return the seconds until the oldest attempt leaves the window; it may just have."""
        stats = await self._strategy.get_window_stats(item, name, key)
        # The library stamps attempts with this clock, so it is the one to compare with.
        return max(0.001, stats.reset_time - time.time())

    def _note_away(self, exc: Exception) -> None:
        self._away_until_s = self._clock.steady_s() + self.AWAY_S
        reason = str(getattr(exc, "storage_error", exc))
        log.warning("limits are counted by this server alone", extra={"reason": reason})


@lru_cache(maxsize=64)
def _item(limit: int, window_s: int) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(limit, window_s)


_local: type[Limiter] = LocalLimiter
_shared: type[Limiter] = SharedLimiter
