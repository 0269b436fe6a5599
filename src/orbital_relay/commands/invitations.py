"""`orbital user invite` and `orbital user invitations`: links with which people sign up."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import msgspec

from orbital_relay.api.admin import InvitationMade
from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.config import Settings
from orbital_relay.ports import Invitation
from orbital_relay.server.adapters import open_store
from orbital_relay.server.ops.clock import SystemClock
from orbital_relay.services import people

_MAX_DAYS = 365


class _Invited(msgspec.Struct, frozen=True, kw_only=True):
    """What `orbital user invite --json` prints."""

    number: int
    note: str
    invitation: str
    link: str
    expires_at: str


@click.command(
    epilog="""\b
Examples:
  orbital user invite --note grandma
  orbital user invite --days 1 --json
"""
)
@click.option("--note", default="", help="Whom it is for; `orbital user invitations` shows it.")
@click.option(
    "--days", type=click.FloatRange(0.001, _MAX_DAYS), default=7.0, show_default=True, help="How long it is valid."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options("data_dir", "database_url", "public_url", "port")
def invite(note: str, days: float, *, as_json: bool, **flags: str | None) -> None:
    """
    Print a link with which one person can create an account.

    It is required if ORBITAL_SIGNUPS is `invited`, and is valid for one account. The database stores only its hash: a
    lost link cannot be printed again.
    """
    settings = load_existing(flags)
    made = run(_invite(settings, note, days))
    link = f"{place(settings)}/#invitation={made.invitation}"
    if as_json:
        shown = _Invited(
            number=made.number, note=note, invitation=made.invitation, link=link, expires_at=made.expires_at
        )
        say_json(msgspec.json.encode(shown).decode())
    else:
        say(link)
        until = made.expires_at[:16].replace("T", " ")
        say(f"Invitation {made.number} makes one account, until {until} UTC.", err=True)


def place(settings: Settings) -> str:
    """Return the address that a link names; without the setting it is this machine's, which is noted."""
    if settings.public_url is not None:
        return settings.public_url
    say("Note: ORBITAL_PUBLIC_URL is not set, so the link works on this machine alone.", err=True)
    return f"http://localhost:{settings.port}"


async def _invite(settings: Settings, note: str, days: float) -> InvitationMade:
    store = await open_store(settings, alone=False)
    try:
        return await people.invite(store, note=note, days=days, at_ms=SystemClock().wall_ms())
    finally:
        await store.close()


@click.command(
    epilog="""\b
Examples:
  orbital user invitations
  orbital user invitations --revoke 3
"""
)
@click.option("--revoke", type=int, metavar="NUMBER", help="Delete an unused invitation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@settings_options("data_dir", "database_url")
def invitations(revoke: int | None, *, as_json: bool, **flags: str | None) -> None:
    """List invitations and who has used them, or delete one."""
    settings = load_existing(flags)
    if revoke is not None:
        run(_revoke(settings, revoke))
    rows = run(_list(settings))
    if as_json:
        say_json(msgspec.json.encode([people.invitation_row(each) for each in rows]).decode())
        return
    now_ms = SystemClock().wall_ms()
    for each in rows:
        say(f"{each.number:>4}  {_state(each, now_ms):<40}  {each.note}".rstrip())


async def _list(settings: Settings) -> list[Invitation]:
    store = await open_store(settings, alone=False)
    try:
        return await store.invitations()
    finally:
        await store.close()


async def _revoke(settings: Settings, number: int) -> None:
    store = await open_store(settings, alone=False)
    try:
        await people.revoke_invitation(store, number)
    finally:
        await store.close()


def _state(each: Invitation, now_ms: int) -> str:
    if each.used_ms is not None:
        return f"used by {each.used_by or 'a deleted account'}"
    return f"{'expired' if each.expires_ms <= now_ms else 'open until'} {_minute(each.expires_ms)}"


def _minute(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
