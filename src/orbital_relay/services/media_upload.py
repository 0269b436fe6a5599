"""Chunked upload of media: the size of a chunk, completion, and the state of an upload."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from orbital_relay import wire
from orbital_relay.api.media import ChunkTaken, MediaCompleted, MediaStored, UploadState
from orbital_relay.errors import InvalidChunk, OrbitalError, TooManyRequests, UploadEnded, UploadLost
from orbital_relay.model import (
    Chunk,
    ChunkPlace,
    FinishMedia,
    IdempotencyKey,
    MediaId,
    MediaState,
    Principal,
    ThreadId,
    Upload,
)
from orbital_relay.ports import BlobDraft
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid
from orbital_relay.services.media_context import MediaContext

MOST_AT_ONCE: Final = 16
"""Chunks that one user may be sending to a server: until they have a row they count for no quota, and take 80 MiB."""

HOUR_S: Final = 3600
"""Uploads that begin are counted by the hour."""

VECTOR_BYTES: Final = 1024
"""Most bytes of an `encryption_iv`: a download has it as a header, and proxies hold 4 KiB of those (nginx)."""

MOST_MISSING: Final = 100
"""Missing chunks that an answer lists; a client that lacks more asks for the state of the upload."""


class ChunkForm(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the bytes of a chunk."""

    media_id: str
    thread_id: str
    chunk_index: int
    total_chunks: int
    encrypted_metadata: str
    encryption_iv: str
    size_bytes: int | None = None
    if_epoch: int | None = None


def check_form(form: ChunkForm, *, limit_bytes: int) -> ChunkForm:
    """
    Check what stands beside a chunk; return it with its ids in lower case.

    Raises:
        ValidationFailed: If a field does not have its form.
        PayloadTooLarge: If an encrypted field is over the limit.
    """
    media_id, thread_id = read_uuid("media_id", form.media_id), read_uuid("thread_id", form.thread_id)
    check_encrypted("encrypted_metadata", form.encrypted_metadata, limit_bytes=limit_bytes)
    check_encrypted("encryption_iv", form.encryption_iv, limit_bytes=min(limit_bytes, VECTOR_BYTES))
    return msgspec.structs.replace(form, media_id=media_id, thread_id=thread_id)


@contextmanager
def admitted(room: MediaContext, principal: Principal) -> Iterator[None]:
    """
    Hold one of the user's places for chunks in progress.

    Raises:
        TooManyRequests: If all are taken.
    """
    user = principal.user_id
    if room.in_progress[user] >= MOST_AT_ONCE:
        raise TooManyRequests(f"You are sending {MOST_AT_ONCE} chunks at once. Send this one when one is done.")
    room.in_progress[user] += 1
    try:
        yield
    finally:
        room.in_progress[user] -= 1
        if not room.in_progress[user]:
            del room.in_progress[user]


async def take_chunk(
    room: MediaContext,
    principal: Principal,
    form: ChunkForm,
    draft: BlobDraft,
    *,
    idempotency_key: IdempotencyKey | None = None,
) -> ChunkTaken | MediaStored:
    """
    Store a chunk; the one that is the last to come makes the medium whole.

    Args:
        room: What to work with.
        principal: Who sends it.
        form: What stands beside it; checked.
        draft: Its bytes. The caller discards it, whatever happens.
        idempotency_key: The one of the request, when the client gave one.

    Returns:
        `MediaStored` if the chunk completed the medium, else `ChunkTaken`; the same chunk gets the same answer again.

    Raises:
        OrbitalError: If it may not be; see `ports.Uploads`. Nothing was stored.
    """
    user = principal.key
    if idempotency_key is not None:
        before = await room.rows.first_receipt(user, idempotency_key, now_ms=room.clock.wall_ms())
        if before is not None:
            return before
    chunk = Chunk(
        media_id=MediaId(form.media_id),
        thread_id=ThreadId(form.thread_id),
        index=form.chunk_index,
        total_chunks=form.total_chunks,
        size_bytes=draft.size_bytes,
        sha256=await draft.digest(),
        declared_bytes=form.size_bytes,
        encrypted_metadata=form.encrypted_metadata,
        encryption_iv=form.encryption_iv,
    )
    # Of a hundred chunks one begins the upload: the others need no place in the writer's queue.
    place = await room.rows.find_place(user, chunk, limits=room.limits)
    if place is None:
        place = await _begin(room, principal, chunk)
    if place.ordinal is None:
        place = await _store(room, chunk, draft, place)
    # Exactly one chunk was the last to come. Should its request die here, asking again, or `complete`, continues.
    if place.ordinal == place.total_chunks:
        return await _finish(
            room, principal, chunk.media_id, place.state, idempotency_key=idempotency_key, if_epoch=form.if_epoch
        )
    return ChunkTaken(
        media_id=chunk.media_id,
        chunk_index=chunk.index,
        chunks_received=place.ordinal or 0,
        total_chunks=place.total_chunks,
    )


async def _begin(room: MediaContext, principal: Principal, chunk: Chunk) -> ChunkPlace:
    """Begin an upload; only one that began counts, so that a full group does not use up its user's hour."""
    limits = {"limit": room.uploads_an_hour, "window_s": HOUR_S}
    wait_s = await room.limiter.peek("upload", principal.user_id, **limits)
    if wait_s is not None:
        raise _too_many(wait_s)
    folder = new_id()
    place = await room.rows.begin_upload(
        principal.key, chunk, folder=folder, limits=room.limits, now_ms=room.clock.wall_ms()
    )
    if place.folder == folder:
        wait_s = await room.limiter.hit("upload", principal.user_id, **limits)
        if wait_s is not None:
            # Another upload of the user took the last place meanwhile.
            await room.rows.release_upload(folder)
            raise _too_many(wait_s)
    return place


def _too_many(wait_s: float) -> TooManyRequests:
    seconds = max(1, math.ceil(wait_s))
    refusal = TooManyRequests(f"You began too many uploads; begin another one in {seconds} s.", retry_after_s=seconds)
    refusal.limit = "uploads"
    return refusal


async def _store(room: MediaContext, chunk: Chunk, draft: BlobDraft, place: ChunkPlace) -> ChunkPlace:
    """Make a chunk's bytes durable, then say so."""
    # A name for this attempt alone: if the chunk is refused, the deleted blob belongs to no other attempt.
    name = f"{place.folder}/{chunk.index:05d}-{new_id()[:8]}"
    try:
        await room.blobs.keep(draft, name)
    except OrbitalError:
        await room.rows.release_upload(place.folder)
        raise
    try:
        added = await room.rows.add_chunk(
            chunk, folder=place.folder, blob=name, limits=room.limits, now_ms=room.clock.wall_ms()
        )
    except OrbitalError as exc:
        # If the database cannot be reached, it may have stored the row: then the sweep decides later.
        if isinstance(exc, UploadLost) or exc.status < 500:
            await room.blobs.delete([name])
            await room.rows.release_upload(place.folder)
        raise
    if added.blob != name:
        # The same chunk, sent twice at once: the other one's bytes stay.
        await room.blobs.delete([name])
    else:
        room.counters.received_bytes += chunk.size_bytes
    return added


async def _finish(
    room: MediaContext,
    principal: Principal,
    media_id: MediaId,
    state: MediaState,
    *,
    idempotency_key: IdempotencyKey | None,
    if_epoch: int | None,
) -> MediaStored:
    """Complete a medium, once; later callers get the same answer."""
    now_ms = room.clock.wall_ms()
    if state is MediaState.UPLOADING:
        draft = FinishMedia(
            actor=principal,
            at_ms=now_ms,
            idempotency_key=idempotency_key,
            media_id=media_id,
            expires_ms=now_ms + room.keep_ms,
            if_epoch=if_epoch,
        )
        try:
            appended = await room.append(draft)
        except UploadEnded:
            pass
        else:
            if isinstance(appended.receipt, MediaStored):
                return appended.receipt
            raise AssertionError("the store answers FinishMedia with MediaStored")
    upload = await _upload(room, principal, media_id)
    if upload.state is not MediaState.COMPLETE:
        raise UploadLost(
            "This upload was abandoned and started again a moment ago. Send its chunks again.", retry_after_s=1
        )
    return MediaStored(
        media_id=media_id,
        size_bytes=upload.size_bytes,
        uploaded_at=wire.iso(upload.uploaded_ms),
        expires_at=wire.iso(upload.expires_ms),
    )


async def complete(
    room: MediaContext,
    principal: Principal,
    media_id: MediaId,
    *,
    if_epoch: int | None,
    idempotency_key: IdempotencyKey | None,
) -> MediaCompleted:
    """
    Say that a medium is whole, or which chunks are missing.

    Raises:
        InvalidChunk: While chunks are missing; `details.missing` lists them.
        NotFound: If there is no such upload.
        Forbidden: If it belongs to another user.
        Gone: If the medium has expired.
    """
    if idempotency_key is not None:
        before = await room.rows.first_receipt(principal.key, idempotency_key, now_ms=room.clock.wall_ms())
        if before is not None:
            return _completed(before)
    upload = await _upload(room, principal, media_id)
    if len(upload.received) < upload.total_chunks:
        there = set(upload.received)
        missing = [index for index in range(upload.total_chunks) if index not in there]
        raise InvalidChunk(
            f"{len(missing)} of {upload.total_chunks} chunks are missing.",
            missing=missing[:MOST_MISSING],
            missing_count=len(missing),
            total_chunks=upload.total_chunks,
        )
    return _completed(
        await _finish(room, principal, media_id, upload.state, idempotency_key=idempotency_key, if_epoch=if_epoch)
    )


def _completed(stored: MediaStored) -> MediaCompleted:
    return MediaCompleted(media_id=stored.media_id, size_bytes=stored.size_bytes, expires_at=stored.expires_at)


async def _upload(room: MediaContext, principal: Principal, media_id: MediaId) -> Upload:
    upload, now_ms = await room.rows.upload(principal.key, media_id), room.clock.wall_ms()
    over = upload.state is MediaState.COMPLETE and upload.expires_ms <= now_ms
    if over or upload.state in {MediaState.EXPIRED, MediaState.ABANDONED}:
        # This raises the same error as a download.
        await room.rows.media_file(principal.key, media_id, now_ms=now_ms)
    return upload


async def state(room: MediaContext, principal: Principal, media_id: MediaId) -> UploadState:
    """
    Return which chunks a resuming client still has to send.

    Raises:
        NotFound: If there is no such upload, or it was abandoned.
        Forbidden: If it belongs to another user.
        Gone: If the medium has expired.
    """
    upload = await _upload(room, principal, media_id)
    return UploadState(chunks_received=upload.received, total_chunks=upload.total_chunks)
