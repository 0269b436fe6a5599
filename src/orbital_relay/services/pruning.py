"""Retention: delete (prune, purge) expired events, in small transactions."""

from __future__ import annotations

from typing import Final

from orbital_relay.ports import Store
from orbital_relay.services.provision import MAILBOX_MS
from orbital_relay.services.records import KEYS_KEPT_MS

PRUNE_ROWS: Final = 1000
"""Rows that one transaction of the periodic clean-up deletes: a few milliseconds, in which no POST is stored."""

_DAY_MS: Final = 24 * 3600 * 1000


async def prune(store: Store, *, now_ms: int, keep_ms: int) -> None:
    """
    Delete events, idempotency keys, logins and mailboxes that are past their retention.

    Args:
        store: The rows.
        now_ms: The wall clock.
        keep_ms: How long the log keeps events.

    Raises:
        Unavailable: If the database is unreachable.
    """
    before_ms, keys_ms = now_ms - keep_ms, now_ms - KEYS_KEPT_MS
    while await store.prune(before_ms=before_ms, keys_before_ms=keys_ms, limit=PRUNE_ROWS) >= PRUNE_ROWS:
        pass
    while await store.prune_keys(before_ms=now_ms - _DAY_MS, limit=PRUNE_ROWS) >= PRUNE_ROWS:
        pass
    while await store.prune_logins(before_ms=now_ms, limit=PRUNE_ROWS) >= PRUNE_ROWS:
        pass
    await store.prune_mailboxes(before_ms=now_ms - MAILBOX_MS)
