"""Append on SQLite, with hand-written statements; the writer's thread commits a batch at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from orbital_relay.core.chain import first_prev
from orbital_relay.core.decide import Effect
from orbital_relay.core.refusals import no_group
from orbital_relay.errors import OrbitalError
from orbital_relay.model import AnyDraft, CreateGroup, JoinGroup, LeaveGroup
from orbital_relay.model.facts import Facts
from orbital_relay.ports import Appended
from orbital_relay.store.append import rows
from orbital_relay.store.append.batch import KEY_LIFETIME_MS, Batch, GroupRow, KnownKey, repeated
from orbital_relay.store.tables import EVENT_KEY

MOST_REMEMBERED: Final = 50_000
"""Groups and memberships kept in memory between transactions; past that they are read again. About 10 MB."""

_FIND_KEY: Final = 'SELECT fingerprint, answer FROM idempotency_keys WHERE "user" = ? AND "key" = ? AND used_ms > ?'
_FIND_MEMBER: Final = 'SELECT 1 FROM members WHERE "group" = ? AND "user" = ?'
_ADD_EVENT: Final = f'INSERT INTO events ({EVENT_KEY}, "group", stamp_ms, message, frame) VALUES (?, ?, ?, ?, ?)'
_MOVE_HEAD: Final = "UPDATE groups SET last_seq = ?, last_stamp_ms = ?, last_hash = ? WHERE id = ?"
# A key whose 24 hours are over may still have its row: the new use takes its place.
_ADD_KEY: Final = (
    'INSERT OR REPLACE INTO idempotency_keys ("user", "key", fingerprint, answer, used_ms) VALUES (?, ?, ?, ?, ?)'
)


class SqliteAppender:
    """
    Turns drafts into events, inside a transaction that its caller begins and ends.

    It is the only writer of the database's groups and members, so what it knows of them stays true between
    transactions. It never commits; the caller calls `forget` when a transaction is rolled back.
    """

    def __init__(self) -> None:
        self._groups: dict[str, GroupRow] = {}
        self._members: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """Clear the memory: the transaction that filled it did not commit."""
        self._groups.clear()
        self._members.clear()

    def append(
        self, conn: Connection, drafts: Sequence[AnyDraft], *, first_stamp_ms: int
    ) -> list[Appended | OrbitalError]:
        """Decide, number, seal and store drafts in order; a refused one leaves no trace."""
        raw = conn.connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("this appender speaks to SQLite only")
        batch = _SqliteBatch(self, conn, raw)
        outcomes = [batch.take(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]
        batch.write()
        return outcomes

    def group(self, conn: Connection, group_id: str) -> GroupRow | None:
        """Return a group's row as it stands in this transaction."""
        known = self._groups.get(group_id)
        if known is None:
            known = rows.load_group(conn, group_id)
            if known is not None:
                self.remember(known)
        return known

    def remember(self, group: GroupRow) -> None:
        """Keep a group's row."""
        if len(self._groups) >= MOST_REMEMBERED:
            self._groups.clear()
        self._groups[group.group_id] = group

    def is_member(self, raw: sqlite3.Connection, group: int, user: int) -> bool:
        """Return whether a user is in a group, as of this transaction."""
        if (group, user) in self._members:
            return True
        if raw.execute(_FIND_MEMBER, (group, user)).fetchone() is None:
            return False
        if len(self._members) >= MOST_REMEMBERED:
            self._members.clear()
        self._members.add((group, user))
        return True

    def members_changed(self) -> None:
        """Read memberships again: somebody left, which is rare."""
        self._members.clear()


class _SqliteBatch(Batch[AnyDraft]):
    """The drafts of one transaction."""

    def __init__(self, appender: SqliteAppender, conn: Connection, raw: sqlite3.Connection) -> None:
        super().__init__()
        self._appender = appender
        self._conn = conn
        self._raw = raw

    def take(self, draft: AnyDraft, stamp_ms: int) -> Appended | OrbitalError:
        """Decide one draft; what it adds is seen by the next."""
        try:
            first = repeated(draft, self._known_key(draft))
            if first is not None:
                return first
            group, facts = self._facts(draft)
        except OrbitalError as refusal:
            return refusal
        return self.add(draft, group, facts, stamp_ms=stamp_ms)

    def write(self) -> None:
        """Write what was taken, each kind of row at once."""
        raw = self._raw
        raw.executemany(_ADD_EVENT, self.events)
        raw.executemany(_MOVE_HEAD, [(g.last_seq, g.last_stamp_ms, g.last_hash, g.id) for g in self.moved.values()])
        if self.keys:
            raw.executemany(_ADD_KEY, [(user, key, *rest) for (user, key), rest in self.keys.items()])

    def _known_key(self, draft: AnyDraft) -> tuple[bytes, bytes, int] | KnownKey | None:
        idempotency_key = draft.idempotency_key
        if idempotency_key is None:
            return None
        user = draft.actor.key
        known = self.keys.get((user, idempotency_key.key))
        if known is not None:
            return known
        found: KnownKey | None = self._raw.execute(
            _FIND_KEY, (user, idempotency_key.key, draft.at_ms - KEY_LIFETIME_MS)
        ).fetchone()
        return found

    def _facts(self, draft: AnyDraft) -> tuple[GroupRow, Facts]:
        appender, conn = self._appender, self._conn
        if isinstance(draft, CreateGroup):
            group = rows.new_group(draft, first_prev=first_prev(draft.group_id))
            return group, rows.facts_for(conn, draft, group, member=False)
        known = appender.group(conn, rows.group_id_of(conn, draft))
        if known is None:
            raise no_group()
        member = appender.is_member(self._raw, known.id, draft.actor.key)
        return known, rows.facts_for(conn, draft, known, member=member)

    def _write_rows(self, draft: AnyDraft, group: GroupRow, effect: Effect, *, seq: int) -> None:
        rows.write(self._conn, draft, group, effect, seq=seq)
        if isinstance(draft, CreateGroup):
            self._appender.remember(group)
        elif isinstance(draft, LeaveGroup | JoinGroup):
            self._appender.members_changed()
