"""The rows of complete media, and the quota of a group."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from orbital_relay import wire
from orbital_relay.api.media import Fetched, Medium, MediumInfo, Quota, ThreadMedia
from orbital_relay.api.threads import ThreadWithMedia
from orbital_relay.core.refusals import no_media
from orbital_relay.errors import Gone, NotFound
from orbital_relay.model import MediaFile, MediaId, MediaLimits, MediaState, StoredChunk
from orbital_relay.store import tables as t
from orbital_relay.store.access import require_member
from orbital_relay.store.paging import first_fitting
from orbital_relay.store.threads import require_thread, thread

WARNING_PERCENT: Final = 80
"""From here on `is_warning` holds."""

MOST_SHOWN: Final = 100
"""Media that are in the answer of one thread; the list of its media has the rest."""

MOST_FETCHED: Final = 500
"""Members named in a medium's info; `downloaded_count` says how many there are."""

UPLOADING, COMPLETE = MediaState.UPLOADING.value, MediaState.COMPLETE.value

EXPIRED, ABANDONED = MediaState.EXPIRED.value, MediaState.ABANDONED.value

COUNTED: Final = (UPLOADING, COMPLETE)


def taken(conn: Connection, group: int) -> tuple[int, int]:
    """Return bytes and number of a group's media, with what uploads in progress have reserved."""
    row = conn.execute(
        select(func.coalesce(func.sum(t.media.c.reserved_bytes), 0), func.count()).where(
            t.media.c.group == group, t.media.c.state.in_(COUNTED)
        )
    ).one()
    return int(row[0]), int(row[1])


def find_medium(conn: Connection, media_id: str) -> Row[Any]:
    """
    Return a medium with the ids of its group, thread and uploader.

    Raises:
        NotFound: If there is no such medium.
    """
    row = conn.execute(
        select(
            t.media,
            t.groups.c.group_id,
            t.threads.c.thread_id,
            t.users.c.user_id.label("author_id"),
            t.users.c.username.label("author_username"),
        )
        .join(t.groups, t.groups.c.id == t.media.c.group)
        .join(t.threads, t.threads.c.id == t.media.c.thread)
        .join(t.users, t.users.c.id == t.media.c.uploader)
        .where(t.media.c.media_id == media_id)
    ).one_or_none()
    if row is None:
        raise no_media()
    return row


def _whole(conn: Connection, user: int, media_id: str) -> Row[Any]:
    """Return a medium that is or was whole, for a member of its group."""
    row = find_medium(conn, media_id)
    require_member(conn, user, row.group_id)
    if row.state not in {COMPLETE, EXPIRED}:
        raise NotFound("This medium is not complete yet.")
    return row


def media_file(conn: Connection, user: int, media_id: str, *, now_ms: int) -> MediaFile:
    """Return what a reader needs of a medium."""
    row = _whole(conn, user, media_id)
    if row.state == EXPIRED or row.expires_ms <= now_ms:
        raise Gone(
            "The server no longer has this medium; a member who downloaded it may; its info lists them.",
            expired_at=wire.iso(row.expires_ms),
        )
    chunks, digest = [], hashlib.sha256()
    for blob, size_bytes, sha256 in conn.execute(chunks_of(row.id)):
        chunks.append(StoredChunk(blob, int(size_bytes)))
        digest.update(bytes(sha256))
    return MediaFile(
        media_id=MediaId(media_id),
        size_bytes=row.received_bytes,
        encryption_iv=row.encryption_iv,
        expires_ms=row.expires_ms,
        digest=digest.digest(),
        chunks=chunks,
    )


def chunks_of(media: int) -> Any:  # noqa: ANN401 - a Select of three columns; its type says no more
    """Select blob, size and hash of a medium\'s chunks, in order."""
    c = t.media_chunks.c
    return select(c.blob, c.size_bytes, c.sha256).where(c.media == media).order_by(c.index)


def media_info(conn: Connection, user: int, media_id: str, *, now_ms: int) -> MediumInfo:
    """Answer `GET /api/media/{media_id}/info`."""
    row = _whole(conn, user, media_id)
    had = conn.execute(
        select(t.users.c.user_id, t.users.c.username, t.media_downloads.c.at_ms)
        .join(t.users, t.users.c.id == t.media_downloads.c.user)
        .where(t.media_downloads.c.media == row.id)
        .order_by(t.media_downloads.c.at_ms, t.users.c.id)
        .limit(MOST_FETCHED)
    )
    fetched = conn.execute(select(func.count()).where(t.media_downloads.c.media == row.id)).scalar_one()
    return MediumInfo(
        **medium_fields(row),
        thread_id=row.thread_id,
        group_id=row.group_id,
        encryption_iv=row.encryption_iv,
        status=EXPIRED if row.expires_ms <= now_ms else row.state,
        downloaded_by=[
            Fetched(user_id=user_id, username=username, downloaded_at=wire.iso(at_ms))
            for user_id, username, at_ms in had
        ],
        downloaded_count=fetched,
    )


def medium_fields(row: Row[Any]) -> dict[str, Any]:
    """Return the fields of `Medium`, which every answer about a medium has, of a row with its author."""
    return {
        "media_id": row.media_id,
        "author_id": row.author_id,
        "author_username": row.author_username,
        "encrypted_metadata": row.encrypted_metadata,
        "size_bytes": row.received_bytes,
        "uploaded_at": wire.iso(row.uploaded_ms),
        "expires_at": wire.iso(row.expires_ms),
        "seq": row.seq,
    }


def thread_media(
    conn: Connection, user: int, thread_id: str, *, now_ms: int, limit: int, offset: int = 0
) -> ThreadMedia:
    """Answer `GET /api/threads/{thread_id}/media`, in the order of the log."""
    items, has_more = media_of(conn, require_thread(conn, user, thread_id), now_ms=now_ms, limit=limit, offset=offset)
    return ThreadMedia(media=items, has_more=has_more)


def media_of(conn: Connection, thread: int, *, now_ms: int, limit: int, offset: int) -> tuple[list[Medium], bool]:
    """Return a page of a thread's media that are there, and whether more follow."""
    keys = (
        select(t.media.c.id, func.length(t.media.c.encrypted_metadata))
        .where(t.media.c.thread == thread, t.media.c.state == COMPLETE, t.media.c.expires_ms > now_ms)
        .order_by(t.media.c.seq)
    )
    numbers, has_more = first_fitting(conn, keys, limit=limit, offset=offset)
    author = (t.users.c.user_id.label("author_id"), t.users.c.username.label("author_username"))
    rows = conn.execute(
        select(t.media, *author)
        .join(t.users, t.users.c.id == t.media.c.uploader)
        .where(t.media.c.id.in_(numbers))
        .order_by(t.media.c.seq)
    )
    return [Medium(**medium_fields(row)) for row in rows], has_more


def note_download(conn: Connection, user: int, media_id: str, *, now_ms: int) -> None:
    """Note that a user has a medium."""
    # The row is kept until this is committed: its thread may be deleted right now.
    conn.execute(select(t.media.c.id).where(t.media.c.media_id == media_id).with_for_update(read=True, key_share=True))
    row = _whole(conn, user, media_id)
    noted = t.media_downloads.c
    if conn.execute(select(noted.user).where(noted.media == row.id, noted.user == user)).one_or_none() is None:
        conn.execute(insert(t.media_downloads).values({"media": row.id, "user": user, "at_ms": now_ms}))


def quota(conn: Connection, user: int, group_id: str, *, limits: MediaLimits) -> Quota:
    """Answer `GET /api/groups/{group_id}/quota`; uploads in progress count with what they reserved."""
    total, count = taken(conn, require_member(conn, user, group_id))
    percent = 100 * max(total / limits.group_bytes, count / limits.group_files)
    return Quota(
        group_id=group_id,
        total_bytes=total,
        max_bytes=limits.group_bytes,
        media_count=count,
        max_media_count=limits.group_files,
        usage_percent=round(100 * total / limits.group_bytes, 2),
        warning_threshold=WARNING_PERCENT,
        is_warning=percent >= WARNING_PERCENT,
        is_full=percent >= 100,
    )


def thread_with_media(conn: Connection, user: int, thread_id: str, *, now_ms: int) -> ThreadWithMedia:
    """Answer `GET /api/threads/{thread_id}`: the thread, and the first of its media."""
    found = thread_media(conn, user, thread_id, now_ms=now_ms, limit=MOST_SHOWN, offset=0)
    fields = msgspec.structs.asdict(thread(conn, user, thread_id))
    return ThreadWithMedia(**fields, media=found.media, media_has_more=found.has_more)
