"""Verification of one group's log: no gaps, ascending timestamps, hash chain, rows that match their events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, or_, select

from orbital_relay import wire
from orbital_relay.core.chain import Chain, digest, first_prev
from orbital_relay.model import DeletableKind, MediaState
from orbital_relay.store import tables as t
from orbital_relay.store.deletion import deleted_among, has_content

PAGE_ROWS: Final = 500
"""Events held in memory at once."""

MOST_FINDINGS: Final = 20
"""Findings of one group that are reported; after a hole or a break many follow from the first."""


class Report(msgspec.Struct, frozen=True):
    """
    What was found in a group.

    Attributes:
        group_id: The group.
        events: How many events were looked at.
        findings: A sentence for each thing that is wrong; empty if there are none.
    """

    group_id: str
    events: int
    findings: list[str]


def group_ids(conn: Connection) -> list[str]:
    """Return every group, in the order of their making."""
    return [str(row.group_id) for row in conn.execute(select(t.groups.c.group_id).order_by(t.groups.c.id))]


def verify(conn: Connection, group_id: str) -> Report:
    """Look at all that is kept of a group, as of one moment."""
    group = conn.execute(select(t.groups).where(t.groups.c.group_id == group_id)).one()
    check = _Check(conn, group)
    for key, stamp_ms, frame in _kept_keys(conn, group.id, group.floor_seq):
        check.key_message(key - t.event_key(group.id, 0), stamp_ms, bytes(frame))
    for key, stamp_ms, frame in _events(conn, group.id, group.floor_seq):
        check.event(key - t.event_key(group.id, 0), stamp_ms, bytes(frame))
    check.end()
    return Report(group_id, check.events, check.findings[:MOST_FINDINGS])


def _events(conn: Connection, group: int, floor: int) -> Iterator[tuple[int, int, bytes]]:
    # Key messages outlive the log's beginning.
    after = t.event_key(group, floor)
    while True:
        rows = conn.execute(
            select(t.events.c.event_key, t.events.c.stamp_ms, t.events.c.frame)
            .where(t.events.c.event_key > after, t.events.c.event_key < t.event_key(group + 1, 0))
            .order_by(t.events.c.event_key)
            .limit(PAGE_ROWS)
        ).all()
        if not rows:
            return
        for row in rows:
            yield row.event_key, row.stamp_ms, row.frame
        after = rows[-1].event_key


def _kept_keys(conn: Connection, group: int, floor: int) -> Iterator[tuple[int, int, bytes]]:
    """Return the key messages that are kept without the log around them."""
    e = t.events.c
    rows = conn.execution_options(yield_per=PAGE_ROWS).execute(
        select(e.event_key, e.stamp_ms, e.frame)
        .where(t.KEYS_ONLY, e.event_key > t.event_key(group, 0), e.event_key <= t.event_key(group, floor))
        .order_by(e.event_key)
    )
    for row in rows:
        yield row.event_key, row.stamp_ms, row.frame


class _Check:
    """The state of a walk along one group's log."""

    def __init__(self, conn: Connection, group: Row[Any]) -> None:
        self._conn = conn
        self._group = group
        self._last = int(group.floor_seq)
        self._stamp_ms = 0
        self._chain = Chain(first_prev(group.group_id) if group.floor_seq == 0 else None)
        self._frame = b""
        self._joined: dict[str, int] = {}
        self._departed: set[str] = set()
        self._recorded: set[int] = set()
        self._deleted: set[int] = set()
        self._epoch = 0
        self.events = 0
        self.findings: list[str] = []

    def key_message(self, seq: int, stamp_ms: int, frame: bytes) -> None:
        """Look at a key message of before the log's beginning; nothing says what stood before it."""
        self.events += 1
        try:
            parts, kind = wire.open_frame(frame), wire.event_data(frame).kind
        except (msgspec.DecodeError, KeyError):
            self._find(f"number {seq} is not the text of an event")
            return
        if (parts.seq, parts.group_id, parts.server_timestamp) != (seq, self._group.group_id, stamp_ms):
            self._find(f"number {seq} holds the text of another event")
        if kind != wire.NewKeys.kind:
            self._find(f"number {seq} is kept as a key message, and is not one")

    def event(self, seq: int, stamp_ms: int, frame: bytes) -> None:
        """Look at the next event."""
        self.events += 1
        if seq != self._last + 1:
            self._find(f"number {self._last + 1} is missing; the next that is there is {seq}")
        self._last = seq
        if stamp_ms <= self._stamp_ms:
            self._find(f"number {seq} has the stamp {stamp_ms}, which is not above the one before")
        self._stamp_ms = stamp_ms
        if not self._chain.offer(frame):
            self._find(f"number {seq} does not carry the hash of the frame before: one of the two was changed")
            self._chain.prev = digest(frame)
        self._frame = frame
        try:
            parts = wire.open_frame(frame)
            data = wire.event_data(frame)
        except (msgspec.DecodeError, KeyError):
            self._find(f"number {seq} is not the text of an event")
            return
        if (parts.seq, parts.group_id, parts.server_timestamp) != (seq, self._group.group_id, stamp_ms):
            self._find(f"number {seq} holds the text of another event")
        if data.kind in wire.EPOCH_KINDS:
            self._epoch = seq
        self._row(seq, data)

    def _row(self, seq: int, data: wire.EventData) -> None:
        """Compare an event with the row that it made."""
        match data:
            case wire.NewThread():
                row = self._conn.execute(select(t.threads).where(t.threads.c.thread_id == data.thread_id)).one_or_none()
                kept = None if row is None else (row.seq, row.encrypted_title, row.encrypted_body)
                if kept != (seq, data.encrypted_title, data.encrypted_body) and not self._gone(row, data.thread_id):
                    self._find(f"number {seq}: the thread {data.thread_id} is missing or differs")
            case wire.NewReply():
                row = self._conn.execute(select(t.replies).where(t.replies.c.reply_id == data.reply_id)).one_or_none()
                same = row is not None and (row.seq, row.encrypted_body) == (seq, data.encrypted_body)
                if not same and not self._gone(row, data.reply_id, data.thread_id):
                    self._find(f"number {seq}: the reply {data.reply_id} is missing or differs")
            case wire.NewAnnotation():
                a = t.thread_annotations
                row = self._conn.execute(select(a).where(a.c.annotation_id == data.annotation_id)).one_or_none()
                kept = None if row is None else (row.seq, row.target_id, row.encrypted_body)
                same = kept == (seq, data.target_id, data.encrypted_body)
                if not same and not self._gone(row, data.target_id, data.thread_id):
                    self._find(f"number {seq}: the annotation {data.annotation_id} is missing or differs")
            case wire.MediaUploaded() | wire.MediaExpired():
                self._medium(seq, data)
            case wire.NewRecord():
                self._record(seq, data)
            case wire.Deleted():
                self._deletion(seq, data)
            case wire.MemberJoined():
                self._joined[data.user_id] = seq
                self._departed.discard(data.user_id)
            case wire.MemberLeft():
                self._joined.pop(data.user_id, None)
                self._departed.add(data.user_id)
            case _:
                pass

    def _gone(self, row: Row[Any] | None, *target_ids: str) -> bool:
        """Return whether a row is missing because it, or what it belonged to, was deleted."""
        return row is None and bool(deleted_among(self._conn, target_ids))

    def _deletion(self, seq: int, data: wire.Deleted) -> None:
        """Compare the event of a deletion with its note, and look for what it deleted."""
        self._deleted.add(seq)
        gone = t.deleted_content.c
        note = self._conn.execute(select(gone.kind, gone.seq).where(gone.target_id == data.target_id)).one_or_none()
        what = f"the {data.content_kind} {data.target_id}"
        if note is None or (note.kind, note.seq) != (data.content_kind, seq):
            self._find(f"number {seq}: the note that {what} was deleted is missing or differs")
        if has_content(self._conn, DeletableKind(data.content_kind), data.target_id, group=self._group.id):
            self._find(f"number {seq}: {what} was deleted, and is still there")

    def _deletions(self) -> None:
        """Look for notes of deletions that the log does not have."""
        gone = t.deleted_content.c
        for row in self._conn.execute(select(gone.target_id, gone.seq).where(gone.group == self._group.id)):
            if row.seq not in self._deleted:
                self._find(f"{row.target_id} was deleted with number {row.seq}, which is not a deletion in the log")
        th = t.threads.c
        # The rest of a large thread is purged by the running servers, also when one was killed meanwhile.
        for row in self._conn.execute(select(th.id, th.deleted_seq).where(th.group == self._group.id, ~t.LIVE_THREADS)):
            if row.deleted_seq > self._group.floor_seq and row.deleted_seq not in self._deleted:
                self._find(f"a thread is marked as deleted with number {row.deleted_seq}, which is no deletion")

    def _record(self, seq: int, data: wire.NewRecord) -> None:
        self._recorded.add(seq)
        row = self._conn.execute(
            select(t.records.c.seq, t.records.c.record, t.records.c.author_id, t.users.c.user_id, t.users.c.erased_ms)
            .join(t.users, t.users.c.id == t.records.c.author)
            .where(t.records.c.record_id == data.record_id)
        ).one_or_none()
        if row is None or (row.seq, row.record) != (seq, data.record):
            self._find(f"number {seq}: the record {data.record_id} is missing or differs")
            return
        # Accounts that a version before 0013 erased have no id in the row where the log had lost the event.
        author = row.author_id or (row.user_id if row.erased_ms is None else None)
        if author not in (None, data.author_id):
            self._find(f"number {seq}: the record {data.record_id} has another author")

    def _records(self) -> None:
        """Look for records that the log does not have."""
        rows = self._conn.execute(
            select(t.records.c.record_id, t.records.c.seq).where(
                t.records.c.group == self._group.id, t.records.c.seq > self._group.floor_seq
            )
        )
        for row in rows:
            if row.seq not in self._recorded:
                self._find(f"the record {row.record_id} has number {row.seq}, which is not a record in the log")

    def _medium(self, seq: int, data: wire.MediaUploaded | wire.MediaExpired) -> None:
        row = self._conn.execute(select(t.media).where(t.media.c.media_id == data.media_id)).one_or_none()
        if self._gone(row, data.thread_id):
            return
        if row is None:
            self._find(f"number {seq}: the medium {data.media_id} is missing")
        elif isinstance(data, wire.MediaExpired):
            if row.state != MediaState.EXPIRED.value:
                self._find(f"number {seq}: the medium {data.media_id} is not expired")
        elif (row.seq, row.received_bytes, row.encrypted_metadata) != (seq, data.size_bytes, data.encrypted_metadata):
            self._find(f"number {seq}: the medium {data.media_id} differs")

    def end(self) -> None:
        """Compare the head, the members and the counts with what was walked along."""
        group = self._group
        if self._last != group.last_seq:
            self._find(f"the head says {group.last_seq}, and the log ends with {self._last}")
        elif self._frame and digest(self._frame) != group.last_hash:
            self._find("the head's hash is not that of the last frame")
        # Where no such event is kept, the epoch is a number that the log no longer has.
        if group.epoch_seq != self._epoch and (self._epoch or group.epoch_seq > group.floor_seq):
            self._find(f"the epoch is {group.epoch_seq}, and the log says {self._epoch}")
        self._members()
        self._records()
        self._deletions()
        counted = select(t.replies.c.thread, func.count().label("replies")).group_by(t.replies.c.thread).subquery()
        wrong = self._conn.execute(
            select(t.threads.c.thread_id)
            .outerjoin(counted, counted.c.thread == t.threads.c.id)
            .where(
                t.threads.c.group == group.id,
                t.LIVE_THREADS,
                t.threads.c.reply_count != func.coalesce(counted.c.replies, 0),
            )
        )
        for row in wrong:
            self._find(f"the thread {row.thread_id} counts other replies than there are")
        newest = select(func.max(t.replies.c.seq)).where(t.replies.c.thread == t.threads.c.id).scalar_subquery()
        early = self._conn.execute(
            select(t.threads.c.thread_id).where(
                t.threads.c.group == group.id,
                t.LIVE_THREADS,
                or_(t.threads.c.active_seq < t.threads.c.seq, t.threads.c.active_seq < newest),
            )
        )
        for row in early:
            self._find(f"the thread {row.thread_id} was active later than it says")

        self._media()

    def _media(self) -> None:
        """Compare each medium with its chunks, and each thread's count with its media."""
        m, c = t.media.c, t.media_chunks.c
        rows = self._conn.execute(
            select(
                m.media_id,
                m.state,
                m.total_chunks,
                m.received_chunks,
                m.received_bytes,
                m.reserved_bytes,
                func.count(c.index).label("chunks"),
                func.coalesce(func.sum(c.size_bytes), 0).label("bytes"),
            )
            .outerjoin(t.media_chunks, c.media == m.id)
            .where(m.group == self._group.id)
            .group_by(m.id)
        )
        for row in rows:
            there = row.state in {MediaState.UPLOADING.value, MediaState.COMPLETE.value}
            if there and (row.chunks, row.bytes) != (row.received_chunks, row.received_bytes):
                self._find(f"the medium {row.media_id} counts other chunks than there are")
            if row.state == MediaState.COMPLETE.value and row.received_chunks != row.total_chunks:
                self._find(f"the medium {row.media_id} is called whole and is not")
            if row.reserved_bytes < row.received_bytes if there else row.reserved_bytes:
                self._find(f"the medium {row.media_id} reserves {row.reserved_bytes} bytes")
        whole = (
            select(m.thread, func.count().label("media"))
            .where(m.state == MediaState.COMPLETE.value)
            .group_by(m.thread)
            .subquery()
        )
        wrong = self._conn.execute(
            select(t.threads.c.thread_id)
            .outerjoin(whole, whole.c.thread == t.threads.c.id)
            .where(
                t.threads.c.group == self._group.id,
                t.LIVE_THREADS,
                t.threads.c.media_count != func.coalesce(whole.c.media, 0),
            )
        )
        for row in wrong:
            self._find(f"the thread {row.thread_id} counts other media than there are")

    def _members(self) -> None:
        group = self._group
        rows = self._conn.execute(
            select(t.users.c.user_id, t.members.c.joined_seq)
            .join(t.members, t.members.c.user == t.users.c.id)
            .where(t.members.c.group == group.id)
        )
        kept = {str(row.user_id): int(row.joined_seq) for row in rows}
        for user_id, seq in self._joined.items():
            if kept.get(user_id) != seq:
                self._find(f"{user_id} joined with number {seq}, and is not a member since then")
        for user_id, seq in kept.items():
            if user_id in self._departed or (seq > group.floor_seq and self._joined.get(user_id) != seq):
                self._find(f"{user_id} is a member since number {seq}, and the log does not say so")

    def _find(self, sentence: str) -> None:
        self.findings.append(sentence)
