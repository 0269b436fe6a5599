"""`orbital group`: groups as the operator sees them, without their content."""

from __future__ import annotations

import click

from orbital_relay import wire
from orbital_relay.commands.accounts import day, group_row, say_table, say_value, size, with_store
from orbital_relay.commands.deletion import delete_group
from orbital_relay.commands.server_options import load_existing, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.ports import GroupSummary
from orbital_relay.services import people
from orbital_relay.store.sql import SqlStore


@click.group()
def group() -> None:
    """List groups and what they store, and delete them. The server may be running."""


group.add_command(delete_group)


@group.command(
    "list",
    epilog="""\b
Examples:
  orbital group list
  orbital group list --json
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@settings_options("data_dir", "database_url")
def list_groups(*, as_json: bool, **flags: str | None) -> None:
    """List all groups: founder, members, threads, and stored media. Names are encrypted."""
    found: list[GroupSummary] = with_store(load_existing(flags), lambda store: store.groups())
    if as_json:
        say_value([group_row(each) for each in found])
        return
    say_table(
        ("group id", "creator", "made", "last event", "members", "threads", "media", "size"),
        [
            (
                each.group_id,
                each.creator,
                day(each.created_ms),
                day(each.last_ms),
                each.members,
                each.threads,
                each.stored.media,
                size(each.stored.media_bytes),
            )
            for each in found
        ],
    )


@group.command(
    epilog="""\b
Examples:
  orbital group show 6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11
"""
)
@click.argument("group_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options("data_dir", "database_url")
def show(group_id: str, *, as_json: bool, **flags: str | None) -> None:
    """Show a group with its members."""

    async def work(store: SqlStore) -> tuple[GroupSummary, list[tuple[str, str, int]]]:
        found = await people.find_group(store, group_id)
        return found, await store.group_members(found.key)

    found, members = with_store(load_existing(flags), work)
    shown = group_row(found)
    if as_json:
        named = [
            {"username": name, "user_id": user_id, "joined_at": wire.iso(at_ms)} for name, user_id, at_ms in members
        ]
        say_value({**shown, "members": named})
        return
    for name, value in shown.items():
        say(f"{name:<16} {'' if value is None else value}".rstrip())
    for name, user_id, at_ms in members:
        say(f"member           {name}, since {day(at_ms)}, {user_id}")
