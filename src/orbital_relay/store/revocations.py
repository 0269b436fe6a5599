"""Revoked tokens."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from orbital_relay.model import Revocation, UserId
from orbital_relay.store import tables as t
from orbital_relay.store.push import forget_user


def revoke(
    conn: Connection, *, token_digest: bytes | None, user_id: UserId | None, at_s: float, until_s: float
) -> None:
    """Note a revocation; with all tokens of a user, the user's logins and subscriptions to push messages end."""
    if user_id is not None:
        whose = select(t.users.c.id).where(t.users.c.user_id == user_id).scalar_subquery()
        conn.execute(delete(t.logins).where(t.logins.c.user == whose))
        forget_user(conn, whose)
    conn.execute(insert(t.revocations).values(token_digest=token_digest, user_id=user_id, at_s=at_s, until_s=until_s))


def revocations(conn: Connection, *, after: int) -> list[Revocation]:
    """Return the revocations with a number above `after`."""
    r = t.revocations.c
    rows = conn.execute(select(r.number, r.token_digest, r.user_id, r.at_s).where(r.number > after).order_by(r.number))
    return [Revocation(row.number, row.token_digest, row.user_id, row.at_s) for row in rows]
