"""A blob that is being written: a temporary file that a thread writes and hashes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeVar

from orbital_relay.errors import Unavailable

T = TypeVar("T")
log = logging.getLogger("orbital.blobs")

HELD_BYTES: Final = 256 * 1024
"""Bytes of a draft held in memory before a thread writes and hashes them: a hop costs 0.1 ms, which is 2 % of that."""


class SpooledDraft:
    """
    Bytes that are being written: a file, written and hashed by a thread, some at a time.

    It never has more than `HELD_BYTES` and one piece of the line in memory.
    """

    def __init__(self, open_file: Callable[[], IO[bytes]]) -> None:
        self._open = open_file
        self.file: IO[bytes] | None = None
        self._held = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """See `ports.BlobDraft.size_bytes`."""
        return self._size

    async def write(self, data: bytes | bytearray) -> None:
        """See `ports.BlobDraft.write`."""
        self._size += len(data)
        self._held += data
        if len(self._held) >= HELD_BYTES:
            await on_thread(self.flush)

    async def digest(self) -> bytes:
        """See `ports.BlobDraft.digest`."""
        await on_thread(self.flush)
        return self._hash.digest()

    async def discard(self) -> None:
        """See `ports.BlobDraft.discard`."""
        self._held = bytearray()
        if self.file is not None:
            file, self.file = self.file, None
            await on_thread(lambda: _remove(file))

    def flush(self) -> IO[bytes]:
        """Write and hash what is held; on a thread."""
        if self.file is None:
            self.file = self._open()
        held, self._held = self._held, bytearray()
        self._hash.update(held)
        # On a disk that gets full a write takes what fits, and says so; the next one fails.
        with memoryview(held) as left:
            written = 0
            while written < len(left):
                written += self.file.write(left[written:])
        return self.file


def _remove(file: IO[bytes]) -> None:
    file.close()
    if isinstance(file.name, str):
        Path(file.name).unlink(missing_ok=True)


async def on_thread(work: Callable[[], T]) -> T:
    """
    Do what may wait for a disk elsewhere.

    Raises:
        Unavailable: If the disk is full, gone or read-only.
    """
    try:
        return await asyncio.to_thread(work)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise away(exc) from exc


def away(exc: Exception) -> Unavailable:
    """Log that the storage failed; return the error for the client."""
    log.error("the media storage failed", extra={"error": first_line(exc)})
    return Unavailable("The media storage cannot be used right now; nothing was stored. Try again.", retry_after_s=5)


def first_line(exc: BaseException) -> str:
    """Return the first line of an error's message, without its period."""
    return str(exc).partition("\n")[0].rstrip(".")
