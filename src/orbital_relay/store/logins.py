"""Logins, and one-time codes for a new password."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from orbital_relay.errors import ResetRefused
from orbital_relay.model import Account, Login, UserId
from orbital_relay.store import tables as t
from orbital_relay.store.accounts import account_of
from orbital_relay.store.push import forget_login
from orbital_relay.store.revocations import revoke

_l, _u = t.logins.c, t.users.c


def add_login(conn: Connection, user_id: UserId, *, login_id: str, name: str, at_ms: int, expires_ms: int) -> None:
    """Enter a login of a user."""
    user = conn.execute(select(_u.id).where(_u.user_id == user_id)).scalar_one()
    values = {"login_id": login_id, "user": user, "name": name, "created_ms": at_ms, "seen_ms": at_ms}
    conn.execute(insert(t.logins).values({**values, "expires_ms": expires_ms}))


def extend_login(conn: Connection, login_id: str, *, expires_ms: int) -> bool:
    """Note when the newest token of a login ends; return False if there is no such login."""
    return conn.execute(update(t.logins).where(_l.login_id == login_id).values(expires_ms=expires_ms)).rowcount == 1


def logins(conn: Connection, user: int, *, now_ms: int, limit: int, offset: int = 0) -> tuple[list[Login], bool]:
    """Return a page of a user's logins, the last used first, and whether more follow."""
    rows = conn.execute(
        select(_l.login_id, _l.name, _l.created_ms, _l.seen_ms, _l.expires_ms)
        .where(_l.user == user, _l.expires_ms > now_ms)
        .order_by(_l.seen_ms.desc(), _l.id.desc())
        .limit(limit + 1)
        .offset(offset)
    ).all()
    return [Login(*row) for row in rows[:limit]], len(rows) > limit


def end_login(conn: Connection, user: int, *, login_id: str, digest: bytes, at_s: float, until_s: float) -> bool:
    """Delete a login of a user, and revoke its tokens; return False if there is no such login."""
    if conn.execute(delete(t.logins).where(_l.login_id == login_id, _l.user == user)).rowcount != 1:
        return False
    forget_login(conn, login_id)
    revoke(conn, token_digest=digest, user_id=None, at_s=at_s, until_s=until_s)
    return True


def note_logins(conn: Connection, login_ids: list[str], *, at_ms: int) -> None:
    """Note when logins were last used."""
    conn.execute(update(t.logins).where(_l.login_id.in_(login_ids), _l.seen_ms < at_ms).values(seen_ms=at_ms))


def prune_logins(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Delete logins whose last token ended before a moment; return how many."""
    some = select(_l.id).where(_l.expires_ms < before_ms).limit(limit)
    return conn.execute(delete(t.logins).where(_l.id.in_(some))).rowcount


# Chapter: one-time codes


def set_reset(conn: Connection, user: int, *, digest: bytes, expires_ms: int) -> None:
    """Give an account a one-time code, which replaces the one before."""
    conn.execute(update(t.users).where(_u.id == user).values(reset_digest=digest, reset_expires_ms=expires_ms))


def reset_opens(conn: Connection, digest: bytes, *, now_ms: int) -> Account | None:
    """Return the account whose one-time code it is, None if there is none or the code has expired."""
    return account_of(conn, _u.reset_digest == digest, _u.reset_expires_ms > now_ms)


def reset_password(conn: Connection, digest: bytes, *, password_hash: str, now_ms: int) -> None:
    """
    Give the account of a one-time code another password, and use the code up.

    Raises:
        ResetRefused: If the code is unknown, used or expired.
    """
    # The conditions are compared under the row's lock: of two requests at once one finds it unused.
    used = conn.execute(
        update(t.users)
        .where(_u.reset_digest == digest, _u.reset_expires_ms > now_ms)
        .values(password_hash=password_hash, reset_digest=None, reset_expires_ms=None)
    )
    if used.rowcount != 1:
        raise ResetRefused
