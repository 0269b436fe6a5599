"""The port to what the export of an account reads, page by page."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from orbital_relay.api.exports import ExportedAccount, ExportedGroup, ExportedSubscription, ExportPart
from orbital_relay.model import GroupId

ExportCursor = tuple[int, int]
"""Where a part of an export was read up to; only the store knows what it means."""

EXPORT_START: Final[ExportCursor] = (0, 0)
"""Before the first entry."""


class ExportPage(msgspec.Struct, frozen=True):
    """
    Some entries of one part.

    Attributes:
        entries: In order; perhaps none, also before the end.
        after: What the next page is read from; None at the end.
    """

    entries: list[Any]
    after: ExportCursor | None


class ExportStore(Protocol):
    """
    What a user can read, in pages of 1 MiB or one entry.

    An entry that is there all the time is in one page, whatever is added and deleted between two of them.
    """

    async def export_account(self, user: int) -> ExportedAccount | None:
        """Return the account; None when there is none."""
        ...

    async def export_subscriptions(self, user: int) -> list[ExportedSubscription]:
        """Return the push subscriptions of a user, without secrets."""
        ...

    async def export_group(self, user: int, *, after: int) -> tuple[int, ExportedGroup] | None:
        """Return the next group of a user, with its place; None when no other group is behind `after`."""
        ...

    async def export_page(
        self, user: int, part: ExportPart, group_id: GroupId, *, after: ExportCursor, now_ms: int
    ) -> ExportPage:
        """
        Return a page of a part of a group.

        Raises:
            NotFound: If there is no such group.
            Forbidden: If the user is not in it.
        """
        ...
