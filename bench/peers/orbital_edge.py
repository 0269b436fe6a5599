"""Orbital's edge alone: events handed to the relay in the process, numbered, chained and sealed, but not stored.

`python orbital_edge.py CONTROL_PORT`, with the settings of `orbital serve` in the environment. What comes on the
control port is lines of a group's id, a tab, and an envelope.
"""

import asyncio
import sys

import uvloop

from orbital_relay import config, wire
from orbital_relay.core.chain import digest
from orbital_relay.model import Event, GroupId
from orbital_relay.server import app
from orbital_relay.server.edge.listening import ListenAddress
from orbital_relay.server.serve import serve
from orbital_relay.services.forms import new_id


class Source:
    """What came in this turn of the loop, over all control lines: one tick, as the drafts of one append are."""

    def __init__(self, node: app.Node) -> None:
        self.relay = node.relay
        self.heads: dict[str, str] = {}
        self.lines: list[bytes] = []

    def take(self, lines: list[bytes]) -> None:
        """Keep them until the end of the turn."""
        if lines and not self.lines:
            asyncio.get_running_loop().call_soon(self.deliver)
        self.lines += lines

    def deliver(self) -> None:
        """Seal the events, hand them to the relay, and let it write them."""
        relay, heads = self.relay, self.heads
        lines, self.lines = self.lines, []
        stamp_ms = relay.stamps.reserve(len(lines), now_ms=node_clock_ms()) - 1
        for line in lines:
            name, _, envelope = line.decode().partition("\t")
            group_id = GroupId(name)
            group = relay.hub.groups.get(group_id)
            if group is None:
                continue
            # Nobody else appends to these groups, so the hub's own number is the log's.
            seq, prev = group.last + 1, heads.get(group_id, "A" * 43)
            stamp_ms += 1
            message = wire.NewMessage(new_id(), group_id, envelope, stamp_ms, "bench")
            frame = wire.seal(message, group_id=group_id, seq=seq, stamp_ms=stamp_ms, prev=prev)
            heads[group_id] = digest(frame)
            relay.hub.offer(Event(group_id, seq, stamp_ms, frame))
        relay.hub.flush()
        relay.stamps.end_batch()


class Control(asyncio.Protocol):
    """One line by which events come in."""

    def __init__(self, source: Source) -> None:
        self.source, self.rest = source, b""

    def data_received(self, data: bytes) -> None:
        """Cut what was read into lines."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.source.take(lines)


def node_clock_ms() -> int:
    """The wall clock, in milliseconds."""
    return app.SystemClock().wall_ms()


async def main() -> None:
    """Serve, with the control port beside."""
    servers: list[asyncio.Task] = []

    def started(node: app.Node, _address: ListenAddress) -> None:
        loop, source = asyncio.get_running_loop(), Source(node)
        servers.append(loop.create_task(loop.create_server(lambda: Control(source), "127.0.0.1", int(sys.argv[1]))))

    await serve(config.load(), on_started=started)


if __name__ == "__main__":
    uvloop.run(main())
