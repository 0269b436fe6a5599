"""The Redis client of a cluster's servers: one Redis or a Redis Cluster, its timeout and errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError, ResponseError

log = logging.getLogger("orbital.shared")

ANSWER_S: Final = 1.0
"""Longest wait for Redis: a request that needs it continues without, or gets 503 with Retry-After."""

UNREACHABLE: Final = (RedisError, RedisClusterException, OSError)
"""What the library raises when Redis is unreachable, loads, or answers with an error; a timeout is an OSError."""


async def _is_clustered(single: Redis) -> bool:
    """
    Return whether a Redis is a node of a Cluster; also for a user whose access list leaves INFO out.

    Raises:
        RedisError, OSError: If it does not answer.
    """
    try:
        about: Mapping[str, object] = await single.info("cluster")
        return bool(about.get("cluster_enabled"))
    except NoPermissionError:
        # INFO is in the category @dangerous, which operators revoke.
        pass
    try:
        await single.execute_command("CLUSTER", "KEYSLOT", "orbital")  # type: ignore[no-untyped-call] # redis-py has no types here
    except NoPermissionError:
        log.warning("the Redis user may run neither INFO nor CLUSTER KEYSLOT; a single Redis is assumed")
        return False
    except ResponseError:
        # "This instance has cluster support disabled"
        return False
    return True


class SharedRedis:
    """
    A client of the cluster's Redis, made on first use: whether it is a Cluster is known once Redis answers.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | RedisCluster | None = None
        self._making: asyncio.Task[Redis | RedisCluster] | None = None

    @asynccontextmanager
    async def answering(self, wait_s: float = ANSWER_S) -> AsyncIterator[Redis | RedisCluster]:
        """
        Return the client for so many seconds: the library retries automatically, each time with its own deadline.

        Raises:
            RedisError, OSError: If Redis does not answer; a timeout is an OSError.
        """
        async with asyncio.timeout(wait_s):
            yield await self.client()

    async def client(self) -> Redis | RedisCluster:
        """
        Return the client.

        Raises:
            RedisError, OSError: If Redis has not answered yet.
        """
        if self._client is not None:
            return self._client
        if self._making is None:
            # One try for all callers, and a caller that is cancelled does not cancel it for the others.
            self._making = asyncio.create_task(self._make(), name="redis")
            self._making.add_done_callback(self._made)
        return await asyncio.shield(self._making)

    async def _make(self) -> Redis | RedisCluster:
        single: Redis = Redis.from_url(
            self._url,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1),
            client_name="orbital",
        )
        try:
            clustered = await _is_clustered(single)
        except BaseException:
            await single.aclose()
            raise
        if not clustered:
            return single
        await single.aclose()
        return RedisCluster.from_url(self._url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)

    def _made(self, making: asyncio.Task[Redis | RedisCluster]) -> None:
        self._making = None
        if not making.cancelled() and making.exception() is None:
            self._client = making.result()

    async def clustered(self) -> bool:
        """
        Return whether it is a Cluster.

        Raises:
            RedisError, OSError: If Redis has not answered yet.
        """
        return isinstance(await self.client(), RedisCluster)

    async def close(self) -> None:
        """Close the connections."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        if self._client is not None:
            with suppress(*UNREACHABLE):
                await self._client.aclose()
