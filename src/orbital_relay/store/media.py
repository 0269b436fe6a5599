"""The rows of media: what may be uploaded, how much room is taken, what is owed, what must go."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from orbital_relay import wire
from orbital_relay.api.media import Fetched, MediaStored, Medium, MediumInfo, Quota, ThreadMedia
from orbital_relay.errors import (
    Conflict,
    FileTooLarge,
    Forbidden,
    Gone,
    InvalidChunk,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    TooManyRequests,
    UploadLost,
)
from orbital_relay.model import (
    Chunk,
    ChunkPlace,
    DueMedia,
    IdempotencyKey,
    MediaFile,
    MediaId,
    MediaLimits,
    MediaState,
    PendingDeletion,
    Principal,
    StoredChunk,
    Upload,
    UserId,
)
from orbital_relay.ports import Held
from orbital_relay.store import tables as t
from orbital_relay.store.effects import load_group, may_not_take_away, no_media, no_thread
from orbital_relay.store.queries import (
    KEY_LIFETIME_MS,
    batched,
    first_fitting,
    require_member,
    require_thread,
    thread_group,
)

WARNING_PERCENT: Final = 80
"""From here on a group is told that its room runs out."""

MOST_CHUNKS: Final = 10_000
"""Chunks of one medium: 500 MiB in pieces of 50 KiB. Each costs a row and a blob."""

MOST_SHOWN: Final = 100
"""Media that stand in the answer of one thread; the list of its media has the rest."""

MOST_FETCHED: Final = 500
"""Members named in a medium's info; `downloaded_count` says how many there are."""

MOST_UNFINISHED_OF_USER: Final = 10
"""Uploads under way of one user in one group: with the largest files they reserve half of a group's 10 GiB."""

MOST_UNFINISHED_OF_GROUP: Final = 50
"""Uploads under way of a group: half of its hundred media."""

UPLOAD_RETRY_S: Final = 10
"""When a client whose new upload was refused by one of these bounds asks again."""

RESTING_MS: Final = 10 * 60 * 1000
"""How long nothing of an upload came before a new one may take its place: a client that retries waits less."""

_UPLOADING, _COMPLETE = MediaState.UPLOADING.value, MediaState.COMPLETE.value
_EXPIRED, _ABANDONED = MediaState.EXPIRED.value, MediaState.ABANDONED.value
_COUNTED: Final = (_UPLOADING, _COMPLETE)


# Chapter: up


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


def begin(conn: Connection, user: int, chunk: Chunk, *, folder: str, limits: MediaLimits, now_ms: int) -> ChunkPlace:
    """Reserve room for a medium whose first chunk has come; if another one was faster, see what it began."""
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
    _make_place(conn, group.id, user, now_ms=now_ms)
    _check_room(conn, group.id, reserved, limits, more_files=1)
    conn.execute(
        insert(t.media).values(
            media_id=chunk.media_id,
            group=group.id,
            thread=thread,
            uploader=user,
            state=_UPLOADING,
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
        raise _given_up()
    # Always the group before the medium, as the appender does: two transactions never wait for each other in a ring.
    conn.execute(select(t.groups.c.id).where(t.groups.c.id == group).with_for_update())
    row = conn.execute(select(t.media).where(t.media.c.folder == folder).with_for_update()).one_or_none()
    if row is None or row.state in {_ABANDONED, _EXPIRED}:
        raise _given_up()
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


def withdraw(conn: Connection, folder: str) -> None:
    """Forget an upload of which nothing was stored."""
    conn.execute(
        delete(t.media).where(t.media.c.folder == folder, t.media.c.state == _UPLOADING, t.media.c.received_chunks == 0)
    )


def _check_shape(chunk: Chunk, limits: MediaLimits) -> None:
    """Check what can be told without looking."""
    if not 0 <= chunk.index < chunk.total_chunks:
        raise InvalidChunk(f"Chunk {chunk.index} is none of {chunk.total_chunks}; the first is 0.", field="chunk_index")
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
        raise Forbidden("This upload is somebody else's. Choose another media_id.")
    for field, before, now in (
        ("thread_id", row.thread, thread),
        ("total_chunks", row.total_chunks, chunk.total_chunks),
        ("encrypted_metadata", row.encrypted_metadata, chunk.encrypted_metadata),
        ("encryption_iv", row.encryption_iv, chunk.encryption_iv),
        ("size_bytes", row.declared_bytes, chunk.declared_bytes),
    ):
        if before != now:
            raise InvalidChunk(f"`{field}` is not what the upload began with.", field=field)
    if row.state == _EXPIRED:
        raise Gone("This medium has expired. Upload it again under another media_id.")
    if row.state == _ABANDONED:
        raise _given_up()


def _stored(conn: Connection, row: Row[Any], chunk: Chunk) -> ChunkPlace | None:
    """Return where a chunk that is there stands, None if it is not."""
    c = t.media_chunks.c
    known = conn.execute(
        select(c.sha256, c.ordinal, c.blob).where(c.media == row.id, c.index == chunk.index)
    ).one_or_none()
    if known is None:
        return None
    if bytes(known.sha256) != chunk.sha256:
        raise Conflict(f"Chunk {chunk.index} is there already, with other bytes.", chunk_index=chunk.index)
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


def _taken(conn: Connection, group: int) -> tuple[int, int]:
    """Return bytes and number of a group's media, with what uploads under way have reserved."""
    row = conn.execute(
        select(func.coalesce(func.sum(t.media.c.reserved_bytes), 0), func.count()).where(
            t.media.c.group == group, t.media.c.state.in_(_COUNTED)
        )
    ).one()
    return int(row[0]), int(row[1])


def _check_room(conn: Connection, group: int, more_bytes: int, limits: MediaLimits, *, more_files: int = 0) -> None:
    total, count = _taken(conn, group)
    if total + more_bytes > limits.group_bytes or count + more_files > limits.group_files:
        raise QuotaExceeded(
            "The group has no room for it until older media expire or are taken away.",
            total_bytes=total,
            max_bytes=limits.group_bytes,
            needed_bytes=more_bytes,
            media_count=count,
            max_media_count=limits.group_files,
        )


def _make_place(conn: Connection, group: int, user: int, *, now_ms: int) -> None:
    """
    Keep the uploads under way within their bounds, under the group's lock.

    At a bound the upload that rested longest is released, if nothing of it came for `RESTING_MS`: uploads that a client
    forgot keep nobody out.

    Raises:
        TooManyRequests: If none of them rests that long.
    """
    uploads = select(t.media.c.id, t.media.c.touched_ms).where(t.media.c.group == group, t.media.c.state == _UPLOADING)
    for some, limit, whose in (
        (uploads.where(t.media.c.uploader == user), MOST_UNFINISHED_OF_USER, "of yours in this group"),
        (uploads, MOST_UNFINISHED_OF_GROUP, "of this group"),
    ):
        under_way = conn.execute(some.order_by(t.media.c.touched_ms, t.media.c.id)).all()
        if len(under_way) < limit:
            continue
        oldest = under_way[0]
        if oldest.touched_ms > now_ms - RESTING_MS or not _release(conn, t.media.c.id == oldest.id):
            raise TooManyRequests(
                f"{limit} uploads {whose} are not finished. Finish or delete one of them, or try again later.",
                retry_after_s=UPLOAD_RETRY_S,
            )


def _release(conn: Connection, *which: ColumnElement[bool]) -> int:
    """Abandon uploads that are not whole, and return their room; return how many."""
    return conn.execute(
        update(t.media).where(*which, t.media.c.state == _UPLOADING).values(state=_ABANDONED, reserved_bytes=0)
    ).rowcount


def _too_large(limits: MediaLimits) -> FileTooLarge:
    return FileTooLarge(f"A medium has at most {limits.file_bytes} bytes.", limit_bytes=limits.file_bytes)


def _given_up() -> UploadLost:
    return UploadLost("This upload was given up a moment ago. It can begin again at once.", retry_after_s=1)


def upload(conn: Connection, user: int, media_id: str) -> Upload:
    """Tell how far an upload is, to who began it."""
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
    row = _row(conn, media_id)
    require_member(conn, user, row.group_id)
    if row.uploader != user:
        raise Forbidden("This upload is somebody else's.")
    return row


def give_up(conn: Connection, user: int, media_id: str) -> bool:
    """Give up an upload that is not whole."""
    row = _row(conn, media_id)
    require_member(conn, user, row.group_id)
    creator = conn.execute(select(t.groups.c.creator).where(t.groups.c.id == row.group)).scalar_one()
    if user not in {row.uploader, creator}:
        raise may_not_take_away()
    return _release(conn, t.media.c.id == row.id) == 1


# Chapter: down


def _row(conn: Connection, media_id: str) -> Row[Any]:
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
    row = _row(conn, media_id)
    require_member(conn, user, row.group_id)
    if row.state not in {_COMPLETE, _EXPIRED}:
        raise NotFound("This medium is not whole yet.")
    return row


def media_file(conn: Connection, user: int, media_id: str, *, now_ms: int) -> MediaFile:
    """Return what a reader needs of a medium."""
    row = _whole(conn, user, media_id)
    if row.state == _EXPIRED or row.expires_ms <= now_ms:
        raise Gone(
            "The server no longer has this medium; a member who fetched it may. Its info tells who did.",
            expired_at=wire.iso(row.expires_ms),
        )
    chunks, digest = [], hashlib.sha256()
    for blob, size_bytes, sha256 in conn.execute(_chunks_of(row.id)):
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


def _chunks_of(media: int) -> Any:  # noqa: ANN401 - a Select of three columns; its type says no more
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
        media_id=row.media_id,
        encrypted_metadata=row.encrypted_metadata,
        size_bytes=row.received_bytes,
        uploaded_at=wire.iso(row.uploaded_ms),
        expires_at=wire.iso(row.expires_ms),
        thread_id=row.thread_id,
        group_id=row.group_id,
        author_id=row.author_id,
        author_username=row.author_username,
        encryption_iv=row.encryption_iv,
        status=_EXPIRED if row.expires_ms <= now_ms else row.state,
        downloaded_by=[
            Fetched(user_id=user_id, username=username, downloaded_at=wire.iso(at_ms))
            for user_id, username, at_ms in had
        ],
        downloaded_count=fetched,
    )


def _item(row: Row[Any]) -> Medium:
    return Medium(
        media_id=row.media_id,
        author_id=row.author_id,
        author_username=row.author_username,
        encrypted_metadata=row.encrypted_metadata,
        size_bytes=row.received_bytes,
        uploaded_at=wire.iso(row.uploaded_ms),
        expires_at=wire.iso(row.expires_ms),
    )


def thread_media(conn: Connection, user: int, thread_id: str, *, now_ms: int, limit: int, offset: int) -> ThreadMedia:
    """Answer `GET /api/threads/{thread_id}/media`, in the order of the log."""
    items, has_more = media_of(conn, require_thread(conn, user, thread_id), now_ms=now_ms, limit=limit, offset=offset)
    return ThreadMedia(media=items, has_more=has_more)


def media_of(conn: Connection, thread: int, *, now_ms: int, limit: int, offset: int) -> tuple[list[Medium], bool]:
    """Return a page of a thread's media that are there, and whether more follow."""
    keys = (
        select(t.media.c.id, func.length(t.media.c.encrypted_metadata))
        .where(t.media.c.thread == thread, t.media.c.state == _COMPLETE, t.media.c.expires_ms > now_ms)
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
    return [_item(row) for row in rows], has_more


def note_download(conn: Connection, user: int, media_id: str, *, now_ms: int) -> None:
    """Note that a user has a medium."""
    row = _whole(conn, user, media_id)
    noted = t.media_downloads.c
    if conn.execute(select(noted.user).where(noted.media == row.id, noted.user == user)).one_or_none() is None:
        conn.execute(insert(t.media_downloads).values({"media": row.id, "user": user, "at_ms": now_ms}))


def quota(conn: Connection, user: int, group_id: str, *, limits: MediaLimits) -> Quota:
    """Answer `GET /api/groups/{group_id}/quota`; uploads under way count with what they reserved."""
    total, count = _taken(conn, require_member(conn, user, group_id))
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


# Chapter: what comes round


def due_media(conn: Connection, *, now_ms: int, limit: int) -> list[DueMedia]:
    """Return media whose time is over and that are not expired yet."""
    rows = conn.execute(
        select(t.media.c.media_id, t.users.c.id, t.users.c.user_id, t.users.c.username)
        .join(t.users, t.users.c.id == t.media.c.uploader)
        .where(t.media.c.state == _COMPLETE, t.media.c.expires_ms <= now_ms)
        .order_by(t.media.c.expires_ms, t.media.c.id)
        .limit(limit)
    )
    return [
        DueMedia(MediaId(media_id), Principal(key, UserId(user_id), username, 0))
        for media_id, key, user_id, username in rows
    ]


def abandon(conn: Connection, *, before_ms: int, limit: int) -> int:
    """Give up uploads of which nothing came for long."""
    old = (
        select(t.media.c.id)
        .where(t.media.c.state == _UPLOADING, t.media.c.touched_ms < before_ms)
        .order_by(t.media.c.id)
        .limit(limit)
    )
    # The time is compared again under the row's lock: a chunk may have come since.
    return _release(conn, t.media.c.id.in_(old), t.media.c.touched_ms < before_ms)


def leavings(conn: Connection, *, limit: int) -> list[PendingDeletion]:
    """Return media that may no longer be read, and whose bytes may still be there."""
    rows = conn.execute(
        select(t.media.c.id, t.media.c.folder)
        .where(t.media.c.has_bytes == 1, t.media.c.state.in_((_EXPIRED, _ABANDONED)))
        .order_by(t.media.c.id)
        .limit(limit)
    )
    return [PendingDeletion(int(key), folder) for key, folder in rows]


def wiped(conn: Connection, key: int) -> None:
    """Note that a medium's bytes are gone; of one that never was whole nothing remains, and its id is free."""
    gone = t.media.c.id == key, t.media.c.state.in_((_EXPIRED, _ABANDONED))
    if conn.execute(select(t.media.c.id).where(*gone).with_for_update()).one_or_none() is None:
        return
    conn.execute(delete(t.media_chunks).where(t.media_chunks.c.media == key))
    conn.execute(update(t.media).where(*gone).values(has_bytes=0))
    conn.execute(delete(t.media).where(t.media.c.id == key, t.media.c.state == _ABANDONED))


def known_chunks(conn: Connection, folders: Collection[str]) -> dict[str, int]:
    """Return the blobs that belong into folders, with their sizes."""
    found: dict[str, int] = {}
    for some in batched(folders, 500):
        rows = conn.execute(
            select(t.media_chunks.c.blob, t.media_chunks.c.size_bytes)
            .join(t.media, t.media_chunks.c.media == t.media.c.id)
            .where(t.media.c.folder.in_(some), t.media.c.state.in_(_COUNTED))
        )
        found.update({blob: int(size_bytes) for blob, size_bytes in rows})
    return found


def chunks_after(conn: Connection, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
    """Return media that must have bytes, after a row number: number, id, and blobs with their sizes."""
    rows = conn.execute(
        select(t.media.c.id, t.media.c.media_id)
        .where(t.media.c.id > key, t.media.c.state.in_(_COUNTED))
        .order_by(t.media.c.id)
        .limit(limit)
    ).all()
    return [
        (
            int(row.id),
            row.media_id,
            {blob: int(size_bytes) for blob, size_bytes, _ in conn.execute(_chunks_of(row.id))},
        )
        for row in rows
    ]


def held(conn: Connection) -> dict[MediaState, Held]:
    """Return how much there is, whole and under way."""
    c = t.media.c
    rows = conn.execute(
        select(c.state, func.count(), func.sum(c.received_bytes)).where(c.state.in_(_COUNTED)).group_by(c.state)
    )
    none = {MediaState(state): Held() for state in _COUNTED}
    return none | {MediaState(state): Held(int(count), int(size_bytes)) for state, count, size_bytes in rows}
