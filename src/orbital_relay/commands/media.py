"""`orbital media`: send and fetch encrypted files, and delete expired ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orbital_relay.commands import server_options as own_data
from orbital_relay.commands.client_options import run, server_options
from orbital_relay.commands.terminal import say

if TYPE_CHECKING:
    from orbital_relay.client.media import OnTransfer


@click.group()
def media() -> None:
    """Send and fetch encrypted files, and delete expired ones."""


@media.command(
    epilog="""\b
Examples:
  orbital media put THREAD photo.enc --metadata "$META" --iv "$IV"
  orbital media put THREAD film.enc --metadata "$META" --iv "$IV" --media-id ID   (continue with ID)
"""
)
@click.argument("thread_id", metavar="THREAD")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@server_options
@click.option("--metadata", "encrypted_metadata", required=True, help="Metadata for the members: encrypted, base64.")
@click.option("--iv", "encryption_iv", required=True, help="Initialization vector, base64.")
@click.option("--media-id", help="Resume the interrupted upload with this id, which the error message shows.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def put(
    thread_id: str,
    file: Path,
    url: str,
    token: str,
    encrypted_metadata: str,
    encryption_iv: str,
    media_id: str | None,
    *,
    quiet: bool,
) -> None:
    """
    Send FILE to a thread; it is kept for 7 days.

    The file is sent as it is: encrypt it first. An interrupted upload is resumed.
    """

    async def work() -> None:
        from orbital_relay.client import Api  # noqa: PLC0415 - loaded when used, so that help is instant
        from orbital_relay.client.media import upload  # noqa: PLC0415 - the same

        async with Api(url, token=token) as api:
            stored = await _shown(
                "Sending",
                quiet,
                lambda progress: upload(
                    api,
                    thread_id,
                    file,
                    encrypted_metadata=encrypted_metadata,
                    encryption_iv=encryption_iv,
                    media_id=media_id,
                    progress=progress,
                ),
            )
        say(f"{stored.media_id} has {stored.size_bytes:,} bytes and is kept until {stored.expires_at}.")

    run(work())


@media.command(
    epilog="""\b
Examples:
  orbital media get MEDIA photo.enc
"""
)
@click.argument("media_id", metavar="MEDIA")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@server_options
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--report/--no-report", default=True, show_default=True, help="Report to the group that you have it.")
def get(media_id: str, file: Path, url: str, token: str, *, force: bool, quiet: bool, report: bool) -> None:
    """
    Fetch a medium into FILE, as it was sent: encrypted.

    An interrupted download is resumed from FILE.MEDIA.part.
    """
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force replaces it.")

    async def work() -> None:
        from orbital_relay.client import Api  # noqa: PLC0415 - loaded when used, so that help is instant
        from orbital_relay.client.media import download  # noqa: PLC0415 - the same

        async with Api(url, token=token) as api:
            got = await _shown("Fetching", quiet, lambda progress: download(api, media_id, to=file, progress=progress))
            if report:
                await api.media_downloaded(media_id)
        say(f"{file} has {got.size_bytes:,} bytes, SHA-256 {got.sha256}, IV {got.encryption_iv}.")

    run(work())


@media.command(
    epilog="""\b
Examples:
  orbital media gc
  orbital media gc --data-dir /var/lib/orbital
"""
)
@own_data.settings_options("data_dir", "database_url", "redis_url", "media_url")
def gc(**flags: str | None) -> None:
    """
    Delete expired media, abandoned uploads, and bytes without a row in the database.

    A running server does the same by itself. With SQLite, stop the server first.
    """

    async def work() -> str:
        from orbital_relay.server.app import open_node  # noqa: PLC0415 - the other two need the SDK alone

        async with open_node(own_data.load_existing(flags)) as node:
            found = await node.collect_media()
        return (
            f"{found.expired} media expired, {found.abandoned} uploads were aborted; the bytes of {found.deleted} are "
            f"deleted, and {found.swept} blobs without a row."
        )

    say(own_data.run(work()))


async def _shown(label: str, quiet: bool, transfer: Callable[[OnTransfer | None], Any]) -> Any:  # noqa: ANN401, FBT001 - what `transfer` gives
    """Run a transfer with a bar on standard error; without one where nobody looks."""
    if quiet or not sys.stderr.isatty():
        return await transfer(None)
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=False) as bar:

        def progress(done_bytes: int, all_bytes: int) -> None:
            bar.length = all_bytes
            bar.update(done_bytes - bar.pos)

        return await transfer(progress)
