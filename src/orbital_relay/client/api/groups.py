"""Requests about groups and their members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from orbital_relay.client import responses
from orbital_relay.client.api.bodies import key_or_new, segment
from orbital_relay.client.http import Http


class GroupRequests(Http):
    """Groups: make, join, list; members, invite codes, quota and presence."""

    async def create_group(
        self, encrypted_name: str, encrypted_group_key: str, *, idempotency_key: str | None = None
    ) -> responses.GroupCreated:
        """
        Make a group; the caller is its first member.

        Args:
            encrypted_name: Base64.
            encrypted_group_key: The caller's copy of the group's key, base64.
            idempotency_key: The same key for every try; a new one when None.
        """
        body = {"encrypted_name": encrypted_name, "encrypted_group_key": encrypted_group_key}
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/api/groups", responses.GroupCreated, body=body, key=key)

    async def join_group(
        self, invite_code: str, encrypted_group_key: str, *, idempotency_key: str | None = None
    ) -> responses.GroupJoined:
        """
        Join the group that the code belongs to.

        Raises:
            ApiError: With code `ALREADY_MEMBER` and `details["group_id"]` when the caller is in it.
        """
        body = {"invite_code": invite_code, "encrypted_group_key": encrypted_group_key}
        key = key_or_new(idempotency_key)
        return await self._call("POST", "/api/groups/join", responses.GroupJoined, body=body, key=key)

    async def groups(self) -> list[responses.Group]:
        """List all of the caller's groups, however many pages they take."""
        return [group async for group in self.iter_groups()]

    async def groups_page(self, *, limit: int | None = None, offset: int | None = None) -> responses.Groups:
        """Read a page of the caller's groups."""
        return await self._call("GET", "/api/groups", responses.Groups, query={"limit": limit, "offset": offset})

    async def iter_groups(self) -> AsyncIterator[responses.Group]:
        """Iterate over the caller's groups, a page at a time."""
        async for page in self._pages("/api/groups", responses.Groups, lambda page: len(page.groups)):
            for group in page.groups:
                yield group

    async def members(self, group_id: str) -> list[responses.Member]:
        """List all members of a group, however many pages they take."""
        return [member async for member in self.iter_members(group_id)]

    async def members_page(
        self, group_id: str, *, limit: int | None = None, offset: int | None = None
    ) -> responses.Members:
        """Read a page of a group's members."""
        query = {"limit": limit, "offset": offset}
        return await self._call("GET", f"/api/groups/{segment(group_id)}/members", responses.Members, query=query)

    async def iter_members(self, group_id: str) -> AsyncIterator[responses.Member]:
        """Iterate over a group's members, a page at a time."""
        path = f"/api/groups/{segment(group_id)}/members"
        async for page in self._pages(path, responses.Members, lambda page: len(page.members)):
            for member in page.members:
                yield member

    async def set_role(self, group_id: str, user_id: str, role: Literal["admin", "member"]) -> responses.RoleSet:
        """Make a member an administrator of the group, or a plain member again, as its founder."""
        path = f"/api/groups/{segment(group_id)}/members/{segment(user_id)}/role"
        return await self._call("PUT", path, responses.RoleSet, body={"role": role})

    async def remove_member(self, group_id: str, user_id: str) -> None:
        """Remove a member, as the group's founder or an administrator of it; or leave, as that member."""
        await self._act("DELETE", f"/api/groups/{segment(group_id)}/members/{segment(user_id)}")

    async def new_invite_code(
        self, group_id: str, *, single_use: bool = False, hours: int | None = None
    ) -> responses.InviteCode:
        """
        Replace the group's invite code, as its founder or an administrator of it.

        Args:
            group_id: The group.
            single_use: Whether the code is valid for one join only.
            hours: How long it is valid; None for as long as the server allows.
        """
        path, query = f"/api/groups/{segment(group_id)}/invite-codes", {"single_use": "true" if single_use else None}
        return await self._call("POST", path, responses.InviteCode, query={**query, "hours": hours})

    async def member_state(self, group_id: str) -> responses.MemberState:
        """Read what the caller's devices share about a group; `encrypted_state` is None before the first was stored."""
        return await self._call("GET", f"/api/groups/{segment(group_id)}/state", responses.MemberState)

    async def put_member_state(self, group_id: str, encrypted_state: str) -> responses.MemberState:
        """
        Replace what the caller's devices share about a group; the others get `DeviceStateChanged`.

        Args:
            group_id: The group.
            encrypted_state: Base64 of at most 16 KiB. The last one that is written stays.
        """
        path, body = f"/api/groups/{segment(group_id)}/state", {"encrypted_state": encrypted_state}
        return await self._call("PUT", path, responses.MemberState, body=body)

    async def quota(self, group_id: str) -> responses.Quota:
        """Read how much of its room for media a group uses."""
        return await self._call("GET", f"/api/groups/{segment(group_id)}/quota", responses.Quota)

    async def presence(self, group_id: str) -> list[responses.Online]:
        """List which members of a group are connected, to any server of the cluster."""
        path = f"/api/groups/{segment(group_id)}/presence"
        pages = self._pages(path, responses.Presence, lambda page: len(page.online))
        return [each async for page in pages for each in page.online]
