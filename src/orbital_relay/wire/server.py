"""The wire format of the server's frames that are not durable (ephemeral)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

_encode = msgspec.json.Encoder().encode


class GroupState(msgspec.Struct, omit_defaults=True):
    """The position of a subscribed group; `recovered` is present only if `since` was sent."""

    seq: int
    recovered: bool | msgspec.UnsetType = msgspec.UNSET


class AuthSuccess(msgspec.Struct):
    """The first frame."""

    kind: ClassVar = "auth_success"

    user_id: str
    username: str
    connected_at: str
    session_id: str
    heartbeat_seconds: float
    max_frame_bytes: int
    expires_at: str


class Subscribed(msgspec.Struct):
    """The answer to `subscribe`."""

    kind: ClassVar = "subscribed"

    group_ids: list[str]
    subscribed_at: str
    groups: dict[str, GroupState]


class Unsubscribed(msgspec.Struct):
    """The connection is no longer subscribed to these groups: `requested`, `left` or `removed`."""

    kind: ClassVar = "unsubscribed"

    group_ids: list[str]
    reason: str


class Ping(msgspec.Struct):
    """Asks for a `pong`."""

    kind: ClassVar = "ping"

    server_time: int


class TypingIndicator(msgspec.Struct):
    """A user started or stopped typing in a thread."""

    kind: ClassVar = "typing_indicator"

    thread_id: str
    user_id: str
    username: str
    is_typing: bool


class TokenExpiring(msgspec.Struct):
    """The token expires soon; send `authenticate` with a newer one to keep the connection."""

    kind: ClassVar = "token_expiring"

    expires_at: str


class Authenticated(msgspec.Struct):
    """The newer token was accepted."""

    kind: ClassVar = "authenticated"

    expires_at: str


class KeysLow(msgspec.Struct):
    """A stock of one-time keys of one of the user's devices is below ten: publish new ones with `PUT /v1/keys`."""

    kind: ClassVar = "keys_low"

    device_id: int
    pre_keys: int
    kyber_pre_keys: int
    hpke_pre_keys: int


class StateChanged(msgspec.Struct):
    """Another device of the user stored a new state for the group: read it with `GET /api/groups/{group_id}/state`."""

    kind: ClassVar = "state_changed"

    group_id: str


ReplyTo = str | int | msgspec.Raw | None
"""The `id` of the frame that is answered; as it was written, when it is too long for an integer of Python's."""

ServerData = (
    AuthSuccess
    | Subscribed
    | Unsubscribed
    | Ping
    | TypingIndicator
    | TokenExpiring
    | Authenticated
    | KeysLow
    | StateChanged
)


def frame(data: ServerData, *, stamp_ms: int, reply_to: ReplyTo = None) -> bytes:
    """Make the text of a frame that is not durable."""
    return _frame(data.kind, _encode(data), stamp_ms, reply_to)


def posted_frame(receipt: msgspec.Struct | None, *, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    """Make the `posted` frame, whose data is the body that answers the same POST over HTTP."""
    return _frame("posted", _encode(receipt), stamp_ms, reply_to)


def error_frame(code: str, message: str, details: dict[str, Any], *, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    """Make an `error` frame; `details` stand beside `code` and `message`."""
    return _frame("error", _encode({"code": code, "message": message, **details}), stamp_ms, reply_to)


def _frame(kind: str, data: bytes, stamp_ms: int, reply_to: ReplyTo) -> bytes:
    tail = b"" if reply_to is None else b',"reply_to":' + _encode(reply_to)
    return b'{"type":"%b","data":%b,"server_timestamp":%d%b}' % (kind.encode(), data, stamp_ms, tail)
