"""The rows of expired media, which stay as tombstones, and of abandoned uploads."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, func, select, update

from orbital_relay.model import DueMedia, MediaId, MediaState, PendingDeletion, Principal, UserId
from orbital_relay.ports import MediaUsage
from orbital_relay.store import tables as t
from orbital_relay.store.media import ABANDONED, COMPLETE, COUNTED, EXPIRED, UPLOADING, chunks_of
from orbital_relay.store.paging import batched
from orbital_relay.store.uploads import release


def due_media(conn: Connection, *, now_ms: int, limit: int) -> list[DueMedia]:
    """Return media that have expired and are not deleted yet."""
    rows = conn.execute(
        select(t.media.c.media_id, t.users.c.id, t.users.c.user_id, t.users.c.username)
        .join(t.users, t.users.c.id == t.media.c.uploader)
        .where(t.media.c.state == COMPLETE, t.media.c.expires_ms <= now_ms)
        .order_by(t.media.c.expires_ms, t.media.c.id)
        .limit(limit)
    )
    return [
        DueMedia(MediaId(media_id), Principal(key, UserId(user_id), username, 0))
        for media_id, key, user_id, username in rows
    ]


def abort_resting(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Abort uploads of which nothing came for long."""
    old = (
        select(t.media.c.id)
        .where(t.media.c.state == UPLOADING, t.media.c.touched_ms < before_ms)
        .order_by(t.media.c.id)
        .limit(limit)
    )
    # The time is compared again under the row's lock: a chunk may have come since.
    return release(conn, t.media.c.id.in_(old), t.media.c.touched_ms < before_ms)


def pending_deletions(conn: Connection, *, limit: int) -> list[PendingDeletion]:
    """Return media that may no longer be read, and whose bytes may still be there."""
    rows = conn.execute(
        select(t.media.c.id, t.media.c.folder)
        .where(t.media.c.has_bytes == 1, t.media.c.state.in_((EXPIRED, ABANDONED)))
        .order_by(t.media.c.id)
        .limit(limit)
    )
    return [PendingDeletion(int(key), folder) for key, folder in rows]


def note_deleted(conn: Connection, key: int) -> None:
    """Note that a medium's bytes are gone; of one that never was whole nothing remains, and its id is free."""
    gone = t.media.c.id == key, t.media.c.state.in_((EXPIRED, ABANDONED))
    if conn.execute(select(t.media.c.id).where(*gone).with_for_update()).one_or_none() is None:
        return
    conn.execute(delete(t.media_chunks).where(t.media_chunks.c.media == key))
    conn.execute(update(t.media).where(*gone).values(has_bytes=0))
    conn.execute(delete(t.media).where(t.media.c.id == key, t.media.c.state == ABANDONED))


def known_chunks(conn: Connection, folders: Collection[str]) -> dict[str, int]:
    """Return the blobs that belong into folders, with their sizes."""
    found: dict[str, int] = {}
    for some in batched(folders, 500):
        rows = conn.execute(
            select(t.media_chunks.c.blob, t.media_chunks.c.size_bytes)
            .join(t.media, t.media_chunks.c.media == t.media.c.id)
            .where(t.media.c.folder.in_(some), t.media.c.state.in_(COUNTED))
        )
        found.update({blob: int(size_bytes) for blob, size_bytes in rows})
    return found


def chunks_after(conn: Connection, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
    """Return media that must have bytes, after a row number: number, id, and blobs with their sizes."""
    rows = conn.execute(
        select(t.media.c.id, t.media.c.media_id)
        .where(t.media.c.id > key, t.media.c.state.in_(COUNTED))
        .order_by(t.media.c.id)
        .limit(limit)
    ).all()
    return [
        (
            int(row.id),
            row.media_id,
            {blob: int(size_bytes) for blob, size_bytes, _ in conn.execute(chunks_of(row.id))},
        )
        for row in rows
    ]


def held(conn: Connection) -> dict[MediaState, MediaUsage]:
    """Return how much there is, whole and in progress."""
    c = t.media.c
    rows = conn.execute(
        select(c.state, func.count(), func.sum(c.received_bytes)).where(c.state.in_(COUNTED)).group_by(c.state)
    )
    none = {MediaState(state): MediaUsage() for state in COUNTED}
    return none | {MediaState(state): MediaUsage(int(count), int(size_bytes)) for state, count, size_bytes in rows}
