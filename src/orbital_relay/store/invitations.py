"""The operator's invitations, and whether a group's invite code may stand for one."""

from __future__ import annotations

from sqlalchemy import Connection, Select, delete, exists, insert, select, update

from orbital_relay.errors import InvitationRefused
from orbital_relay.ports import Invitation
from orbital_relay.store import tables as t

_i = t.invitations.c


def add_invitation(conn: Connection, *, digest: bytes, note: str, at_ms: int, expires_ms: int) -> Invitation:
    """Add an invitation."""
    number = conn.execute(
        insert(t.invitations)
        .values(digest=digest, note=note, created_ms=at_ms, expires_ms=expires_ms)
        .returning(_i.number)
    ).scalar_one()
    return Invitation(int(number), note, at_ms, expires_ms, None, None)


def _open(digest: bytes, now_ms: int) -> Select[int]:
    return select(_i.number).where(_i.digest == digest, _i.used_ms.is_(None), _i.expires_ms > now_ms)


def invitation_opens(conn: Connection, digest: bytes, *, now_ms: int) -> bool:
    """Return whether an invitation is there, neither used nor expired."""
    return conn.execute(_open(digest, now_ms)).one_or_none() is not None


def use_up(conn: Connection, digest: bytes, *, user: int, now_ms: int) -> None:
    """
    Note whose account an invitation has made.

    Raises:
        SignupsClosed: If it is unknown, used or expired.
    """
    # The conditions are compared under the row's lock: of two sign-ups at once one finds it unused.
    used = conn.execute(
        update(t.invitations)
        .where(_i.digest == digest, _i.used_ms.is_(None), _i.expires_ms > now_ms)
        .values(used_ms=now_ms, used_by=user)
    )
    if used.rowcount != 1:
        raise InvitationRefused


def invite_code_opens(conn: Connection, invite_code: str, *, now_ms: int) -> bool:
    """Return whether a group has that invite code, and it has not expired."""
    g = t.groups.c
    return bool(
        conn.execute(select(exists().where(g.invite_code == invite_code, g.invite_expires_ms > now_ms))).scalar()
    )


def invitations(conn: Connection) -> list[Invitation]:
    """Return all invitations, the oldest first."""
    rows = conn.execute(
        select(_i.number, _i.note, _i.created_ms, _i.expires_ms, _i.used_ms, t.users.c.username)
        .outerjoin(t.users, t.users.c.id == _i.used_by)
        .order_by(_i.number)
    )
    return [Invitation(*row) for row in rows]


def revoke_invitation(conn: Connection, number: int) -> bool:
    """Delete an invitation that was not used; return whether there was one."""
    gone = conn.execute(delete(t.invitations).where(_i.number == number, _i.used_ms.is_(None)))
    return gone.rowcount == 1
