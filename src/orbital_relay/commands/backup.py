"""`orbital backup`: backup of the whole database to a file, while servers continue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orbital_relay.blobs import open_blobs
from orbital_relay.blobs.folder import FolderBlobs
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.server.adapters import open_store
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services.media_copy import copy_media
from orbital_relay.store import archive

DAY_MS: Final = 86_400_000


@click.command(
    epilog="""\b
Examples:
  orbital backup orbital-2026-11-23.backup
  orbital backup orbital.backup --force --media orbital-media
  orbital backup --stopped home.backup
  orbital backup --database-url postgresql://orbital@db/orbital /backups/orbital.backup --force
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option(
    "--media",
    "media_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also copy the bytes of media to this folder; existing copies are skipped.",
)
@click.option(
    "--stopped",
    is_flag=True,
    help="Refuse while a server uses the database: for a move, in which later posts would be lost.",
)
@settings_options("data_dir", "database_url", "media_url", "media_days")
def backup(file: Path, *, force: bool, stopped: bool, media_folder: Path | None, **flags: str | None) -> None:
    """
    Write a consistent snapshot of the whole database to FILE.

    Servers may be running. The file is complete if the exit status is 0, and only its owner can read it: it contains
    password hashes. It can be restored into SQLite and PostgreSQL. It does not contain the bytes of media, which
    --media copies, nor the secret that signs tokens, which is a file in the data folder.
    """
    settings = load_existing(flags)
    if file.exists() and not file.is_file():
        raise click.ClickException(f"{file} is not a regular file, and would be replaced; give another name.")
    if file.exists() and not force:
        raise click.ClickException(f"{file} already exists; give another name, or --force.")
    try:
        rows = run(_backup(settings, file, stopped=stopped))
    except OSError as exc:
        raise click.ClickException(f"{file} cannot be written: {exc.strerror}.") from exc
    say(f"{file}: {rows} rows, {file.stat().st_size} bytes.")
    if media_folder is not None:
        # What the server has deleted leaves the copy after its retention: a folder that is not mounted empties none.
        old_ms = SystemClock().wall_ms() - int(settings.media_days * DAY_MS)
        say(f"{media_folder}: {run(copied(settings, media_folder, older_than_ms=old_ms))}")


async def copied(settings: Settings, folder: Path, *, older_than_ms: int | None = None, back: bool = False) -> str:
    """Copy media to a folder, or `back` from it; return what was copied, in words."""
    media = open_blobs(settings.media_url, folder=settings.data_dir / "media")
    copy = FolderBlobs(folder)
    try:
        source, target = (copy, media) if back else (media, copy)
        done = await copy_media(source, target, older_than_ms=older_than_ms)
    finally:
        await media.close()
    return f"media: {done.copied} copied, {done.copied_bytes} bytes; {done.present} were there, {done.removed} removed."


async def _backup(settings: Settings, file: Path, *, stopped: bool) -> int:
    # Of a file, the lock is held until the end: no server can start meanwhile.
    store = await open_store(settings, alone=stopped)
    try:
        if stopped:
            await store.refuse_serving()
        made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with progress("Writing", await store.rows()) as advance, archive.writing(file) as draft:
            rows = await store.backup(draft, made_at=made_at, on_progress=advance)
            if stopped:
                # Of PostgreSQL, one may have started.
                await store.refuse_serving()
            return rows
    finally:
        await store.close()


@contextmanager
def progress(what: str, rows: int) -> Iterator[archive.OnProgress]:
    """Show a bar on a terminal; the value is to be called with the rows done since the last call."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=rows)
        yield lambda count: shown.update(task, advance=count)
