"""Media bytes: a folder of this machine, or a bucket (S3 and its kin) through obstore."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from orbital_relay.errors import SettingsInvalid, Unavailable
from orbital_relay.ownership import make_private
from orbital_relay.ports import Blob, BlobDraft, BlobMissing, Blobs

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

T = TypeVar("T")
log = logging.getLogger("orbital.blobs")

HELD_BYTES: Final = 256 * 1024
"""Bytes of a draft held in memory before a thread writes and hashes them: a hop costs 0.1 ms, which is 2 % of that."""

PIECE_BYTES: Final = 256 * 1024
"""Bytes of one read: a reader that does not take them holds no more than that."""

PART_BYTES: Final = 5 * 1024 * 1024
"""S3's smallest part of a multipart upload. A chunk above it goes in parts, so that it is never in memory whole."""

PARTS_AT_ONCE: Final = 2
"""Parts of one blob on their way to the bucket."""

KEPT_AT_ONCE: Final = 8
"""Blobs on their way to the bucket: of each some 5 MiB are in memory (15 in parts). The others wait in their files."""

TURN_WAIT_S: Final = 60.0
"""Longest that a blob waits for its turn; a bucket that is so slow will not be quicker for the next ones."""

CLOSE_WAIT_S: Final = 5.0
"""How long a shutdown waits for parts to be taken back; who told the program to stop kills it after 10 to 90 s."""

DRAFTS: Final = ".drafts"
"""Where bytes are until they have a name. It is within the media folder, since a rename does not cross file systems."""


class _Draft:
    """
    Bytes on their way in: a file, written and hashed by a thread, some at a time.

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
            await _on_thread(self.flush)

    async def digest(self) -> bytes:
        """See `ports.BlobDraft.digest`."""
        await _on_thread(self.flush)
        return self._hash.digest()

    async def discard(self) -> None:
        """See `ports.BlobDraft.discard`."""
        self._held = bytearray()
        if self.file is not None:
            file, self.file = self.file, None
            await _on_thread(lambda: _remove(file))

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


async def _on_thread(work: Callable[[], T]) -> T:
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
        raise _away(exc) from exc


def _away(exc: Exception) -> Unavailable:
    log.error("the media storage failed", extra={"error": _first_line(exc)})
    return Unavailable("The media storage cannot be used right now; nothing was stored. Try again.", retry_after_s=5)


def _first_line(exc: BaseException) -> str:
    return str(exc).partition("\n")[0].rstrip(".")


# Chapter: a folder


class FolderBlobs:
    """
    Blobs as files of one folder.

    A file has its name only when its bytes are on the disk: it is written under another one, synced and renamed, and
    then its folder is synced. It never follows a name out of its folder, for names are made by this program alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._drafts = root / DRAFTS

    def draft(self) -> BlobDraft:
        """See `ports.Blobs.draft`."""
        return _Draft(self._open_draft)

    def _open_draft(self) -> IO[bytes]:
        while True:
            with contextlib.suppress(FileNotFoundError):
                return (self._drafts / secrets.token_hex(12)).open("xb", buffering=0)
            self._make_folder(self._drafts)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that is private, and its owner's who owns the data folder: what root makes, a service opens."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (self._root, folder):
            make_private(each, like=self._root.parent)

    async def keep(self, draft: BlobDraft, name: str) -> None:
        """See `ports.Blobs.keep`."""
        if not isinstance(draft, _Draft):
            raise TypeError("a draft belongs to the blobs that made it")
        await _on_thread(lambda: self._keep(draft, self._root / name))

    def _keep(self, draft: _Draft, path: Path) -> None:
        file = draft.flush()
        os.fsync(file.fileno())
        file.close()
        while True:
            with contextlib.suppress(FileNotFoundError):
                Path(file.name).replace(path)
                break
            if not Path(file.name).exists():
                raise OSError("the draft was removed")
            # The first of its folder; or the folder was emptied and deleted since.
            self._make_folder(path.parent)
            _sync(self._root)
        draft.file = None
        _sync(path.parent)

    async def stream(self, name: str, *, start: int, end: int) -> AsyncIterator[bytes]:
        """See `ports.Blobs.stream`."""
        try:
            file = await _on_thread(lambda: os.open(self._root / name, os.O_RDONLY))
        except FileNotFoundError as exc:
            raise BlobMissing(name) from exc
        try:
            while start < end:
                at, length = start, min(PIECE_BYTES, end - start)
                piece = await _on_thread(lambda at=at, length=length: os.pread(file, length, at))  # type: ignore[misc]
                if not piece:
                    raise BlobMissing(name)
                start += len(piece)
                yield piece
        finally:
            os.close(file)

    async def delete(self, names: Collection[str]) -> None:
        """See `ports.Blobs.delete`."""
        await _on_thread(lambda: self._delete([self._root / name for name in names]))

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            # Not empty, or not there: both are well.
            with contextlib.suppress(OSError):
                folder.rmdir()

    async def delete_folder(self, folder: str) -> None:
        """See `ports.Blobs.delete_folder`."""
        await _on_thread(lambda: self._delete([*_files(self._root / folder), self._root / folder / "none"]))

    async def every(self) -> AsyncIterator[Blob]:
        """See `ports.Blobs.every`."""
        folders = await _on_thread(lambda: [path.name for path in _entries(self._root) if path.name != DRAFTS])
        for folder in folders:
            async for blob in self.inside(folder):
                yield blob

    async def inside(self, folder: str) -> AsyncIterator[Blob]:
        """See `ports.Blobs.inside`."""
        for blob in await _on_thread(lambda: self._blobs_in(self._root / folder)):
            yield blob

    def _blobs_in(self, folder: Path) -> list[Blob]:
        found = []
        for path in _files(folder):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append(Blob(f"{folder.name}/{path.name}", state.st_size, state.st_mtime_ns // 1_000_000))
        return found

    async def sweep(self, *, before_ms: int) -> int:
        """See `ports.Blobs.sweep`."""
        return await _on_thread(lambda: self._sweep(before_ms))

    def _sweep(self, before_ms: int) -> int:
        gone = 0
        for path in _files(self._drafts):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime_ns // 1_000_000 < before_ms:
                    path.unlink()
                    gone += 1
        for folder in _entries(self._root):
            # A crash between the last file and its folder leaves the folder.
            with contextlib.suppress(OSError):
                if folder.name != DRAFTS and folder.stat().st_mtime_ns // 1_000_000 < before_ms:
                    folder.rmdir()
        return gone

    async def close(self) -> None:
        """See `ports.Blobs.close`."""


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _entries(folder) if not path.is_dir())


def _sync(folder: Path) -> None:
    """Put a folder's entries on the disk: a file whose name is lost with the power is lost."""
    if os.name != "posix":
        return
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_folder: type[Blobs] = FolderBlobs


# Chapter: a bucket


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
        return _Draft(lambda: tempfile.TemporaryFile(buffering=0))

    async def keep(self, draft: BlobDraft, name: str) -> None:
        """See `ports.Blobs.keep`."""
        if not isinstance(draft, _Draft):
            raise TypeError("a draft belongs to the blobs that made it")
        file = await _on_thread(draft.flush)
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
            raise Unavailable("The media storage is too slow just now; nothing was stored.", retry_after_s=5) from exc
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
        await self.delete([blob.name async for blob in self.inside(folder)])

    def inside(self, folder: str) -> AsyncIterator[Blob]:
        """See `ports.Blobs.inside`."""
        return self._list(f"{folder}/")

    def every(self) -> AsyncIterator[Blob]:
        """See `ports.Blobs.every`."""
        return self._list(None)

    async def _list(self, prefix: str | None) -> AsyncIterator[Blob]:
        import obstore  # noqa: PLC0415 - an extra

        with _answers():
            async for page in obstore.list(self._store, prefix=prefix):
                for each in page:
                    yield Blob(each["path"], each["size"], int(each["last_modified"].timestamp() * 1000))

    async def sweep(self, *, before_ms: int) -> int:  # noqa: ARG002 - drafts here end with their process
        """See `ports.Blobs.sweep`."""
        return 0

    async def close(self) -> None:
        """See `ports.Blobs.close`."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_WAIT_S)


_bucket: type[Blobs] = BucketBlobs


@contextlib.contextmanager
def _answers() -> Iterator[None]:
    """Turn what obstore raises into our own words."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra

    try:
        yield
    except FileNotFoundError as exc:
        raise BlobMissing(str(exc)) from exc
    except (BaseError, OSError, ValueError) as exc:
        raise _away(exc) from exc


# Chapter: opening

# obstore's own patience is three minutes: longer than any client waits for an answer.
# An endpoint is asked over plain HTTP only where its address begins with http://, as one beside the server may.
_CLIENT: Final[ClientConfig] = {"connect_timeout": "5s", "timeout": "60s", "allow_http": True}
_RETRY: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}


def open_blobs(url: str | None, *, folder: Path) -> Blobs:
    """
    Open the place where media are.

    Args:
        url: `s3://bucket/prefix`, or another address that obstore knows; None for a folder of this machine. Keys,
            region and endpoint of a bucket come from the store's own variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
        folder: That folder.

    Raises:
        SettingsInvalid: If the address cannot be used, or obstore is not installed.
    """
    if url is None:
        return FolderBlobs(folder)
    shown = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}{urlsplit(url).path}"
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise SettingsInvalid(
            f"Media in {shown} need obstore, which is not installed: pip install 'orbital-relay[media]'"
        ) from exc
    try:
        return BucketBlobs(from_url(url, client_options=_CLIENT, retry_config=_RETRY))
    except (BaseError, OSError, ValueError) as exc:
        raise SettingsInvalid(f"The media storage {shown} cannot be used: {exc}.") from exc
