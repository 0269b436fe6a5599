"""`orbital check`: verify that the log is whole."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orbital_relay.blobs import open_blobs
from orbital_relay.commands.server_options import load, run, settings_options, there
from orbital_relay.config import Settings
from orbital_relay.server.app import open_store
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services.media import FLIGHT_MS, examine


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
    Verify every group's log.

    Numbers without holes, stamps that rise, the hash chain intact, threads, replies, members and media as their events
    say, and every medium's bytes in their place. Nothing is changed, and a server may be running meanwhile. The status
    is 1 when something is wrong.
    """
    findings = run(_check(there(load(flags))))
    if findings:
        raise click.ClickException(f"{findings} findings. A backup from before them can be restored: orbital restore")


async def _check(settings: Settings) -> int:
    store = await open_store(settings, alone=False)
    console = Console(stderr=True)
    found = events = 0
    try:
        groups = await store.group_ids()
        columns = TextColumn("Checking"), BarColumn(), MofNCompleteColumn(), TextColumn("groups"), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            for group_id in progress.track(groups):
                report = await store.verify(group_id)
                events += report.events
                found += len(report.findings)
                for sentence in report.findings:
                    click.echo(f"{group_id}: {sentence}")
        blobs = open_blobs(settings.media_url, folder=settings.data_dir / "media")
        # Younger bytes may be on their way to their row.
        before_ms = SystemClock().wall_ms() - FLIGHT_MS
        async for sentence in examine(store, blobs, before_ms=before_ms):
            found += 1
            click.echo(sentence)
        await blobs.close()
    finally:
        await store.close()
    click.echo(f"{len(groups)} groups, {events} events: {'all is well' if not found else f'{found} findings'}.")
    return found
