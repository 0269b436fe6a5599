"""Copy the bytes of media to another storage, for backup and restore."""

from __future__ import annotations

from typing import NamedTuple

from orbital_relay.ports import BlobMissing, Blobs


class Copied(NamedTuple):
    """
    What a copy came to.

    Attributes:
        copied: Blobs that were copied now.
        copied_bytes: Their bytes.
        present: Blobs that the copy had already.
        removed: Blobs that were deleted from the copy.
    """

    copied: int
    copied_bytes: int
    present: int
    removed: int


async def copy_media(source: Blobs, target: Blobs, *, older_than_ms: int | None = None) -> Copied:
    """
    Copy every blob that the target lacks; a blob never changes under its name, so names and sizes are compared.

    Servers may write and delete meanwhile: a blob that is deleted before it is read is left out.

    Args:
        source: Where the blobs are.
        target: Where the copy is.
        older_than_ms: Delete from the copy what the source no longer has and what was copied before this moment; None
            deletes nothing. A source that is empty by mistake empties no recent copy.

    Raises:
        Unavailable: If one of the two cannot be reached, or has no room.
    """
    there = {blob.name: blob async for blob in target.listing()}
    copied = copied_bytes = present = 0
    gone = set(there)
    async for blob in source.listing():
        gone.discard(blob.name)
        known = there.get(blob.name)
        if known is not None and known.size_bytes == blob.size_bytes:
            present += 1
            continue
        draft = target.draft()
        try:
            async for piece in source.stream(blob.name, start=0, end=blob.size_bytes):
                await draft.write(piece)
            await target.keep(draft, blob.name)
        except BlobMissing:
            continue
        finally:
            await draft.discard()
        copied += 1
        copied_bytes += blob.size_bytes
    removed = [] if older_than_ms is None else [name for name in gone if there[name].modified_ms < older_than_ms]
    await target.delete(removed)
    return Copied(copied, copied_bytes, present, len(removed))
