"""The rows of uploads: permission, reserved quota, maximum number of chunks, missing chunks."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from orbital_relay.core.refusals import may_not_delete, no_thread
from orbital_relay.errors import (
    Conflict,
    FileTooLarge,
    Forbidden,
    Gone,
    InvalidChunk,
    PayloadTooLarge,
    QuotaExceeded,
    StorageFull,
    TooManyRequests,
    UploadLost,
)
from orbital_relay.model import Chunk, ChunkPlace, MediaLimits, MediaState, Upload
from orbital_relay.store import tables as t
from orbital_relay.store.access import looks_after, require_member
from orbital_relay.store.append.rows import load_group
from orbital_relay.store.media import ABANDONED, COUNTED, EXPIRED, UPLOADING, find_medium, taken
from orbital_relay.store.threads import require_thread, thread_group

MOST_CHUNKS: Final = 10_000
"""Chunks of one medium: 500 MiB in pieces of 50 KiB. Each costs a row and a blob."""

MOST_UNFINISHED_OF_USER: Final = 10
"""Uploads in progress of one user in one group: with the largest files they reserve half of a group's 10 GiB."""

MOST_UNFINISHED_OF_GROUP: Final = 50
"""Uploads in progress of a group: half of its hundred media."""

UPLOAD_RETRY_S: Final = 10
"""When a client whose new upload was refused by one of these bounds asks again."""

RESTING_MS: Final = 10 * 60 * 1000
"""How long nothing of an upload came before a new one may take its place: a client that retries waits less."""


def find_place(conn: Connection, user: int, chunk: Chunk, *, limits: MediaLimits) -> ChunkPlace | None:
    """Decide whether a chunk may be stored, without writing; None when it would begin its upload."""
    thread = require_thread(conn, user, chunk.thread_id)
    _check_shape(chunk, limits)
    row = conn.execute(select(t.media).where(t.media.c.media_id == chunk.media_id)).one_or_none()
    if row is None:
        return None
    _check_fits(row, user, thread, chunk)
    known = _stored(conn, row, chunk)
    if known is not None:
        return known
    return ChunkPlace(folder=row.folder, ordinal=None, total_chunks=row.total_chunks, state=MediaState(row.state))


def begin_upload(
    conn: Connection, user: int, chunk: Chunk, *, folder: str, limits: MediaLimits, now_ms: int
) -> ChunkPlace:
    """Reserve room for a medium whose first chunk has come; if another one was faster, return what it began."""
    thread = require_thread(conn, user, chunk.thread_id)
    group_id = thread_group(conn, chunk.thread_id)
    # Under the group's lock: of two uploads that race for the last byte, the second sees the first.
    group = None if group_id is None else load_group(conn, group_id, lock=True)
    if group is None:
        raise no_thread()
    place = find_place(conn, user, chunk, limits=limits)
    if place is not None:
        return place
    reserved = _needed(chunk, limits)
    _make_place(conn, group.id, user, limits, now_ms=now_ms)
    _check_room(conn, group.id, reserved, limits, more_files=1)
    _check_total(conn, reserved, limits)
    conn.execute(
        insert(t.media).values(
            media_id=chunk.media_id,
            group=group.id,
            thread=thread,
            uploader=user,
            state=UPLOADING,
            folder=folder,
            total_chunks=chunk.total_chunks,
            chunk_bytes=limits.chunk_bytes,
            declared_bytes=chunk.declared_bytes,
            reserved_bytes=reserved,
            received_chunks=0,
            received_bytes=0,
            encrypted_metadata=chunk.encrypted_metadata,
            encryption_iv=chunk.encryption_iv,
            touched_ms=now_ms,
            has_bytes=1,
        )
    )
    return ChunkPlace(folder=folder, ordinal=None, total_chunks=chunk.total_chunks, state=MediaState.UPLOADING)


def add_chunk(
    conn: Connection, chunk: Chunk, *, folder: str, blob: str, limits: MediaLimits, now_ms: int
) -> ChunkPlace:
    """Note a chunk whose bytes are durable, and hold the reservation to what is now known of the size."""
    group = conn.execute(select(t.media.c.group).where(t.media.c.folder == folder)).scalar()
    if group is None:
        raise _upload_lost()
    # Always the group before the medium, as the appender does: two transactions never wait for each other in a ring.
    conn.execute(select(t.groups.c.id).where(t.groups.c.id == group).with_for_update())
    row = conn.execute(select(t.media).where(t.media.c.folder == folder).with_for_update()).one_or_none()
    if row is None or row.state in {ABANDONED, EXPIRED}:
        raise _upload_lost()
    known = _stored(conn, row, chunk)
    if known is not None:
        return known
    ordinal = row.received_chunks + 1
    received = row.received_bytes + chunk.size_bytes
    missing = row.total_chunks - ordinal
    if row.declared_bytes is not None and (
        received + missing > row.declared_bytes or (missing == 0 and received != row.declared_bytes)
    ):
        raise InvalidChunk(
            f"With this chunk the medium would not have the {row.declared_bytes} bytes that were declared.",
            field="chunk",
            size_bytes=row.declared_bytes,
        )
    if received + missing > limits.file_bytes:
        raise _too_large(limits)
    reserved = row.declared_bytes or min(received + missing * row.chunk_bytes, limits.file_bytes)
    if reserved > row.reserved_bytes:
        _check_room(conn, row.group, reserved - row.reserved_bytes, limits)
        _check_total(conn, reserved - row.reserved_bytes, limits)
    conn.execute(
        insert(t.media_chunks).values(
            media=row.id,
            index=chunk.index,
            ordinal=ordinal,
            blob=blob,
            size_bytes=chunk.size_bytes,
            sha256=chunk.sha256,
        )
    )
    conn.execute(
        update(t.media)
        .where(t.media.c.id == row.id)
        .values(received_chunks=ordinal, received_bytes=received, reserved_bytes=reserved, touched_ms=now_ms)
    )
    return ChunkPlace(
        folder=folder, ordinal=ordinal, blob=blob, total_chunks=row.total_chunks, state=MediaState.UPLOADING
    )


def release_upload(conn: Connection, folder: str) -> None:
    """Forget an upload of which nothing was stored."""
    conn.execute(
        delete(t.media).where(t.media.c.folder == folder, t.media.c.state == UPLOADING, t.media.c.received_chunks == 0)
    )


def _check_shape(chunk: Chunk, limits: MediaLimits) -> None:
    """Check what needs no look at the database."""
    if not 0 <= chunk.index < chunk.total_chunks:
        raise InvalidChunk(
            f"Chunk {chunk.index} is out of range: the upload has {chunk.total_chunks} chunks, and the first is 0.",
            field="chunk_index",
        )
    if chunk.total_chunks > MOST_CHUNKS:
        raise InvalidChunk(
            f"A medium has at most {MOST_CHUNKS} chunks. Make them larger.", field="total_chunks", limit=MOST_CHUNKS
        )
    if chunk.size_bytes == 0:
        raise InvalidChunk("The chunk is empty.", field="chunk")
    if chunk.size_bytes > limits.chunk_bytes:
        raise PayloadTooLarge(
            f"The chunk is over {limits.chunk_bytes} bytes.", field="chunk", limit_bytes=limits.chunk_bytes
        )
    declared = chunk.declared_bytes
    if declared is not None:
        if declared > limits.file_bytes:
            raise _too_large(limits)
        if not chunk.total_chunks <= declared <= chunk.total_chunks * limits.chunk_bytes:
            raise InvalidChunk(
                f"{chunk.total_chunks} chunks cannot have {declared} bytes.", field="size_bytes", size_bytes=declared
            )
    # Each of the others has a byte at least.
    if chunk.size_bytes + chunk.total_chunks - 1 > limits.file_bytes:
        raise _too_large(limits)


def _check_fits(row: Row[Any], user: int, thread: int, chunk: Chunk) -> None:
    """Check a chunk against what was said when its upload began."""
    if row.uploader != user:
        raise Forbidden("This upload belongs to another user. Choose another media_id.")
    for field, before, now in (
        ("thread_id", row.thread, thread),
        ("total_chunks", row.total_chunks, chunk.total_chunks),
        ("encrypted_metadata", row.encrypted_metadata, chunk.encrypted_metadata),
        ("encryption_iv", row.encryption_iv, chunk.encryption_iv),
        ("size_bytes", row.declared_bytes, chunk.declared_bytes),
    ):
        if before != now:
            raise InvalidChunk(f"`{field}` differs from that of the upload's first chunk.", field=field)
    if row.state == EXPIRED:
        raise Gone("This medium has expired. Upload it again under another media_id.")
    if row.state == ABANDONED:
        raise _upload_lost()


def _stored(conn: Connection, row: Row[Any], chunk: Chunk) -> ChunkPlace | None:
    """Return where a chunk that is there stands, None if it is not."""
    c = t.media_chunks.c
    known = conn.execute(
        select(c.sha256, c.ordinal, c.blob).where(c.media == row.id, c.index == chunk.index)
    ).one_or_none()
    if known is None:
        return None
    if bytes(known.sha256) != chunk.sha256:
        raise Conflict(f"Chunk {chunk.index} was already received with different bytes.", chunk_index=chunk.index)
    return ChunkPlace(
        folder=row.folder,
        ordinal=int(known.ordinal),
        blob=known.blob,
        total_chunks=row.total_chunks,
        state=MediaState(row.state),
    )


def _needed(chunk: Chunk, limits: MediaLimits) -> int:
    """Return the room to reserve: the declared size, else the most that the chunks can come to."""
    if chunk.declared_bytes is not None:
        return chunk.declared_bytes
    return min(chunk.size_bytes + (chunk.total_chunks - 1) * limits.chunk_bytes, limits.file_bytes)


def _check_room(conn: Connection, group: int, more_bytes: int, limits: MediaLimits, *, more_files: int = 0) -> None:
    total, count = taken(conn, group)
    if total + more_bytes > limits.group_bytes or count + more_files > limits.group_files:
        raise QuotaExceeded(
            "The group has no room for it until older media expire or are deleted.",
            total_bytes=total,
            max_bytes=limits.group_bytes,
            needed_bytes=more_bytes,
            media_count=count,
            max_media_count=limits.group_files,
        )


def _check_total(conn: Connection, more_bytes: int, limits: MediaLimits) -> None:
    """Of two groups' uploads that begin at once, both may see the room; then the total is over by one medium."""
    if limits.total_bytes is None:
        return
    total = conn.execute(
        select(func.coalesce(func.sum(t.media.c.reserved_bytes), 0)).where(t.media.c.state.in_(COUNTED))
    ).scalar_one()
    if total + more_bytes > limits.total_bytes:
        raise StorageFull(
            "The server has no room for more media until older ones expire or are deleted.",
            max_bytes=limits.total_bytes,
            needed_bytes=more_bytes,
        )


def _make_place(conn: Connection, group: int, user: int, limits: MediaLimits, *, now_ms: int) -> None:
    """
    Keep the uploads in progress within their bounds, under the group's lock.

    At a limit the upload that was idle longest is aborted, if it was idle for `RESTING_MS`: abandoned uploads block no
    other user.

    Raises:
        TooManyRequests: If none of them was idle that long.
    """
    # A user's uploads in other groups are not under this group's lock, but under this one. As `directory.py` does: a
    # transaction that refers to the user, such as a join, does not wait for it.
    conn.execute(select(t.users.c.id).where(t.users.c.id == user).with_for_update(key_share=True))
    m = t.media.c
    for whose, limit, where in (
        ("of yours in this group", MOST_UNFINISHED_OF_USER, (m.group == group, m.uploader == user)),
        ("of yours", limits.user_uploads, (m.uploader == user,)),
        ("of this group", MOST_UNFINISHED_OF_GROUP, (m.group == group,)),
    ):
        unfinished = (*where, m.state == UPLOADING)
        if conn.execute(select(func.count()).where(*unfinished)).scalar_one() < limit:
            continue
        # One that is locked is at work in another transaction, which may wait for this one.
        idle = conn.execute(
            select(m.id)
            .where(*unfinished, m.touched_ms <= now_ms - RESTING_MS)
            .order_by(m.touched_ms, m.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).scalar()
        if idle is None or not release(conn, m.id == idle):
            raise TooManyRequests(
                f"{limit} uploads {whose} are not finished. Finish or delete one of them, or try again later.",
                retry_after_s=UPLOAD_RETRY_S,
            )


def release(conn: Connection, *which: ColumnElement[bool]) -> int:
    """Abandon uploads that are not whole, and return their room; return how many."""
    return conn.execute(
        update(t.media).where(*which, t.media.c.state == UPLOADING).values(state=ABANDONED, reserved_bytes=0)
    ).rowcount


def _too_large(limits: MediaLimits) -> FileTooLarge:
    return FileTooLarge(f"A medium has at most {limits.file_bytes} bytes.", limit_bytes=limits.file_bytes)


def _upload_lost() -> UploadLost:
    return UploadLost("This upload was aborted a moment ago. It can start again at once.", retry_after_s=1)


def upload(conn: Connection, user: int, media_id: str) -> Upload:
    """Return the progress of an upload, to its uploader only."""
    row = _own(conn, user, media_id)
    chunks = conn.execute(
        select(t.media_chunks.c.index).where(t.media_chunks.c.media == row.id).order_by(t.media_chunks.c.index)
    ).scalars()
    return Upload(
        state=MediaState(row.state),
        total_chunks=row.total_chunks,
        received=[int(index) for index in chunks],
        size_bytes=row.received_bytes,
        uploaded_ms=row.uploaded_ms or 0,
        expires_ms=row.expires_ms or 0,
    )


def _own(conn: Connection, user: int, media_id: str) -> Row[Any]:
    row = find_medium(conn, media_id)
    require_member(conn, user, row.group_id)
    if row.uploader != user:
        raise Forbidden("This upload belongs to another user.")
    return row


def abort_upload(conn: Connection, user: int, media_id: str) -> bool:
    """Abort an incomplete upload."""
    row = find_medium(conn, media_id)
    require_member(conn, user, row.group_id)
    if user != row.uploader and not looks_after(conn, row.group, user):
        raise may_not_delete()
    return release(conn, t.media.c.id == row.id) == 1
