"""
A bot with callbacks: it answers every thread of a group once, and shows that it types meanwhile.

    ORBITAL_TOKEN=… .venv/bin/python examples/python/echo.py http://localhost:3000 GROUP

Threads that were opened while it was down are answered at its next start: it keeps its position, and the posts that the
server does not have yet, in the folder `echo-state`. It sees ciphertext and sends it back as it came; a bot of your own
would decrypt, think and encrypt.
"""

import asyncio
import os
import sys
from pathlib import Path

from orbital_relay.client import CaughtUp, Event, FileOutbox, FilePositions, NewThread, Orbital, Reset, connect

STATE = Path("echo-state")


def say(text: str) -> None:
    """Print a line with control characters escaped: a text of others could clear the terminal or forge lines."""
    print("".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text), flush=True)


class Echo:
    """The bot. Its callback may take as long as it likes: the connection is read on meanwhile."""

    def __init__(self, orbital: Orbital) -> None:
        self.orbital = orbital

    async def on_event(self, event: Event | Reset | CaughtUp) -> None:
        """Answer a thread; the position moves when this returns, so a thread whose answer failed comes again."""
        if isinstance(event, NewThread) and event.data.author_id != self.orbital.user_id:
            self.orbital.typing(event.data.thread_id)
            # The same key for the same thread: a restart in the midst of this does not answer twice.
            await self.orbital.reply(
                event.data.thread_id, event.data.encrypted_body, idempotency_key=f"echo-{event.data.thread_id}"
            )
            self.orbital.typing(event.data.thread_id, is_typing=False)
            say(f"answered {event.data.thread_id}")


async def main(url: str, group_id: str) -> None:
    """Serve until it is stopped, or until the bot is removed from the group."""
    STATE.mkdir(exist_ok=True)
    positions, outbox = FilePositions(STATE / "positions.json"), FileOutbox(STATE / "outbox")
    async with connect(url, token=os.environ["ORBITAL_TOKEN"], store=positions, outbox=outbox) as orbital:
        # The first start begins with the group's first event; later ones continue where the last one stopped.
        subscription = orbital.subscribe(group_id, since=0, on_event=Echo(orbital).on_event)
        await subscription.ready()
        say("ready")
        await subscription.finished()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
