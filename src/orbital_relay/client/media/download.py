"""Downloads into memory or a file, resumed where they stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import msgspec

from orbital_relay.client.api import Api
from orbital_relay.client.errors import ApiError, BadAnswer, MediumTooLarge, Unreachable
from orbital_relay.client.media.transfer import TRIES, OnTransfer, PathLike, may_pass, pause
from orbital_relay.core.backoff import BACKOFF, Backoff

READ_BYTES: Final = 1024 * 1024
"""Bytes of a file that are hashed at a time."""

MEMORY_BYTES: Final = 128 * 1024 * 1024
"""The largest medium that a download without a file takes into memory."""

PROGRESS_BYTES: Final = 64 * 1024
"""So many bytes have to come within PROGRESS_S, or the connection counts as dead: 1 KB/s."""

PROGRESS_S: Final = 60.0
"""Seconds of waiting for the network; the time that the disk takes is not counted."""


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """
    A medium that came down whole.

    Attributes:
        data: Its bytes; None when they went into a file.
        path: The file; None when the bytes are in `data`.
        size_bytes: How many.
        sha256: Their hash, made while they came, in hexadecimal; compare it with the uploader's.
        encryption_iv: The uploader's `encryption_iv`.
        expires_at: When the server forgets it, RFC 3339.
    """

    data: bytes | None
    path: Path | None
    size_bytes: int
    sha256: str
    encryption_iv: str
    expires_at: str


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
        """Return how many bytes are there; those of an earlier run are hashed first."""
        if self._have_bytes is None:
            self._have_bytes = 0
            if self._part is not None and self._part.exists():
                with self._part.open("rb") as file:
                    while data := file.read(READ_BYTES):
                        self._hash.update(data)
                        self._have_bytes += len(data)
        return self._have_bytes

    def clear(self) -> None:
        """Begin again."""
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
    memory_bytes: int = MEMORY_BYTES,
    progress: OnTransfer | None = None,
    backoff: Backoff = BACKOFF,
) -> Downloaded:
    """
    Fetch a medium; after an interruption it resumes where it stopped.

    A connection that carries less than 64 KiB in 60 seconds is closed, and the download resumes on a new one. After
    8 tries in a row that carried less it fails.

    Args:
        api: The REST side.
        media_id: The medium.
        to: A file; the bytes come into memory when None. Until it is complete it is called `<file>.<media_id>.part`,
            and a later call resumes with that.
        memory_bytes: The largest medium that comes into memory; not a bound of a file.
        progress: Called with the bytes that are there and the bytes in all.
        backoff: How long to wait between tries.

    Raises:
        ApiError: If the server refuses; with status 410 once the medium is expired.
        MediumTooLarge: If it is larger than `memory_bytes`, and `to` is None; nothing of it was read.
        Unreachable: If the server cannot be reached, or sends too slowly.
    """
    sink = _Sink(Path(to) if to is not None else None, media_id)
    failures = 0
    while True:
        have = await asyncio.to_thread(sink.have_bytes)
        try:
            return await _download(api, media_id, sink, have, memory_bytes, progress)
        except (ApiError, Unreachable) as exc:
            if isinstance(exc, ApiError) and exc.status == 416 and have:
                # What is there does not fit this medium (RFC 9110 §15.5.17): begin again.
                await asyncio.to_thread(sink.clear)
                continue
            # One byte a try is no progress: a server that drips would be asked without end.
            failures = 0 if await asyncio.to_thread(sink.have_bytes) - have >= PROGRESS_BYTES else failures
            if not may_pass(exc) or failures + 1 >= TRIES:
                raise
            await pause(backoff, failures, exc)
        failures += 1


async def _download(
    api: Api, media_id: str, sink: _Sink, have: int, memory_bytes: int, progress: OnTransfer | None
) -> Downloaded:
    # A medium never changes once it is whole, so the bytes after `have` belong to those before it.
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with api.download(media_id, headers=headers) as response:
        fresh = have == 0 or response.status_code != 206
        have = 0 if fresh else have
        try:
            size_bytes = have + int(response.headers["Content-Length"])
        except (KeyError, ValueError) as exc:
            raise BadAnswer("The response does not contain the length of the medium.") from exc
        if not fresh and not response.headers.get("Content-Range", f"bytes {have}-").startswith(f"bytes {have}-"):
            raise BadAnswer("The response has another range than the one requested.")
        if sink.path is None and size_bytes > memory_bytes:
            raise MediumTooLarge(size_bytes, memory_bytes)
        if fresh:
            await asyncio.to_thread(sink.clear)
        async for data in _pieces(response):
            have += len(data)
            if have > size_bytes:
                raise BadAnswer(f"The response has more than the {size_bytes:,} bytes that it announced.")
            await asyncio.to_thread(sink.write, data)
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


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """
    Yield a body as it comes, as long as it comes fast enough.

    Raises:
        Unreachable: If less than PROGRESS_BYTES come within PROGRESS_S.
    """
    clock = asyncio.get_running_loop().time
    pieces = response.aiter_raw()
    came_bytes, left_s = 0, PROGRESS_S
    while True:
        asked_s = clock()
        try:
            async with asyncio.timeout(left_s):
                data = await anext(pieces, None)
        except TimeoutError as exc:
            raise Unreachable(
                f"The download is too slow: less than {PROGRESS_BYTES:,} bytes came in {PROGRESS_S:g} s."
            ) from exc
        if data is None:
            return
        left_s -= clock() - asked_s
        came_bytes += len(data)
        if came_bytes >= PROGRESS_BYTES:
            came_bytes, left_s = 0, PROGRESS_S
        yield data
