"""Checks of `orbital doctor` without a server: settings, files, disk and limits of this machine."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from orbital_relay import config
from orbital_relay.config import Settings, SqliteFile
from orbital_relay.errors import SettingsInvalid
from orbital_relay.server.doctor.finding import Finding
from orbital_relay.server.ops import supervisor

NETWORK_FILESYSTEMS: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""Kinds of file systems whose locks and shared memory SQLite's write-ahead log cannot rely on."""

ENOUGH_FILES: Final = 4096
"""Open files of a process below which a server of a few thousand connections refuses new ones."""


def check_settings(settings: Settings, environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Report settings that contradict each other or are probably not meant."""
    found = config.doubts(settings, environ)
    for sentence in found:
        yield Finding("settings", "note", sentence, "`orbital config` shows where each setting was given.")
    if settings.workers > 1:
        try:
            supervisor.check(settings)
        except SettingsInvalid as exc:
            yield Finding("settings", "problem", str(exc), "Change one of the two.")
    if not found:
        yield Finding("settings", "ok", "The settings do not contradict each other.")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Report files with secrets or people's data that other users of this machine can read."""
    looked = 0
    for path, what in _private(settings):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        looked += 1
        wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
        if mode & 0o007:
            text = f"{path} ({what}) can be read by every user of this machine (mode {stat.S_IMODE(mode):04o})."
            yield Finding("files", "problem", text, f"chmod {wanted:o} {path}")
        elif mode & 0o070:
            text = f"{path} ({what}) can be read by its group (mode {stat.S_IMODE(mode):04o})."
            yield Finding("files", "note", text, f"chmod {wanted:o} {path}, unless the group is meant.")
        if not os.access(path, os.R_OK | os.W_OK):
            text = f"{path} ({what}) cannot be read and written by this user."
            yield Finding("files", "problem", text, "Run the command as the server's user, or change the owner.")
    if looked:
        yield Finding("files", "ok", f"{looked} files and folders were looked at.")


def _private(settings: Settings) -> Iterator[tuple[Path, str]]:
    if isinstance(settings.database, SqliteFile):
        database = settings.database.path
        yield database, "the database"
        for end in ("-wal", "-shm"):
            yield database.with_name(database.name + end), "the database's write-ahead log"
    yield settings.data_dir / "media", "the media"
    if settings.jwt_secret is None:
        yield settings.data_dir / "jwt-secret", "the secret of tokens"
    if settings.tls_key is not None:
        yield settings.tls_key, "the private key of TLS"
    if settings.log_file is not None:
        yield settings.log_file, "the log, which has addresses"


def check_disk(settings: Settings, mounts: str | None = None) -> Iterator[Finding]:
    """
    Report a database on a network file system, and a disk that is nearly full.

    Args:
        settings: Where the data are.
        mounts: The text of /proc/self/mounts; read when left out.
    """
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    if isinstance(settings.database, SqliteFile):
        kind = filesystem_of(settings.database.path, _mounts() if mounts is None else mounts)
        if kind in NETWORK_FILESYSTEMS:
            yield Finding(
                "database",
                "problem",
                f"{settings.database.path} is on a network file system ({kind}), where SQLite can lose data.",
                "Move the data folder to a local disk, or use PostgreSQL (DATABASE_URL).",
            )
    free = shutil.disk_usage(folder).free
    if free < settings.disk_reserve_bytes:
        text = f"The disk of {folder} has {free / 2**20:.0f} MiB free, less than ORBITAL_DISK_RESERVE_BYTES."
        yield Finding("limits", "problem", text, "Make room: media are refused until then.")
    else:
        yield Finding("limits", "ok", f"The disk of {folder} has {free / 2**30:.1f} GiB free.")


def check_descriptors(soft: int | None = None) -> Iterator[Finding]:
    """Report a limit of open files that a few thousand connections exceed; `soft` is the process' own if left out."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if limit != resource.RLIM_INFINITY and limit < ENOUGH_FILES:
        yield Finding(
            "limits",
            "note",
            f"A process may open {limit} files, so about {max(16, limit - 64 - limit // 32)} connections are possible.",
            "Raise it for the server: LimitNOFILE=65536 in the unit, or ulimit -n 65536.",
        )
    else:
        yield Finding("limits", "ok", f"A process may open {limit} files.")


def filesystem_of(path: Path, mounts: str) -> str:
    """Return the kind of file system that holds a path, by the lines of /proc/self/mounts; empty if unknown."""
    best, kind = "", ""
    absolute = str(path.absolute())
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        # proc(5): spaces and the like are octal escapes.
        place = fields[1].encode().decode("unicode_escape").rstrip("/")
        if (absolute == place or absolute.startswith(f"{place}/")) and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""  # no Linux
