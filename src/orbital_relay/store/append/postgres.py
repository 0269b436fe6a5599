"""Append on PostgreSQL under row locks: a batch of posts in four round trips and a commit; other drafts singly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from orbital_relay.core.chain import first_prev
from orbital_relay.core.decide import Effect
from orbital_relay.core.refusals import no_group, no_thread
from orbital_relay.core.trusted_time import START_LEAP_MS
from orbital_relay.errors import Conflict, OrbitalError
from orbital_relay.model import AnyDraft, CreateGroup, PostMessage, PostReply, PostThread
from orbital_relay.model.facts import Facts
from orbital_relay.ports import Appended
from orbital_relay.store import tables as t
from orbital_relay.store.append import rows
from orbital_relay.store.append.batch import KEY_LIFETIME_MS, Batch, GroupRow, KnownKey, ScopedKey, repeated
from orbital_relay.store.append.retries import KeyTaken, ThreadDeleted

BulkDraft: TypeAlias = PostMessage | PostThread | PostReply
"""A draft that changes nobody's membership: these are decided in memory and written in bulk."""


class PostgresConnection(Protocol):
    """What the appender asks of an asyncpg connection."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """Return the rows of a statement, prepared on first use."""
        ...

    async def fetchval(self, query: str, *args: object) -> object:
        """Return the first value of the first row."""
        ...


MOST_REMEMBERED: Final = 50_000
"""Threads whose group is kept in memory; while a thread exists, it does not change. About 10 MB."""

# In the order of their row numbers, as every transaction here does: two of them never wait for each other in a ring.
# NO KEY UPDATE is what the UPDATE below takes anyway; it lets foreign keys of other transactions through.
_LOCK: Final = """
SELECT id, group_id, creator, last_seq, last_stamp_ms, last_hash, floor_seq, epoch_seq,
       floor(extract(epoch FROM transaction_timestamp()) * 1000)::bigint
FROM groups WHERE group_id = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE
"""

# A statement of its own, after the locks: at READ COMMITTED it sees what those who held them before have committed.
_FACTS: Final = """
SELECT m."group", m."user", NULL::text AS "key", NULL::bytea AS fingerprint, NULL::bytea AS answer
FROM unnest($1::bigint[], $2::bigint[]) AS asked ("group", "user")
JOIN members m ON m."group" = asked."group" AND m."user" = asked."user"
UNION ALL
SELECT NULL, k."user", k."key", k.fingerprint, k.answer
FROM unnest($3::bigint[], $4::text[], $5::bigint[]) AS asked ("user", "key", alive_ms)
JOIN idempotency_keys k ON k."user" = asked."user" AND k."key" = asked."key" AND k.used_ms > asked.alive_ms
"""

_THREADS: Final = """
SELECT t.thread_id, t.id, g.group_id FROM threads t JOIN groups g ON g.id = t."group"
WHERE t.thread_id = ANY($1::text[])
"""

_ADD_THREADS: Final = """
INSERT INTO threads (thread_id, "group", seq, author, author_username, encrypted_title, encrypted_body,
                     root_message_id, created_ms, active_seq, active_ms)
SELECT added.*, added.seq, added.at_ms
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bigint[]) AS added (thread_id, "group", seq, author, name, title, body, root, at_ms)
RETURNING thread_id, id
"""

_ADD_REPLIES: Final = """
WITH counted AS (
    UPDATE threads SET reply_count = reply_count + added.count, active_seq = added.seq, active_ms = added.at_ms
    FROM (
        SELECT thread, count(*) AS count, max(seq) AS seq, max(at_ms) AS at_ms
        FROM unnest($2::bigint[], $3::bigint[], $8::bigint[]) AS of (thread, seq, at_ms) GROUP BY thread
    ) AS added
    WHERE threads.id = added.thread AND threads.deleted_seq IS NULL
    RETURNING 1
), stored AS (
    INSERT INTO replies (reply_id, thread, seq, author, author_username, encrypted_body, message_id, created_ms)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                         $8::bigint[])
)
SELECT count(*) FROM counted
"""

# The events, the heads and the keys in one round trip. A key whose 24 hours are over may still have its row: the new
# use takes its place. One that another server has stored meanwhile is not counted, and the caller begins again.
_STORE: Final = f"""
WITH added AS (
    INSERT INTO events ({t.EVENT_KEY}, "group", stamp_ms, message, frame)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::bytea[])
), moved AS (
    UPDATE groups SET last_seq = head.seq, last_stamp_ms = head.stamp_ms, last_hash = head.hash
    FROM unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::text[]) AS head (id, seq, stamp_ms, hash)
    WHERE groups.id = head.id
), keyed AS (
    INSERT INTO idempotency_keys AS old ("user", "key", fingerprint, answer, used_ms)
    SELECT * FROM unnest($10::bigint[], $11::text[], $12::bytea[], $13::bytea[], $14::bigint[])
    ON CONFLICT ("user", "key") DO UPDATE
    SET fingerprint = excluded.fingerprint, answer = excluded.answer, used_ms = excluded.used_ms
    WHERE old.used_ms <= excluded.used_ms - {KEY_LIFETIME_MS}
    RETURNING 1
)
SELECT count(*) FROM keyed
"""

_BEGAN_MS: Final = text("SELECT floor(extract(epoch FROM transaction_timestamp()) * 1000)::bigint")


class PostgresAppender:
    """
    Turns drafts into events, inside a transaction that its caller begins and ends.

    Numbers are given under the row locks of their groups, which are taken in the order of row numbers; memberships
    and keys are read under them. It remembers nothing that another server could change, and never commits.
    """

    def __init__(self) -> None:
        self._threads: dict[str, tuple[int, str]] = {}

    def forget(self) -> None:
        """
        Clear the memory of threads.

        A new connection may lead to a promoted replica, with other threads in its rows, and a thread may have been
        deleted: then the foreign key of its reply's row refuses the transaction, or `posts` does.
        """
        self._threads.clear()

    async def posts(
        self, raw: PostgresConnection, drafts: Sequence[BulkDraft], *, first_stamp_ms: int
    ) -> list[Appended | OrbitalError]:
        """
        Decide, number, seal and store posts in order; a refused one leaves no trace.

        Args:
            raw: An asyncpg connection in a transaction (READ COMMITTED).
            drafts: The posts.
            first_stamp_ms: Stamp of the first, unless the database's clock is ahead; each has one more than the one
                before, or than its group's last.

        Raises:
            KeyTaken: If the transaction has to be done again.
            ThreadDeleted: If it has to be done again after `forget`.
        """
        batch = _PostBatch(await self._threads_of(raw, drafts))
        wanted = {group_id for draft in drafts if (group_id := batch.group_id(draft)) is not None}
        for *group, began_ms in await raw.fetch(_LOCK, list(wanted)):
            batch.groups[group[1]] = GroupRow(*group)
            first_stamp_ms = not_before(first_stamp_ms, began_ms)
        await self._read_facts(raw, batch, drafts)
        outcomes = [batch.take(draft, first_stamp_ms + index) for index, draft in enumerate(drafts)]
        await batch.write(raw)
        return outcomes

    async def _threads_of(self, raw: PostgresConnection, drafts: Sequence[BulkDraft]) -> dict[str, tuple[int, str]]:
        """Return row number and group of the threads that are replied in; of a thread that exists, neither changes."""
        known = self._threads
        asked = {draft.thread_id for draft in drafts if isinstance(draft, PostReply)}
        if new := [thread_id for thread_id in asked if thread_id not in known]:
            if len(known) > MOST_REMEMBERED:
                known.clear()
                new = list(asked)
            known.update({row[0]: (row[1], row[2]) for row in await raw.fetch(_THREADS, new)})
        return {thread_id: known[thread_id] for thread_id in asked if thread_id in known}

    async def _read_facts(self, raw: PostgresConnection, batch: _PostBatch, drafts: Sequence[BulkDraft]) -> None:
        pairs = set()
        keys: dict[tuple[int, str], int] = {}
        for draft in drafts:
            group = batch.groups.get(batch.group_id(draft) or "")
            if group is not None:
                pairs.add((group.id, draft.actor.key))
            if draft.idempotency_key is not None:
                keys[draft.actor.key, draft.idempotency_key.key] = draft.at_ms - KEY_LIFETIME_MS
        found = await raw.fetch(
            _FACTS,
            [group for group, _ in pairs],
            [user for _, user in pairs],
            [user for user, _ in keys],
            [key for _, key in keys],
            list(keys.values()),
        )
        for group_key, user, key, fingerprint, answer in found:
            if key is None:
                batch.members.add((group_key, user))
            else:
                batch.known_keys[user, key] = (fingerprint, answer)


class _PostBatch(Batch[BulkDraft]):
    """The posts of one transaction: decided in memory, written in bulk."""

    def __init__(self, threads: dict[str, tuple[int, str]]) -> None:
        super().__init__()
        self.groups: dict[str, GroupRow] = {}
        self.members: set[tuple[int, int]] = set()
        self.known_keys: dict[ScopedKey, KnownKey] = {}
        self._threads = threads
        self._new_threads: list[tuple[Any, ...]] = []
        self._new_replies: list[tuple[Any, ...]] = []

    def group_id(self, draft: BulkDraft) -> str | None:
        """Return the group that a post is for, None for a reply in a thread that does not exist."""
        if not isinstance(draft, PostReply):
            return draft.group_id
        found = self._threads.get(draft.thread_id)
        return None if found is None else found[1]

    def take(self, draft: BulkDraft, stamp_ms: int) -> Appended | OrbitalError:
        """Decide one post; what it adds is seen by the next."""
        if draft.idempotency_key is not None:
            key = draft.actor.key, draft.idempotency_key.key
            try:
                first = repeated(draft, self.keys.get(key) or self.known_keys.get(key))
            except Conflict as refusal:
                return refusal
            if first is not None:
                return first
        group_id = self.group_id(draft)
        if group_id is None:
            return no_thread()
        group = self.groups.get(group_id)
        if group is None:
            return no_group()
        facts = Facts(group_id, group.creator, (group.id, draft.actor.key) in self.members, group.epoch_seq)
        return self.add(draft, group, facts, stamp_ms=stamp_ms)

    def _write_rows(self, draft: BulkDraft, group: GroupRow, effect: Effect, *, seq: int) -> None:  # noqa: ARG002 - posts change no creator
        actor = draft.actor
        match draft:
            case PostMessage():
                pass
            case PostThread():
                self._new_threads.append(
                    (
                        *(draft.thread_id, group.id, seq, actor.key, actor.username, draft.encrypted_title),
                        *(draft.encrypted_body, draft.root_message_id, draft.at_ms),
                    )
                )
            case PostReply():
                self._new_replies.append(
                    (
                        *(draft.reply_id, self._threads[draft.thread_id][0], seq, actor.key, actor.username),
                        *(draft.encrypted_body, draft.message_id, draft.at_ms),
                    )
                )

    async def write(self, raw: PostgresConnection) -> None:
        """
        Write what was taken, each kind of row at once.

        Raises:
            KeyTaken: If another server used one of the keys since they were looked up.
            ThreadDeleted: If a thread was deleted since it was remembered.
        """
        if not self.events:
            return
        if self._new_threads:
            await raw.fetch(_ADD_THREADS, *_columns(self._new_threads, 9))
        if self._new_replies:
            counted = await raw.fetchval(_ADD_REPLIES, *_columns(self._new_replies, 8))
            if counted != len({row[1] for row in self._new_replies}):
                raise ThreadDeleted
        heads = [(group.id, group.last_seq, group.last_stamp_ms, group.last_hash) for group in self.moved.values()]
        # In the order of the key, so that two servers with the same keys do not wait for each other in a ring.
        keys = [(*key, *rest) for key, rest in sorted(self.keys.items())]
        stored = await raw.fetchval(_STORE, *_columns(self.events, 5), *_columns(heads, 4), *_columns(keys, 5))
        if stored != len(keys):
            raise KeyTaken


def not_before(stamp_ms: int, began_ms: int) -> int:
    """
    Return a stamp that is not below the moment at which its transaction began, by the database's clock.

    Every server relies on it: the low watermark is the beginning of the oldest open transaction. A server's clock may
    be hours behind. Only a database clock that is implausibly far ahead, as it is after a leap, is not followed.
    """
    return began_ms if stamp_ms < began_ms <= stamp_ms + START_LEAP_MS else stamp_ms


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Turn rows into columns, as `unnest` takes them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


# Chapter: one at a time


def append_one(conn: Connection, draft: AnyDraft, *, stamp_ms: int) -> Appended:
    """
    Decide, number, seal and store one draft of any kind; those that change memberships and media come this way.

    Args:
        conn: In a transaction (READ COMMITTED) that holds nothing else.
        draft: What is asked.
        stamp_ms: The stamp of its event, unless its group's last is not below.

    Raises:
        OrbitalError: If it may not be; the transaction is to be rolled back.
        KeyTaken: If the transaction has to be done again.
    """
    first = _repeated(conn, draft)
    if first is not None:
        return first
    if isinstance(draft, CreateGroup):
        group, member = rows.new_group(draft, first_prev=first_prev(draft.group_id)), False
    else:
        try:
            group = _lock_group(conn, draft)
        except OrbitalError:
            # Since the key was looked up, another server may have stored the first try, and replaced its invite code.
            first = _repeated(conn, draft)
            if first is None:
                raise
            return first
        first = _repeated(conn, draft)
        if first is not None:
            return first
        member = rows.is_member(conn, group.id, draft.actor.key)
    began_ms = conn.execute(_BEGAN_MS).scalar_one()
    batch = _SingleBatch(conn)
    facts = rows.facts_for(conn, draft, group, member=member)
    outcome = batch.add(draft, group, facts, stamp_ms=not_before(stamp_ms, began_ms))
    if isinstance(outcome, OrbitalError):
        raise outcome
    batch.write()
    return outcome


class _SingleBatch(Batch[AnyDraft]):
    """One draft of any kind, in SQLAlchemy's statements."""

    def __init__(self, conn: Connection) -> None:
        super().__init__()
        self._conn = conn

    def _write_rows(self, draft: AnyDraft, group: GroupRow, effect: Effect, *, seq: int) -> None:
        rows.write(self._conn, draft, group, effect, seq=seq)

    def write(self) -> None:
        """
        Write event, head and key.

        Raises:
            KeyTaken: If another server used the key since it was looked up.
        """
        conn = self._conn
        for event_key, group, stamp_ms, message, frame in self.events:
            values = {"event_key": event_key, "group": group, "stamp_ms": stamp_ms, "message": message, "frame": frame}
            conn.execute(insert(t.events).values(values))
        for row in self.moved.values():
            head = {"last_seq": row.last_seq, "last_stamp_ms": row.last_stamp_ms, "last_hash": row.last_hash}
            conn.execute(update(t.groups).where(t.groups.c.id == row.id).values(head))
        for (user, key), (fingerprint, answer, used_ms) in self.keys.items():
            used = {"fingerprint": fingerprint, "answer": answer, "used_ms": used_ms}
            statement = upsert(t.idempotency_keys).values(user=user, key=key, **used)
            stored = conn.execute(
                statement.on_conflict_do_update(
                    index_elements=["user", "key"],
                    set_=used,
                    where=t.idempotency_keys.c.used_ms <= used_ms - KEY_LIFETIME_MS,
                )
            )
            if stored.rowcount != 1:
                raise KeyTaken


def _lock_group(conn: Connection, draft: AnyDraft) -> GroupRow:
    """Lock the group that a draft is for; an invite code that moves to another group meanwhile is followed."""
    group_id = rows.group_id_of(conn, draft)
    group = rows.load_group(conn, group_id, lock=True)
    if group is None:
        raise no_group()
    if rows.group_id_of(conn, draft) != group_id:
        raise KeyTaken
    return group


def _repeated(conn: Connection, draft: AnyDraft) -> Appended | None:
    if draft.idempotency_key is None:
        return None
    keys = t.idempotency_keys.c
    row = conn.execute(
        select(keys.fingerprint, keys.answer).where(
            keys.user == draft.actor.key,
            keys.key == draft.idempotency_key.key,
            keys.used_ms > draft.at_ms - KEY_LIFETIME_MS,
        )
    ).one_or_none()
    return repeated(draft, None if row is None else (bytes(row[0]), bytes(row[1])))
