"""Starlette on uvicorn, `send_text` to each listener in turn: `python py_starlette.py PORT`."""

import sys
import time

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

groups: dict[str, set] = {}


async def client(socket) -> None:
    """Serve one connection: subscribe joins a group's set, publish is awaited for one after the other."""
    await socket.accept()
    await socket.send_text('{"type":"auth_success","data":{},"server_timestamp":0}')
    mine: list[str] = []
    try:
        while True:
            message = msgspec.json.decode(await socket.receive_text())
            if message["type"] == "subscribe":
                mine = message["data"]["group_ids"]
                for name in mine:
                    groups.setdefault(name, set()).add(socket)
                await socket.send_text('{"type":"subscribed","data":{},"server_timestamp":0}')
            elif message["type"] == "publish":
                event = message["event"]
                event["server_timestamp"] = int(time.time() * 1000)
                text = msgspec.json.encode(event).decode()
                for listener in tuple(groups.get(message["group_id"], ())):
                    await listener.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        for name in mine:
            groups[name].discard(socket)


app = Starlette(routes=[WebSocketRoute("/ws", client)])
uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    log_level="warning",
    ws_per_message_deflate=False,
    ws_ping_interval=None,
    backlog=4096,
)
