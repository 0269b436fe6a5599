"""`orbital token`: create a token for a user, signed with the server's own secret."""

from __future__ import annotations

import uuid

import click

from orbital_relay.commands.server_options import load, load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.errors import NotFound
from orbital_relay.server.adapters import open_store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.logins import Logins
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
@click.option("--outside", is_flag=True, help="Create a token for a user who has no account on this server.")
@settings_options("data_dir", "database_url", "jwt_secret", "token_days")
def token(username: str, *, outside: bool, **flags: str | None) -> None:
    """
    Print a token for USERNAME, an account of this server.

    It is signed with the server's secret, and is equivalent to a token from a login.
    """
    settings = _load_secret(flags) if outside else load_existing(flags)
    say(run(_token(settings, username, outside=outside)))


def _load_secret(flags: dict[str, str | None]) -> Settings:
    """
    Read the settings of a command that needs the tokens' secret alone, and name the secret's file on standard error.

    Raises:
        click.ClickException: If a setting cannot be used, or there is no secret: a mistyped folder gets no new one.
    """
    settings = load(flags)
    if settings.jwt_secret is None:
        path = (settings.data_dir / "jwt-secret").absolute()
        if not path.exists():
            raise click.ClickException(
                f"There is no secret at {path}. Name the server's folder with --data-dir, or set JWT_SECRET; "
                "`orbital serve` creates the file."
            )
        say(f"Secret: {path}", err=True)
    return settings


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
            raise NotFound(f"There is no account {username} here. Create one: orbital user add {username}")
        clock = SystemClock()
        logins = Logins(Auth.of(settings, store=store, clock=clock), store=store, clock=clock)
        return (await logins.open(account.user_id, account.username, name="orbital token")).token
    finally:
        await store.close()


class _NoStore:
    """The store of an authenticator that only signs: signing reads no store."""
