"""uWebSockets through socketify, with its own publish(): `python py_socketify.py PORT`."""

import json
import sys
import time

from socketify import App, OpCode


def opened(socket) -> None:
    """Greet, as the protocol does."""
    socket.send('{"type":"auth_success","data":{},"server_timestamp":0}', OpCode.TEXT)


def received(socket, text, _opcode) -> None:
    """Subscribe to a topic, or publish to it."""
    message = json.loads(text)
    if message["type"] == "subscribe":
        for name in message["data"]["group_ids"]:
            socket.subscribe(name)
        socket.send('{"type":"subscribed","data":{},"server_timestamp":0}', OpCode.TEXT)
    elif message["type"] == "publish":
        event = message["event"]
        event["server_timestamp"] = int(time.time() * 1000)
        app.publish(message["group_id"], json.dumps(event, separators=(",", ":")), OpCode.TEXT, False)


app = App()
app.ws(
    "/*",
    {
        "compression": 0,
        "max_payload_length": 1024 * 1024,
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 0,
        "open": opened,
        "message": received,
    },
)
app.listen(int(sys.argv[1]), lambda _config: None)
app.run()
