"""`orbital user delete` and `orbital group delete`: done by a running server, or by the command if none runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import click

from orbital_relay import wire
from orbital_relay.commands.accounts import REVOKING, end_sessions, with_store
from orbital_relay.commands.outcome import Outcome, json_option, report
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.config import Settings
from orbital_relay.errors import DatabaseRefused
from orbital_relay.ports import UserSummary
from orbital_relay.server.adapters import open_store
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import people
from orbital_relay.services.people import find
from orbital_relay.store.sql import SqlStore

WAIT_S: Final = 90.0
"""Longest wait for the running server: it looks every five seconds, and clears media away every minute."""
LOOK_S: Final = 0.5
ROUNDS: Final = 10_000
"""Rounds of a command that does it itself: a group of ten million events."""


@click.command(
    "delete",
    epilog="""\b
Examples:
  orbital user delete ada
  orbital user delete ada --yes
""",
)
@click.argument("username")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@settings_options(*REVOKING, "media_url")
def delete_user(username: str, *, yes: bool, as_json: bool, **flags: str | None) -> None:
    """
    Erase the account of USERNAME: name, id, password, keys, memberships and media. It cannot be undone.

    What the user has written is encrypted and part of other members' logs: it is deleted after
    ORBITAL_RETENTION_DAYS. Replies of others stay.
    """
    settings = load_existing(flags)
    if not yes:
        click.confirm(f"Erase {username}? This cannot be undone.", abort=True, err=True)

    async def request(store: SqlStore) -> UserSummary:
        user = await find(store, username)
        await people.erase(store, partial(end_sessions, settings, store), user, at_ms=SystemClock().wall_ms())
        return user

    erased: UserSummary = with_store(settings, request)

    async def done(store: SqlStore) -> bool:
        return all(each.key != erased.key for each in await store.users())

    _carry_out(settings, done)
    outcome = Outcome(done="erased", user_id=erased.user_id, username=erased.username)
    report(outcome, f"{username} is erased.", as_json=as_json)


@click.command(
    "delete",
    epilog="""\b
Examples:
  orbital group delete 6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11
""",
)
@click.argument("group_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@settings_options(*REVOKING, "media_url")
def delete_group(group_id: str, *, yes: bool, as_json: bool, **flags: str | None) -> None:
    """Remove every member of a group, and delete its log, threads and media. It cannot be undone."""
    settings = load_existing(flags)
    asked = wire.read_uuid(group_id)

    async def request(store: SqlStore) -> int:
        found = await people.find_group(store, group_id)
        if not yes:
            click.confirm(
                f"Delete the group of {found.creator} with {found.members} members? This cannot be undone.",
                abort=True,
                err=True,
            )
        await people.delete_group(store, found, at_ms=SystemClock().wall_ms())
        return found.key

    key: int = with_store(settings, request)

    async def done(store: SqlStore) -> bool:
        return all(each.key != key for each in await store.groups(group_id=asked))

    _carry_out(settings, done)
    report(Outcome(done="deleted", group_id=asked), f"The group {group_id} is deleted.", as_json=as_json)


def _carry_out(settings: Settings, done: Callable[[SqlStore], Awaitable[bool]]) -> None:
    """
    Erase what is marked, or wait for the server that has the database to itself.

    Raises:
        click.ClickException: If the server did not do it in time.
    """
    if not run(_do_it(settings, done)) and not run(_wait(settings, done)):
        raise click.ClickException(
            f"The server did not finish within {WAIT_S:g} seconds. The deletion continues in the server."
        )


async def _do_it(settings: Settings, done: Callable[[SqlStore], Awaitable[bool]]) -> bool:
    """Open a server without a port, and do it; return False where another server has the database to itself."""
    from orbital_relay.server.app import open_node  # noqa: PLC0415 - the other commands start faster without

    try:
        async with open_node(settings) as node:
            for _ in range(ROUNDS):
                await node.erase()
                await node.collect_media()
                if await done(node.store):
                    return True
    except DatabaseRefused:
        return False
    return False


async def _wait(settings: Settings, done: Callable[[SqlStore], Awaitable[bool]]) -> bool:
    store = await open_store(settings, alone=False)
    try:
        async with asyncio.timeout(WAIT_S):
            while not await done(store):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        return False
    finally:
        await store.close()
    return True
