"""SQLite's write-ahead log (WAL): whether it has the frames of its index (sqlite.org/walformat.html)."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

WAL_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24

# §2.1, in the byte order of the machine: version, unused, change counter, initialised, checksums big-endian, page size
# (1 is 65,536), frames in the log, pages in the database, checksums and salts. It is there twice.
_INDEX_HEADER: Final = struct.Struct("=III??HI")
_HEADER_BYTES: Final = 48
_LARGEST_PAGE: Final = 65536


class WriteAheadLog:
    """
    The log and its index, read beside the connections of this process.

    A process that closes a file loses all POSIX locks that it has on it (fcntl(2)), and SQLite's locks are of that
    kind. Without them the next program that opens the database takes itself for the only one: it truncates the index,
    which ends this process by SIGBUS, and deletes the log. So the index is opened once, and closed last.
    """

    def __init__(self, database: Path) -> None:
        """
        Open the index, if there is one.

        Args:
            database: The database, with symbolic links resolved, and with a connection that has read it.
        """
        self._log = database.with_name(database.name + "-wal")
        self._index: int | None = None
        with suppress(OSError):
            self._index = os.open(database.with_name(database.name + "-shm"), os.O_RDONLY)

    def is_truncated(self) -> bool:
        """
        Return whether the log is shorter than its frames.

        Frames that were checkpointed count, too: SQLite never shortens the file before it starts the log again.
        """
        for _ in range(3):
            # Both files change under a writer: only two equal headers around the size are one moment.
            before = self._header()
            size = self._log.stat().st_size if self._log.exists() else 0
            if before is None or before != self._header():
                continue
            _, _, _, initialised, _, page_size, frames = _INDEX_HEADER.unpack(before)
            frame_bytes = FRAME_HEADER_BYTES + (_LARGEST_PAGE if page_size == 1 else page_size)
            return bool(initialised and frames and size < WAL_HEADER_BYTES + frames * frame_bytes)
        return False

    def close(self) -> None:
        """Close the index. Every connection of this process to the database must be closed before."""
        if self._index is not None:
            os.close(self._index)
            self._index = None

    def _header(self) -> bytes | None:
        """Return the index's header, None if there is no index, or it is being written."""
        if self._index is None:
            return None
        both = os.pread(self._index, 2 * _HEADER_BYTES, 0)
        if len(both) == 2 * _HEADER_BYTES and both[:_HEADER_BYTES] == both[_HEADER_BYTES:]:
            return both[: _INDEX_HEADER.size]
        return None
