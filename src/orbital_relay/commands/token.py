"""`orbital token`: make a token for a user, with the server's own secret."""

from __future__ import annotations

import uuid

import click

from orbital_relay.commands.server_options import load, run, settings_options, there
from orbital_relay.config import Settings
from orbital_relay.errors import NotFound
from orbital_relay.server.app import open_store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.ops.clock import SystemClock


@click.command(
    epilog="""\b
Examples:
  export ORBITAL_TOKEN=$(orbital token ada)
  orbital token --outside robot          a user of another service, entered when the token is first used
  orbital token ada --token-days 0.5
"""
)
@click.argument("username")
@click.option("--outside", is_flag=True, help="Make one for a user id that need not have signed up here.")
@settings_options("data_dir", "database_url", "jwt_secret", "token_days")
def token(username: str, *, outside: bool, **flags: str | None) -> None:
    """
    Print a token for USERNAME, an account of this server.

    Whoever has the secret can do this; the token is as good as one that a login gives.
    """
    settings = load(flags) if outside else there(load(flags))
    click.echo(run(_token(settings, username, outside=outside)))


async def _token(settings: Settings, username: str, *, outside: bool) -> str:
    if outside:
        # The same name gives the same user, on every machine.
        user_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"orbital:outside:{username}"))
        name = username
        return Auth.of(settings, store=_NoStore(), clock=SystemClock()).mint(user_id, name)[0]  # type: ignore[arg-type]
    store = await open_store(settings, alone=False)
    try:
        account = await store.account(username)
        if account is None:
            raise NotFound(f"There is no account {username} here. Make one: orbital user add {username}")
        return await Auth.of(settings, store=store, clock=SystemClock()).issue(account.user_id, account.username)
    finally:
        await store.close()


class _NoStore:
    """Minting asks no store."""
