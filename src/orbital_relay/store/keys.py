"""Idempotency keys, as far as no event is appended."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, func, select

from orbital_relay.api.media import MediaStored
from orbital_relay.errors import Conflict
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


def first_receipt(conn: Connection, user: int, once: IdempotencyKey, *, now_ms: int) -> MediaStored | None:
    """Return what a medium came to that was completed under an idempotency key, None for a new key."""
    keys = t.idempotency_keys.c
    row = conn.execute(
        select(keys.fingerprint, keys.answer).where(
            keys.user == user, keys.key == once.key, keys.used_ms > now_ms - KEY_LIFETIME_MS
        )
    ).one_or_none()
    if row is None:
        return None
    if bytes(row.fingerprint) != once.fingerprint:
        raise Conflict("This Idempotency-Key was used with another request. Use a new key for a new request.")
    return msgspec.json.decode(bytes(row.answer), type=MediaStored)
