"""Messages: opaque Signal Protocol envelopes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from orbital_relay.api.fields import Encrypted, IfEpoch, ResponseBody, Uuid


class MessageBody(msgspec.Struct):
    """An envelope for a group."""

    conversation_id: Annotated[Uuid, msgspec.Meta(description="The group.")]
    encrypted_envelope: Encrypted
    timestamp: Annotated[
        # RFC 8259 §6 and JSON Schema do not distinguish 1 from 1.0, nor do clients whose only number is a float.
        float,
        msgspec.Meta(
            ge=0,
            le=2**53 - 1,
            multiple_of=1,
            description="The sender's clock, in milliseconds since 1970-01-01 UTC.",
            examples=[1_764_000_000_000],
            extra_json_schema={"type": "integer"},
        ),
    ]
    if_epoch: IfEpoch = None


class MessagePosted(ResponseBody, frozen=True, kw_only=True):
    """The message is durable; `seq` is its number in the group."""

    message_id: str
    server_timestamp: int
    seq: int = 0


class Message(ResponseBody, frozen=True, kw_only=True):
    """A message, with the sequence number of its event."""

    message_id: str
    conversation_id: str
    encrypted_envelope: str
    server_timestamp: int
    sender_id: str = ""
    seq: int = 0


class Messages(ResponseBody, frozen=True, kw_only=True):
    """Messages, oldest first; a page never ends between two with the same `server_timestamp`."""

    messages: list[Message]
    has_more: bool
