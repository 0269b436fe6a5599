"""`orbital clock`: show whether the clock is trusted, and accept a clock that servers do not trust."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from orbital_relay.commands.server_options import load_existing, run, settings_options
from orbital_relay.commands.terminal import say
from orbital_relay.config import Settings
from orbital_relay.core.trusted_time import START_LEAP_MS
from orbital_relay.server.adapters import open_store
from orbital_relay.server.ops.clock import SystemClock


@click.command(
    epilog="""\b
Examples:
  orbital clock
  orbital clock --accept
"""
)
@click.option("--accept", is_flag=True, help="Confirm that the clock is right, so that servers trust it.")
@settings_options("data_dir", "database_url")
def clock(*, accept: bool, **flags: str | None) -> None:
    """
    Show whether servers trust this machine's clock, and accept it.

    A server whose clock is more than a day ahead of the last heartbeat in the database deletes nothing and expires
    nothing until the clock is right again, has run without a jump for ORBITAL_CLOCK_HOLD_HOURS, or is accepted here. A
    running server notices within a minute.
    """
    run(_clock(load_existing(flags), accept=accept))


async def _clock(settings: Settings, *, accept: bool) -> None:
    store = await open_store(settings, alone=False)
    try:
        marks = await store.clock_marks()
        wall_ms = SystemClock().wall_ms() if marks.database_ms is None else marks.database_ms
        say(f"clock      {_iso(wall_ms)}")
        say(f"heartbeat  {'none yet' if marks.heartbeat_ms is None else _iso(marks.heartbeat_ms)}")
        if accept:
            await store.accept_clock(wall_ms=wall_ms)
            say("The clock is accepted.")
        elif marks.heartbeat_ms is not None and wall_ms - marks.heartbeat_ms > START_LEAP_MS:
            days = (wall_ms - marks.heartbeat_ms) / START_LEAP_MS
            say(
                f"The clock is {days:.1f} days ahead of the heartbeat: servers hold it back. "
                "If it is right: orbital clock --accept"
            )
    finally:
        await store.close()


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
