"""The `websockets` package with its broadcast(): `python py_websockets.py PORT`."""

import json
import sys
import time

import uvloop
from websockets.asyncio.server import broadcast, serve

groups: dict[str, set] = {}


async def client(socket) -> None:
    """Serve one connection: subscribe joins a group's set, publish goes to all of it."""
    await socket.send('{"type":"auth_success","data":{},"server_timestamp":0}')
    mine: list[str] = []
    try:
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "subscribe":
                mine = message["data"]["group_ids"]
                for name in mine:
                    groups.setdefault(name, set()).add(socket)
                await socket.send('{"type":"subscribed","data":{},"server_timestamp":0}')
            elif message["type"] == "publish":
                event = message["event"]
                event["server_timestamp"] = int(time.time() * 1000)
                broadcast(groups.get(message["group_id"], ()), json.dumps(event, separators=(",", ":")))
    finally:
        for name in mine:
            groups[name].discard(socket)


async def main() -> None:
    """Serve until ended."""
    async with serve(client, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=4096) as server:
        await server.serve_forever()


uvloop.run(main())
