"""
Media: chunks up, bytes down, and what goes when its time is over.

A chunk's blob is durable before its row says so, and a row says that a medium is gone before its bytes go. So a crash
between any two steps leaves bytes that no row names, which the next round deletes, and never a row without bytes. A
medium stays in its chunks for good: nothing is copied together when the last one comes, so that this answer is as quick
as the others, and no moment needs the room twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from orbital_relay import wire
from orbital_relay.api.media import ChunkTaken, MediaCompleted, MediaStored, MediumInfo, Quota, ThreadMedia, UploadState
from orbital_relay.errors import InvalidChunk, MediaSettled, OrbitalError, TooManyRequests, UploadLost
from orbital_relay.model import (
    AnyDraft,
    Chunk,
    ChunkPlace,
    ExpireMedia,
    FinishMedia,
    GroupId,
    IdempotencyKey,
    MediaFile,
    MediaId,
    MediaLimits,
    MediaState,
    Principal,
    ThreadId,
    Upload,
    UserId,
)
from orbital_relay.ports import Appended, BlobDraft, Blobs, Clock, MediaRows, MediaUsage
from orbital_relay.services.forms import check_encrypted, new_id, read_uuid
from orbital_relay.services.media_audit import orphans

log = logging.getLogger("orbital.media")

SOME: Final = 100
"""Media of one step of the clean-up."""


FLIGHT_MS: Final = 15 * 60 * 1000
"""How old bytes without a row must be before they are deleted while other servers may be writing: a chunk that takes
longer from its blob to its row is noted by nobody, since its request has been cut long before."""

MOST_AT_ONCE: Final = 16
"""Chunks that one user may be sending to a server: until they have a row they count for no quota, and take 80 MiB."""

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


class MediaCounters(msgspec.Struct):
    """
    What a server counts of media.

    Attributes:
        received_bytes: Bytes of chunks that it stored.
        sent_bytes: Bytes of media that it sent.
        collected: What its clean-up deleted: `expired` media, `abandoned` uploads, `swept` blobs without a row.
        held: What there was of all groups together at its last round; empty before the first.
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    collected: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(("expired", "abandoned", "swept"), 0)
    )
    held: dict[MediaState, MediaUsage] = {}


class MediaContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the use cases of media work with.

    Attributes:
        rows: What is known of media.
        blobs: Their bytes.
        append: Queues a draft; see `ServiceContext.append`.
        clock: The time.
        limits: How much room there is.
        envelope_bytes: Largest encrypted field, in bytes after decoding.
        keep_ms: How long a medium is kept.
        abandon_ms: How long an upload may be idle before it is abandoned.
        started_ms: When this server began.
        alone: Whether no other server writes the same media.
        under_way: How many chunks each user is sending to this server now.
        counters: What this server counts.
    """

    rows: MediaRows
    blobs: Blobs
    append: Callable[[AnyDraft], asyncio.Future[Appended]]
    clock: Clock
    limits: MediaLimits
    envelope_bytes: int
    keep_ms: int
    abandon_ms: int
    started_ms: int
    alone: bool
    under_way: Counter[UserId] = msgspec.field(default_factory=Counter)
    counters: MediaCounters = msgspec.field(default_factory=MediaCounters)


# Chapter: up


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
    Hold one of the user's places for chunks under way.

    Raises:
        TooManyRequests: If all are taken.
    """
    user = principal.user_id
    if room.under_way[user] >= MOST_AT_ONCE:
        raise TooManyRequests(f"You are sending {MOST_AT_ONCE} chunks at once. Send this one when one is done.")
    room.under_way[user] += 1
    try:
        yield
    finally:
        room.under_way[user] -= 1
        if not room.under_way[user]:
            del room.under_way[user]


async def take_chunk(
    room: MediaContext, principal: Principal, form: ChunkForm, draft: BlobDraft, *, once: IdempotencyKey | None = None
) -> ChunkTaken | MediaStored:
    """
    Store a chunk; the one that is the last to come makes the medium whole.

    Args:
        room: What to work with.
        principal: Who sends it.
        form: What stands beside it; checked.
        draft: Its bytes. The caller discards it, whatever happens.
        once: The idempotency key, when the client gave one.

    Returns:
        `MediaStored` if the chunk completed the medium, else `ChunkTaken`; the same chunk gets the same answer again.

    Raises:
        OrbitalError: If it may not be; see `ports.MediaRows.place_chunk`. Nothing was stored.
    """
    user = principal.key
    if once is not None:
        before = await room.rows.first_receipt(user, once, now_ms=room.clock.wall_ms())
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
    # The folder's name counts only if this chunk begins the upload.
    place = await room.rows.place_chunk(user, chunk, folder=new_id(), limits=room.limits, now_ms=room.clock.wall_ms())
    if place.ordinal is None:
        place = await _store(room, chunk, draft, place)
    # Exactly one chunk was the last to come. Should its request die here, asking again, or `complete`, goes on.
    if place.ordinal == place.total_chunks:
        return await _finish(room, principal, chunk.media_id, place.state, once=once)
    return ChunkTaken(
        media_id=chunk.media_id,
        chunk_index=chunk.index,
        chunks_received=place.ordinal or 0,
        total_chunks=place.total_chunks,
    )


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
    once: IdempotencyKey | None,
) -> MediaStored:
    """Complete a medium, once; later callers get the same answer."""
    now_ms = room.clock.wall_ms()
    if state is MediaState.UPLOADING:
        draft = FinishMedia(
            actor=principal,
            at_ms=now_ms,
            once=once,
            media_id=media_id,
            expires_ms=now_ms + room.keep_ms,
        )
        try:
            appended = await room.append(draft)
        except MediaSettled:
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
    room: MediaContext, principal: Principal, media_id: MediaId, *, once: IdempotencyKey | None = None
) -> MediaCompleted:
    """
    Say that a medium is whole, or which chunks are missing.

    Raises:
        InvalidChunk: While chunks are missing; `details.missing` lists them.
        NotFound: If there is no such upload.
        Forbidden: If it belongs to another user.
        Gone: If the medium has expired.
    """
    if once is not None:
        before = await room.rows.first_receipt(principal.key, once, now_ms=room.clock.wall_ms())
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
    return _completed(await _finish(room, principal, media_id, upload.state, once=once))


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


async def delete_medium(room: MediaContext, principal: Principal, media_id: MediaId) -> None:
    """
    Delete a medium before it expires, complete or not; for its uploader and the group's creator.

    Raises:
        NotFound: If there is no such medium.
        Forbidden: If the user may not.
    """
    if not await room.rows.abort_upload(principal.key, media_id):
        draft = ExpireMedia(actor=principal, at_ms=room.clock.wall_ms(), media_id=media_id, early=True)
        with suppress(MediaSettled):
            await room.append(draft)
    await delete_bytes(room)


# Chapter: down


async def find(room: MediaContext, principal: Principal, media_id: MediaId) -> MediaFile:
    """
    Return a complete medium, for a member of its group.

    Raises:
        NotFound: If there is no such medium, or it is not complete.
        Forbidden: If the caller is not in its group.
        Gone: If it has expired.
    """
    return await room.rows.media_file(principal.key, media_id, now_ms=room.clock.wall_ms())


async def show(room: MediaContext, principal: Principal, media_id: MediaId) -> MediumInfo:
    """
    Return the description of a medium, also of an expired one.

    Raises:
        NotFound: If there is no such medium, or it never was complete.
        Forbidden: If the caller is not in its group.
    """
    return await room.rows.media_info(principal.key, media_id, now_ms=room.clock.wall_ms())


async def note_download(room: MediaContext, principal: Principal, media_id: MediaId) -> None:
    """
    Note that the caller has a medium; a second time changes nothing.

    Raises:
        NotFound: If there is no such medium, or it never was complete.
        Forbidden: If the caller is not in its group.
    """
    await room.rows.note_download(principal.key, media_id, now_ms=room.clock.wall_ms())


async def page(
    room: MediaContext, principal: Principal, thread_id: ThreadId, *, limit: int, offset: int
) -> ThreadMedia:
    """
    Return a page of the complete media of a thread.

    Raises:
        NotFound: If there is no such thread.
        Forbidden: If the caller is not in its group.
    """
    return await room.rows.thread_media(
        principal.key, thread_id, now_ms=room.clock.wall_ms(), limit=limit, offset=offset
    )


async def quota(room: MediaContext, principal: Principal, group_id: GroupId) -> Quota:
    """
    Return how much of its quota for media a group uses.

    Raises:
        NotFound: If there is no such group.
        Forbidden: If the caller is not in it.
    """
    return await room.rows.quota(principal.key, group_id, limits=room.limits)


async def read(room: MediaContext, file: MediaFile, *, start: int, end: int) -> AsyncIterator[bytes]:
    """
    Read a medium's bytes from `start` up to but not `end`.

    Raises:
        BlobMissing: If some are not there.
        Unavailable: If the storage is unreachable.
    """
    at = 0
    for chunk in file.chunks:
        if at >= end:
            return
        if at + chunk.size_bytes > start:
            first, last = max(start - at, 0), min(end - at, chunk.size_bytes)
            async for piece in room.blobs.stream(chunk.blob, start=first, end=last):
                yield piece
        at += chunk.size_bytes


# Chapter: what comes round


class Collected(msgspec.Struct):
    """
    What a round of the clean-up came to.

    Attributes:
        expired: Media whose time was over.
        abandoned: Uploads that were abandoned.
        deleted: Media whose bytes were deleted.
        swept: Bytes that no row named, in blobs and drafts.
    """

    expired: int = 0
    abandoned: int = 0
    deleted: int = 0
    swept: int = 0


async def collect(room: MediaContext, *, sweep: bool) -> Collected:
    """
    Delete expired media, idle uploads and the bytes of both; and, if `sweep`, bytes without a row.

    It may run on several servers at once, and be cut short anywhere.
    """
    found = Collected()
    now_ms = room.clock.wall_ms()
    while due := await room.rows.due_media(now_ms=now_ms, limit=SOME):
        drafts = [ExpireMedia(actor=one.uploader, at_ms=now_ms, media_id=one.media_id) for one in due]
        outcomes = await asyncio.gather(*map(room.append, drafts), return_exceptions=True)
        for outcome in outcomes:
            # Settled: another server's round was here first.
            if isinstance(outcome, BaseException) and not isinstance(outcome, MediaSettled):
                raise outcome
            found.expired += isinstance(outcome, Appended)
    while some := await room.rows.abort_resting(before_ms=now_ms - room.abandon_ms, limit=SOME):
        found.abandoned += some
    room.counters.held = await room.rows.held()
    room.counters.collected["expired"] += found.expired
    room.counters.collected["abandoned"] += found.abandoned
    found.deleted = await delete_bytes(room)
    if sweep:
        found.swept = await sweep_up(room)
        room.counters.collected["swept"] += found.swept
    if found != Collected():
        log.info("media collected", extra=msgspec.structs.asdict(found))
    return found


async def delete_bytes(room: MediaContext) -> int:
    """Delete the bytes of media that may no longer be read; return of how many."""
    count = 0
    while some := await room.rows.pending_deletions(limit=SOME):
        for each in some:
            await room.blobs.delete_folder(each.folder)
            await room.rows.note_deleted(each.key)
            count += 1
    return count


async def sweep_up(room: MediaContext) -> int:
    """
    Delete bytes that no row names: what a crash left between a blob and its row.

    Bytes that are on their way to their row are spared: those younger than a request lives, or, when no other server
    writes here, those younger than this one.
    """
    before_ms = room.clock.wall_ms() - FLIGHT_MS
    if room.alone:
        before_ms = max(before_ms, room.started_ms)
    count = await room.blobs.sweep(before_ms=before_ms)
    async for orphan in orphans(room.rows, room.blobs):
        if orphan.modified_ms < before_ms:
            await room.blobs.delete([orphan.name])
            count += 1
    return count
