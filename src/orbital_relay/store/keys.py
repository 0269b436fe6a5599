"""Idempotency keys of requests that append no event; store/append/batch.py has those of posts."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from orbital_relay.api.media import MediaStored
from orbital_relay.core.refusals import key_reused
from orbital_relay.model import IdempotencyKey
from orbital_relay.store import tables as t
from orbital_relay.store.append.batch import KEY_LIFETIME_MS


def prune_keys(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Drop up to `limit` idempotency keys first used before a moment, and revocations that outlived their tokens."""
    keys = t.idempotency_keys
    old = conn.execute(select(keys.c.user, keys.c.key).where(keys.c.used_ms < before_ms).limit(limit)).all()
    for user, key in old:
        conn.execute(delete(keys).where(keys.c.user == user, keys.c.key == key))
    # The highest number stays: SQLite would give it again, and servers read only what is above the last they have.
    r = t.revocations.c
    highest = select(func.max(r.number)).scalar_subquery()
    conn.execute(delete(t.revocations).where(r.until_s < before_ms / 1000, r.number < highest))
    return len(old)


def first_answer(conn: Connection, user: int, idempotency_key: IdempotencyKey | None, *, now_ms: int) -> bytes | None:
    """
    Return the answer that was stored under an idempotency key in the last 24 hours; None for a new key, or for no key.

    Raises:
        Conflict: If the key was used with another request.
    """
    if idempotency_key is None:
        return None
    keys = t.idempotency_keys.c
    row = conn.execute(
        select(keys.fingerprint, keys.answer).where(
            keys.user == user, keys.key == idempotency_key.key, keys.used_ms > now_ms - KEY_LIFETIME_MS
        )
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.fingerprint) != idempotency_key.fingerprint:
        raise key_reused()
    return bytes(row.answer)


def remember_answer(
    conn: Connection, user: int, idempotency_key: IdempotencyKey | None, answer: bytes, *, now_ms: int
) -> None:
    """
    Store a first answer under its idempotency key.

    Two transactions that do so at once collide on the primary key: the second one is done again, and finds the answer.
    """
    if idempotency_key is None:
        return
    keys = t.idempotency_keys
    expired = keys.c.used_ms <= now_ms - KEY_LIFETIME_MS
    conn.execute(delete(keys).where(keys.c.user == user, keys.c.key == idempotency_key.key, expired))
    used = {
        "user": user,
        "key": idempotency_key.key,
        "fingerprint": idempotency_key.fingerprint,
        "answer": answer,
        "used_ms": now_ms,
    }
    conn.execute(insert(keys).values(used))


def first_receipt(conn: Connection, user: int, idempotency_key: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
    """Return what a medium came to that was completed under an idempotency key, None for a new key."""
    answer = first_answer(conn, user, idempotency_key, now_ms=now_ms)
    return None if answer is None else msgspec.json.decode(answer, type=MediaStored)
