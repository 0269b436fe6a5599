"""`orbital user`: add users, and end their sessions."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import click
import msgspec

from orbital_relay.api.accounts import SignupBody
from orbital_relay.commands.invitations import invitations, invite
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.errors import NotFound
from orbital_relay.model import UserId
from orbital_relay.server.adapters import extra, open_store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import accounts


@click.group()
def user() -> None:
    """Add and invite users, and end their sessions. A server may be running meanwhile."""


user.add_command(invite)
user.add_command(invitations)


@user.command(
    epilog="""\b
Examples:
  orbital user add ada
  orbital user add ada --public-key "$(cat ada.jwk)" < password.txt
"""
)
@click.argument("username")
@click.option("--public-key", default="{}", show_default=True, help="A JSON object, such as a JWK.")
@settings_options("data_dir", "database_url")
def add(username: str, public_key: str, **flags: str | None) -> None:
    """
    Make an account for USERNAME, as signing up does.

    The password is asked for, or read from standard input when that is no terminal.
    """
    settings = load_existing(flags)
    if sys.stdin is None:
        raise click.UsageError("There is no standard input to read the password from.")
    password = (
        click.prompt("Password", hide_input=True, confirmation_prompt=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\n")
    )
    user_id = run(_add(settings, username, password, public_key))
    say(f"{username} has an account now; user id {user_id}")


async def _add(settings: Settings, username: str, password: str, public_key: str) -> str:
    body = SignupBody(username, password, msgspec.Raw(public_key.encode()))
    accounts.check_signup(body)
    store = await open_store(settings, alone=False)
    try:
        account = await store.add_account(
            user_id=UserId(str(uuid.uuid4())),
            username=username,
            public_key=bytes(body.public_key),
            password_hash=await Passwords().hash(password),
            at_ms=SystemClock().wall_ms(),
        )
        return account.user_id
    finally:
        await store.close()


@user.command(
    epilog="""\b
Examples:
  orbital user revoke ada
"""
)
@click.argument("username")
@settings_options("data_dir", "database_url", "redis_url", "jwt_secret")
def revoke(username: str, **flags: str | None) -> None:
    """
    End every session of USERNAME, by name or user id.

    All tokens that the user has now become invalid, and open connections are closed: at once if the servers' Redis is
    configured here, too, else within seconds. A new login returns a new token.
    """
    if not run(_revoke(load_existing(flags), username)):
        say("Note: Redis did not answer; running servers find it in the database within seconds.", err=True)
    say(f"Every token that {username} had is void.")


async def _revoke(settings: Settings, username: str) -> bool:
    """Revoke; return False when Redis is configured and did not answer."""
    notify = None if settings.redis_url is None else _notifier(settings.redis_url)
    store = await open_store(settings, alone=False)
    try:
        account = await store.account(username) or await store.find_user(UserId(username))
        if account is None:
            raise NotFound(f"There is no user {username} here.")
        await Auth.of(settings, store=store, clock=SystemClock()).revoke_user(account.user_id)
    finally:
        await store.close()
    return notify is None or await notify()


def _notifier(redis_url: str) -> Callable[[], Awaitable[bool]]:
    """
    Return a function that notifies the servers; call it after the revocation is stored.

    Raises:
        SettingsInvalid: If the library for Redis is not installed.
    """
    with extra("redis"):
        from orbital_relay.bus.redis import tell_revoked_once  # noqa: PLC0415 - an extra
    return partial(tell_revoked_once, redis_url)
