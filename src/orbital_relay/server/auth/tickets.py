"""One-time tickets: one handshake within TICKET_S, in place of a token in the address."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from orbital_relay.model import Principal
from orbital_relay.ports import Clock

TICKET_S: Final = 30
"""How long a ticket is good for."""
MAX_TICKETS: Final = 20_000
"""Tickets waiting at one time; at the request limit of 600 a minute it takes 67 users to drop each other's."""

WHOSE_CHARS: Final = 44
"""Characters of `whose`: 33 bytes, of which 22 are a user id's, and none is of the times that follow it."""


def whose(token: str) -> str:
    """
    Return what the payloads of all tokens of a user begin with, as long as the id comes first, as it does in ours.

    A load balancer reads it in a token, whichever way that comes, and in front of a ticket's secret, and so keeps a
    user at one server, without a key and beyond the life of a token.
    """
    return token.split(".")[1][:WHOSE_CHARS]


class Tickets(Protocol):
    """Where tickets wait for their one use; several servers may share it."""

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> str:
        """Keep it for so many seconds; return what to give out: this one, or one that begins with it."""
        ...

    async def take(self, ticket: str) -> Principal | None:
        """Return who it is for, and forget it in the same step; None when it is not there any more, or never was."""
        ...


class LocalTickets:
    """
    Tickets in this process' memory, at most `MAX_TICKETS`: over that the oldest goes.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def put_now(self, ticket: str, principal: Principal, *, life_s: int) -> None:
        """Store a ticket, and delete expired ones."""
        now_s = self._clock.steady_s()
        # All live equally long, so the first is the oldest.
        while self._waiting and (len(self._waiting) >= MAX_TICKETS or next(iter(self._waiting.values()))[1] <= now_s):
            self._waiting.popitem(last=False)
        self._waiting[ticket] = (principal, now_s + life_s)

    def take_now(self, ticket: str) -> Principal | None:
        """Return who the ticket is for, once."""
        found = self._waiting.pop(ticket, None)
        if found is None or found[1] <= self._clock.steady_s():
            return None
        return found[0]

    async def put(self, ticket: str, principal: Principal, *, life_s: int) -> str:
        """Do as `put_now`."""
        self.put_now(ticket, principal, life_s=life_s)
        return ticket

    async def take(self, ticket: str) -> Principal | None:
        """Do as `take_now`."""
        return self.take_now(ticket)


_: type[Tickets] = LocalTickets
