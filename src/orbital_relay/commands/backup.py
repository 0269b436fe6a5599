"""`orbital backup`: write the whole database to a file, while servers go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.server.adapters import open_store
from orbital_relay.store import archive


@click.command(
    epilog="""\b
Examples:
  orbital backup orbital-2026-11-23.backup
  orbital backup --database-url postgresql://orbital@db/orbital /backups/orbital.backup --force
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@settings_options("data_dir", "database_url")
def backup(file: Path, *, force: bool, **flags: str | None) -> None:
    """
    Write the whole database to FILE, as of one moment.

    Servers may be running. The file is complete when this ends with status 0, and only its owner can read it: it holds
    hashes of passwords. It restores into SQLite and PostgreSQL alike. The bytes of media and the tokens' secret are
    not in it; they are files of the data folder.
    """
    settings = load_existing(flags)
    if file.exists() and not file.is_file():
        raise click.ClickException(f"{file} is not a regular file, and would be replaced; give another name.")
    if file.exists() and not force:
        raise click.ClickException(f"{file} already exists; give another name, or --force.")
    try:
        rows = run(_backup(settings, file))
    except OSError as exc:
        raise click.ClickException(f"{file} cannot be written: {exc.strerror}.") from exc
    say(f"{file}: {rows} rows, {file.stat().st_size} bytes.")


async def _backup(settings: Settings, file: Path) -> int:
    store = await open_store(settings, alone=False)
    try:
        made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with progress("Writing", await store.rows()) as advance, archive.writing(file) as draft:
            return await store.backup(draft, made_at=made_at, on_progress=advance)
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
