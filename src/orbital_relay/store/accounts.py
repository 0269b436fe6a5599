"""Users who signed up, and users of an outside identity provider."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from orbital_relay.core.refusals import key_reused
from orbital_relay.errors import AccountDisabled, UsernameTaken
from orbital_relay.model import Account, IdempotencyKey
from orbital_relay.store import tables as t
from orbital_relay.store.append.batch import KEY_LIFETIME_MS
from orbital_relay.store.invitations import use_up

_FIRST_USER: Final = 0x6F72626974616C
"""The advisory lock of PostgreSQL that sign-ups take while there is no user: "orbital" in ASCII."""

_ACCOUNT = (
    t.users.c.id,
    t.users.c.user_id,
    t.users.c.username,
    t.users.c.public_key,
    t.users.c.password_hash,
    t.users.c.disabled_ms,
    t.users.c.disabled_reason,
    t.users.c.display_name,
)


def _account(row: Row[*tuple[Any, ...]]) -> Account:
    key = msgspec.Raw(row.public_key.encode())
    return Account(row.id, row.user_id, row.username, key, row.password_hash, _disabled(row), row.display_name)


def _disabled(row: Row[*tuple[Any, ...]]) -> str | None:
    return None if row.disabled_ms is None else str(row.disabled_reason)


def add_account(
    conn: Connection,
    *,
    user_id: str,
    username: str,
    public_key: bytes,
    password_hash: str,
    at_ms: int,
    idempotency_key: IdempotencyKey | None = None,
    invitation: bytes | None = None,
) -> Account:
    """
    Add a user who signs up, and the idempotency key that did it; use up the invitation.

    The first user of a database is the server's administrator.

    Raises:
        UsernameTaken: If another sign-up has the name.
        SignupsClosed: If the invitation is unknown, used or expired.
    """
    taken = UsernameTaken(f"The username {username} is taken. Choose another.")
    name = username.lower()
    if conn.execute(select(t.users.c.id).where(t.users.c.signup_name == name)).one_or_none() is not None:
        raise taken
    first = _is_first(conn)
    try:
        row = conn.execute(
            insert(t.users)
            .values(
                user_id=user_id,
                username=username,
                signup_name=name,
                password_hash=password_hash,
                public_key=public_key.decode(),
                created_ms=at_ms,
            )
            .returning(*_ACCOUNT)
        ).one()
    except IntegrityError as exc:
        # Two servers at once: the other one's insert was first.
        raise taken from exc
    if first:
        conn.execute(update(t.users).where(t.users.c.id == row.id).values(admin_ms=at_ms))
    if invitation is not None:
        use_up(conn, invitation, user=row.id, now_ms=at_ms)
    if idempotency_key is not None:
        # The answer holds a token, and no token is stored: a repeated sign-up gets a new one.
        used = {
            "user": row.id,
            "key": idempotency_key.key,
            "fingerprint": idempotency_key.fingerprint,
            "used_ms": at_ms,
        }
        conn.execute(insert(t.idempotency_keys).values({**used, "answer": b""}))
    return _account(row)


def is_new(conn: Connection) -> bool:
    """Return whether the database has no user, not even one that was erased."""
    return bool(conn.execute(select(~exists(select(t.users.c.id)))).scalar_one())


def _is_first(conn: Connection) -> bool:
    """Return whether the database has no user; until this transaction ends, no other finds it so."""
    if not is_new(conn):
        return False
    if conn.dialect.name == "postgresql":
        # Two sign-ups at once: the second waits here, and finds the first one's user.
        conn.execute(select(func.pg_advisory_xact_lock(_FIRST_USER)))
        return is_new(conn)
    return True


def signed_up(conn: Connection, username: str, idempotency_key: IdempotencyKey, *, now_ms: int) -> Account | None:
    """
    Return the account of that name if a sign-up with this key made it in the last 24 hours.

    Raises:
        Conflict: If the key was used for another body.
    """
    keys = t.idempotency_keys
    row = conn.execute(
        select(*_ACCOUNT, keys.c.fingerprint)
        .join(keys, keys.c.user == t.users.c.id)
        .where(
            t.users.c.signup_name == username.lower(),
            keys.c.key == idempotency_key.key,
            keys.c.used_ms > now_ms - KEY_LIFETIME_MS,
        )
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.fingerprint) != idempotency_key.fingerprint:
        raise key_reused()
    return _account(row)


def account(conn: Connection, username: str) -> Account | None:
    """Return the user who signed up with a name, in whatever case."""
    return account_of(conn, t.users.c.signup_name == username.lower())


def find_user(conn: Connection, user_id: str) -> Account | None:
    """Return a user by the public id."""
    return account_of(conn, t.users.c.user_id == user_id)


def account_of(conn: Connection, *which: ColumnElement[bool]) -> Account | None:
    """Return the one user for whom the conditions hold, None if there is none."""
    row = conn.execute(select(*_ACCOUNT).where(*which)).one_or_none()
    return None if row is None else _account(row)


def set_display_name(conn: Connection, user: int, display_name: str | None) -> None:
    """Give a user another display name, or none."""
    conn.execute(update(t.users).where(t.users.c.id == user).values(display_name=display_name))


def user_key(conn: Connection, user_id: str) -> int | None:
    """
    Return a user's row number, None for a user not known.

    Raises:
        AccountDisabled: If the account is disabled.
    """
    u = t.users.c
    row = conn.execute(select(u.id, u.disabled_ms, u.disabled_reason).where(u.user_id == user_id)).one_or_none()
    if row is None:
        return None
    reason = _disabled(row)
    if reason is not None:
        raise AccountDisabled(reason)
    return int(row.id)


def enter_user(conn: Connection, *, user_id: str, username: str, at_ms: int) -> int:
    """
    Return the row number of a token's user, entered with an empty public key if not known.

    Raises:
        AccountDisabled: If the account is disabled.
    """
    known = user_key(conn, user_id)
    if known is not None:
        return known
    values = {"user_id": user_id, "username": username, "public_key": "{}", "created_ms": at_ms}
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: PLC0415 - only where it is spoken

        conn.execute(upsert(t.users).values(values).on_conflict_do_nothing())
    else:
        conn.execute(insert(t.users).values(values))
    return int(conn.execute(select(t.users.c.id).where(t.users.c.user_id == user_id)).scalar_one())
