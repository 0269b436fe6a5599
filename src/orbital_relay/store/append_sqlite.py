"""The appender on SQLite, written by hand: drafts of one tick become numbered, sealed, chained events."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from orbital_relay import wire
from orbital_relay.api import receipts
from orbital_relay.core.chain import digest, first_prev
from orbital_relay.errors import Conflict, OrbitalError
from orbital_relay.model import (
    AnyDraft,
    CreateGroup,
    Event,
    GroupId,
    JoinGroup,
    LeaveGroup,
    PostMessage,
    PostThread,
)
from orbital_relay.ports import Appended
from orbital_relay.store import effects
from orbital_relay.store.effects import GroupRow
from orbital_relay.store.tables import SEQ_BITS

MOST_REMEMBERED: Final = 50_000
"""Groups and memberships kept in memory between transactions; past that they are read again. About 10 MB."""

KEY_LIFETIME_MS: Final = 24 * 3600 * 1000
"""How long an idempotency key answers."""

_FIND_KEY: Final = 'SELECT fingerprint, answer FROM idempotency_keys WHERE "user" = ? AND "key" = ? AND used_ms > ?'
_FIND_MEMBER: Final = 'SELECT 1 FROM members WHERE "group" = ? AND "user" = ?'
_ADD_EVENT: Final = 'INSERT INTO events (place, "group", stamp_ms, message, frame) VALUES (?, ?, ?, ?, ?)'
_MOVE_HEAD: Final = "UPDATE groups SET last_seq = ?, last_stamp_ms = ?, last_hash = ? WHERE id = ?"
# A key whose 24 hours are over may still have its row: the new use takes its place.
_ADD_KEY: Final = (
    'INSERT OR REPLACE INTO idempotency_keys ("user", "key", fingerprint, answer, used_ms) VALUES (?, ?, ?, ?, ?)'
)


class SqliteAppender:
    """
    Turns drafts into events, inside a transaction that its caller begins and ends.

    It is the only writer of the database's groups and members, so what it knows of them stays true between
    transactions. It never commits, and must be told to `forget` when a transaction is rolled back.
    """

    def __init__(self) -> None:
        self._groups: dict[str, GroupRow] = {}
        self._members: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """Trust nothing remembered: the transaction that it came from did not commit."""
        self._groups.clear()
        self._members.clear()

    def append(
        self, conn: Connection, drafts: Sequence[AnyDraft], *, first_stamp_ms: int
    ) -> list[Appended | OrbitalError]:
        """Decide, number, seal and store drafts in order; a refused one leaves no trace."""
        raw = conn.connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("this appender speaks to SQLite only")
        batch = _Batch(self, conn, raw)
        outcomes = [batch.take(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]
        batch.write()
        return outcomes

    def group(self, conn: Connection, group_id: str) -> GroupRow | None:
        """Return a group's row as it stands in this transaction."""
        known = self._groups.get(group_id)
        if known is None:
            known = effects.load_group(conn, group_id)
            if known is not None:
                self.remember(known)
        return known

    def remember(self, group: GroupRow) -> None:
        """Keep a group's row."""
        if len(self._groups) >= MOST_REMEMBERED:
            self._groups.clear()
        self._groups[group.group_id] = group

    def is_member(self, raw: sqlite3.Connection, group: int, user: int) -> bool:
        """Tell whether a user is in a group, as of this transaction."""
        if (group, user) in self._members:
            return True
        if raw.execute(_FIND_MEMBER, (group, user)).fetchone() is None:
            return False
        if len(self._members) >= MOST_REMEMBERED:
            self._members.clear()
        self._members.add((group, user))
        return True

    def members_changed(self) -> None:
        """Somebody left: read memberships again (leaving is rare, and the removed one's number is not at hand)."""
        self._members.clear()


class _Batch:
    """The drafts of one transaction, and the rows that they add up to."""

    def __init__(self, appender: SqliteAppender, conn: Connection, raw: sqlite3.Connection) -> None:
        self._appender = appender
        self._conn = conn
        self._raw = raw
        self._events: list[tuple[int, int, int, int, bytes]] = []
        self._moved: dict[int, GroupRow] = {}
        self._keys: dict[tuple[int, str], tuple[bytes, bytes, int]] = {}

    def take(self, draft: AnyDraft, stamp_ms: int) -> Appended | OrbitalError:
        """Decide one draft; what it adds is seen by the next."""
        try:
            repeated = self._repeated(draft)
            return repeated if repeated is not None else self._add(draft, stamp_ms)
        except OrbitalError as refusal:
            return refusal

    def write(self) -> None:
        """Write what was taken, each kind of row at once."""
        raw = self._raw
        raw.executemany(_ADD_EVENT, self._events)
        raw.executemany(_MOVE_HEAD, [(g.last_seq, g.last_stamp_ms, g.last_hash, g.id) for g in self._moved.values()])
        if self._keys:
            raw.executemany(_ADD_KEY, [(user, key, *rest) for (user, key), rest in self._keys.items()])

    def _repeated(self, draft: AnyDraft) -> Appended | None:
        once = draft.once
        if once is None:
            return None
        user = draft.actor.key
        known = self._keys.get((user, once.key))
        if known is None:
            known = self._raw.execute(_FIND_KEY, (user, once.key, draft.at_ms - KEY_LIFETIME_MS)).fetchone()
        if known is None:
            return None
        if known[0] != once.fingerprint:
            raise Conflict("This Idempotency-Key was used with another request. Use a new key for a new request.")
        return Appended(receipts.decode(type(draft), known[1]), None)

    def _add(self, draft: AnyDraft, stamp_ms: int) -> Appended:
        appender, conn = self._appender, self._conn
        if isinstance(draft, CreateGroup):
            group = effects.create_group_row(conn, draft, first_prev=first_prev(draft.group_id))
            appender.remember(group)
            member = False
        else:
            group_id = (
                draft.group_id if isinstance(draft, PostMessage | PostThread) else effects.group_id_of(conn, draft)
            )
            found = appender.group(conn, group_id)
            if found is None:
                raise effects.no_group()
            group = found
            member = appender.is_member(self._raw, group.id, draft.actor.key)
        seq = group.last_seq + 1
        stamp_ms = max(stamp_ms, group.last_stamp_ms + 1)
        effect = effects.apply(conn, draft, group, seq=seq, stamp_ms=stamp_ms, member=member)
        if isinstance(draft, LeaveGroup | JoinGroup):
            appender.members_changed()
        frame = wire.seal(effect.data, group_id=group.group_id, seq=seq, stamp_ms=stamp_ms, prev=group.last_hash)
        group.last_seq, group.last_stamp_ms, group.last_hash = seq, stamp_ms, digest(frame)
        self._moved[group.id] = group
        self._events.append((group.id << SEQ_BITS | seq, group.id, stamp_ms, effect.data.kind == "new_message", frame))
        if draft.once is not None:
            answer = receipts.encode(effect.receipt)
            self._keys[draft.actor.key, draft.once.key] = (draft.once.fingerprint, answer, draft.at_ms)
        return Appended(effect.receipt, Event(GroupId(group.group_id), seq, stamp_ms, frame))
