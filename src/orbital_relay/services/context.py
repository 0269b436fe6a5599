"""The context of the use cases, built by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec

from orbital_relay.api.groups import Online
from orbital_relay.model import AnyDraft, GroupId, SignedToken, UserId
from orbital_relay.ports import Appended, Clock, Store

Append: TypeAlias = Callable[[AnyDraft], asyncio.Future[Appended]]
"""Queues a draft before it returns; the future ends with what it came to, durably, or with its refusal."""


class Passwords(Protocol):
    """Slow password hashes, computed in threads off the event loop."""

    async def hash(self, password: str) -> str:
        """Return the hash to keep."""
        ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether the password matches the hash; for None it takes about as long and returns False."""
        ...


class Logins(Protocol):
    """What a user opened with a password: each has tokens, which end with it."""

    async def open(self, user_id: UserId, username: str, *, name: str = "") -> SignedToken:
        """Enter a login under a name of its client's, and make its first token."""
        ...

    async def end(self, user: int, login_id: str) -> bool:
        """End a login of a user, by row number; return False if the user has no such login."""
        ...

    async def end_all(self, user_id: UserId) -> None:
        """End every login and every token that a user has by now."""
        ...


class ServiceContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    The hands of the use cases. It holds no state of its own.

    Attributes:
        store: For reads, and for writes that append nothing.
        append: Queues a draft at once, before it returns: the order of calls is the order of the log. The future ends
            when the draft is durable, or with the OrbitalError that refused it.
        clock: The time.
        passwords: Hashes.
        logins: Opens and ends logins.
        online: Returns the users who are subscribed to a group now, in the order of arrival.
        state_changed: Notifies a member's connections, of every server, that its devices share a new state.
        envelope_bytes: Largest encrypted field, in bytes after decoding.
        invite_days: How long an invite code opens its group.
        most_groups: How many groups one user may look after; None sets no bound.
        most_members: How many members a group may have; None sets no bound.
    """

    store: Store
    append: Append
    clock: Clock
    passwords: Passwords
    logins: Logins
    online: Callable[[GroupId], Awaitable[list[Online]]]
    state_changed: Callable[[GroupId, UserId], None]
    envelope_bytes: int
    invite_days: float
    most_groups: int | None = None
    most_members: int | None = None
