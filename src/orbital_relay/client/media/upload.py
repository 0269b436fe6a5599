"""Upload in parallel chunks, read while they are sent; it can be resumed."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final
from uuid import uuid4

from orbital_relay.client.api import Api
from orbital_relay.client.api.media import PIECE_BYTES, ChunkSource
from orbital_relay.client.errors import ApiError, ClientError, Unreachable
from orbital_relay.client.media.transfer import OnTransfer, PathLike, may_pass, tried
from orbital_relay.client.responses import ChunkStored, MediaStored
from orbital_relay.core.backoff import BACKOFF, Backoff

CHUNK_BYTES: Final = 5 * 1024 * 1024
"""The most that the server takes in one chunk."""

PARALLEL: Final = 3
"""Chunks in progress at once: enough to fill a line with some latency. A chunk is read in pieces while it is sent."""


class UploadInterrupted(ClientError):
    """
    The upload did not get through; what is there stays for some time, so call again with the same `media_id`.

    Attributes:
        media_id: The medium.
    """

    def __init__(self, media_id: str, cause: ClientError) -> None:
        self.media_id = media_id
        super().__init__(f"The upload {media_id} was interrupted ({cause}); resume it with the same media_id.")


class _Source:
    """The bytes of an upload, read a piece at a time."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._lock = asyncio.Lock()
        self.size_bytes = size_bytes

    async def pieces(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start` on."""
        for at in range(start, start + length, PIECE_BYTES):
            async with self._lock:
                piece = await asyncio.to_thread(self._read, at, min(PIECE_BYTES, start + length - at))
            yield piece

    def _read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(length)
        if len(data) != length:
            raise ValueError("The file became shorter while it was sent.")
        return data


class _Bytes(_Source):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    async def pieces(self, start: int, length: int) -> AsyncIterator[bytes]:
        for at in range(start, start + length, PIECE_BYTES):
            yield self._data[at : min(at + PIECE_BYTES, start + length)]


async def upload(
    api: Api,
    thread_id: str,
    source: bytes | str | PathLike | BinaryIO,
    *,
    encrypted_metadata: str,
    encryption_iv: str,
    media_id: str | None = None,
    if_epoch: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    parallel: int = PARALLEL,
    progress: OnTransfer | None = None,
    backoff: Backoff = BACKOFF,
) -> MediaStored:
    """
    Send an encrypted file to a thread; what the server has already is not sent again.

    Args:
        api: The REST side.
        thread_id: The thread.
        source: The encrypted bytes, a path, or an open binary file that can seek.
        encrypted_metadata: What members learn of it, base64.
        encryption_iv: What they need to decrypt it, base64.
        media_id: The same as before to resume; a new one when None.
        if_epoch: The group's epoch that the metadata was encrypted for.
        chunk_bytes: Size of a chunk; the same as before to resume.
        parallel: Chunks in progress at once.
        progress: Called with the bytes that are there and the bytes in all.
        backoff: How long to wait between tries.

    Raises:
        ValueError: If there is nothing to send, or it is not what the server has the beginning of.
        ApiError: If the server refuses it: too large, no room, no member; with code `EPOCH_CHANGED` when the group's
            epoch is above `if_epoch`: call again with the same `media_id` and the newer epoch, or delete the medium
            first if its metadata changes: with code `INVALID_CHUNK` when the upload began with other metadata.
        UploadInterrupted: If the server cannot be reached, or is in trouble, for some minutes.
    """
    file: BinaryIO | None = None
    chunks: _Source
    if isinstance(source, bytes):
        chunks = _Bytes(source)
    else:
        file = await asyncio.to_thread(open, source, "rb") if isinstance(source, str | os.PathLike) else source
        chunks = _Source(file, await asyncio.to_thread(file.seek, 0, os.SEEK_END))
    try:
        if chunks.size_bytes == 0:
            raise ValueError("There is nothing to send: the file is empty.")
        if not 0 < chunk_bytes <= CHUNK_BYTES:
            raise ValueError(f"A chunk has 1 to {CHUNK_BYTES} bytes.")
        total = -(-chunks.size_bytes // chunk_bytes)
        return await _Upload(
            api=api,
            thread_id=thread_id,
            media_id=media_id or str(uuid4()),
            chunks=chunks,
            chunk_bytes=chunk_bytes,
            total=total,
            encrypted_metadata=encrypted_metadata,
            encryption_iv=encryption_iv,
            if_epoch=if_epoch,
            progress=progress,
            backoff=backoff,
        ).run(parallel, resumed=media_id is not None)
    finally:
        if file is not None and file is not source:
            file.close()


@dataclass(slots=True, kw_only=True)
class _Upload:
    """One upload in progress."""

    api: Api
    thread_id: str
    media_id: str
    chunks: _Source
    chunk_bytes: int
    total: int
    encrypted_metadata: str
    encryption_iv: str
    if_epoch: int | None
    progress: OnTransfer | None
    backoff: Backoff
    done_bytes: int = 0
    stored: MediaStored | None = None

    async def run(self, parallel: int, *, resumed: bool) -> MediaStored:
        """Send the chunks that the server does not have."""
        try:
            there = await self._there() if resumed else set()
            # The server compares a chunk's metadata with what the upload began with: without one, an upload that was
            # sealed for a former epoch would be completed.
            if self.if_epoch is not None:
                there.discard(0)
            owed = iter([index for index in range(self.total) if index not in there])
            self._advance(sum(self._length(index) for index in there))
            if self.if_epoch is not None:
                await self._work(itertools.islice(owed, 1))
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(parallel, self.total)):
                    tasks.create_task(self._work(owed))
            if self.stored is None:  # All were there before, or the answer to the last one was lost.
                self.stored = await self._completed()
        except (ExceptionGroup, ApiError, Unreachable) as exc:
            first = exc.exceptions[0] if isinstance(exc, ExceptionGroup) else exc
            if isinstance(first, ApiError | Unreachable) and may_pass(first):
                raise UploadInterrupted(self.media_id, first) from first
            raise first from None
        return self.stored

    async def _there(self) -> set[int]:
        """Ask which chunks the server has; none when it does not know the upload."""
        try:
            state = await tried(lambda: self.api.upload_state(self.media_id), self.backoff)
        except ApiError as exc:
            if exc.status == 404:
                return set()
            raise
        if state.total_chunks != self.total:
            raise ValueError(
                f"The upload {self.media_id} was begun with {state.total_chunks} chunks and now has {self.total}: "
                "it is another file, or another size of chunk."
            )
        return {index for index in state.chunks_received if 0 <= index < self.total}

    async def _completed(self) -> MediaStored:
        """Ask for the answer of an upload whose last answer was lost."""
        completed = await tried(lambda: self.api.complete_upload(self.media_id, if_epoch=self.if_epoch), self.backoff)
        info = await tried(lambda: self.api.media_info(self.media_id), self.backoff)
        return MediaStored(
            media_id=completed.media_id,
            size_bytes=completed.size_bytes,
            uploaded_at=info.uploaded_at,
            expires_at=completed.expires_at,
        )

    async def _work(self, owed: Iterator[int]) -> None:
        """Send one chunk after the other, from a list shared with the other workers."""
        for index in owed:
            answer = await tried(partial(self._send, index), self.backoff)
            self._advance(self._length(index))
            if isinstance(answer, MediaStored):
                self.stored = answer

    async def _send(self, index: int) -> ChunkStored | MediaStored:
        length = self._length(index)
        return await self.api.upload_chunk(
            media_id=self.media_id,
            thread_id=self.thread_id,
            chunk_index=index,
            total_chunks=self.total,
            chunk=ChunkSource(length, partial(self.chunks.pieces, index * self.chunk_bytes, length)),
            encrypted_metadata=self.encrypted_metadata,
            encryption_iv=self.encryption_iv,
            if_epoch=self.if_epoch,
        )

    def _length(self, index: int) -> int:
        return min(self.chunk_bytes, self.chunks.size_bytes - index * self.chunk_bytes)

    def _advance(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        if self.progress:
            self.progress(self.done_bytes, self.chunks.size_bytes)
