"""File permissions: only the owner can read what Orbital writes, whatever folder and umask."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700


def make_private(path: Path, *, like: Path | None = None) -> None:
    """
    Close a file or folder to everybody but its owner; one that does not exist, or is somebody else's, stays as it is.

    Args:
        path: The file or folder.
        like: A folder whose owner is to own it too, when this process is root: what root makes, the service opens.
    """
    if os.name != "posix":
        return
    # Another owner's file: it cannot be closed from here, and a server that needs it says so when it opens it.
    with suppress(FileNotFoundError, PermissionError):
        found = path.stat()
        if found.st_mode & 0o077:
            path.chmod(found.st_mode & FOLDER_MODE)
        if like is not None and os.geteuid() == 0:
            owner = like.stat()
            if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid) and found.st_uid == 0:
                os.chown(path, owner.st_uid, owner.st_gid)


def make_file(path: Path) -> None:
    """
    Make an empty file that its owner alone can read, and that the owner of its folder owns; one that is there is kept.

    Raises:
        OSError: If it cannot be made.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE))
    make_private(path, like=path.parent)
