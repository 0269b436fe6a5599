"""The port to the bytes of media."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """A blob that is there: name, size in bytes, and when it was written, milliseconds since the epoch."""

    name: str
    size_bytes: int
    modified_ms: int


class BlobDraft(Protocol):
    """Bytes that are being written, before they have a name. They are invisible until they are kept."""

    @property
    def size_bytes(self) -> int:
        """How many were written."""
        ...

    async def write(self, data: bytes | bytearray) -> None:
        """Take more bytes."""
        ...

    async def digest(self) -> bytes:
        """Return the SHA-256 of what was written."""
        ...

    async def discard(self) -> None:
        """Forget the bytes; after `keep` it does nothing."""
        ...


class BlobMissing(Exception):
    """There is no blob of that name."""


class Blobs(Protocol):
    """
    Bytes by name; names are made by this program alone.

    Every method raises `Unavailable` when the bytes cannot be reached or there is no room for them.
    """

    def draft(self) -> BlobDraft:
        """Begin to take bytes in."""
        ...

    async def keep(self, draft: BlobDraft, name: str) -> None:
        """Give a draft its name, replacing what had it; durable and whole when this returns, or not there at all."""
        ...

    def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """
        Read the bytes from `start` up to but not `end`, in pieces.

        Raises:
            BlobMissing: If there is no such blob; after its last byte if it ends before `end`.
        """
        ...

    async def delete(self, names: Collection[str]) -> None:
        """Remove blobs; those that are not there do not matter."""
        ...

    async def delete_folder(self, folder: str) -> None:
        """Remove every blob whose name begins with `folder/`."""
        ...

    def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        """Return every blob, in no order; with a folder, every one whose name begins with `folder/`."""
        ...

    async def sweep(self, *, before_ms: int) -> int:
        """Remove drafts that a server left behind before that moment; return how many."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...
