"""Periodic clean-up (garbage collection) of media: expired ones, abandoned uploads, orphaned blobs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from orbital_relay.errors import NotFound, UploadEnded
from orbital_relay.model import (
    ExpireMedia,
)
from orbital_relay.ports import Appended
from orbital_relay.services.media_audit import orphans
from orbital_relay.services.media_context import MediaContext

log = logging.getLogger("orbital.media")

SOME: Final = 100
"""Media of one step of the clean-up."""


FLIGHT_MS: Final = 15 * 60 * 1000
"""How old bytes without a row must be before they are deleted while other servers may be writing: a chunk that takes
longer from its blob to its row is noted by nobody, since its request has been cut long before."""


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
            # Settled: another server's round was here first, or the thread was deleted.
            if isinstance(outcome, BaseException) and not isinstance(outcome, UploadEnded | NotFound):
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

    Bytes whose row may not be stored yet are spared: those younger than a request lives, or, when no other server
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
