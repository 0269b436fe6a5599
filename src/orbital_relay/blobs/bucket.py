"""Blob storage in a bucket (S3 and compatible object storage) through obstore."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from typing import IO, TYPE_CHECKING, Final

from orbital_relay.errors import Unavailable
from orbital_relay.ports import Blob, BlobDraft, BlobMissing

if TYPE_CHECKING:
    from obstore.store import ObjectStore
from orbital_relay.blobs.draft import SpooledDraft, away, on_thread
from orbital_relay.blobs.folder import PIECE_BYTES

PART_BYTES: Final = 5 * 1024 * 1024
"""S3's smallest part of a multipart upload. A chunk above it goes in parts, so that it is never in memory whole."""

PARTS_AT_ONCE: Final = 2
"""Parts of one blob in transfer to the bucket."""

KEPT_AT_ONCE: Final = 8
"""Blobs in transfer to the bucket: of each some 5 MiB are in memory (15 in parts). The others wait in their files."""

TURN_WAIT_S: Final = 60.0
"""Longest that a blob waits for its turn; a bucket that is so slow will not be quicker for the next ones."""

CLOSE_WAIT_S: Final = 5.0
"""How long a shutdown waits for parts to be taken back; who told the program to stop kills it after 10 to 90 s."""


class BucketBlobs:
    """
    Blobs as objects of a bucket, or of any other store that obstore speaks to.

    A draft waits in a file without a name on this machine; what a crash leaves of it is nothing. An object is there
    whole or not at all: that is the store's own promise, for one request and for a multipart upload alike. What was
    sent of a multipart upload that fails is taken back; only a kill, or an unreachable store, leaves parts.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(KEPT_AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()

    def draft(self) -> BlobDraft:
        """See `ports.Blobs.draft`."""
        return SpooledDraft(lambda: tempfile.TemporaryFile(buffering=0))

    async def keep(self, draft: BlobDraft, name: str) -> None:
        """See `ports.Blobs.keep`."""
        if not isinstance(draft, SpooledDraft):
            raise TypeError("a draft belongs to the blobs that made it")
        file = await on_thread(draft.flush)
        file.seek(0)
        # obstore deletes the parts of an upload that fails, but not of one that is cancelled. So it is never cancelled:
        # a caller that is cancelled discards the draft, and that makes the upload fail.
        sending = asyncio.create_task(self._send(name, file))
        self._sending.add(sending)
        sending.add_done_callback(self._sent)
        with _answers():
            await asyncio.shield(sending)
        await draft.discard()

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            # Who waits has it from `shield`; who was cancelled does not want it, and asyncio would print it.
            sending.exception()

    async def _send(self, name: str, file: IO[bytes]) -> None:
        import obstore  # noqa: PLC0415 - an extra

        try:
            async with asyncio.timeout(TURN_WAIT_S):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise Unavailable(
                "The media storage is too slow at the moment; nothing was stored.", retry_after_s=5
            ) from exc
        try:
            await obstore.put_async(self._store, name, file, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        finally:
            self._turns.release()

    async def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """See `ports.Blobs.stream`."""
        import obstore  # noqa: PLC0415 - an extra

        if start >= end:
            return
        from obstore.exceptions import BaseError  # noqa: PLC0415 - the same

        with _answers():
            try:
                found = await obstore.get_async(self._store, name, options={"range": (start, end)})
            except BaseError as exc:
                # It may begin beyond the end, for which there is no error of its own.
                if (await obstore.head_async(self._store, name))["size"] > start:
                    raise
                raise BlobMissing(name) from exc
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                start += len(piece)
                yield bytes(piece)
        # A store gives what it has of a range.
        if start < end:
            raise BlobMissing(name)

    async def delete(self, names: Collection[str]) -> None:
        """See `ports.Blobs.delete`."""
        import obstore  # noqa: PLC0415 - an extra

        for name in names:
            with _answers(), contextlib.suppress(FileNotFoundError, BlobMissing):
                await obstore.delete_async(self._store, name)

    async def delete_folder(self, folder: str) -> None:
        """See `ports.Blobs.delete_folder`."""
        await self.delete([blob.name async for blob in self.listing(folder)])

    async def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        """See `ports.Blobs.listing`."""
        import obstore  # noqa: PLC0415 - an extra

        with _answers():
            async for page in obstore.list(self._store, prefix=None if folder is None else f"{folder}/"):
                for each in page:
                    yield Blob(each["path"], each["size"], int(each["last_modified"].timestamp() * 1000))

    async def sweep(self, *, before_ms: int) -> int:  # noqa: ARG002 - drafts here end with their process
        """See `ports.Blobs.sweep`."""
        return 0

    async def close(self) -> None:
        """See `ports.Blobs.close`."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_WAIT_S)


@contextlib.contextmanager
def _answers() -> Iterator[None]:
    """Turn what obstore raises into our own words."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

    try:
        yield
    except FileNotFoundError as exc:
        raise BlobMissing(str(exc)) from exc
    except (BaseError, OSError, ValueError) as exc:
        raise away(exc) from exc
