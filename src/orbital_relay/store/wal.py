"""Check that SQLite's write-ahead log has the frames of its index (sqlite.org/walformat.html)."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

WAL_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24

# §2.1, in the byte order of the machine: version, unused, change counter, initialised, checksums big-endian, page size
# (1 is 65,536), frames in the log, pages in the database, checksums and salts.
_INDEX_HEADER: Final = struct.Struct("=III??HI")
_LARGEST_PAGE: Final = 65536


def is_truncated(database: Path) -> bool:
    """
    Return whether the write-ahead log beside a database is shorter than its frames.

    Frames that were checkpointed count, too: SQLite never shortens the file before it starts the log again.

    Args:
        database: The database, with symbolic links resolved.
    """
    log, index = (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))
    for _ in range(3):
        # Both files change under a writer: only two equal headers around the size are one moment.
        before = _header(index)
        size = log.stat().st_size if log.exists() else 0
        if before is None or before != _header(index):
            continue
        _, _, _, initialised, _, page_size, frames = _INDEX_HEADER.unpack(before)
        frame_bytes = FRAME_HEADER_BYTES + (_LARGEST_PAGE if page_size == 1 else page_size)
        return bool(initialised and frames and size < WAL_HEADER_BYTES + frames * frame_bytes)
    return False


def _header(index: Path) -> bytes | None:
    """Return the index's header, None if there is no such file, or it is being written."""
    with suppress(OSError), index.open("rb") as file:
        first, second = file.read(48), file.read(48)
        if len(first) == 48 and first == second:
            return first[: _INDEX_HEADER.size]
    return None
