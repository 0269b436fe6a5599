"""
Media that are stored: show, list, read, delete; media_upload.py takes them, media_cleanup.py deletes old ones.

A chunk's blob is durable before its row says so, and a row says that a medium is gone before its bytes go. So a crash
between any two steps leaves bytes that no row names, which the next round deletes, and never a row without bytes. A
medium is stored as its chunks: they are not copied into one file when the last one arrives, so that this answer is as
quick as the others, and the space is never needed twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from orbital_relay.api.media import MediumInfo, Quota, ThreadMedia
from orbital_relay.errors import UploadEnded
from orbital_relay.model import (
    ExpireMedia,
    GroupId,
    MediaFile,
    MediaId,
    Principal,
    ThreadId,
)
from orbital_relay.services.media_cleanup import delete_bytes
from orbital_relay.services.media_context import MediaContext


async def delete_medium(room: MediaContext, principal: Principal, media_id: MediaId) -> None:
    """
    Delete a medium before it expires, complete or not; for its uploader and the group's creator.

    Raises:
        NotFound: If there is no such medium.
        Forbidden: If the user may not.
    """
    if not await room.rows.abort_upload(principal.key, media_id):
        draft = ExpireMedia(actor=principal, at_ms=room.clock.wall_ms(), media_id=media_id, early=True)
        with suppress(UploadEnded):
            await room.append(draft)
    await delete_bytes(room)


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
