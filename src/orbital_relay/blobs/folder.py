"""Blob storage in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Final

from orbital_relay.blobs.draft import SpooledDraft, on_thread
from orbital_relay.ownership import make_private
from orbital_relay.ports import Blob, BlobDraft, BlobMissing

PIECE_BYTES: Final = 256 * 1024
"""Bytes of one read: a reader that does not take them holds no more than that."""

DRAFTS: Final = ".drafts"
"""Where bytes are until they have a name. It is within the media folder, since a rename does not cross file systems."""


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
        return SpooledDraft(self._open_draft)

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
        if not isinstance(draft, SpooledDraft):
            raise TypeError("a draft belongs to the blobs that made it")
        await on_thread(lambda: self._keep(draft, self._root / name))

    def _keep(self, draft: SpooledDraft, path: Path) -> None:
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
            file = await on_thread(lambda: os.open(self._root / name, os.O_RDONLY))
        except FileNotFoundError as exc:
            raise BlobMissing(name) from exc
        try:
            while start < end:
                at, length = start, min(PIECE_BYTES, end - start)
                piece = await on_thread(lambda at=at, length=length: os.pread(file, length, at))  # type: ignore[misc]
                if not piece:
                    raise BlobMissing(name)
                start += len(piece)
                yield piece
        finally:
            os.close(file)

    async def delete(self, names: Collection[str]) -> None:
        """See `ports.Blobs.delete`."""
        await on_thread(lambda: self._delete([self._root / name for name in names]))

    def _delete(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            # Not empty, or not there: both are well.
            with contextlib.suppress(OSError):
                folder.rmdir()

    async def delete_folder(self, folder: str) -> None:
        """See `ports.Blobs.delete_folder`."""
        await on_thread(lambda: self._delete([*_files(self._root / folder), self._root / folder / "none"]))

    async def listing(self, folder: str | None = None) -> AsyncIterator[Blob]:
        """See `ports.Blobs.listing`."""
        for each in [folder] if folder is not None else await on_thread(self._folders):
            for blob in await on_thread(partial(self._blobs_in, self._root / each)):
                yield blob

    def _folders(self) -> list[str]:
        return [path.name for path in _entries(self._root) if path.name != DRAFTS]

    def _blobs_in(self, folder: Path) -> list[Blob]:
        found = []
        for path in _files(folder):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                found.append(Blob(f"{folder.name}/{path.name}", state.st_size, state.st_mtime_ns // 1_000_000))
        return found

    async def sweep(self, *, before_ms: int) -> int:
        """See `ports.Blobs.sweep`."""
        return await on_thread(lambda: self._sweep(before_ms))

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
