"""`/asyncapi.json`: the WebSocket, made from the types of its frames (AsyncAPI 3.0)."""

from __future__ import annotations

from typing import Final

import msgspec

from orbital_relay import __version__
from orbital_relay.api.frames import CLIENT_FRAMES, SERVER_FRAMES
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.server.http.docs.openapi import Document, require_all

_ABOUT: Final = """\
The WebSocket of an Orbital server. Frames are text, one JSON object each. A durable event has `seq`, its number in its
group, and `prev`, the hash of the frame before; its text is the same for every subscriber and in the log.
Clients must ignore unknown members. `/openapi.json` describes the HTTP API.
"""
_SCHEMAS: Final = "#/components/schemas"
_RECEIPTS: Final = (MessagePosted, ThreadCreated, ReplyCreated)


def describe() -> Document:
    """Make the AsyncAPI 3.0 document, from the server's point of view: it sends events and receives posts."""
    types = [*SERVER_FRAMES, *CLIENT_FRAMES, *_RECEIPTS]
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "/{name}")
    require_all(components)
    by_type = dict(zip(types, schemas, strict=True))
    components["PostedFrame"]["properties"]["data"] = {"anyOf": [by_type[receipt] for receipt in _RECEIPTS]}
    components["ErrorData"]["additionalProperties"] = True
    sent = [_name(frame) for frame in SERVER_FRAMES]
    received = [_name(frame) for frame in CLIENT_FRAMES]
    messages = {
        f"{way}.{_name(frame)}": _message(frame, by_type[frame])
        for way, frames in (("server", SERVER_FRAMES), ("client", CLIENT_FRAMES))
        for frame in frames
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Orbital", "version": __version__, "description": _ABOUT, "license": {"name": "MIT"}},
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/ws",
                "title": "The WebSocket",
                "description": "Also at `/v1/websocket`. The token comes as `Authorization: Bearer`, as the "
                "subprotocol after `bearer`, as `?ticket=` or as `?token=`.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "sendToClient": _operation("send", [f"server.{name}" for name in sent]),
            "receiveFromClient": _operation("receive", [f"client.{name}" for name in received]),
        },
        "components": {"messages": messages, "schemas": dict(sorted(components.items()))},
    }


def _name(frame: type[msgspec.Struct]) -> str:
    return str(frame.__struct_config__.tag)


def _message(frame: type[msgspec.Struct], payload: Document) -> Document:
    return {"name": _name(frame), "summary": " ".join((frame.__doc__ or "").split()), "payload": payload}


def _operation(action: str, names: list[str]) -> Document:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "messages": [{"$ref": f"#/channels/socket/messages/{name}"} for name in names],
    }
