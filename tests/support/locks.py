"""The lasting locks that a process has on a SQLite database (proc(5), /proc/locks; sqlite.org/lockingv3.html)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_SHARED_BYTE: Final = 0x40000002
"""In the database: who has it open in WAL mode holds a lock that covers this byte."""
_DEAD_MAN_BYTE: Final = 128
"""In the index of the write-ahead log: the program that finds it free makes the index new."""


def lasting_locks(database: Path, pid: int | None = None) -> set[str]:
    """
    Return which of a database's files a process has the lock on that it keeps for as long as it has them open.

    Args:
        database: The file; its index is the one that ends in `-shm`.
        pid: The process; this one by default.
    """
    index = database.with_name(database.name + "-shm")
    wanted = {
        path.stat().st_ino: (path.name, byte) for path, byte in ((database, _SHARED_BYTE), (index, _DEAD_MAN_BYTE))
    }
    held = set()
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] != "POSIX":  # a flock, or one that waits ("->")
            continue
        owner, file, first, last = fields[4:8]
        name, byte = wanted.get(int(file.rpartition(":")[2]), ("", -1))
        if int(owner) == (pid or os.getpid()) and int(first) <= byte and (last == "EOF" or byte <= int(last)):
            held.add(name)
    return held
