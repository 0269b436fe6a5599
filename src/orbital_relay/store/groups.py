"""Groups as their members see them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, case, exists, func, select, update
from sqlalchemy.exc import IntegrityError

from orbital_relay import wire
from orbital_relay.api.fields import as_sent
from orbital_relay.api.groups import Group, Groups, Member, Members, Role
from orbital_relay.core.refusals import code_taken
from orbital_relay.errors import Forbidden
from orbital_relay.store import tables as t
from orbital_relay.store.access import looks_after, require_member
from orbital_relay.store.paging import BYTES_OF_A_LETTER, NAME_FACTOR, first_fitting


def groups_of(conn: Connection, user: int, *, now_ms: int, limit: int, offset: int = 0) -> Groups:
    """Answer `GET /api/groups`, in the order in which the user joined."""
    mine = t.members.c.user == user
    order = t.members.c.joined_ms, t.groups.c.id
    length = func.length(t.groups.c.encrypted_name) + func.length(t.members.c.encrypted_group_key)
    joined = t.groups.join(t.members, t.members.c.group == t.groups.c.id)
    keys = select(t.groups.c.id, length).select_from(joined).where(mine).order_by(*order)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    counted = t.members.alias()
    count = select(func.count()).where(counted.c.group == t.groups.c.id).scalar_subquery()
    rows = conn.execute(
        select(
            t.groups.c.group_id,
            t.groups.c.encrypted_name,
            t.members.c.encrypted_group_key,
            count.label("member_count"),
            case((t.groups.c.invite_expires_ms > now_ms, t.groups.c.invite_code), else_=None).label("invite_code"),
            t.groups.c.invite_expires_ms,
            t.groups.c.invite_once,
            t.groups.c.creator,
            t.members.c.admin,
            t.members.c.joined_ms,
            t.groups.c.last_seq,
        )
        .select_from(joined)
        .where(mine, t.groups.c.id.in_(numbers))
        .order_by(*order)
    )
    return Groups(
        groups=[
            Group(
                group_id=row.group_id,
                encrypted_name=row.encrypted_name,
                encrypted_group_key=row.encrypted_group_key,
                member_count=row.member_count,
                invite_code=row.invite_code,
                invite_expires_at=None if row.invite_code is None else wire.iso(row.invite_expires_ms),
                invite_single_use=row.invite_code is not None and row.invite_once == 1,
                role=role_of(creator=row.creator == user, admin=row.admin == 1),
                joined_at=wire.iso(row.joined_ms),
                last_seq=row.last_seq,
            )
            for row in rows
        ],
        has_more=has_more,
    )


def members(conn: Connection, user: int, group_id: str, *, limit: int, offset: int = 0) -> Members:
    """Answer `GET /api/groups/{group_id}/members`, in the order of joining."""
    group = require_member(conn, user, group_id)
    creator = conn.execute(select(t.groups.c.creator).where(t.groups.c.id == group)).scalar_one()
    here = t.members.c.group == group
    keys = select(t.users.c.id, MEMBER_LENGTH).select_from(_joined).where(here).order_by(t.members.c.joined_seq)
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    rows = conn.execute(
        select(*MEMBER_COLUMNS)
        .select_from(_joined)
        .where(here, t.users.c.id.in_(numbers))
        .order_by(t.members.c.joined_seq)
    )
    return Members(members=[member_of(row, creator=creator) for row in rows], has_more=has_more)


_joined = t.users.join(t.members, t.members.c.user == t.users.c.id)

MEMBER_LENGTH: Final = (
    func.length(t.users.c.username) * NAME_FACTOR
    + func.coalesce(func.length(t.users.c.display_name), 0) * BYTES_OF_A_LETTER
    + func.length(t.users.c.public_key)
)
MEMBER_COLUMNS: Final = (
    t.users.c.id,
    t.users.c.user_id,
    t.users.c.username,
    t.users.c.display_name,
    t.users.c.public_key,
    t.members.c.joined_ms,
    t.members.c.admin,
)


def member_of(row: Row[*tuple[Any, ...]], *, creator: int) -> Member:
    """Return a member as lists have it, of a row of `MEMBER_COLUMNS`; `creator` is the founder's row number."""
    return Member(
        user_id=row.user_id,
        username=row.username,
        display_name=row.display_name,
        public_key=as_sent(row.public_key.encode()),
        joined_at=wire.iso(row.joined_ms),
        role=role_of(creator=row.id == creator, admin=row.admin == 1),
    )


def role_of(*, creator: bool, admin: bool) -> Role:
    """Return a member's role."""
    if creator:
        return "founder"
    return "admin" if admin else "member"


def replace_code(
    conn: Connection, user: int, group_id: str, *, invite_code: str, expires_ms: int, single_use: bool = False
) -> None:
    """
    Give a group a new invite code.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the user is neither its founder nor an administrator of it.
        Conflict: If another group has that code.
    """
    group = require_member(conn, user, group_id)
    if not looks_after(conn, group, user):
        raise Forbidden("Only the founder and the administrators of the group may create invite codes.")
    taken = exists().where(t.groups.c.invite_code == invite_code)
    if conn.execute(select(taken)).scalar_one():
        raise code_taken()
    try:
        conn.execute(
            update(t.groups)
            .where(t.groups.c.id == group)
            .values(invite_code=invite_code, invite_expires_ms=expires_ms, invite_once=int(single_use))
        )
    except IntegrityError as exc:
        # Two servers at once: the other one's code was first.
        raise code_taken() from exc
