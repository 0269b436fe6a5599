"""The port to users and groups as the operator sees them: who there is and what they store, never content."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from orbital_relay.model import GroupId, UserId


class Storage(msgspec.Struct, frozen=True):
    """Media that are kept, uploads in progress included."""

    media: int = 0
    media_bytes: int = 0


class Census(msgspec.Struct, frozen=True):
    """How much a database stores, of all users and groups."""

    users: int
    groups: int
    events: int


class UserSummary(msgspec.Struct, frozen=True, kw_only=True):
    """
    A user without content.

    Attributes:
        key: The row number.
        user_id: The public id.
        username: The name.
        outside: Whether the user came with a token of another service, and so has no password.
        created_ms: When the account was made.
        seen_ms: The hour in which the user was last here; None for never.
        disabled_ms: When the account was disabled; None while it is not.
        disabled_reason: What the operator wrote for its user.
        erase_ms: When its erasure was asked for; None while nobody did.
        groups: How many groups the user is in.
        stored: What the user uploaded.
        admin: Whether the user is a server administrator.
        logins: How many logins have a token that has not ended.
    """

    key: int
    user_id: UserId
    username: str
    outside: bool
    created_ms: int
    seen_ms: int | None
    disabled_ms: int | None
    disabled_reason: str
    erase_ms: int | None
    groups: int
    stored: Storage
    admin: bool = False
    logins: int = 0


class GroupSummary(msgspec.Struct, frozen=True, kw_only=True):
    """
    A group without content: its name is encrypted.

    Attributes:
        key: The row number.
        group_id: The public id.
        creator: The name of the user who looks after it.
        created_ms: When it was made.
        last_ms: The stamp of its last event.
        last_seq: The number of its last event.
        members: How many there are.
        threads: How many there are.
        stored: Its media.
    """

    key: int
    group_id: GroupId
    creator: str
    created_ms: int
    last_ms: int
    last_seq: int
    members: int
    threads: int
    stored: Storage


class People(Protocol):
    """Who there is, and what each stores."""

    async def users(
        self, *, named: str | None = None, search: str = "", limit: int | None = None, offset: int = 0
    ) -> list[UserSummary]:
        """
        Return users that are not erased, in the order of their making.

        Args:
            named: Only the one with that name, in any case, or id.
            search: Only those whose name has this part, in any case.
            limit: Most of them; None for all.
            offset: How many to skip.
        """
        ...

    async def groups(
        self, *, group_id: str | None = None, member: int | None = None, limit: int | None = None, offset: int = 0
    ) -> list[GroupSummary]:
        """Return groups, the one with that id, or those of a user, in the order of their making."""
        ...

    async def group_members(self, group: int) -> list[tuple[str, str, int]]:
        """Return the members of a group: name, id and when each joined, in the order of joining."""
        ...

    async def is_new(self) -> bool:
        """Return whether there never was a user: then the next account is the administrator's."""
        ...

    async def is_admin(self, user: int) -> bool:
        """Return whether a user is now a server administrator and not disabled."""
        ...


class PeopleChanges(Protocol):
    """What an operator changes about accounts and groups; nothing here appends to the log."""

    async def set_password(self, user: int, password_hash: str) -> None:
        """Give an account another password."""
        ...

    async def rename(self, user: int, username: str) -> None:
        """
        Give an account another name.

        Raises:
            UsernameTaken: If another account has it, in whatever case.
        """
        ...

    async def disable(self, user: int, *, reason: str, at_ms: int) -> None:
        """Refuse an account's logins and tokens from now on; the caller revokes the tokens that are in use."""
        ...

    async def enable(self, user: int) -> None:
        """Accept an account's logins and new tokens again."""
        ...

    async def request_erasure(self, user: int, *, at_ms: int) -> None:
        """Disable an account and mark it for erasure."""
        ...

    async def request_deletion(self, group: int, *, at_ms: int) -> None:
        """Let nobody else join a group, and mark it for deletion."""
        ...

    async def set_admin(self, user: int, *, at_ms: int | None) -> None:
        """Grant a user the role of server administrator; None revokes it."""
        ...

    async def note_seen(self, users: Collection[int], *, at_ms: int) -> None:
        """Note when users were last here, 500 of them at most."""
        ...
