"""One-time tickets of a cluster, kept in Redis."""

from __future__ import annotations

import logging
import secrets
from hashlib import sha256

import msgspec

from orbital_relay.errors import Unavailable
from orbital_relay.model import Principal
from orbital_relay.ports import Clock
from orbital_relay.server.auth.tickets import LocalTickets, Tickets
from orbital_relay.server.cluster.redis_client import UNREACHABLE, SharedRedis

log = logging.getLogger("orbital.shared")

_decode_principal = msgspec.json.Decoder(Principal).decode


class SharedTickets:
    """
    Tickets that any server of the cluster redeems, once; Redis sees only their hashes.

    While Redis is unreachable a ticket waits in the memory of the server that gave it: a load balancer that keeps a
    user at one server brings it back there. No ticket is in both places.

    Args:
        redis: The cluster's.
        clock: The time.
    """

    def __init__(self, redis: SharedRedis, clock: Clock) -> None:
        self._redis = redis
        self._here = LocalTickets(clock)

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> str:
        """Keep a ticket for so many seconds; return it, or what to give out in its place."""
        try:
            async with self._redis.answering() as client:
                await client.set(_ticket_key(ticket), msgspec.json.encode(principal), ex=life_s)
            return ticket
        except UNREACHABLE as exc:
            log.warning(
                "Redis cannot be reached; a ticket is kept by this server alone",
                extra={"error": str(exc) or type(exc).__name__},
            )
            # Redis may have taken this one all the same, and then it would be good twice.
            another = f"{ticket}{secrets.token_urlsafe(8)}"
            self._here.put_now(another, principal, life_s=life_s)
            return another

    async def take(self, ticket: str) -> Principal | None:
        """
        Return who the ticket is for, once.

        Raises:
            Unavailable: If Redis is unreachable and the ticket may be there.
        """
        found = self._here.take_now(ticket)
        if found is not None:
            return found
        try:
            async with self._redis.answering() as client:
                kept = await client.getdel(_ticket_key(ticket))
        except UNREACHABLE as exc:
            raise Unavailable("Tickets cannot be looked up right now. Ask for a new one.", retry_after_s=2) from exc
        return None if kept is None else _decode_principal(kept)


_tickets: type[Tickets] = SharedTickets


def _ticket_key(ticket: str) -> str:
    return f"orbital:ticket:{sha256(ticket.encode('utf-8', 'surrogateescape')).hexdigest()}"
