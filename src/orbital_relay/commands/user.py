"""`orbital user`: the users of a server."""

from __future__ import annotations

import uuid

import click
import msgspec

from orbital_relay.api.accounts import SignupBody
from orbital_relay.commands.accounts import COMMANDS, REVOKING, end_sessions, read_password, with_store
from orbital_relay.commands.deletion import delete_user
from orbital_relay.commands.invitations import invitations, invite
from orbital_relay.commands.outcome import Outcome, json_option, report
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.config import Settings
from orbital_relay.model import UserId
from orbital_relay.server.adapters import open_store
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import accounts
from orbital_relay.services.people import find
from orbital_relay.store.sql import SqlStore


@click.group()
def user() -> None:
    """Add, invite, list, disable and delete users, and end their sessions. The server may be running."""


for command in COMMANDS:
    user.add_command(command)
user.add_command(delete_user)
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
@json_option
@settings_options("data_dir", "database_url")
def add(username: str, public_key: str, *, as_json: bool, **flags: str | None) -> None:
    """
    Create an account for USERNAME, as signing up does.

    The command asks for the password, or reads it from standard input if that is not a terminal.
    """
    settings = load_existing(flags)
    password = read_password(again=True)
    user_id = run(_add(settings, username, password, public_key))
    outcome = Outcome(done="added", user_id=user_id, username=username)
    report(outcome, f"{username} has an account now; user id {user_id}", as_json=as_json)


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
@json_option
@settings_options(*REVOKING)
def revoke(username: str, *, as_json: bool, **flags: str | None) -> None:
    """
    End every session of USERNAME, by name or user id.

    All tokens that the user has now become invalid, and open connections are closed: at once if the servers' Redis is
    configured here too, otherwise within seconds. A new login returns a new token.
    """
    settings = load_existing(flags)

    async def work(store: SqlStore) -> Outcome:
        found = await find(store, username)
        await end_sessions(settings, store, found.user_id)
        return Outcome(done="revoked", user_id=found.user_id, username=found.username)

    report(with_store(settings, work), f"Every token that {username} had is void.", as_json=as_json)
