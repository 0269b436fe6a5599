"""Groups: create, join by invite code, expiry of the code, leave, roles, removal of members."""

from __future__ import annotations

import asyncio
import re
import secrets
import string
from contextlib import suppress
from typing import Final

from orbital_relay import wire
from orbital_relay.api.groups import GroupBody, Groups, InviteCode, JoinBody, Members, Presence, RoleBody, RoleSet
from orbital_relay.core.refusals import check_member, no_code
from orbital_relay.errors import Conflict, RoleUnchanged
from orbital_relay.model import (
    CreateGroup,
    GroupId,
    IdempotencyKey,
    JoinGroup,
    LeaveGroup,
    Principal,
    SetRole,
    UserId,
)
from orbital_relay.ports import Appended
from orbital_relay.services.context import ServiceContext
from orbital_relay.services.forms import check_encrypted, new_id

NAME_BYTES: Final = 4 * 1024
"""Largest `encrypted_name` after decoding: every list of groups carries it."""
GROUP_KEY_BYTES: Final = 8 * 1024
"""Largest `encrypted_group_key` after decoding; a sealed key with post-quantum parts has some 2 KiB."""

_ALPHABET: Final = string.ascii_uppercase + string.digits
_CODE: Final = re.compile(r"[A-Z0-9]{8}")
_DAY_MS: Final = 86_400_000
# 36^8 codes: with a million groups one draw in three million clashes, four in a row never will.
_DRAWS: Final = 4


def new_code() -> str:
    """Draw an invite code from a secure source."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


def read_code(text: str) -> str:
    """
    Return an invite code as it is stored, from what a person typed.

    Raises:
        NotFound: If it cannot be one; the same answer as for a code that nobody has.
    """
    code = text.replace(" ", "").replace("-", "")
    code = code.upper() if code.isascii() else ""
    if _CODE.fullmatch(code) is None:
        raise no_code()
    return code


async def create(
    context: ServiceContext, principal: Principal, body: GroupBody, *, idempotency_key: IdempotencyKey | None = None
) -> Appended:
    """
    Make a group whose first member is the caller.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If a field is over the limit.
        Conflict: If the key was used for another body.
        QuotaExceeded: If the caller looks after as many groups as one may.
    """
    check_encrypted("encrypted_name", body.encrypted_name, limit_bytes=min(NAME_BYTES, context.envelope_bytes))
    check_encrypted(
        "encrypted_group_key", body.encrypted_group_key, limit_bytes=min(GROUP_KEY_BYTES, context.envelope_bytes)
    )
    for draw in range(1, _DRAWS + 1):
        now_ms = context.clock.wall_ms()
        draft = CreateGroup(
            actor=principal,
            at_ms=now_ms,
            idempotency_key=idempotency_key,
            group_id=GroupId(new_id()),
            encrypted_name=body.encrypted_name,
            encrypted_group_key=body.encrypted_group_key,
            invite_code=new_code(),
            invite_expires_ms=_expiry_ms(context, now_ms),
            most_groups=context.most_groups,
        )
        try:
            return await context.append(draft)
        except Conflict:
            # The code may be in use; a key that was used for another body conflicts again, and that is the answer.
            if draw == _DRAWS:
                raise
    raise AssertionError("the last draw returns or raises")


def join(
    context: ServiceContext, principal: Principal, body: JoinBody, *, idempotency_key: IdempotencyKey | None = None
) -> asyncio.Future[Appended]:
    """
    Queue the caller's entry into the group that has the code, before this returns.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If the key is over the limit.
        NotFound: If the code cannot be one.
    """
    check_encrypted(
        "encrypted_group_key", body.encrypted_group_key, limit_bytes=min(GROUP_KEY_BYTES, context.envelope_bytes)
    )
    return context.append(
        JoinGroup(
            actor=principal,
            at_ms=context.clock.wall_ms(),
            idempotency_key=idempotency_key,
            invite_code=read_code(body.invite_code),
            encrypted_group_key=body.encrypted_group_key,
            most_members=context.most_members,
        )
    )


def remove(
    context: ServiceContext, principal: Principal, group_id: GroupId, user_id: UserId
) -> asyncio.Future[Appended]:
    """Queue the caller's leaving, or, by the founder or an administrator, another's removal, before this returns."""
    return context.append(
        LeaveGroup(actor=principal, at_ms=context.clock.wall_ms(), group_id=group_id, user_id=user_id)
    )


async def set_role(
    context: ServiceContext, principal: Principal, group_id: GroupId, user_id: UserId, body: RoleBody
) -> RoleSet:
    """
    Make a member an administrator of the group, or a plain member again; a repeated request changes nothing.

    Raises:
        NotFound: If there is no such group, or no such member.
        Forbidden: If the caller is not its founder.
        Conflict: If the member is the founder.
    """
    draft = SetRole(
        actor=principal,
        at_ms=context.clock.wall_ms(),
        group_id=group_id,
        user_id=user_id,
        admin=body.role == "admin",
    )
    with suppress(RoleUnchanged):
        await context.append(draft)
    return RoleSet(group_id=group_id, user_id=user_id, role=body.role)


async def replace_code(
    context: ServiceContext,
    principal: Principal,
    group_id: GroupId,
    *,
    single_use: bool = False,
    days: float | None = None,
) -> InviteCode:
    """
    Give the group a new invite code.

    Args:
        context: What use cases work with.
        principal: Who asks.
        group_id: The group.
        single_use: Whether the code is valid for one join only.
        days: How long it is valid, no longer than the server's own limit; None for that.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is neither its founder nor an administrator of it.
    """
    life_ms = round(min(context.invite_days, context.invite_days if days is None else days) * _DAY_MS)
    for draw in range(1, _DRAWS + 1):
        code = new_code()
        expires_ms = context.clock.wall_ms() + life_ms
        try:
            await context.store.replace_code(
                principal.key, group_id, invite_code=code, expires_ms=expires_ms, single_use=single_use
            )
        except Conflict:
            if draw == _DRAWS:
                raise
            continue
        return InviteCode(invite_code=code, expires_at=wire.iso(expires_ms), single_use=single_use)
    raise AssertionError("the last draw returns or raises")


async def page(context: ServiceContext, principal: Principal, *, limit: int, offset: int) -> Groups:
    """Return a page of the caller's groups, in the order of joining."""
    return await context.store.groups_of(principal.key, now_ms=context.clock.wall_ms(), limit=limit, offset=offset)


async def members(
    context: ServiceContext, principal: Principal, group_id: GroupId, *, limit: int, offset: int
) -> Members:
    """
    Return a page of a group's members, in the order of joining.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await context.store.members(principal.key, group_id, limit=limit, offset=offset)


async def presence(
    context: ServiceContext, principal: Principal, group_id: GroupId, *, limit: int, offset: int
) -> Presence:
    """
    Return a page of the users who are subscribed to a group now, in the order of arrival.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    check_member(await context.store.access(principal.key, group_id))
    online = await context.online(group_id)
    end = offset + limit
    return Presence(online=online[offset:end], has_more=len(online) > end)


def _expiry_ms(context: ServiceContext, now_ms: int) -> int:
    return now_ms + round(context.invite_days * _DAY_MS)
