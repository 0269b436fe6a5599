"""The protocol over successive connections: greeting, heartbeat, requests, answers, and the groups' streams."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from orbital_relay import wire
from orbital_relay.client.errors import ClientError, NotAMember, SubscribeRefused
from orbital_relay.client.events import MAX_SEQ, DeviceStateChanged, KeysLow, Position, Problem, Typing, Unnumbered
from orbital_relay.client.protocol.effects import (
    Ended,
    Notify,
    Opened,
    ProtocolEffect,
    Reconnect,
    RenewToken,
    Send,
    TokenRenewed,
)
from orbital_relay.client.protocol.frames import BadFrame, Frame, Makes, decode_object, read_frame
from orbital_relay.client.protocol.stream import Stream
from orbital_relay.client.protocol.subscription_state import SubscriptionState, Word

GROUPS_PER_FRAME: Final = 100
"""A position is about 150 bytes in a `subscribe`; a hundred stay far below the server's 64 KiB a frame."""

_INDISPENSABLE: Final = frozenset({"auth_success", "subscribed"})
"""Frames without which nothing continues: when one cannot be read, another connection may bring a sound one."""


# What a conversation needs of the frames that `wire` and `api.frames` write. They are structs of their own
# because a client demands less than a server writes: a server of another version may leave out what is not listed here.
# tests/unit/client/test_lenient.py compares them with the server's, field for field.


class _State(msgspec.Struct):
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
    recovered: bool | None = None


class _SubscribedData(msgspec.Struct):
    group_ids: list[str]
    groups: dict[str, _State] = {}


class _UnsubscribedData(msgspec.Struct):
    group_ids: list[str]
    reason: str = "requested"


class _AuthSuccessData(msgspec.Struct):
    user_id: str
    username: str
    session_id: str = ""
    heartbeat_seconds: float = 30
    expires_at: Any = None


class _AuthenticatedData(msgspec.Struct):
    expires_at: Any = None


class _ErrorData(msgspec.Struct):
    code: str = "ERROR"
    message: str = ""
    group_ids: list[str] = []


class ClientProtocol:
    """
    What a client says, receives and remembers, over one connection after another.

    Every method returns the effects to carry out, in order. A conversation never holds a socket.
    """

    def __init__(self, *, verify: bool = False, capacity: int = 1_000) -> None:
        """
        Start without groups and without a connection.

        Args:
            verify: Check the hash chain of every group; a break ends the group's stream with ChainBroken.
            capacity: Most items of one group that wait for their reader.
        """
        self._verify = verify
        self._capacity = capacity
        self._streams: dict[str, Stream] = {}
        self._user_id: str | None = None
        self._open = False
        self._number = 0
        self._asked: dict[str, list[str]] = {}

    # Public: facts

    @property
    def is_open(self) -> bool:
        """Whether the server has greeted us on the present connection."""
        return self._open

    def position(self, group_id: str) -> Position | None:
        """Return the position after the last event delivered; None when it is unknown, or the group is not followed."""
        stream = self._streams.get(group_id)
        return None if stream is None else stream.position

    # Public: what the program wants

    def subscribe(self, group_id: str, since: Position | None, *, now_ms: int) -> list[ProtocolEffect]:
        """
        Subscribe to a group, from after `since`, or from now when it is None.

        Args:
            group_id: The group; not followed at the moment.
            since: The reader's position.
            now_ms: The wall clock, milliseconds since the epoch.
        """
        if group_id in self._streams:
            raise AssertionError("subscribe() is called once a group; the client refuses the second")
        stream = Stream(group_id, since, verify=self._verify, capacity=self._capacity, ticket=self._next)
        stream.user_id = self._user_id
        self._streams[group_id] = stream
        return self._ask([stream], now_ms) if self._open else []

    def unsubscribe(self, group_id: str, *, now_ms: int) -> list[ProtocolEffect]:
        """Unsubscribe from a group; nothing more of it is delivered."""
        stream = self._streams.pop(group_id, None)
        if stream is None or not self._open or stream.state is SubscriptionState.OFF:
            return []
        return [self._send("unsubscribe", {"group_ids": [group_id]}, now_ms)]

    def typing(self, thread_id: str, is_typing: bool, *, now_ms: int) -> list[ProtocolEffect]:  # noqa: FBT001 - the frame's own field
        """Report that the user types or stopped; nothing without a connection, since it would be old news."""
        if not self._open:
            return []
        return [self._send("typing_indicator", {"thread_id": thread_id, "is_typing": is_typing}, now_ms)]

    def authenticate(self, token: str, *, now_ms: int) -> list[ProtocolEffect]:
        """Present a newer token on the open connection."""
        return [self._send("authenticate", {"token": token}, now_ms)] if self._open else []

    def taken(self, group_id: str, count: int = 1) -> list[ProtocolEffect]:
        """Note that the reader took `count` items out of the group's buffer."""
        stream = self._streams.get(group_id)
        return [] if stream is None else self._of(stream, stream.taken(count))

    # Public: what the connection receives

    def lost(self) -> None:
        """Note that the connection is gone; what was wanted is asked for again on the next one."""
        self._open = False
        self._asked.clear()
        for stream in self._streams.values():
            stream.step(Word.LOSE)

    def received(self, text: bytes, *, now_ms: int) -> list[ProtocolEffect]:
        """
        Receive a text frame.

        Args:
            text: Its UTF-8 text, unchanged.
            now_ms: The wall clock, milliseconds since the epoch.
        """
        try:
            frame = read_frame(text)
        except BadFrame as exc:
            return [Notify(Problem(code="BAD_FRAME", message=str(exc)))]
        try:
            match frame.makes:
                case Makes.EVENT:
                    stream = self._streams.get(frame.group_id)
                    return [] if stream is None else self._of(stream, stream.event(frame, text))
                case Makes.PING:
                    return [self._send("pong", {"client_time": now_ms}, now_ms), *self._ping()]
                case Makes.CONTROL:
                    return self._control(frame, now_ms)
                case Makes.EPHEMERAL:
                    return _ephemeral(frame)
                case Makes.IGNORED:
                    return []
        except msgspec.ValidationError as exc:
            problem = Problem(code="BAD_FRAME", message=f"A frame of the type {frame.type} cannot be read: {exc}.")
            if frame.type in _INDISPENSABLE:
                return [Notify(problem), Reconnect(f"The server's {frame.type} cannot be read.")]
            return [Notify(problem)]

    # Public: what the log answers

    def page(self, group_id: str, ticket: int, frames: list[bytes]) -> list[ProtocolEffect]:
        """
        Receive the answer to a Fetch.

        Args:
            group_id: The group.
            ticket: The Fetch's ticket; an answer to an older one changes nothing.
            frames: The stored frames after the number asked for, in order.
        """
        stream = self._streams.get(group_id)
        return [] if stream is None else self._of(stream, stream.page(ticket, frames))

    def page_gone(self, group_id: str, ticket: int, oldest_seq: int) -> list[ProtocolEffect]:
        """Receive that the log no longer keeps what a Fetch asked for, and begins at `oldest_seq`."""
        stream = self._streams.get(group_id)
        return [] if stream is None else self._of(stream, stream.gone(ticket, oldest_seq))

    def page_refused(self, group_id: str, ticket: int, error: ClientError) -> list[ProtocolEffect]:
        """Receive that a Fetch will never be answered; the group's stream ends with `error`."""
        stream = self._streams.get(group_id)
        return [] if stream is None else self._of(stream, stream.refused(ticket, error))

    # Private: frames

    def _of(self, stream: Stream, effects: list[ProtocolEffect]) -> list[ProtocolEffect]:
        """Forget a stream that has ended."""
        if stream.state is SubscriptionState.ENDED:
            self._streams.pop(stream.id, None)
        return effects

    def _control(self, frame: Frame, now_ms: int) -> list[ProtocolEffect]:
        match frame.type:
            case "auth_success":
                return self._greeted(frame, now_ms)
            case "subscribed":
                return self._subscribed(msgspec.json.decode(frame.data, type=_SubscribedData), frame.reply_to)
            case "unsubscribed":
                gone = msgspec.json.decode(frame.data, type=_UnsubscribedData)
                if gone.reason == "requested":
                    return []
                return [
                    effect
                    for stream in self._named(gone.group_ids)
                    for effect in self._of(stream, stream.dismiss(gone.reason))
                ]
            case "error":
                return self._error(frame)
            case "token_expiring":
                return [RenewToken()]
            case "authenticated":
                renewed = msgspec.json.decode(frame.data, type=_AuthenticatedData)
                return [TokenRenewed(_life_s(renewed.expires_at, frame.server_timestamp))]
            case _:  # `posted` asks for nothing.
                return []

    def _greeted(self, frame: Frame, now_ms: int) -> list[ProtocolEffect]:
        hello = msgspec.json.decode(frame.data, type=_AuthSuccessData)
        self._open = True
        self._user_id = hello.user_id
        for stream in self._streams.values():
            stream.user_id = hello.user_id
        opened = Opened(
            hello.user_id,
            hello.username,
            hello.session_id,
            hello.heartbeat_seconds,
            _life_s(hello.expires_at, frame.server_timestamp),
        )
        unasked = [stream for stream in self._streams.values() if stream.state is SubscriptionState.OFF]
        return [opened, *self._ask(unasked, now_ms)]

    def _subscribed(self, data: _SubscribedData, reply_to: str | int | None) -> list[ProtocolEffect]:
        if isinstance(reply_to, str):
            self._asked.pop(reply_to, None)
        effects: list[ProtocolEffect] = []
        for stream in self._named(data.group_ids):
            state = data.groups.get(stream.id)
            effects += self._of(
                stream,
                stream.confirm(None, recovered=None)
                if state is None
                else stream.confirm(state.seq, recovered=state.recovered),
            )
        return effects

    def _error(self, frame: Frame) -> list[ProtocolEffect]:
        data = msgspec.json.decode(frame.data, type=_ErrorData)
        details = {key: value for key, value in decode_object(frame.data).items() if key not in {"code", "message"}}
        effects: list[ProtocolEffect] = [Notify(Problem(code=data.code, message=data.message, details=details))]
        asked = self._asked.get(frame.reply_to, []) if isinstance(frame.reply_to, str) else []
        if not asked and not (data.code == "FORBIDDEN" and data.group_ids):
            return effects
        if data.code not in {"FORBIDDEN", "VALIDATION_ERROR", "NOT_FOUND"}:
            # The database is unreachable, or too many frames: the next connection asks again, after a pause.
            return [*effects, Reconnect(data.message or data.code)]
        for stream in self._named(data.group_ids or asked):
            if stream.step(Word.REFUSE):
                error = (
                    SubscribeRefused(stream.id, data.code, data.message)
                    if data.code == "VALIDATION_ERROR"
                    else NotAMember(stream.id)
                )
                effects += self._of(stream, [Ended(stream.id, error, "refused")])
        return effects

    def _ping(self) -> list[ProtocolEffect]:
        """Let every stream look whether something is overdue; one reconnection is enough for all."""
        effects = [effect for stream in list(self._streams.values()) for effect in stream.ping()]
        again = [effect for effect in effects if isinstance(effect, Reconnect)]
        return [effect for effect in effects if not isinstance(effect, Reconnect)] + again[:1]

    def _named(self, group_ids: list[str]) -> Iterator[Stream]:
        for group_id in group_ids:
            if (stream := self._streams.get(group_id)) is not None:
                yield stream

    # Private: requests

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _ask(self, streams: list[Stream], now_ms: int) -> list[ProtocolEffect]:
        """Subscribe to groups, with the position of each that has one."""
        effects: list[ProtocolEffect] = []
        for start in range(0, len(streams), GROUPS_PER_FRAME):
            some = streams[start : start + GROUPS_PER_FRAME]
            since: dict[str, Any] = {}
            for stream in some:
                stream.step(Word.ASK)
                at = stream.position
                stream.asked_since = at is not None
                if at is not None:
                    since[stream.id] = {"seq": at.seq, "hash": at.hash} if at.seq and at.hash else at.seq
            request = f"s{self._next()}"
            ids = [stream.id for stream in some]
            self._asked[request] = ids
            effects.append(
                self._send("subscribe", {"group_ids": ids, **({"since": since} if since else {})}, now_ms, id_=request)
            )
        return effects

    def _send(self, type_: str, data: dict[str, Any], now_ms: int, *, id_: str | None = None) -> Send:
        frame: dict[str, Any] = {"type": type_, "data": data, "timestamp": now_ms}
        if id_ is not None:
            frame["id"] = id_
        return Send(msgspec.json.encode(frame).decode())


def _ephemeral(frame: Frame) -> list[ProtocolEffect]:
    if frame.type == "typing_indicator":
        typing = msgspec.json.decode(frame.data, type=wire.TypingIndicator)
        return [Notify(Typing(data=typing, server_timestamp=frame.server_timestamp))]
    if frame.type == wire.KeysLow.kind:
        return [Notify(KeysLow(data=msgspec.json.decode(frame.data, type=wire.KeysLow)))]
    if frame.type == wire.StateChanged.kind:
        return [Notify(DeviceStateChanged(data=msgspec.json.decode(frame.data, type=wire.StateChanged)))]
    unnumbered = Unnumbered(type=frame.type, data=decode_object(frame.data), server_timestamp=frame.server_timestamp)
    return [Notify(unnumbered)]


def _life_s(expires_at: object, server_timestamp: int) -> float | None:
    """Return how long a token holds, by the server's clock alone; None when the server did not say, or no sense."""
    if not isinstance(expires_at, str) or not server_timestamp:
        return None
    try:
        life_s = datetime.fromisoformat(expires_at).timestamp() - server_timestamp / 1_000
    except (ValueError, OverflowError):
        return None
    return life_s if life_s > 0 else None
