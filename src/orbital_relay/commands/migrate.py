"""`orbital migrate`: bring the database to this version's schema without serving."""

from __future__ import annotations

import click

from orbital_relay.commands.server_options import load, name_database, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.server.adapters import open_store


@click.command(
    epilog="""\b
Examples:
  orbital migrate
  orbital migrate --data-dir /var/lib/orbital
  DATABASE_URL=postgresql://orbital@db/orbital orbital migrate
"""
)
@settings_options("data_dir", "database_url")
def migrate(**flags: str | None) -> None:
    """
    Bring the database to this version's schema.

    `orbital serve` does the same when it starts; use this to migrate separately, before a deployment.
    """
    settings = load(flags)
    name_database(settings)
    run(_migrate(settings))
    say(f"{settings.database.shown} is at the schema of this version.")


async def _migrate(settings: Settings) -> None:
    store = await open_store(settings)
    await store.close()
