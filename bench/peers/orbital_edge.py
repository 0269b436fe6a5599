"""Orbital's edge alone: events handed to the relay in the process, numbered, chained and sealed, but not stored.

`python orbital_edge.py CONTROL_PORT`, with the settings of `orbital serve` in the environment. What comes on the
control port is lines of a group's id, a tab, and an envelope; the events of one read are one tick, as those of one
append are.
"""

import asyncio
import sys
import uuid

import uvloop

from orbital import config, wire
from orbital.core.chain import digest
from orbital.model import Event, GroupId
from orbital.server import app


class Control(asyncio.Protocol):
    """The line by which events come in."""

    def __init__(self, node: app.Node, heads: dict[str, str]) -> None:
        self.relay, self.heads, self.rest = node.relay, heads, b""

    def data_received(self, data: bytes) -> None:
        """Seal the events of this read, hand them to the relay, and let it write them."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        relay, heads = self.relay, self.heads
        if not lines:
            return
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
            message = wire.NewMessage(str(uuid.uuid4()), group_id, envelope, stamp_ms, "bench")
            frame = wire.seal(message, group_id=group_id, seq=seq, stamp_ms=stamp_ms, prev=prev)
            heads[group_id] = digest(frame)
            relay.hub.offer(Event(group_id, seq, stamp_ms, frame))
        relay.hub.flush()
        relay.stamps.settle()


def node_clock_ms() -> int:
    """The wall clock, in milliseconds."""
    return app.SystemClock().wall_ms()


async def main() -> None:
    """Serve, with the control port beside."""
    heads: dict[str, str] = {}
    servers: list[asyncio.Task] = []

    def started(node: app.Node, _host: str, _port: int) -> None:
        loop = asyncio.get_running_loop()
        servers.append(
            loop.create_task(loop.create_server(lambda: Control(node, heads), "127.0.0.1", int(sys.argv[1])))
        )

    await app.serve(config.load(), on_started=started)


if __name__ == "__main__":
    uvloop.run(main())
