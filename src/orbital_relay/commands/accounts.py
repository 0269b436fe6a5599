"""Accounts as the operator sees them: the subcommands of `orbital user` for people who are there."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import click
import msgspec

from orbital_relay.api.admin import OneTimeCode
from orbital_relay.commands.outcome import Change, Outcome, json_option, report
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.config import Settings
from orbital_relay.errors import Conflict
from orbital_relay.model import Login, UserId
from orbital_relay.ports import GroupSummary, UserSummary
from orbital_relay.server.adapters import extra, open_store
from orbital_relay.server.auth.passwords import Passwords
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import accounts, people
from orbital_relay.services.own_account import session
from orbital_relay.services.people import find
from orbital_relay.store.sql import SqlStore

MOST_LOGINS: Final = 500
"""Sessions that `orbital user show` prints."""

REVOKING: Final = ("data_dir", "database_url", "redis_url", "jwt_secret")
"""Settings of a command that ends sessions: with Redis it notifies the servers."""


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


def row(user: UserSummary) -> dict[str, object]:
    """Return a user for `--json`; a member that is added later may be ignored, none is removed."""
    found: dict[str, object] = msgspec.to_builtins(people.user_row(user))
    return found


def group_row(group: GroupSummary) -> dict[str, object]:
    """Return a group for `--json`."""
    found: dict[str, object] = msgspec.to_builtins(people.group_row(group))
    return found


def now_ms() -> int:
    """Return the wall clock."""
    return SystemClock().wall_ms()


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


def notifier(settings: Settings) -> Callable[[], Awaitable[bool]] | None:
    """
    Return a function that notifies the servers of a revocation, once it is stored; None without Redis.

    Raises:
        SettingsInvalid: If the library for Redis is not installed.
    """
    if settings.redis_url is None:
        return None
    with extra("redis"):
        from orbital_relay.bus.redis import publish_revocation  # noqa: PLC0415 - an extra
    return partial(publish_revocation, settings.redis_url)


async def end_sessions(settings: Settings, store: SqlStore, user_id: UserId) -> None:
    """Revoke every token that a user has, and notify the servers."""
    notify = notifier(settings)
    from orbital_relay.server.auth.authenticator import Auth  # noqa: PLC0415 - cryptography: a tenth of a second

    await Auth.of(settings, store=store, clock=SystemClock()).revoke_user(user_id)
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
    """List all users: when each was last active (to the hour), groups, and stored media."""
    found: list[UserSummary] = with_store(load_existing(flags), lambda store: store.users())
    if as_json:
        say_value([row(each) for each in found])
        return
    say_table(
        ("name", "state", "made", "last seen", "groups", "media", "size", "user id"),
        [
            (
                each.username,
                people.state(each),
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
    """Show USERNAME, by name or user id, with sessions (logins that may still be valid) and groups."""

    async def work(store: SqlStore) -> tuple[UserSummary, list[GroupSummary], list[Login]]:
        user = await find(store, username)
        logins, _ = await store.logins(user.key, now_ms=now_ms(), limit=MOST_LOGINS)
        return user, await store.groups(member=user.key), logins

    user, groups, logins = with_store(load_existing(flags), work)
    if as_json:
        sessions = [msgspec.to_builtins(session(each)) for each in logins]
        say_value({**row(user), "groups": [group_row(each) for each in groups], "logins": sessions})
        return
    for name, value in row(user).items():
        say(f"{name:<16} {'' if value is None else value}".rstrip())
    for login in logins:
        say(f"session          {login.name or '(no name)'}, since {day(login.created_ms)}, used {day(login.seen_ms)}")
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
@json_option
@settings_options(*REVOKING)
def password(username: str, *, as_json: bool, **flags: str | None) -> None:
    """
    Set a new password for USERNAME, and end all sessions.

    The command asks for the password, or reads it from standard input if that is not a terminal.
    """
    settings = load_existing(flags)
    text = read_password(again=True)

    async def work(store: SqlStore) -> UserSummary:
        accounts.check_password(text)
        user = await find(store, username)
        if user.outside:
            raise Conflict(f"{user.username} is a user of another service, and logs in there.")
        await store.set_password(user.key, await Passwords().hash(text))
        await end_sessions(settings, store, user.user_id)
        return user

    changed: UserSummary = with_store(settings, work)
    sentence = f"{changed.username} has another password, and is logged out everywhere."
    report(_outcome("password_set", changed), sentence, as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  orbital user rename ada ada_lovelace
"""
)
@click.argument("username")
@click.argument("new_name")
@json_option
@settings_options(*REVOKING)
def rename(username: str, new_name: str, *, as_json: bool, **flags: str | None) -> None:
    """
    Rename USERNAME.

    Tokens contain the name, so every session ends. Existing messages keep the old name.
    """
    settings = load_existing(flags)

    async def work(store: SqlStore) -> str:
        accounts.check_username(new_name)
        user = await find(store, username)
        if user.outside:
            raise Conflict(f"{user.username} is a user of another service, which sets the name.")
        await store.rename(user.key, new_name)
        await end_sessions(settings, store, user.user_id)
        return user.user_id

    outcome = Outcome(done="renamed", user_id=with_store(settings, work), username=new_name)
    report(outcome, f"{username} is {new_name} now, and is logged out everywhere.", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  orbital user disable ada --reason "lost phone, call me"
"""
)
@click.argument("username")
@click.option("--reason", default="", help="Reason that a refused login shows, after `This account is disabled`.")
@json_option
@settings_options(*REVOKING)
def disable(username: str, reason: str, *, as_json: bool, **flags: str | None) -> None:
    """
    End every session of USERNAME, and refuse logins and tokens until `orbital user enable`.

    What the user has written stays, and so does the membership in groups.
    """
    settings = load_existing(flags)

    async def work(store: SqlStore) -> UserSummary:
        user = await find(store, username)
        await people.disable(store, partial(end_sessions, settings, store), user, reason=reason, at_ms=now_ms())
        return user

    outcome = _outcome("disabled", with_store(settings, work))
    report(outcome, f"{username} is disabled, and is logged out everywhere.", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  orbital user enable ada
"""
)
@click.argument("username")
@json_option
@settings_options("data_dir", "database_url")
def enable(username: str, *, as_json: bool, **flags: str | None) -> None:
    """Accept logins of USERNAME again. Sessions that were ended stay ended."""

    async def work(store: SqlStore) -> UserSummary:
        user = await find(store, username)
        await people.enable(store, user)
        return user

    outcome = _outcome("enabled", with_store(load_existing(flags), work))
    report(outcome, f"{username} may log in again.", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  orbital user reset ada
"""
)
@click.argument("username")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options("data_dir", "database_url")
def reset(username: str, *, as_json: bool, **flags: str | None) -> None:
    """
    Print a one-time code with which USERNAME can set a new password within a day.

    The page's login form has a field for it. The database stores only its hash, and a second code replaces the first.
    """

    async def work(store: SqlStore) -> OneTimeCode:
        return await people.offer_reset(store, await find(store, username), at_ms=now_ms())

    code: OneTimeCode = with_store(load_existing(flags), work)
    if as_json:
        say_value(code)
        return
    say(code.code)
    say(f"It sets another password of {username} once, until {code.expires_at}.", err=True)


@click.command(
    epilog="""\b
Examples:
  orbital user promote ada
"""
)
@click.argument("username")
@json_option
@settings_options("data_dir", "database_url")
def promote(username: str, *, as_json: bool, **flags: str | None) -> None:
    """Make USERNAME a server administrator, who manages users, invitations and groups on the web page."""
    changed = _set_admin(flags, username, admin=True)
    report(_outcome("promoted", changed), f"{username} is a server administrator.", as_json=as_json)


@click.command(
    epilog="""\b
Examples:
  orbital user demote ada
"""
)
@click.argument("username")
@json_option
@settings_options("data_dir", "database_url")
def demote(username: str, *, as_json: bool, **flags: str | None) -> None:
    """Remove the administrator role of USERNAME, from the next request on."""
    changed = _set_admin(flags, username, admin=False)
    report(_outcome("demoted", changed), f"{username} is not a server administrator.", as_json=as_json)


def _set_admin(flags: dict[str, str | None], username: str, *, admin: bool) -> UserSummary:
    async def work(store: SqlStore) -> UserSummary:
        user = await find(store, username)
        await store.set_admin(user.key, at_ms=now_ms() if admin else None)
        return user

    changed: UserSummary = with_store(load_existing(flags), work)
    return changed


def _outcome(done: Change, user: UserSummary) -> Outcome:
    return Outcome(done=done, user_id=user.user_id, username=user.username)


COMMANDS: Final = (list_users, show, password, reset, rename, disable, enable, promote, demote)
