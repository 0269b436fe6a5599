"""What the servers of a cluster keep in one Redis, each entry with an expiry: never the only copy of anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Final

import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from orbital.errors import Unavailable
from orbital.model import Principal
from orbital.ports import Clock
from orbital.server.auth import LocalTickets, Tickets

log = logging.getLogger("orbital.shared")

ANSWER_S: Final = 1.0
"""Longest wait for Redis: a request that needs it goes on without, or is told to come back."""

AWAY: Final = (RedisError, OSError)
"""What the library raises when Redis is away, loads, or answers with an error; a timeout is an OSError."""


class SharedRedis:
    """
    A client of the cluster's Redis, made on first use: only a Redis that answers tells whether it is a Cluster.

    It never waits longer than `ANSWER_S` for one command.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | RedisCluster | None = None
        self._making = asyncio.Lock()

    async def client(self) -> Redis | RedisCluster:
        """
        Return the client.

        Raises:
            RedisError, OSError: If Redis has not answered yet.
        """
        async with self._making:
            if self._client is None:
                single: Redis = Redis.from_url(
                    self._url,
                    socket_timeout=ANSWER_S,
                    socket_connect_timeout=ANSWER_S,
                    retry=Retry(NoBackoff(), 1),
                    client_name="orbital",
                )
                try:
                    about: Mapping[str, object] = await single.info("cluster")
                except BaseException:
                    await single.aclose()
                    raise
                if about.get("cluster_enabled"):
                    await single.aclose()
                    self._client = RedisCluster.from_url(
                        self._url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
                    )
                else:
                    self._client = single
            return self._client

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            with suppress(*AWAY):
                await self._client.aclose()


_decode_principal = msgspec.json.Decoder(Principal).decode


class SharedTickets:
    """
    Tickets that any server of the cluster redeems, once; Redis sees only their hashes.

    While Redis is away a ticket waits in the memory of the server that gave it: a load balancer that keeps a user at
    one server brings it back there. It is never in both places.

    Args:
        redis: The cluster's.
        clock: The time.
    """

    def __init__(self, redis: SharedRedis, clock: Clock) -> None:
        self._redis = redis
        self._here = LocalTickets(clock)

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> None:
        """Keep a ticket for so many seconds."""
        try:
            client = await self._redis.client()
            await client.set(_ticket_key(ticket), msgspec.json.encode(principal), ex=life_s)
        except AWAY as exc:
            log.warning("a ticket waits here alone", extra={"error": str(exc) or type(exc).__name__})
            self._here.put_now(ticket, principal, life_s=life_s)

    async def take(self, ticket: str) -> Principal | None:
        """
        Return who the ticket is for, once.

        Raises:
            Unavailable: If Redis is away and the ticket may be there.
        """
        found = self._here.take_now(ticket)
        if found is not None:
            return found
        try:
            client = await self._redis.client()
            kept = await client.getdel(_ticket_key(ticket))
        except AWAY as exc:
            raise Unavailable("Tickets cannot be looked up right now. Ask for a new one.", retry_after_s=2) from exc
        return None if kept is None else _decode_principal(kept)


_: type[Tickets] = SharedTickets


def _ticket_key(ticket: str) -> str:
    return f"orbital:ticket:{sha256(ticket.encode('utf-8', 'surrogateescape')).hexdigest()}"
