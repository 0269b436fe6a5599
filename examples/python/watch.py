"""
Watch a group for as long as you like, and continue where you were after a restart.

    ORBITAL_TOKEN=… .venv/bin/python examples/python/watch.py http://localhost:3000 GROUP positions.json

Stop it with Ctrl-C and start it again: no event is missed, and none is shown twice.
"""

import asyncio
import os
import sys

from orbital_relay.client import ClientError, FilePositions, Problem, Reset, StateChange, connect


def say(text: str, *, err: bool = False) -> None:
    """Print a line with control characters escaped: a text of others could clear the terminal or forge lines."""
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    print(line, file=sys.stderr if err else sys.stdout, flush=True)


def show_state(change: StateChange) -> None:
    """Print what the connection does."""
    say(f"[{change.state.value}] {change.reason}", err=True)


async def main(url: str, group_id: str, positions: str) -> None:
    """Print every event from the start of the group on."""
    client = connect(url, token=os.environ["ORBITAL_TOKEN"], store=FilePositions(positions), verify=True)
    client.on(StateChange, show_state)
    client.on(Problem, lambda problem: say(problem.message, err=True))
    async with client as orbital, orbital.subscribe(group_id, since=0) as events:
        async for event in events:
            if isinstance(event, Reset):
                say(f"What followed number {event.last_seq} is no longer kept; load the group again.")
            else:
                say(f"{event.seq} {event.type}")


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (ClientError, ValueError) as exc:  # an address or a token that can be none is a ValueError
        say(str(exc), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        pass
