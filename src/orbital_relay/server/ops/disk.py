"""Disk full: the free space of the data folder, and the reserve for messages."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from orbital_relay.errors import StorageFull

log = logging.getLogger("orbital.media")


class Disk:
    """
    Refuses media before the disk is full: the database on it needs room for messages.

    Args:
        folder: The data folder; media in transfer to a bucket wait there, too.
        reserve_bytes: Free bytes below which no media are accepted.
    """

    def __init__(self, folder: Path, *, reserve_bytes: int) -> None:
        self._folder = folder
        self.reserve_bytes = reserve_bytes
        self._warned = False

    def free_bytes(self) -> int:
        """Return the free bytes that a process without root's rights can use; it takes microseconds."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @property
    def low(self) -> bool:
        """Whether the reserve is in use."""
        return self.free_bytes() < self.reserve_bytes

    def check_room(self, more_bytes: int) -> None:
        """
        Check that so many bytes leave the reserve untouched.

        Raises:
            StorageFull: If they do not. The first time after there was room, it is a line in the log.
        """
        free = self.free_bytes()
        full = free - more_bytes < self.reserve_bytes
        if full and not self._warned:
            log.warning("media are refused: the disk is full", extra={"free_bytes": free})
        self._warned = full
        if full:
            raise StorageFull("The server's disk is full, so it accepts no media. Ask its operator to free space.")
