"""Accounts as the operator sees them: `orbital user list`, `show`, `password`, `rename`, `disable`, `enable`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import click
import msgspec

from orbital_relay import wire
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.config import Settings
from orbital_relay.errors import Conflict, NotFound, ValidationFailed
from orbital_relay.ports import GroupSummary, UserSummary
from orbital_relay.server.adapters import extra, open_store
from orbital_relay.server.auth.authenticator import Auth
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import accounts
from orbital_relay.store.sql import SqlStore

REVOKING: Final = ("data_dir", "database_url", "redis_url", "jwt_secret")
"""Settings of a command that ends sessions: with Redis it notifies the servers."""


def moment(at_ms: int | None) -> str | None:
    """Return a moment as JSON has it."""
    return None if at_ms is None else wire.iso(at_ms)


def day(at_ms: int | None) -> str:
    """Return a moment as a table has it."""
    return "never" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def size(size_bytes: float) -> str:
    """Return a number of bytes in the unit that a person reads."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def state(user: UserSummary) -> str:
    """Return what the account is, in a word."""
    if user.erase_ms is not None:
        return "being erased"
    return "disabled" if user.disabled_ms is not None else "active"


def row(user: UserSummary) -> dict[str, object]:
    """Return a user for `--json`; a member that is added later may be ignored, none is removed."""
    return {
        "user_id": user.user_id,
        "username": user.username,
        "state": state(user),
        "outside": user.outside,
        "created_at": moment(user.created_ms),
        "last_seen_at": moment(user.seen_ms),
        "disabled_at": moment(user.disabled_ms),
        "disabled_reason": user.disabled_reason,
        "groups": user.groups,
        "media": user.stored.media,
        "media_bytes": user.stored.media_bytes,
    }


def group_row(group: GroupSummary) -> dict[str, object]:
    """Return a group for `--json`."""
    return {
        "group_id": group.group_id,
        "creator": group.creator,
        "created_at": moment(group.created_ms),
        "last_event_at": moment(group.last_ms) if group.last_seq else None,
        "last_seq": group.last_seq,
        "members": group.members,
        "threads": group.threads,
        "media": group.stored.media,
        "media_bytes": group.stored.media_bytes,
    }


def say_value(value: object) -> None:
    """Print one line of JSON."""
    say_json(msgspec.json.encode(value).decode())


def say_table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Print columns that are as wide as their longest entry."""
    texts = [head, *(tuple(str(cell) for cell in cells) for cells in rows)]
    widths = [max(len(cells[index]) for cells in texts) for index in range(len(head))]
    for cells in texts:
        say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def with_store(settings: Settings, work: Callable[[SqlStore], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - what `work` returns
    """Run a command's work on the database, beside a running server."""

    async def opened() -> object:
        store = await open_store(settings, alone=False)
        try:
            return await work(store)
        finally:
            await store.close()

    return run(opened())


async def find(store: SqlStore, named: str) -> UserSummary:
    """
    Return the user with a name or an id.

    Raises:
        NotFound: If there is none.
    """
    found = await store.users(named=named)
    if not found:
        raise NotFound(f"There is no user {named} here. `orbital user list` shows all.")
    return found[0]


def notifier(settings: Settings) -> Callable[[], Awaitable[bool]] | None:
    """
    Return a function that notifies the servers of a revocation, once it is stored; None without Redis.

    Raises:
        SettingsInvalid: If the library for Redis is not installed.
    """
    if settings.redis_url is None:
        return None
    with extra("redis"):
        from orbital_relay.bus.redis import tell_revoked_once  # noqa: PLC0415 - an extra
    return partial(tell_revoked_once, settings.redis_url)


async def end_sessions(settings: Settings, store: SqlStore, user: UserSummary) -> None:
    """Revoke every token that a user has, and notify the servers."""
    notify = notifier(settings)
    await Auth.of(settings, store=store, clock=SystemClock()).revoke_user(user.user_id)
    if notify is not None and not await notify():
        say("Note: Redis did not answer; running servers find it in the database within seconds.", err=True)


def read_password(*, again: bool) -> str:
    """
    Ask for a password, or read it from standard input when that is no terminal.

    Raises:
        click.UsageError: If there is no standard input.
    """
    if sys.stdin is None:
        raise click.UsageError("There is no standard input to read the password from.")
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=again))
    return sys.stdin.readline().rstrip("\n")


@click.command(
    "list",
    epilog="""\b
Examples:
  orbital user list
  orbital user list --json
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@settings_options("data_dir", "database_url")
def list_users(*, as_json: bool, **flags: str | None) -> None:
    """List all users: when each was last here (to the hour), groups, and stored media."""
    found: list[UserSummary] = with_store(load_existing(flags), lambda store: store.users())
    if as_json:
        say_value([row(each) for each in found])
        return
    say_table(
        ("name", "state", "made", "last seen", "groups", "media", "size", "user id"),
        [
            (
                each.username,
                state(each),
                day(each.created_ms),
                day(each.seen_ms),
                each.groups,
                each.stored.media,
                size(each.stored.media_bytes),
                each.user_id,
            )
            for each in found
        ],
    )


@click.command(
    epilog="""\b
Examples:
  orbital user show ada
"""
)
@click.argument("username")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options("data_dir", "database_url")
def show(username: str, *, as_json: bool, **flags: str | None) -> None:
    """Show USERNAME, by name or user id, with the groups that the user is in."""

    async def work(store: SqlStore) -> tuple[UserSummary, list[GroupSummary]]:
        user = await find(store, username)
        return user, await store.groups(member=user.key)

    user, groups = with_store(load_existing(flags), work)
    if as_json:
        say_value({**row(user), "groups": [group_row(each) for each in groups]})
        return
    for name, value in row(user).items():
        say(f"{name:<16} {'' if value is None else value}".rstrip())
    for each in groups:
        say(f"in group         {each.group_id}, {each.members} members, {size(each.stored.media_bytes)} of media")


@click.command(
    epilog="""\b
Examples:
  orbital user password ada
  orbital user password ada < password.txt
"""
)
@click.argument("username")
@settings_options(*REVOKING)
def password(username: str, **flags: str | None) -> None:
    """
    Give USERNAME another password, and end every session that the old one opened.

    The password is asked for, or read from standard input when that is no terminal.
    """
    settings = load_existing(flags)
    text = read_password(again=True)

    async def work(store: SqlStore) -> UserSummary:
        accounts.check_password(text)
        user = await find(store, username)
        if user.outside:
            raise Conflict(f"{user.username} came with a token of another service, and logs in there.")
        await store.set_password(user.key, await Passwords().hash(text))
        await end_sessions(settings, store, user)
        return user

    say(f"{with_store(settings, work).username} has another password, and is logged out everywhere.")


@click.command(
    epilog="""\b
Examples:
  orbital user rename ada ada_lovelace
"""
)
@click.argument("username")
@click.argument("new_name")
@settings_options(*REVOKING)
def rename(username: str, new_name: str, **flags: str | None) -> None:
    """
    Give USERNAME another name.

    Tokens carry the name, so every session ends. What the user has written keeps the old name.
    """
    settings = load_existing(flags)

    async def work(store: SqlStore) -> None:
        if accounts.USERNAME.fullmatch(new_name) is None:
            raise ValidationFailed("A username is 3-50 of the characters A-Z, a-z, 0-9 and _.", field="username")
        user = await find(store, username)
        if user.outside:
            raise Conflict(f"{user.username} came with a token of another service, which names the user.")
        await store.rename(user.key, new_name)
        await end_sessions(settings, store, user)

    with_store(settings, work)
    say(f"{username} is {new_name} now, and is logged out everywhere.")


@click.command(
    epilog="""\b
Examples:
  orbital user disable ada --reason "lost phone, call me"
"""
)
@click.argument("username")
@click.option("--reason", default="", help="What a login is answered with, after `This account is disabled`.")
@settings_options(*REVOKING)
def disable(username: str, reason: str, **flags: str | None) -> None:
    """
    End every session of USERNAME, and refuse logins and tokens until `orbital user enable`.

    What the user has written stays, and so does the membership in groups.
    """
    settings = load_existing(flags)

    async def work(store: SqlStore) -> None:
        user = await find(store, username)
        await store.disable(user.key, reason=reason, at_ms=SystemClock().wall_ms())
        await end_sessions(settings, store, user)

    with_store(settings, work)
    say(f"{username} is disabled, and is logged out everywhere.")


@click.command(
    epilog="""\b
Examples:
  orbital user enable ada
"""
)
@click.argument("username")
@settings_options("data_dir", "database_url")
def enable(username: str, **flags: str | None) -> None:
    """Accept logins of USERNAME again. Sessions from before stay ended."""

    async def work(store: SqlStore) -> None:
        user = await find(store, username)
        if user.erase_ms is not None:
            raise Conflict(f"{username} is being erased; that cannot be undone.")
        await store.enable(user.key)

    with_store(load_existing(flags), work)
    say(f"{username} may log in again.")


COMMANDS: Final = (list_users, show, password, rename, disable, enable)
