"""Requests of a server administrator: users, groups, invitations, storage, health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import segment
from orbital_relay.client.http import Http


class AdminApi(Http):
    """
    The administration of a server, as coroutines with typed answers. No answer has any content.

    A user is named by id or by name. All methods raise ApiError when the server refuses, with the code `FORBIDDEN` for
    a user who is not an administrator, and Unreachable when there is no answer of the server's.
    """

    # Users

    async def users(
        self, *, search: str | None = None, limit: int | None = None, offset: int | None = None
    ) -> responses.UserEntries:
        """Read a page of all users, in the order of their making; `search` is a part of the name, in any case."""
        query = {"search": search, "limit": limit, "offset": offset}
        return await self._call("GET", "/api/admin/users", responses.UserEntries, query=query)

    async def iter_users(self, *, search: str | None = None) -> AsyncIterator[responses.UserEntry]:
        """Iterate over all users, or those whose name has a part, a page at a time."""
        query = {"search": search}
        pages = self._pages("/api/admin/users", responses.UserEntries, lambda page: len(page.users), query=query)
        async for page in pages:
            for user in page.users:
                yield user

    async def user(self, user: str) -> responses.UserDetails:
        """Get a user with groups and sessions."""
        return await self._call("GET", f"/api/admin/users/{segment(user)}", responses.UserDetails)

    async def disable_user(self, user: str, *, reason: str = "") -> None:
        """Disable an account: its sessions end everywhere, and its user reads the reason at a login."""
        await self._act("POST", f"/api/admin/users/{segment(user)}/disable", body={"reason": reason})

    async def enable_user(self, user: str) -> None:
        """Enable an account again; sessions from before stay ended."""
        await self._act("POST", f"/api/admin/users/{segment(user)}/enable")

    async def set_user_role(self, user: str, role: Literal["admin", "user"]) -> None:
        """Make a user a server administrator, or a normal user again."""
        await self._act("PUT", f"/api/admin/users/{segment(user)}/role", body={"role": role})

    async def reset_password(self, user: str) -> responses.OneTimeCode:
        """Make a one-time code with which the user sets another password; it is shown this once."""
        path = f"/api/admin/users/{segment(user)}/password-reset"
        return await self._call("POST", path, responses.OneTimeCode)

    async def delete_user(self, user: str) -> None:
        """Delete an account; it cannot be undone."""
        await self._act("DELETE", f"/api/admin/users/{segment(user)}")

    # Groups

    async def groups(self, *, limit: int | None = None, offset: int | None = None) -> responses.GroupEntries:
        """Read a page of all groups; their names are encrypted."""
        query = {"limit": limit, "offset": offset}
        return await self._call("GET", "/api/admin/groups", responses.GroupEntries, query=query)

    async def iter_groups(self) -> AsyncIterator[responses.GroupEntry]:
        """Iterate over all groups, a page at a time."""
        async for page in self._pages("/api/admin/groups", responses.GroupEntries, lambda page: len(page.groups)):
            for group in page.groups:
                yield group

    async def group(self, group_id: str) -> responses.GroupDetails:
        """Get a group with its members."""
        return await self._call("GET", f"/api/admin/groups/{segment(group_id)}", responses.GroupDetails)

    async def delete_group(self, group_id: str) -> None:
        """Delete a group with its members, log, threads and media; it cannot be undone."""
        await self._act("DELETE", f"/api/admin/groups/{segment(group_id)}")

    # Invitations

    async def invitations(self) -> list[responses.InvitationRow]:
        """List all invitations, the oldest first, with who used them."""
        return (await self._call("GET", "/api/admin/invitations", responses.InvitationRows)).invitations

    async def invite(self, *, note: str = "", days: float = 7) -> responses.InvitationMade:
        """
        Make an invitation, with which one person creates one account; its code is shown this once.

        Args:
            note: Whom it is for, up to 200 characters.
            days: How long it is valid, up to 365.
        """
        body = {"note": note, "days": days}
        return await self._call("POST", "/api/admin/invitations", responses.InvitationMade, body=body)

    async def revoke_invitation(self, number: int) -> None:
        """Revoke an unused invitation."""
        await self._act("DELETE", f"/api/admin/invitations/{number}")

    # The server

    async def storage(self) -> responses.StorageReport:
        """Report what is stored, and how much room is left."""
        return await self._call("GET", "/api/admin/storage", responses.StorageReport)

    async def health(self) -> responses.HealthReport:
        """Report how the server that answers is."""
        return await self._call("GET", "/api/admin/health", responses.HealthReport)
