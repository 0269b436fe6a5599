"""What the inner rooms need from the world, as Protocols with their guarantees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, Protocol

from orbital.errors import OrbitalError
from orbital.model import (
    Access,
    Account,
    AnyDraft,
    Appended,
    Event,
    GroupId,
    Head,
    Page,
    Revocation,
    Standing,
    ThreadId,
    UserId,
)

Json = dict[str, Any]
"""An answer of the protocol's section 1, ready to be written as JSON."""


class Clock(Protocol):
    """The time, in milliseconds since the epoch (wall) and in seconds that never step back (steady)."""

    def wall_ms(self) -> int:
        """Return the wall clock's milliseconds."""
        ...

    def steady_s(self) -> float:
        """Return seconds from an arbitrary start."""
        ...


class Store(Protocol):
    """
    The log and the rows that go with it.

    What a method that writes has returned is durable. Reads see all that was committed before they began.
    Every read for a user checks, in its own transaction, that the user may: NotFound, or Forbidden.
    """

    # Chapter: the log

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """
        Decide, number, seal and store drafts, in order, in one transaction.

        One outcome a draft, in the same order. A refused draft changes nothing and does not disturb the others. The
        draft with index i gets the stamp `first_stamp_ms + i`, or one more than its group's last if that is higher; a
        store that several servers share may begin later, at its own clock.

        Raises:
            Unavailable: If the database is away; nothing was stored.
        """
        ...

    async def read(self, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read the events that follow `after`, oldest first, whoever asks.

        Raises:
            PositionLost: If `after` is below the floor of the group.
            NotFound: If there is no such group.
        """
        ...

    async def heads(self, group_ids: Collection[GroupId]) -> dict[GroupId, Head]:
        """Return the heads of those groups that exist."""
        ...

    async def last_stamp_ms(self) -> int:
        """Return the highest `server_timestamp` ever given, 0 when none was."""
        ...

    async def settled_ms(self) -> int | None:
        """Return a stamp below that of every event committed from now on; None when this server alone appends."""
        ...

    async def standings(self, user: int, group_ids: Collection[GroupId]) -> dict[GroupId, Standing]:
        """Return access and head, as of one moment, for those groups that exist."""
        ...

    async def hash_at(self, group_id: GroupId, seq: int) -> str | None:
        """Return the hash of the frame with that number, or None when it can no longer be told."""
        ...

    async def stamp_after(self, group_id: GroupId, seq: int) -> int | None:
        """Return the stamp of the first event after a number, or None when there is none."""
        ...

    async def prune(self, *, before_ms: int, limit: int) -> int:
        """Drop up to `limit` events with stamps below `before_ms`, oldest first; return how many went."""
        ...

    async def prune_keys(self, *, before_ms: int, limit: int) -> int:
        """Drop up to `limit` idempotency keys first used before `before_ms`; return how many went."""
        ...

    # Chapter: accounts

    async def add_account(
        self, *, user_id: UserId, username: str, public_key: bytes, password_hash: str, at_ms: int
    ) -> Account:
        """
        Add a user who signs up.

        Raises:
            UsernameTaken: If another sign-up has the name, in whatever case.
        """
        ...

    async def account(self, username: str) -> Account | None:
        """Return the user who signed up with that name, in whatever case."""
        ...

    async def enter_user(self, *, user_id: UserId, username: str, at_ms: int) -> int:
        """Return the row number of a token's user; one not known yet is entered with that name."""
        ...

    async def find_user(self, user_id: UserId) -> Account | None:
        """Return a user by the public id."""
        ...

    async def revoke(self, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float) -> None:
        """Note a revocation; it may be forgotten after `until_s`."""
        ...

    async def revocations(self, *, after: int) -> list[Revocation]:
        """Return the revocations with a number above `after`, in order."""
        ...

    # Chapter: groups, threads, messages: each returns the protocol's own answer

    async def groups_of(self, user: int, *, now_ms: int) -> Json:
        """Answer `GET /api/groups`."""
        ...

    async def members(self, user: int, group_id: GroupId) -> Json:
        """Answer `GET /api/groups/{group_id}/members`."""
        ...

    async def access(self, user: int, group_id: GroupId) -> Access:
        """Tell what a user may do with a group."""
        ...

    async def replace_code(self, user: int, group_id: GroupId, *, invite_code: str, expires_ms: int) -> None:
        """
        Give a group a new invite code.

        Raises:
            Forbidden: If the user did not create the group.
            Conflict: If another group has that code.
        """
        ...

    async def thread_group(self, thread_id: ThreadId) -> GroupId | None:
        """Return the group that a thread is in."""
        ...

    async def threads(self, user: int, group_id: GroupId, *, limit: int, offset: int, newest_first: bool) -> Json:
        """Answer `GET /api/groups/{group_id}/threads`."""
        ...

    async def thread(self, user: int, thread_id: ThreadId, *, now_ms: int) -> Json:
        """Answer `GET /api/threads/{thread_id}`."""
        ...

    async def replies(self, user: int, thread_id: ThreadId, *, limit: int, offset: int) -> Json:
        """Answer `GET /api/threads/{thread_id}/replies`."""
        ...

    async def messages(
        self, user: int, *, since_ms: int, limit: int, group_id: GroupId | None
    ) -> tuple[list[Event], bool]:
        """Return messages of a user's groups with stamps above `since_ms`, oldest first, and whether more follow."""
        ...

    async def events(self, user: int, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read a group's events for one of its members.

        Raises:
            PositionLost: If `after` is below the floor of the group.
        """
        ...

    # Chapter: running

    async def ready(self) -> bool:
        """Tell whether the database answers."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        ...


class Bus(Protocol):
    """
    Rumours between servers: what it carries may be lost, repeated or reordered, and nothing is lost by that.

    A server follows a group while somebody there listens to it.
    """

    async def publish(self, group_id: GroupId, payload: bytes) -> None:
        """Send to every other server that follows the group; returns without waiting for them."""
        ...

    async def follow(self, group_id: GroupId) -> None:
        """Hear a group; returns when what is published from now on will be heard."""
        ...

    async def unfollow(self, group_id: GroupId) -> None:
        """Hear it no longer."""
        ...

    async def ready(self) -> bool:
        """Tell whether other servers can be reached."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


BusReceiver = Callable[[GroupId, bytes], None]
"""Called on the loop with what another server published."""


class Limiter(Protocol):
    """Counts attempts in moving windows; over several servers, together."""

    async def hit(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one attempt; return None when it is within the limit, else the seconds until one would be."""
        ...

    async def peek(self, name: str, key: str, *, limit: int, window_s: int) -> float | None:
        """Tell what `hit` would, without counting."""
        ...


class Blobs(Protocol):
    """Bytes by name: media chunks and whole media."""

    async def put(self, name: str, data: bytes | AsyncIterator[bytes]) -> int:
        """Store a blob whole, replacing one of that name, or not at all; return its size in bytes."""
        ...

    async def size(self, name: str) -> int | None:
        """Return a blob's size in bytes, or None when there is none."""
        ...

    def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """Read the bytes from `start` up to but not `end`."""
        ...

    async def delete(self, names: Collection[str]) -> None:
        """Remove blobs; those that are not there do not matter."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Return the names that begin so."""
        ...
