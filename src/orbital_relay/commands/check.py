"""`orbital check`: verify the integrity of the database, the log and the media."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orbital_relay.blobs import open_blobs
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.errors import OrbitalError
from orbital_relay.server.adapters import open_store
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services.media_audit import examine
from orbital_relay.services.media_cleanup import FLIGHT_MS
from orbital_relay.store.sql import SqlStore
from orbital_relay.store.verify import Report


@click.command(
    epilog="""\b
Examples:
  orbital check
  orbital check --data-dir /var/lib/orbital
"""
)
@settings_options("data_dir", "database_url", "media_url")
def check(**flags: str | None) -> None:
    """
    Verify the database, every group's log, and the media's bytes.

    The database's own check of its files and indexes; sequence numbers without gaps, ascending timestamps, an intact
    hash chain, threads, replies, records, members and media that match their events, the keys of devices, push
    subscriptions, and every medium's bytes. Nothing is changed, and the server may be running.

    The exit status is 1 if the database or a log is damaged, and 3 if only bytes of media are missing: a backup
    contains none; after a restore, copy the folder media into the data folder.
    """
    found = run(_check(load_existing(flags)))
    if found.log:
        raise click.ClickException(f"{found.log} findings. A backup from before them can be restored: orbital restore")
    if found.media:
        raise MediaMissing(
            f"The log is intact. {found.media} findings about media, which a backup does not contain: "
            "copy the folder media of the old data folder into the new one."
        )


class MediaMissing(click.ClickException):
    """The log is intact, but bytes of media are missing or wrong."""

    exit_code = 3


class Found(NamedTuple):
    """How many findings there are of the database and its logs, and of media."""

    log: int
    media: int


async def _check(settings: Settings) -> Found:
    store = await open_store(settings, alone=False)
    try:
        log = await _check_log(store)
        media = await _check_media(settings, store)
    finally:
        await store.close()
    return Found(log, media)


async def _check_log(store: SqlStore) -> int:
    """Check the database itself and every group's log; print and count what is wrong."""
    console = Console(stderr=True)
    found, events = 0, 0
    for sentence in await store.integrity():
        found += 1
        say(f"database: {sentence}")
    try:
        for sentence in await store.check_directory():
            found += 1
            say(f"directory: {sentence}")
        for sentence in await store.check_push():
            found += 1
            say(f"push: {sentence}")
        groups = await store.group_ids()
    except Exception as exc:  # noqa: BLE001 - what a damaged file holds raises anything
        say(f"database: the groups cannot be read: {_words(exc)}")
        return found + 1
    columns = TextColumn("Checking"), BarColumn(), MofNCompleteColumn(), TextColumn("groups"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for group_id in progress.track(groups):
            try:
                report = await store.verify(group_id)
            except Exception as exc:  # noqa: BLE001 - what a damaged file holds raises anything
                report = Report(group_id, 0, [f"its rows cannot be read: {_words(exc)}"])
            events += report.events
            found += len(report.findings)
            for sentence in report.findings:
                say(f"{group_id}: {sentence}")
    say(f"{len(groups)} groups, {events} events: {f'{found} findings' if found else 'no findings'}.")
    if not found and (rewinds := await store.rewinds()) is not None:
        last = datetime.fromtimestamp(rewinds.last_ms / 1000, UTC).isoformat(timespec="seconds")
        say(
            f"Note: the log lost events under running servers, {rewinds.count} times, the last at {last}: "
            "after a failover to a replica that lagged, or with an old backup."
        )
    return found


async def _check_media(settings: Settings, store: SqlStore) -> int:
    """Compare media with their bytes; print and count what is wrong."""
    blobs = open_blobs(settings.media_url, folder=settings.data_dir / "media")
    found = 0
    try:
        # The row of younger bytes may not be stored yet.
        async for sentence in examine(store, blobs, before_ms=SystemClock().wall_ms() - FLIGHT_MS):
            found += 1
            say(f"media: {sentence}")
    except Exception as exc:  # noqa: BLE001 - what a damaged file holds raises anything
        found += 1
        say(f"media: they cannot be compared with their rows: {_words(exc)}")
    finally:
        await blobs.close()
    return found


def _words(exc: Exception) -> str:
    """Return an error in one line; one of ours has its own sentence."""
    text = exc.message if isinstance(exc, OrbitalError) else f"{type(exc).__name__}: {exc}"
    return text.partition("\n")[0]
