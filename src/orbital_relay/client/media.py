"""
Media: encrypted files that go up in chunks and come down as a stream.

To cancel a transfer, cancel its task. To resume an upload, call it again with the same `media_id`; to resume a download
into a file, call it again with the same file. The server gives an abandoned upload's room back by itself.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from uuid import uuid4

import msgspec

from orbital_relay.client.api import Api
from orbital_relay.client.errors import ApiError, BadAnswer, ClientError, Unreachable
from orbital_relay.client.responses import ChunkStored, MediaStored
from orbital_relay.core.backoff import BACKOFF, Backoff

CHUNK_BYTES: Final = 5 * 1024 * 1024
"""The most that the server takes in one chunk."""

PARALLEL: Final = 3
"""Chunks under way at once: enough to fill a line with some latency, and 15 MiB of memory."""

READ_BYTES: Final = 1024 * 1024
"""Bytes of a file that are hashed at a time."""

TRIES: Final = 8
"""Failures in a row, about three minutes by the rule of back-off, before a transfer gives up; it can be resumed."""

T = TypeVar("T")

PathLike = os.PathLike[str]

Progress = Callable[[int, int], None]
"""Hears the bytes that are there and the bytes in all."""


class UploadInterrupted(ClientError):
    """
    The upload did not get through; what is there stays for some time, so call again with the same `media_id`.

    Attributes:
        media_id: The medium.
    """

    def __init__(self, media_id: str, cause: ClientError) -> None:
        self.media_id = media_id
        super().__init__(f"The upload {media_id} was interrupted ({cause}); resume it with the same media_id.")


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """
    A medium that came down whole.

    Attributes:
        data: Its bytes; None when they went into a file.
        path: The file; None when the bytes are in `data`.
        size_bytes: How many.
        sha256: Their hash, made while they came, in hexadecimal; compare it with what the uploader tells.
        encryption_iv: What the uploader gave as `encryption_iv`.
        expires_at: When the server forgets it, RFC 3339.
    """

    data: bytes | None
    path: Path | None
    size_bytes: int
    sha256: str
    encryption_iv: str
    expires_at: str


# Chapter: up


class _Source:
    """The bytes of an upload, read a chunk at a time."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._lock = asyncio.Lock()
        self.size_bytes = size_bytes

    async def read(self, start: int, length: int) -> bytes:
        async with self._lock:
            return await asyncio.to_thread(self._read, start, length)

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

    async def read(self, start: int, length: int) -> bytes:
        return self._data[start : start + length]


async def upload(
    api: Api,
    thread_id: str,
    source: bytes | str | PathLike | BinaryIO,
    *,
    encrypted_metadata: str,
    encryption_iv: str,
    media_id: str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    parallel: int = PARALLEL,
    progress: Progress | None = None,
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
        chunk_bytes: Size of a chunk; the same as before to resume.
        parallel: Chunks under way at once.
        progress: Hears the bytes that are there and the bytes in all.
        backoff: How long to wait between tries.

    Raises:
        ValueError: If there is nothing to send, or it is not what the server has the beginning of.
        ApiError: If the server refuses it: too large, no room, no member.
        UploadInterrupted: If the server cannot be reached.
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
        there = await _chunks_there(api, media_id, total) if media_id else set()
        return await _Upload(
            api=api,
            thread_id=thread_id,
            media_id=media_id or str(uuid4()),
            chunks=chunks,
            chunk_bytes=chunk_bytes,
            total=total,
            encrypted_metadata=encrypted_metadata,
            encryption_iv=encryption_iv,
            progress=progress,
            backoff=backoff,
        ).run(there, parallel)
    finally:
        if file is not None and file is not source:
            file.close()


@dataclass(slots=True, kw_only=True)
class _Upload:
    """One upload under way."""

    api: Api
    thread_id: str
    media_id: str
    chunks: _Source
    chunk_bytes: int
    total: int
    encrypted_metadata: str
    encryption_iv: str
    progress: Progress | None
    backoff: Backoff
    done_bytes: int = 0
    stored: MediaStored | None = None

    async def run(self, there: set[int], parallel: int) -> MediaStored:
        """Send the chunks that the server does not have."""
        owed = iter([index for index in range(self.total) if index not in there])
        self._advance(sum(self._length(index) for index in there))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(parallel, self.total)):
                    tasks.create_task(self._work(owed))
            if self.stored is None:  # All were there before, or the answer to the last one was lost.
                return await _tried(lambda: self.api.complete_upload(self.media_id), self.backoff)
        except ExceptionGroup as group:
            first = group.exceptions[0]
            if isinstance(first, Unreachable):
                raise UploadInterrupted(self.media_id, first) from first
            raise first from None
        except Unreachable as exc:
            raise UploadInterrupted(self.media_id, exc) from exc
        return self.stored

    async def _work(self, owed: Iterator[int]) -> None:
        """Send one chunk after the other, from a list shared with the other workers."""
        for index in owed:
            chunk = await self.chunks.read(index * self.chunk_bytes, self._length(index))
            answer = await _tried(partial(self._send, index, chunk), self.backoff)
            self._advance(len(chunk))
            if isinstance(answer, MediaStored):
                self.stored = answer

    async def _send(self, index: int, chunk: bytes) -> ChunkStored | MediaStored:
        return await self.api.upload_chunk(
            media_id=self.media_id,
            thread_id=self.thread_id,
            chunk_index=index,
            total_chunks=self.total,
            chunk=chunk,
            encrypted_metadata=self.encrypted_metadata,
            encryption_iv=self.encryption_iv,
        )

    def _length(self, index: int) -> int:
        return min(self.chunk_bytes, self.chunks.size_bytes - index * self.chunk_bytes)

    def _advance(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        if self.progress:
            self.progress(self.done_bytes, self.chunks.size_bytes)


async def _chunks_there(api: Api, media_id: str, total: int) -> set[int]:
    """Ask which chunks the server has; none when it does not know the upload."""
    try:
        state = await api.upload_state(media_id)
    except ApiError as exc:
        if exc.status == 404:
            return set()
        raise
    if state.total_chunks != total:
        raise ValueError(
            f"The upload {media_id} was begun with {state.total_chunks} chunks and now has {total}: "
            "it is another file, or another size of chunk."
        )
    return set(state.chunks_received)


async def _tried(request: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
    """Make a request that may be repeated, until it is answered."""
    failures = 0
    while True:
        retry_after_ms = 0
        try:
            return await request()
        except ApiError as exc:
            if not exc.retryable or failures + 1 >= TRIES:
                raise
            retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
        except Unreachable:
            if failures + 1 >= TRIES:
                raise
        await _pause(backoff, failures, retry_after_ms)
        failures += 1


async def _pause(backoff: Backoff, failures: int, retry_after_ms: int) -> None:
    delay_ms = backoff.delay_ms(failures, random=random.random(), now_ms=0, retry_after_ms=retry_after_ms)  # noqa: S311 - spreads load, hides nothing
    await asyncio.sleep(delay_ms / 1_000)


# Chapter: down


class _Sink:
    """
    Where a download goes: memory, or `<file>.<media_id>.part` until it is whole.

    The id is in it so that what is left of one medium is never the beginning of another.
    """

    def __init__(self, path: Path | None, media_id: str) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.{media_id}.part") if path else None
        self._data = bytearray()
        self._hash = sha256()
        self._have_bytes: int | None = None

    def have_bytes(self) -> int:
        """Tell how many bytes are there; those that an earlier run left are hashed first."""
        if self._have_bytes is None:
            self._have_bytes = 0
            if self._part is not None and self._part.exists():
                with self._part.open("rb") as file:
                    while data := file.read(READ_BYTES):
                        self._hash.update(data)
                        self._have_bytes += len(data)
        return self._have_bytes

    def clear(self) -> None:
        """Begin anew."""
        self._data.clear()
        self._hash = sha256()
        self._have_bytes = 0
        if self._part is not None:
            self._part.write_bytes(b"")

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        if self._part is None:
            self._data += data
        else:
            with self._part.open("ab") as file:
                file.write(data)
        self._hash.update(data)
        self._have_bytes = self.have_bytes() + len(data)

    def finish(self) -> tuple[bytes | None, str]:
        """Give the bytes, or put the file into its place; and their hash."""
        if self._part is None or self.path is None:
            return bytes(self._data), self._hash.hexdigest()
        self._part.replace(self.path)
        return None, self._hash.hexdigest()


async def download(
    api: Api,
    media_id: str,
    *,
    to: str | PathLike | None = None,
    progress: Progress | None = None,
    backoff: Backoff = BACKOFF,
) -> Downloaded:
    """
    Fetch a medium; after an interruption it goes on where it stopped.

    Args:
        api: The REST side.
        media_id: The medium.
        to: A file; the bytes come into memory when None. Until it is whole it is called `<file>.<media_id>.part`, and a
            later call goes on with that.
        progress: Hears the bytes that are there and the bytes in all.
        backoff: How long to wait between tries.

    Raises:
        ApiError: If the server refuses; with status 410 once the medium is expired.
        Unreachable: If the server cannot be reached.
    """
    sink = _Sink(Path(to) if to is not None else None, media_id)
    failures = 0
    while True:
        have = await asyncio.to_thread(sink.have_bytes)
        retry_after_ms = 0
        try:
            return await _download(api, media_id, sink, have, progress)
        except ApiError as exc:
            if exc.status == 416 and have:
                # What is there does not fit this medium (RFC 9110 §15.5.17): begin anew.
                await asyncio.to_thread(sink.clear)
                continue
            if not exc.retryable or failures + 1 >= TRIES:
                raise
            retry_after_ms = round((exc.retry_after_s or 0) * 1_000)
        except Unreachable:
            moved = await asyncio.to_thread(sink.have_bytes) > have
            failures = 0 if moved else failures
            if failures + 1 >= TRIES:
                raise
        await _pause(backoff, failures, retry_after_ms)
        failures += 1


async def _download(api: Api, media_id: str, sink: _Sink, have: int, progress: Progress | None) -> Downloaded:
    # A medium never changes once it is whole, so the bytes after `have` belong to those before it.
    headers = {
        "Accept-Encoding": "identity"
    }  # Ciphertext does not compress, and a range is one of the bytes themselves.
    if have:
        headers["Range"] = f"bytes={have}-"
    async with api.download(media_id, headers=headers) as response:
        fresh = have == 0 or response.status_code != 206
        have = 0 if fresh else have
        try:
            size_bytes = have + int(response.headers["Content-Length"])
        except (KeyError, ValueError) as exc:
            raise BadAnswer("What answered did not say how long the medium is.") from exc
        if fresh:
            await asyncio.to_thread(sink.clear)
        async for data in response.aiter_raw():
            await asyncio.to_thread(sink.write, data)
            have += len(data)
            if progress:
                progress(have, size_bytes)
        if have != size_bytes:
            raise Unreachable(f"The download ended after {have} of {size_bytes} bytes.")
        content, hash_ = await asyncio.to_thread(sink.finish)
        return Downloaded(
            data=content,
            path=sink.path,
            sha256=hash_,
            size_bytes=size_bytes,
            encryption_iv=response.headers.get("X-Encryption-IV", ""),
            expires_at=response.headers.get("X-Expires-At", ""),
        )
