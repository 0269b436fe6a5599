"""The port to groups, as their members see them."""

from __future__ import annotations

from typing import Protocol

from orbital_relay.api import groups as api
from orbital_relay.api.keys import RosterRecords
from orbital_relay.model import Access, Event, GroupId, Page


class GroupStore(Protocol):
    """
    Groups, members and what was posted, for a user.

    Each read checks, in its own transaction, that the user may: NotFound, or Forbidden.
    A page of a list ends at `limit`, or early when its entries fill 8 MiB; `has_more` says whether entries follow.
    """

    async def groups_of(self, user: int, *, now_ms: int, limit: int, offset: int = 0) -> api.Groups:
        """Answer `GET /api/groups`."""
        ...

    async def members(self, user: int, group_id: GroupId, *, limit: int, offset: int = 0) -> api.Members:
        """Answer `GET /api/groups/{group_id}/members`."""
        ...

    async def access(self, user: int, group_id: GroupId) -> Access:
        """Return what a user may do with a group."""
        ...

    async def replace_code(
        self, user: int, group_id: GroupId, *, invite_code: str, expires_ms: int, single_use: bool = False
    ) -> None:
        """
        Give a group a new invite code; with `single_use` the first who joins by it uses it up.

        Raises:
            Forbidden: If the user is neither its founder nor an administrator of it.
            Conflict: If another group has that code.
        """
        ...

    async def messages(
        self, user: int, *, since_ms: int, limit: int, group_id: GroupId | None
    ) -> tuple[list[Event], bool]:
        """
        Return messages of a user's groups with stamps above `since_ms`, oldest first, and whether more follow.

        There are up to `limit`: more where one stamp is several messages', fewer when large ones fill the page.
        """
        ...

    async def key_messages(self, user: int, group_id: GroupId, *, after: int, limit: int) -> tuple[list[Event], bool]:
        """
        Return the group's `new_keys` events after a number, oldest first, and whether more follow.

        They are kept for 30 days at least, also when the log around them is not.
        """
        ...

    async def records(self, user: int, group_id: GroupId, *, limit: int, offset: int) -> RosterRecords:
        """Answer `GET /api/groups/{group_id}/records`, in the order of the log."""
        ...

    async def events(self, user: int, group_id: GroupId, *, after: int, limit: int) -> Page:
        """
        Read a group's events for one of its members, as `read` does.

        Raises:
            PositionLost: If `after` is below the floor of the group.
        """
        ...
