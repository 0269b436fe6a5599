"""Administration of users, groups and invitations, for the command line and server administrators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from orbital_relay import wire
from orbital_relay.api import admin as api
from orbital_relay.errors import Conflict, NotFound
from orbital_relay.model import UserId
from orbital_relay.ports import GroupSummary, Invitation, Store, UserSummary
from orbital_relay.services.invitations import digest_of, new_invitation
from orbital_relay.services.own_account import session

RESET_MS: Final = 24 * 3_600_000
"""How long a one-time code is valid: a day, long enough to pass it on to its user."""

MOST: Final = 500
"""Most entries of a list within an answer."""

EndAll = Callable[[UserId], Awaitable[None]]
"""Ends every login and every token of a user, on every server."""

_DAY_MS: Final = 86_400_000


async def find(store: Store, named: str) -> UserSummary:
    """
    Return the user with a name or an id.

    Raises:
        NotFound: If there is none.
    """
    found = await store.users(named=named)
    if not found:
        raise NotFound(f"There is no user {named} here. `orbital user list` shows all.")
    return found[0]


async def find_group(store: Store, group_id: str) -> GroupSummary:
    """
    Return a group by its id, in any case.

    Raises:
        NotFound: If there is none.
    """
    asked = wire.read_uuid(group_id)
    found = [] if asked is None else await store.groups(group_id=asked)
    if not found:
        raise NotFound(f"There is no group {group_id} here. `orbital group list` shows all.")
    return found[0]


async def disable(store: Store, end_all: EndAll, user: UserSummary, *, reason: str, at_ms: int) -> None:
    """Refuse an account's logins and tokens, with a reason that its user reads, and end its sessions everywhere."""
    await store.disable(user.key, reason=reason, at_ms=at_ms)
    await end_all(user.user_id)


async def enable(store: Store, user: UserSummary) -> None:
    """
    Accept an account's logins again.

    Raises:
        Conflict: If it is being erased.
    """
    if user.erase_ms is not None:
        raise Conflict(f"{user.username} is being erased; that cannot be undone.")
    await store.enable(user.key)


async def set_role(store: Store, user: UserSummary, *, admin: bool, at_ms: int) -> None:
    """
    Make a user a server administrator, or a normal user again.

    Raises:
        Conflict: If a user who is being erased would become one.
    """
    if admin and user.erase_ms is not None:
        raise Conflict(f"{user.username} is being erased; that cannot be undone.")
    await store.set_admin(user.key, at_ms=at_ms if admin else None)


async def erase(store: Store, end_all: EndAll, user: UserSummary, *, at_ms: int) -> None:
    """Mark an account for erasure, which a running server does within seconds, and end its sessions everywhere."""
    await store.request_erasure(user.key, at_ms=at_ms)
    await end_all(user.user_id)


async def offer_reset(store: Store, user: UserSummary, *, at_ms: int) -> api.OneTimeCode:
    """
    Make a one-time code with which a user sets another password; it replaces the one before.

    Raises:
        Conflict: If the user has no password here.
    """
    if user.outside:
        raise Conflict(f"{user.username} is a user of another service, and logs in there.")
    code, expires_ms = new_invitation(), at_ms + RESET_MS
    await store.set_reset(user.key, digest=digest_of(code), expires_ms=expires_ms)
    return api.OneTimeCode(code=code, expires_at=wire.iso(expires_ms))


async def invite(store: Store, *, note: str, days: float, at_ms: int) -> api.InvitationMade:
    """Make an invitation, of which the database keeps the hash alone."""
    code = new_invitation()
    made = await store.add_invitation(
        digest=digest_of(code), note=note, at_ms=at_ms, expires_ms=at_ms + int(days * _DAY_MS)
    )
    return api.InvitationMade(number=made.number, note=note, invitation=code, expires_at=wire.iso(made.expires_ms))


async def revoke_invitation(store: Store, number: int) -> None:
    """
    Delete an unused invitation.

    Raises:
        NotFound: If there is none of that number.
    """
    if not await store.revoke_invitation(number):
        raise NotFound(f"There is no unused invitation {number}.")


async def delete_group(store: Store, group: GroupSummary, *, at_ms: int) -> None:
    """Mark a group for deletion, which a running server does within seconds."""
    await store.request_deletion(group.key, at_ms=at_ms)


# Chapter: lists


async def users(store: Store, *, search: str, limit: int, offset: int) -> api.UserEntries:
    """Return a page of the users whose name has a part, or of all with an empty one, in the order of their making."""
    found = await store.users(search=search, limit=limit + 1, offset=offset)
    return api.UserEntries(users=[user_row(each) for each in found[:limit]], has_more=len(found) > limit)


async def user_details(store: Store, named: str, *, now_ms: int) -> api.UserDetails:
    """
    Return a user, by id or name, with groups and logins, at most `MOST` of each.

    Raises:
        NotFound: If there is none.
    """
    user = await find(store, named)
    found = await store.groups(member=user.key, limit=MOST)
    logins, _ = await store.logins(user.key, now_ms=now_ms, limit=MOST)
    return api.UserDetails(
        user=user_row(user), groups=[group_row(each) for each in found], sessions=[session(each) for each in logins]
    )


async def groups(store: Store, *, limit: int, offset: int) -> api.GroupEntries:
    """Return a page of all groups, in the order of their making."""
    found = await store.groups(limit=limit + 1, offset=offset)
    return api.GroupEntries(groups=[group_row(each) for each in found[:limit]], has_more=len(found) > limit)


async def group_details(store: Store, group_id: str) -> api.GroupDetails:
    """
    Return a group with its members.

    Raises:
        NotFound: If there is none.
    """
    group = await find_group(store, group_id)
    members = [
        api.GroupMemberRow(user_id=user_id, username=name, joined_at=wire.iso(at_ms))
        for name, user_id, at_ms in await store.group_members(group.key)
    ]
    return api.GroupDetails(group=group_row(group), members=members)


async def invitations(store: Store) -> api.InvitationRows:
    """Return all invitations, with who has used them."""
    return api.InvitationRows(invitations=[invitation_row(each) for each in await store.invitations()])


# Chapter: rows


def state(user: UserSummary) -> Literal["active", "disabled", "being erased"]:
    """Return what the account is, in a word."""
    if user.erase_ms is not None:
        return "being erased"
    return "disabled" if user.disabled_ms is not None else "active"


def user_row(user: UserSummary) -> api.UserEntry:
    """Return a user as an operator reads it."""
    return api.UserEntry(
        user_id=user.user_id,
        username=user.username,
        state=state(user),
        admin=user.admin,
        outside=user.outside,
        created_at=wire.iso(user.created_ms),
        last_seen_at=_moment(user.seen_ms),
        disabled_at=_moment(user.disabled_ms),
        disabled_reason=user.disabled_reason,
        sessions=user.logins,
        groups=user.groups,
        media=user.stored.media,
        media_bytes=user.stored.media_bytes,
    )


def group_row(group: GroupSummary) -> api.GroupEntry:
    """Return a group as an operator reads it."""
    return api.GroupEntry(
        group_id=group.group_id,
        creator=group.creator,
        created_at=wire.iso(group.created_ms),
        last_event_at=wire.iso(group.last_ms) if group.last_seq else None,
        last_seq=group.last_seq,
        members=group.members,
        threads=group.threads,
        media=group.stored.media,
        media_bytes=group.stored.media_bytes,
    )


def invitation_row(each: Invitation) -> api.InvitationRow:
    """Return an invitation as an operator reads it."""
    return api.InvitationRow(
        number=each.number,
        note=each.note,
        created_at=wire.iso(each.created_ms),
        expires_at=wire.iso(each.expires_ms),
        used_at=_moment(each.used_ms),
        used_by=each.used_by,
    )


def _moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else wire.iso(at_ms)
