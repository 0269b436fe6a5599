"""`orbital tail`: print a group's events as they arrive."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from orbital_relay.client import (
    CaughtUp,
    Event,
    FilePositions,
    Orbital,
    Problem,
    Reset,
    State,
    StateChange,
    UnknownEvent,
    connect,
)
from orbital_relay.client.events import MAX_SEQ
from orbital_relay.commands.client_options import run, server_options
from orbital_relay.commands.terminal import say, say_json
from orbital_relay.wire import iso


class _Since(click.ParamType[int]):
    """A position: a number, or `start`."""

    name = "NUMBER|start"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a position."""
        text = str(value)
        if text == "start":
            return 0
        if text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_SEQ:
            return int(text)
        return self.fail(f"{text!r} is neither a number from 0 to 2^53 - 1 nor the word start.", param, ctx)


@click.command(
    epilog="""\b
Examples:
  orbital tail 0b0e7a52-3f5c-4b8e-9d1a-6f1f4c2a9e01
  orbital tail --since start --json GROUP > group.ndjson
  orbital tail --since start --no-follow GROUP
  orbital tail --positions seen.json GROUP ANOTHER_GROUP
"""
)
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@server_options
@click.option(
    "--since",
    metavar="NUMBER|start",
    type=_Since(),
    help="Start after this sequence number; `start` replays everything that is retained. Default: new events only.",
)
@click.option("--json", "as_json", is_flag=True, help="One event a line, byte for byte as the server stores it.")
@click.option("--follow/--no-follow", default=True, help="Wait for new events, or end when caught up.")
@click.option("--verify", is_flag=True, help="Verify the hash chain: end with an error if the server changed the log.")
@click.option(
    "--positions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Store the positions in this file; the next run resumes from them.",
)
@click.option("--quiet", is_flag=True, help="Print nothing about the connection on standard error.")
def tail(
    groups: tuple[str, ...],
    url: str,
    token: str,
    since: int | None,
    *,
    as_json: bool,
    follow: bool,
    verify: bool,
    positions: Path | None,
    quiet: bool,
) -> None:
    """
    Print the events of groups as they arrive.

    Each event is printed once and in order, across reconnects. The contents are encrypted; the output shows
    who did what, and when. Ctrl-C stops it.
    """

    async def work() -> None:
        store = FilePositions(positions) if positions is not None else None
        orbital = connect(url, token=token, store=store, verify=verify)
        if not quiet:
            orbital.on(StateChange, _show_state)
        orbital.on(Problem, lambda problem: say(f"{problem.message} ({problem.code})", err=True))
        with _reader_gone() as gone:
            async with asyncio.TaskGroup() as both:
                watching = both.create_task(_until(gone))
                async with orbital, asyncio.TaskGroup() as tasks:
                    for group_id in dict.fromkeys(groups):
                        tasks.create_task(_follow(orbital, group_id, since, as_json=as_json, follow=follow))
                watching.cancel()

    async def unwrapped() -> None:
        try:
            await work()
        except ExceptionGroup as group:
            # One group's error ends the command; a sentence for one is enough.
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise first from None

    run(unwrapped())


@contextmanager
def _reader_gone() -> Iterator[asyncio.Event]:
    """
    Set the event when nobody reads our output any more, as after `| head -1`.

    Writing would show it, and a quiet group gives nothing to write.
    """
    gone = asyncio.Event()
    if sys.platform == "win32" or sys.stdout is None or not stat.S_ISFIFO(os.fstat(1).st_mode):
        yield gone
        return
    loop = asyncio.get_running_loop()

    # The writing end of a pipe has nothing to read: readable means that the other end is closed.
    def closed() -> None:
        loop.remove_reader(1)
        gone.set()

    loop.add_reader(1, closed)
    try:
        yield gone
    finally:
        loop.remove_reader(1)


async def _until(gone: asyncio.Event) -> None:
    await gone.wait()
    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


async def _follow(orbital: Orbital, group_id: str, since: int | None, *, as_json: bool, follow: bool) -> None:
    """Print one group's events, until it ends or is caught up."""
    async with orbital.subscribe(group_id, since=since, marks=True) as subscription:
        async for item in subscription:
            if isinstance(item, CaughtUp):
                if not follow:
                    return
            elif as_json:
                say_json(_json(item))
            elif isinstance(item, Reset):
                say(_reset_sentence(item), err=True)
            else:
                say(_line(item))
        if subscription.ended in {"left", "removed"}:
            say(f"You are no longer a member of {group_id} ({subscription.ended}).", err=True)


def _json(item: Event | Reset) -> str:
    if isinstance(item, Reset):
        reset = {"group_id": item.group_id, "last_seq": item.last_seq, "seq": item.seq, "reason": item.reason.value}
        return json.dumps({"type": "reset", "data": reset})
    return item.frame.decode()


def _reset_sentence(item: Reset) -> str:
    return f"{item.group_id}: what followed number {item.last_seq} is gone; continuing after number {item.seq}."


def _line(event: Event) -> str:
    """Write one event for a person: when, where, what, who."""
    data = event.data if isinstance(event, UnknownEvent) else msgspec.to_builtins(event.data)
    who = data.get("author_username") or data.get("username") or data.get("sender_id") or data.get("author_id") or ""
    rest = " ".join(
        f"{name}={value if len(str(value)) <= _SHOWN else f'({len(str(value))} characters)'}"
        for name, value in data.items()
        if name not in _SHOWN_ELSEWHERE
    )
    return f"{iso(event.server_timestamp)} {event.group_id[:8]} #{event.seq} {event.type} {who} {rest}".rstrip()


_SHOWN = 40
"""Characters of a value that are shown: an id fits, ciphertext does not."""
_SHOWN_ELSEWHERE = frozenset(
    {"author_username", "username", "sender_id", "server_timestamp", "group_id", "conversation_id", "created_at"}
)


def _show_state(change: StateChange) -> None:
    if change.state is State.OPEN:
        say("Connected.", err=True)
    elif change.retry_in_ms is not None:
        say(f"{change.reason} Next attempt in {change.retry_in_ms / 1_000:.1f} s.", err=True)
