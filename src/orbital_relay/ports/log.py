"""The port to the log: append, read, resume and trim numbered events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from orbital_relay.api.receipts import Receipt
from orbital_relay.errors import OrbitalError
from orbital_relay.model import AnyDraft, Event, GroupId, Head, LogRange, MembershipAtHead, Page, ResumePoint


class Appended(msgspec.Struct, frozen=True):
    """
    What a draft came to.

    Attributes:
        receipt: The body that answers it; None for a draft whose answer has no body.
        event: The event that it became; None when its idempotency key was used before, for the same draft.
    """

    receipt: Receipt | None
    event: Event | None


class Log(Protocol):
    """
    The log of all groups.

    What a method that writes has returned is durable. Reads see all that was committed before they began.
    """

    async def append(self, drafts: Sequence[AnyDraft], *, first_stamp_ms: int) -> list[Appended | OrbitalError]:
        """
        Decide, number, seal and store drafts, in order, in one transaction.

        One outcome a draft, in the same order. A refused draft changes nothing and does not disturb the others. The
        draft with index i gets the stamp `first_stamp_ms + i`, or one more than its group's last if that is higher; a
        store that several servers share may begin later, at its own clock.

        Raises:
            Unavailable: If the database cannot be reached. Nothing was stored, or, where a commit's answer was lost,
                all of it.
        """
        ...

    async def read(self, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read the events that follow `after`, oldest first, without checking the caller.

        The page is gapless, and ends early when it is full of large ones; it is empty only when there are none.

        Raises:
            PositionLost: If `after` is below the floor of the group.
            NotFound: If there is no such group.
        """
        ...

    async def read_many(self, ranges: Mapping[GroupId, LogRange]) -> dict[GroupId, Page]:
        """
        Read a page of each group, all as of one moment, without checking the caller.

        A page is gapless, and has one event at least if any follow; a page's limit in bytes is divided among the
        groups, so a page may end before its limit. Groups that do not exist, and positions below the floor, are left
        out. The number of statements does not depend on the number of groups.
        """
        ...

    async def heads(self, group_ids: Collection[GroupId]) -> dict[GroupId, Head]:
        """Return the heads of those groups that exist."""
        ...

    async def last_stamp_ms(self) -> int:
        """Return the highest `server_timestamp` ever given, 0 when none was."""
        ...

    async def low_watermark_ms(self) -> int | None:
        """Return a stamp below that of every event committed from now on; None when this server alone appends."""
        ...

    async def memberships(self, user: int, group_ids: Collection[GroupId]) -> dict[GroupId, MembershipAtHead]:
        """Return access and head, as of one moment, for those groups that exist."""
        ...

    async def resume_points(self, positions: Mapping[GroupId, int]) -> dict[GroupId, ResumePoint]:
        """
        Return what the log holds at a position of each group, all as of one moment.

        Groups that do not exist, and positions below the floor or beyond the head, are left out. The number of
        statements does not depend on the number of groups.
        """
        ...


class LogRetention(Protocol):
    """What the log keeps. A group's log loses only its beginning."""

    async def prune(self, *, before_ms: int, limit: int, keys_before_ms: int | None = None) -> int:
        """
        Drop up to `limit` events with stamps below `before_ms`, oldest first; return how many left the log.

        `new_keys` events with stamps from `keys_before_ms` on stay readable by `GroupStore.key_messages`; None keeps
        none.
        """
        ...
