"""A file lock: one process at a time uses a file; the system releases it when the process ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Final

from orbital_relay.client.errors import StoreInUse

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD: Final = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
"""How the systems say that somebody else has the lock."""


class FileLock:
    """
    This program's right to a file, for as long as the object lives.

    The lock is a file of its own beside it. It is never removed: that could remove a lock that another program holds.
    """

    def __init__(self, lock: Path, *, of: Path) -> None:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(handle)
        except OSError as exc:
            if exc.errno in _HELD:
                os.close(handle)
                raise StoreInUse(of) from exc
            # A file system without locks: then it is as it would be without this.
        weakref.finalize(self, os.close, handle)


_claims: weakref.WeakValueDictionary[tuple[int, str], FileLock] = weakref.WeakValueDictionary()
_one_at_a_time = threading.Lock()


def claim(lock: Path, *, of: Path) -> FileLock:
    """
    Claim a file for this program; all who do so in one process share the claim.

    Args:
        lock: The file that is locked; its folder exists.
        of: What is claimed, for the sentence.

    Raises:
        StoreInUse: If another program has it.
        OSError: If the lock cannot be made.
    """
    # A process that was forked has its parent's claims in memory, and not its right.
    key = os.getpid(), os.path.realpath(lock)
    with _one_at_a_time:
        held = _claims.get(key)
        if held is None:
            held = _claims[key] = FileLock(lock, of=of)
        return held
