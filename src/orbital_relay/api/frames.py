"""The frames of the WebSocket, each as a whole: for `/asyncapi.json`, and the data of the posts that clients send."""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

import msgspec

from orbital_relay import wire
from orbital_relay.api.events import EVENT_FRAMES
from orbital_relay.api.fields import Uuid
from orbital_relay.api.messages import MessageBody
from orbital_relay.api.threads import ReplyBody, ThreadBody

IdempotencyField = Annotated[
    str | None,
    msgspec.Meta(description="1-128 visible ASCII characters; the same key within 24 hours gets the first answer."),
]


class PostMessageData(MessageBody):
    """The body of `POST /v1/messages`."""

    idempotency_key: IdempotencyField = None


class PostThreadData(ThreadBody):
    """The body of `POST /api/threads`."""

    idempotency_key: IdempotencyField = None


class PostReplyData(ReplyBody, kw_only=True):
    """The body of `POST /api/threads/{thread_id}/replies`, with the thread's id."""

    thread_id: Uuid
    idempotency_key: IdempotencyField = None


class ErrorData(msgspec.Struct):
    """Why a frame was refused, or why the connection ends; the error's details are next to `code` and `message`."""

    code: Annotated[str, msgspec.Meta(description="A code for programs.")]
    message: Annotated[str, msgspec.Meta(description="A sentence for a person.")]


def _server_frame(name: str, tag: str, data: Any, about: str | None) -> type[msgspec.Struct]:  # noqa: ANN401 - a type
    reply_to = Annotated[str | int, msgspec.Meta(description="The `id` of the client's frame that this answers.")]
    return msgspec.defstruct(
        f"{name}Frame",
        [("data", data), ("server_timestamp", int), ("reply_to", reply_to | msgspec.UnsetType, msgspec.UNSET)],
        tag_field="type",
        tag=tag,
        namespace={"__doc__": about},
    )


SERVER_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = (
    *EVENT_FRAMES,
    *(_server_frame(data.__name__, data.kind, data, data.__doc__) for data in get_args(wire.ServerData)),
    _server_frame("Posted", "posted", dict[str, Any], "Acknowledges a post, with the body of the HTTP response."),
    _server_frame("Error", "error", ErrorData, ErrorData.__doc__),
)
"""The frames that a server sends: the events of the log first."""


def _post_frame(frame: type[msgspec.Struct], data: type[msgspec.Struct]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        frame.__name__,
        [("data", data), ("id", wire.FrameId | None, None)],
        tag_field="type",
        tag=frame.__struct_config__.tag,
        namespace={"__doc__": data.__doc__},
    )


# `wire` leaves the data of posts undecoded until it is their turn: their frames are described with it here.
_POSTS: Final[dict[type[msgspec.Struct], type[msgspec.Struct]]] = {
    wire.PostMessageFrame: _post_frame(wire.PostMessageFrame, PostMessageData),
    wire.PostThreadFrame: _post_frame(wire.PostThreadFrame, PostThreadData),
    wire.PostReplyFrame: _post_frame(wire.PostReplyFrame, PostReplyData),
}

CLIENT_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = tuple(
    _POSTS.get(frame, frame) for frame in get_args(wire.ClientFrame)
)
"""The frames that a client sends."""
