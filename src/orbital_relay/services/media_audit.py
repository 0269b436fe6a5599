"""Consistency check of media: missing chunks, and blobs without a row."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Final

from orbital_relay.errors import OrbitalError, SettingsInvalid
from orbital_relay.ports import Blob, BlobMissing, Blobs, MediaRows

log = logging.getLogger("orbital.blobs")

NAMES_AT_ONCE: Final = 1000
"""Names of blobs that are looked up in the database at a time."""
EXAMINED_AT_ONCE: Final = 8
"""Media whose bytes are compared with their rows at a time: a bucket answers in some 10 ms, mostly waiting."""


async def check_blobs(blobs: Blobs) -> None:
    """
    Write a blob, read it and delete it: a server that could not store media does not start, unless a disk is full.

    Raises:
        SettingsInvalid: If one of them does not work.
    """
    name, data = f"check/{secrets.token_hex(8)}", b"orbital"
    draft = blobs.draft()
    try:
        await draft.write(data)
        await blobs.keep(draft, name)
        read = b"".join([piece async for piece in blobs.stream(name, start=0, end=len(data))])
        await blobs.delete([name])
    except (OrbitalError, BlobMissing) as exc:
        if isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.ENOSPC:
            # What is stored can still be read.
            log.warning("the disk of the media storage is full; media cannot be stored")
            return
        raise SettingsInvalid(f"The media storage cannot be used: {_first_line(exc.__cause__ or exc)}.") from exc
    finally:
        await draft.discard()
    if read != data:
        raise SettingsInvalid("The media storage returned other bytes than were stored.")


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0].rstrip(".")


async def orphans(rows: MediaRows, blobs: Blobs) -> AsyncIterator[Blob]:
    """Return blobs that no row names."""
    batch: list[Blob] = []

    async def unknown() -> list[Blob]:
        known = await rows.known_chunks({folder_of(blob.name) for blob in batch})
        return [blob for blob in batch if blob.name not in known]

    async for blob in blobs.listing():
        batch.append(blob)
        if len(batch) >= NAMES_AT_ONCE:
            for each in await unknown():
                yield each
            batch.clear()
    for each in await unknown():
        yield each


async def examine(rows: MediaRows, blobs: Blobs, *, before_ms: int) -> AsyncIterator[str]:
    """
    Compare rows and bytes; yield a sentence for each medium, or each blob without one, that is wrong.

    At most `EXAMINED_AT_ONCE` media and `NAMES_AT_ONCE` names of blobs are in memory, however large the storage is,
    and it answers at most `EXAMINED_AT_ONCE` requests at a time.

    Args:
        rows: What is known of media.
        blobs: Their bytes.
        before_ms: Bytes written before this moment must have a row; the row of younger ones may not be stored yet.
    """
    key = 0
    while some := await rows.chunks_after(key, limit=EXAMINED_AT_ONCE):
        key = some[-1][0]
        # All have ended before one's error is raised: nobody closes the storage under the others.
        wrong = await asyncio.gather(
            *(_wrong_bytes(rows, blobs, chunks) for _, _, chunks in some), return_exceptions=True
        )
        for (_, media_id, chunks), sizes in zip(some, wrong, strict=True):
            if isinstance(sizes, BaseException):
                raise sizes
            if sizes:
                yield f"the medium {media_id} lacks {len(sizes)} of its {len(chunks)} chunks ({sum(sizes):,} bytes)"
    async for blob in orphans(rows, blobs):
        # Looked at once more: a medium may have been deleted since the list was made.
        if blob.modified_ms < before_ms and blob.name in await _sizes(blobs, {folder_of(blob.name)}):
            yield f"the bytes {blob.name} belong to no medium; `orbital media gc` deletes them"


async def _wrong_bytes(rows: MediaRows, blobs: Blobs, chunks: dict[str, int]) -> list[int]:
    """Return the sizes that the chunks of one medium should have, of those that are missing or have another one."""
    there = await _sizes(blobs, {folder_of(name) for name in chunks})
    return [
        size_bytes
        for name, size_bytes in chunks.items()
        if there.get(name) != size_bytes and await _is_wrong(rows, blobs, name, size_bytes)
    ]


async def _sizes(blobs: Blobs, folders: Collection[str]) -> dict[str, int]:
    return {blob.name: blob.size_bytes for folder in folders async for blob in blobs.listing(folder)}


async def _is_wrong(rows: MediaRows, blobs: Blobs, name: str, size_bytes: int) -> bool:
    """Look once more at a blob that was not as its row says: both may have changed between the two looks."""
    read = 0
    with suppress(BlobMissing):
        async for piece in blobs.stream(name, start=0, end=size_bytes + 1):
            read += len(piece)
    return read != size_bytes and name in await rows.known_chunks([folder_of(name)])


def folder_of(name: str) -> str:
    """Return the folder that a blob is in."""
    return name.partition("/")[0]
