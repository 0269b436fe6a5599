"""The ports to the rows of media; the bytes are elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from orbital_relay.api import media as api
from orbital_relay.model import (
    Chunk,
    ChunkPlace,
    DueMedia,
    GroupId,
    MediaFile,
    MediaId,
    MediaLimits,
    MediaState,
    PendingDeletion,
    ThreadId,
    Upload,
)


class MediaUsage(msgspec.Struct, frozen=True):
    """How many media there are, and how many bytes of them are stored."""

    media: int = 0
    size_bytes: int = 0


class Uploads(Protocol):
    """
    Uploads in progress. A row says of a chunk only what is durable in `Blobs`.

    What makes an event, becoming whole and expiring, is a draft and goes through `Log.append`.
    """

    async def find_place(self, user: int, chunk: Chunk, *, limits: MediaLimits) -> ChunkPlace | None:
        """
        Decide whether a chunk may be stored; None when it would begin its upload.

        Args:
            user: Who sends it.
            chunk: The chunk.
            limits: How much room there is.

        Raises:
            NotFound: If there is no such thread.
            Forbidden: If the user is not in its group, or the upload belongs to another user.
            InvalidChunk: If it does not fit what was said of the medium before.
            Conflict: If the chunk was already received with different bytes.
            Gone: If the medium has expired.
            UploadLost: If the upload was aborted, and its bytes are being deleted.
            FileTooLarge: If the medium is over the limit for one.
        """
        ...

    async def begin_upload(
        self, user: int, chunk: Chunk, *, folder: str, limits: MediaLimits, now_ms: int
    ) -> ChunkPlace:
        """
        Reserve room for the medium of a chunk, unless its upload has begun meanwhile: then the folder is another one.

        Args:
            user: Who sends the chunk.
            chunk: The chunk.
            folder: Where the bytes go, if this begins the upload.
            limits: How much room there is.
            now_ms: The wall clock.

        Raises:
            QuotaExceeded: If the group has no room for it.
            StorageFull: If all groups together have no room for it.
            TooManyRequests: If the user or the group has too many unfinished uploads.
            OrbitalError: As `find_place`.
        """
        ...

    async def add_chunk(self, chunk: Chunk, *, folder: str, blob: str, limits: MediaLimits, now_ms: int) -> ChunkPlace:
        """
        Note a chunk whose bytes are durable under the name `blob`; one that is noted already stays as it is.

        Raises:
            Conflict: If it is there with other bytes.
            UploadLost: If the upload is no longer in progress: the bytes belong to nobody.
            InvalidChunk: If the medium would not have the size that was declared.
            FileTooLarge: If the medium is over the limit for one.
            QuotaExceeded: If the group has no room for it.
        """
        ...

    async def release_upload(self, folder: str) -> None:
        """Give the room of an upload back of which nothing was stored; if something was, nothing happens."""
        ...

    async def upload(self, user: int, media_id: MediaId) -> Upload:
        """
        Return the progress of an upload, to its uploader only.

        Raises:
            NotFound: If there is no such medium.
            Forbidden: If it belongs to another user, or the user has left the group.
        """
        ...

    async def abort_upload(self, user: int, media_id: MediaId) -> bool:
        """
        Abort an incomplete upload; False when it is, or was aborted before.

        Raises:
            NotFound: If there is no such medium.
            Forbidden: If the user neither began it nor is the creator of its group.
        """
        ...


class MediaStore(Protocol):
    """
    Media that may be read, for a member of their group.

    Each read checks, in its own transaction, that the user may: NotFound, or Forbidden.
    A page of a list ends at `limit`, or early when its entries fill 8 MiB; `has_more` says whether entries follow.
    """

    async def media_file(self, user: int, media_id: MediaId, *, now_ms: int) -> MediaFile:
        """
        Return what a reader needs of a medium.

        Raises:
            NotFound: If there is no such medium, or it is not complete yet.
            Forbidden: If the user is not in its group.
            Gone: If it has expired.
        """
        ...

    async def media_info(self, user: int, media_id: MediaId, *, now_ms: int) -> api.MediumInfo:
        """Answer `GET /api/media/{media_id}/info`; an expired medium has one, too."""
        ...

    async def thread_media(
        self, user: int, thread_id: ThreadId, *, now_ms: int, limit: int, offset: int = 0
    ) -> api.ThreadMedia:
        """Answer `GET /api/threads/{thread_id}/media`, a page as `Store.groups_of` makes them."""
        ...

    async def thread_folders(self, thread_id: ThreadId) -> list[str]:
        """Return the folders with the bytes of a thread's media, without checking the caller."""
        ...

    async def note_download(self, user: int, media_id: MediaId, *, now_ms: int) -> None:
        """Note that a user has a medium; saying so again changes nothing."""
        ...

    async def quota(self, user: int, group_id: GroupId, *, limits: MediaLimits) -> api.Quota:
        """Answer `GET /api/groups/{group_id}/quota`."""
        ...


class MediaCleanup(Protocol):
    """What the periodic clean-up asks."""

    async def due_media(self, *, now_ms: int, limit: int) -> list[DueMedia]:
        """Return media that have expired and are not deleted yet."""
        ...

    async def abort_resting(self, *, before_ms: int, limit: int) -> int:
        """Abort uploads of which nothing came since `before_ms`; return how many."""
        ...

    async def pending_deletions(self, *, limit: int) -> list[PendingDeletion]:
        """Return media that may no longer be read, and whose bytes may still be there."""
        ...

    async def note_deleted(self, key: int) -> None:
        """Note that a medium's bytes are gone; of one that never was whole nothing remains."""
        ...

    async def known_chunks(self, folders: Collection[str]) -> dict[str, int]:
        """Return blobs that belong into those folders, with their sizes; a folder whose bytes must go has none."""
        ...

    async def chunks_after(self, key: int, *, limit: int) -> list[tuple[int, str, dict[str, int]]]:
        """Return media that have bytes, after a row number: number, id, and blobs with their sizes."""
        ...

    async def held(self) -> dict[MediaState, MediaUsage]:
        """Return what there is of all groups together, whole and in progress."""
        ...
