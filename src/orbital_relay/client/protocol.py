"""
One client's conversation with the server: frames in, effects out.

Nothing here waits, dials or knows the time: `orbital.py` carries the effects out. The rules of order and of the
chain are those of `orbital_relay.core`, which the server runs too.

The way of one group:

    OFF    --auth_success-->          ASKED    `subscribe` is sent, with the position when there is one
    ASKED  --subscribed-->            ON       events are offered to the cursor
    ASKED  --error naming it-->       (ended)
    ON     --unsubscribed-->          (ended)
    any    --the connection is lost-> OFF

Whatever keeps an event from being taken at once (a gap, a reader whose buffer is full) makes the group *behind*: it is
read from the log over REST until it has caught up. So there is one way back, and no buffer grows beyond its bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from orbital_relay import wire
from orbital_relay.client.errors import ChainBroken, ClientError, NotAMember, SubscribeRefused
from orbital_relay.client.events import (
    CaughtUp,
    Event,
    Item,
    MediaExpired,
    MediaUploaded,
    MemberJoined,
    MemberLeft,
    NewMessage,
    NewReply,
    NewThread,
    Position,
    Problem,
    Reset,
    ResetReason,
    Signal,
    Typing,
    UnknownEvent,
    Unnumbered,
)
from orbital_relay.core.backoff import BACKOFF, Backoff
from orbital_relay.core.chain import HASH_LENGTH, Chain, digest, first_prev
from orbital_relay.core.cursor import Cursor, Verdict

MAX_SEQ: Final = 2**53 - 1
"""The largest integer that every client can hold exactly (RFC 8259 §6)."""

GROUPS_PER_FRAME: Final = 100
"""A position is about 150 bytes in a `subscribe`; a hundred stay far below the server's 64 KiB a frame."""

PAGE_LIMIT: Final = 1_000
"""The most events that the server gives in one answer."""

EMPTY_PAGE_PAUSE_MS: Final = 1_000
"""Wait before asking again for events that were announced and not yet found in the log."""


# Chapter: reading one frame (spec/vectors/frames.json)


class Makes(Enum):
    """What a frame is for a client."""

    EVENT = "event"
    EPHEMERAL = "ephemeral"
    PING = "ping"
    CONTROL = "control"
    IGNORED = "ignored"


class Frame(msgspec.Struct, frozen=True):
    """A frame taken apart; `data` is the text of its member. `seq`, `group_id` and `prev` belong to a durable event."""

    makes: Makes
    type: str
    data: bytes
    server_timestamp: int = 0
    group_id: str = ""
    seq: int = 0
    prev: str | None = None
    reply_to: str | int | None = None


class BadFrame(ClientError):
    """What came is not a frame; the text says why."""


class _Envelope(msgspec.Struct):
    """The members of any frame of the server, as loosely as the protocol allows."""

    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    server_timestamp: Any = 0
    group_id: Any = None
    seq: Any = msgspec.UNSET
    prev: Any = msgspec.UNSET
    reply_to: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_HASH: Final = re.compile(rf"[A-Za-z0-9_-]{{{HASH_LENGTH}}}")

_CONTROL: Final = frozenset(
    {"auth_success", "subscribed", "unsubscribed", "error", "token_expiring", "authenticated", "posted"}
)
_EPHEMERAL: Final = frozenset({"typing_indicator", *wire.EVENTS})


def read_frame(text: bytes) -> Frame:
    """
    Take a text frame of the server apart.

    Args:
        text: The UTF-8 text, to the letter.

    Raises:
        BadFrame: If it is not a frame, as spec/vectors/README.md defines it.
    """
    try:
        envelope = _decode_envelope(text)
        data = bytes(envelope.data)
        _decode_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadFrame(f"This is not a frame: {exc}.") from exc
    if not envelope.type:
        raise BadFrame("The frame's type is empty.")
    stamp = envelope.server_timestamp if isinstance(envelope.server_timestamp, int) else 0
    if envelope.seq is not msgspec.UNSET:
        _check_durable(envelope)
        prev = None if envelope.prev is msgspec.UNSET else envelope.prev
        return Frame(Makes.EVENT, envelope.type, data, stamp, envelope.group_id, envelope.seq, prev)
    if envelope.type == "ping":
        makes = Makes.PING
    elif envelope.type in _CONTROL:
        makes = Makes.CONTROL
    elif envelope.type in _EPHEMERAL:
        makes = Makes.EPHEMERAL
    else:
        makes = Makes.IGNORED
    return Frame(makes, envelope.type, data, stamp, reply_to=envelope.reply_to)


def _check_durable(envelope: _Envelope) -> None:
    """Refuse a durable frame whose place in the order cannot be read."""
    if type(envelope.seq) is not int or not 1 <= envelope.seq <= MAX_SEQ:
        raise BadFrame("The frame's seq is not an integer from 1 to 2^53 - 1.")
    if not isinstance(envelope.group_id, str) or not envelope.group_id:
        raise BadFrame("The frame has a seq and no group_id.")
    if envelope.prev is not msgspec.UNSET and (
        not isinstance(envelope.prev, str) or _HASH.fullmatch(envelope.prev) is None
    ):
        raise BadFrame("The frame's prev is not a hash.")


_CLASSES: Final[dict[str, tuple[type[Any], msgspec.json.Decoder[Any]]]] = {
    wire.NewMessage.kind: (NewMessage, msgspec.json.Decoder(wire.NewMessage)),
    wire.NewThread.kind: (NewThread, msgspec.json.Decoder(wire.NewThread)),
    wire.NewReply.kind: (NewReply, msgspec.json.Decoder(wire.NewReply)),
    wire.MediaUploaded.kind: (MediaUploaded, msgspec.json.Decoder(wire.MediaUploaded)),
    wire.MediaExpired.kind: (MediaExpired, msgspec.json.Decoder(wire.MediaExpired)),
    wire.MemberJoined.kind: (MemberJoined, msgspec.json.Decoder(wire.MemberJoined)),
    wire.MemberLeft.kind: (MemberLeft, msgspec.json.Decoder(wire.MemberLeft)),
}


def event_of(frame: Frame, text: bytes) -> Event:
    """
    Make the typed event of a durable frame.

    One of a type of the future, or with data that this version cannot read, is an UnknownEvent: it keeps its place.

    Args:
        frame: What `read_frame` made of it.
        text: The frame's text, to the letter.
    """
    known = _CLASSES.get(frame.type)
    hash_ = digest(text)
    if known is not None:
        cls, decoder = known
        try:
            event: Event = cls(
                group_id=frame.group_id,
                seq=frame.seq,
                server_timestamp=frame.server_timestamp,
                prev=frame.prev,
                hash=hash_,
                frame=text,
                data=decoder.decode(frame.data),
            )
        except msgspec.ValidationError:
            pass
        else:
            return event
    return UnknownEvent(
        group_id=frame.group_id,
        seq=frame.seq,
        server_timestamp=frame.server_timestamp,
        prev=frame.prev,
        hash=hash_,
        frame=text,
        kind=frame.type,
        data=_decode_object(frame.data),
    )


# Chapter: effects


class Send(msgspec.Struct, frozen=True):
    """Write this text frame."""

    text: str


class Opened(msgspec.Struct, frozen=True):
    """The server knows us. `heartbeat_s` is the time between its pings."""

    user_id: str
    username: str
    session_id: str
    heartbeat_s: float


class Subscribed(msgspec.Struct, frozen=True):
    """The server answered for this group; `seq` is the log's end now, None when it did not say."""

    group_id: str
    seq: int | None


class Deliver(msgspec.Struct, frozen=True):
    """Put this into the group's buffer."""

    group_id: str
    item: Item


class Fetch(msgspec.Struct, frozen=True):
    """Read the log after `after`, at most `limit` events, after a pause; the answer names `ticket`."""

    group_id: str
    after: int
    limit: int
    ticket: int
    pause_ms: int = 0


class Ended(msgspec.Struct, frozen=True):
    """The group's stream is over: because of `error`, or because the user is no member any more."""

    group_id: str
    error: ClientError | None
    reason: str


class Tell(msgspec.Struct, frozen=True):
    """Tell whoever listens to signals."""

    signal: Signal


class RenewToken(msgspec.Struct, frozen=True):
    """The token ends soon: get a newer one and send it."""


class Reconnect(msgspec.Struct, frozen=True):
    """The conversation cannot go on like this: drop the connection and come back."""

    reason: str


Effect = Send | Opened | Subscribed | Deliver | Fetch | Ended | Tell | RenewToken | Reconnect


# Chapter: the conversation


class _Standing(Enum):
    """What the server knows of our interest in a group, on this connection."""

    OFF = "off"
    ASKED = "asked"
    ON = "on"


@dataclass(slots=True)
class _Group:
    """One group that is listened to."""

    id: str
    cursor: Cursor | None
    chain: Chain
    capacity: int
    standing: _Standing = _Standing.OFF
    asked_since: bool = False
    heard: int = 0
    """The highest number that is known to exist."""
    behind: bool = False
    ticket: int = 0
    """Names the fetch under way; 0 when there is none."""
    waiting: int = 0
    """Items delivered and not yet taken by the reader."""
    target: int | None = None
    """The number at which the group counts as caught up; None once it did."""

    @property
    def room(self) -> int:
        return self.capacity - self.waiting


class _SubscribedData(msgspec.Struct):
    group_ids: list[str]
    groups: dict[str, wire.GroupState] = {}


class _UnsubscribedData(msgspec.Struct):
    group_ids: list[str]
    reason: str = "requested"


class _AuthSuccessData(msgspec.Struct):
    user_id: str
    username: str
    session_id: str = ""
    heartbeat_seconds: float = 30


class _ErrorData(msgspec.Struct):
    code: str = "ERROR"
    message: str = ""
    group_ids: list[str] = []


class Conversation:
    """
    What a client says, hears and remembers, over one connection after another.

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
        self._groups: dict[str, _Group] = {}
        self._open = False
        self._number = 0
        self._asked: dict[str, list[str]] = {}

    # Public: facts

    @property
    def is_open(self) -> bool:
        """Whether the server has greeted us on the present connection."""
        return self._open

    def position(self, group_id: str) -> Position | None:
        """Give the position after the last event delivered; None when it is not known yet or the group is not ours."""
        group = self._groups.get(group_id)
        if group is None or group.cursor is None:
            return None
        return Position(group.cursor.last, group.chain.prev if group.cursor.last else None)

    # Public: what the program wants

    def subscribe(self, group_id: str, since: Position | None, *, now_ms: int) -> list[Effect]:
        """
        Listen to a group, from after `since`, or from now when it is None.

        Args:
            group_id: The group; not listened to at the moment.
            since: The reader's position.
            now_ms: The wall clock, milliseconds since the epoch.
        """
        if group_id in self._groups:
            raise AssertionError("subscribe() is called once a group; the connection refuses the second")
        if since is None:
            group = _Group(group_id, None, Chain(), self._capacity)
        else:
            prev = first_prev(group_id) if since.seq == 0 else since.hash
            group = _Group(group_id, Cursor(since.seq), Chain(prev), self._capacity)
            group.heard = since.seq
        self._groups[group_id] = group
        return self._ask([group], now_ms) if self._open else []

    def unsubscribe(self, group_id: str, *, now_ms: int) -> list[Effect]:
        """Stop listening to a group; nothing more of it is delivered."""
        group = self._groups.pop(group_id, None)
        if group is None or not self._open or group.standing is _Standing.OFF:
            return []
        return [self._send("unsubscribe", {"group_ids": [group_id]}, now_ms)]

    def typing(self, thread_id: str, is_typing: bool, *, now_ms: int) -> list[Effect]:  # noqa: FBT001 - the frame's own field
        """Say that the user writes or stopped; nothing when there is no connection, since it would be old news."""
        if not self._open:
            return []
        return [self._send("typing_indicator", {"thread_id": thread_id, "is_typing": is_typing}, now_ms)]

    def authenticate(self, token: str, *, now_ms: int) -> list[Effect]:
        """Present a newer token on the open connection."""
        return [self._send("authenticate", {"token": token}, now_ms)] if self._open else []

    def taken(self, group_id: str, count: int = 1) -> list[Effect]:
        """Note that the reader took `count` items out of the group's buffer."""
        group = self._groups.get(group_id)
        if group is None:
            return []
        group.waiting = max(0, group.waiting - count)
        effects = self._catch_up(group)
        return effects + self._fetch(group) if group.behind else effects

    # Public: what the connection tells

    def lost(self) -> None:
        """Note that the connection is gone; what was wanted is asked for again on the next one."""
        self._open = False
        self._asked.clear()
        for group in self._groups.values():
            group.standing = _Standing.OFF

    def received(self, text: bytes, *, now_ms: int) -> list[Effect]:
        """
        Hear a text frame.

        Args:
            text: Its UTF-8 text, to the letter.
            now_ms: The wall clock, milliseconds since the epoch.
        """
        try:
            frame = read_frame(text)
            match frame.makes:
                case Makes.EVENT:
                    return self._event(frame, text)
                case Makes.PING:
                    return [self._send("pong", {"client_time": now_ms}, now_ms)]
                case Makes.CONTROL:
                    return self._control(frame, now_ms)
                case Makes.EPHEMERAL:
                    return self._ephemeral(frame)
                case Makes.IGNORED:
                    return []
        except (BadFrame, msgspec.ValidationError) as exc:
            return [Tell(Problem(code="BAD_FRAME", message=str(exc)))]

    # Public: what the log tells

    def page(self, group_id: str, ticket: int, frames: list[bytes]) -> list[Effect]:
        """
        Hear the answer to a Fetch.

        Args:
            group_id: The group.
            ticket: The Fetch's ticket; an answer to an older one changes nothing.
            frames: The stored frames after the number asked for, in order.
        """
        group = self._groups.get(group_id)
        if group is None or group.ticket != ticket:
            return []
        group.ticket = 0
        before = group.cursor.last if group.cursor else 0
        effects: list[Effect] = []
        for text in frames:
            if group_id not in self._groups:
                return effects
            try:
                frame = read_frame(text)
            except BadFrame as exc:
                effects.append(Tell(Problem(code="BAD_FRAME", message=str(exc))))
                continue
            if frame.makes is Makes.EVENT and frame.group_id == group_id:
                effects += self._offer(group, frame, text)
        if group_id not in self._groups or not group.behind:
            return effects
        moved = group.cursor is not None and group.cursor.last > before
        return effects + self._fetch(group, pause_ms=0 if moved else EMPTY_PAGE_PAUSE_MS)

    def page_gone(self, group_id: str, ticket: int, oldest_seq: int) -> list[Effect]:
        """Hear that the log no longer keeps what a Fetch asked for, and begins at `oldest_seq`."""
        group = self._groups.get(group_id)
        if group is None or group.ticket != ticket:
            return []
        group.ticket = 0
        seq = max(0, oldest_seq - 1)
        effects = self._reset(group, seq, ResetReason.GONE)
        group.behind = seq < group.heard
        return effects + (self._fetch(group) if group.behind else self._catch_up(group))

    def page_refused(self, group_id: str, ticket: int, error: ClientError) -> list[Effect]:
        """Hear that a Fetch will never be answered; the group's stream ends with `error`."""
        group = self._groups.get(group_id)
        if group is None or group.ticket != ticket:
            return []
        return self._end(group, error, "refused")

    # Private: durable events

    def _event(self, frame: Frame, text: bytes) -> list[Effect]:
        group = self._groups.get(frame.group_id)
        # Before `subscribed` nothing can follow: this is left from an earlier request, and the answer's seq covers it.
        if group is None or group.standing is not _Standing.ON:
            return []
        return self._offer(group, frame, text)

    def _offer(self, group: _Group, frame: Frame, text: bytes) -> list[Effect]:
        """Offer an event to the group's cursor; deliver it when it is the next one and there is room."""
        group.heard = max(group.heard, frame.seq)
        if group.cursor is None:  # A server that did not tell where the log stands: this is where.
            group.cursor = Cursor(frame.seq - 1)
        if group.room <= 0 and frame.seq > group.cursor.last:
            group.behind = True
            return []
        if self._verify and frame.seq == group.cursor.last + 1 and not group.chain.offer(text):
            return self._end(group, ChainBroken(group.id, frame.seq), "chain")
        match group.cursor.offer(frame.seq):
            case Verdict.NEXT:
                event = event_of(frame, text)
                group.chain.prev = event.hash
                group.waiting += 1
                return [Deliver(group.id, event), *self._catch_up(group)]
            case Verdict.SEEN:
                return []
            case Verdict.GAP:
                group.behind = True
                return self._fetch(group)

    def _catch_up(self, group: _Group) -> list[Effect]:
        """Say it once when the last missed event is delivered."""
        last = group.cursor.last if group.cursor else 0
        if last >= group.heard:
            group.behind = False
        if group.target is None or last < group.target or group.room <= 0:
            return []
        group.target = None
        group.waiting += 1
        return [Deliver(group.id, CaughtUp(group_id=group.id, seq=last))]

    def _fetch(self, group: _Group, *, pause_ms: int = 0) -> list[Effect]:
        """
        Read the log from the position on, unless that is under way.

        Not before half of the buffer is free, so that a slow reader costs one request for half a buffer and not one
        for each event; `taken` asks again.
        """
        if group.ticket or group.waiting > group.capacity // 2 or group.cursor is None:
            return []
        self._number += 1
        group.ticket = self._number
        return [Fetch(group.id, group.cursor.last, min(PAGE_LIMIT, group.room), group.ticket, pause_ms)]

    def _reset(self, group: _Group, seq: int, reason: ResetReason) -> list[Effect]:
        """Give up the position and go on after `seq`."""
        last = group.cursor.last if group.cursor else 0
        group.cursor = Cursor(seq)
        group.chain = Chain(first_prev(group.id) if seq == 0 else None)
        group.behind = False
        group.ticket = 0
        group.waiting += 1
        return [Deliver(group.id, Reset(group_id=group.id, last_seq=last, seq=seq, reason=reason))]

    def _end(self, group: _Group, error: ClientError | None, reason: str) -> list[Effect]:
        del self._groups[group.id]
        return [Ended(group.id, error, reason)]

    # Private: the rest of the conversation

    def _control(self, frame: Frame, now_ms: int) -> list[Effect]:
        match frame.type:
            case "auth_success":
                hello = msgspec.json.decode(frame.data, type=_AuthSuccessData)
                self._open = True
                opened = Opened(hello.user_id, hello.username, hello.session_id, hello.heartbeat_seconds)
                return [opened, *self._ask(list(self._groups.values()), now_ms)]
            case "subscribed":
                return self._subscribed(msgspec.json.decode(frame.data, type=_SubscribedData), frame.reply_to)
            case "unsubscribed":
                gone = msgspec.json.decode(frame.data, type=_UnsubscribedData)
                if gone.reason == "requested":
                    return []
                return [
                    effect
                    for group_id in gone.group_ids
                    if (group := self._groups.get(group_id)) is not None
                    for effect in self._end(group, None, gone.reason)
                ]
            case "error":
                return self._error(frame)
            case "token_expiring":
                return [RenewToken()]
            case _:  # `authenticated` and `posted` ask for nothing.
                return []

    def _subscribed(self, data: _SubscribedData, reply_to: str | int | None) -> list[Effect]:
        if isinstance(reply_to, str):
            self._asked.pop(reply_to, None)
        effects: list[Effect] = []
        for group_id in data.group_ids:
            group = self._groups.get(group_id)
            state = data.groups.get(group_id)
            if group is None or group.standing is _Standing.OFF:
                continue
            if group.standing is _Standing.ON:
                effects += self._skipped(group, state)
                continue
            group.standing = _Standing.ON
            effects.append(Subscribed(group_id, None if state is None else state.seq))
            if state is None:
                continue
            if group.cursor is None:
                group.cursor = Cursor(state.seq)
                group.chain = Chain(first_prev(group_id) if state.seq == 0 else None)
            group.target = state.seq
            if group.asked_since and state.recovered is False:
                ahead = group.cursor.last > state.seq
                effects += self._reset(group, state.seq, ResetReason.AHEAD if ahead else ResetReason.GONE)
                group.heard = state.seq
            group.heard = max(group.heard, state.seq)
            effects += self._catch_up(group)
        return effects

    def _skipped(self, group: _Group, state: wire.GroupState | None) -> list[Effect]:
        """Hear, unasked, that the server could not hand on some events and goes on after `state.seq`."""
        last = group.cursor.last if group.cursor else 0
        if state is None or state.recovered is not False or last >= state.seq:
            return []
        effects = self._reset(group, state.seq, ResetReason.GONE)
        group.heard = state.seq
        return effects + self._catch_up(group)

    def _error(self, frame: Frame) -> list[Effect]:
        data = msgspec.json.decode(frame.data, type=_ErrorData)
        details = {key: value for key, value in _decode_object(frame.data).items() if key not in {"code", "message"}}
        effects: list[Effect] = [Tell(Problem(code=data.code, message=data.message, details=details))]
        asked = self._asked.get(frame.reply_to, []) if isinstance(frame.reply_to, str) else []
        if not asked and not (data.code == "FORBIDDEN" and data.group_ids):
            return effects
        if data.code not in {"FORBIDDEN", "VALIDATION_ERROR", "NOT_FOUND"}:
            # The database is away, or too many frames: the next connection asks again, after a pause.
            return [*effects, Reconnect(data.message or data.code)]
        for group_id in data.group_ids or asked:
            group = self._groups.get(group_id)
            if group is not None and group.standing is _Standing.ASKED:
                error = (
                    SubscribeRefused(group_id, data.code, data.message)
                    if data.code == "VALIDATION_ERROR"
                    else NotAMember(group_id)
                )
                effects += self._end(group, error, "refused")
        return effects

    def _ephemeral(self, frame: Frame) -> list[Effect]:
        if frame.type == "typing_indicator":
            typing = msgspec.json.decode(frame.data, type=wire.TypingIndicator)
            return [Tell(Typing(data=typing, server_timestamp=frame.server_timestamp))]
        unnumbered = Unnumbered(
            type=frame.type, data=_decode_object(frame.data), server_timestamp=frame.server_timestamp
        )
        return [Tell(unnumbered)]

    def _ask(self, groups: list[_Group], now_ms: int) -> list[Effect]:
        """Ask for groups, with the position of each that has one."""
        effects: list[Effect] = []
        for start in range(0, len(groups), GROUPS_PER_FRAME):
            some = groups[start : start + GROUPS_PER_FRAME]
            since: dict[str, Any] = {}
            for group in some:
                group.standing = _Standing.ASKED
                group.asked_since = group.cursor is not None
                if group.cursor is not None:
                    seq, hash_ = group.cursor.last, group.chain.prev
                    since[group.id] = {"seq": seq, "hash": hash_} if seq and hash_ else seq
            self._number += 1
            request = f"s{self._number}"
            ids = [group.id for group in some]
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


# Chapter: when to dial


FINAL_STATUS: Final = frozenset({301, 308, 400, 401, 403, 404, 405, 426})
"""Answers to a handshake that another try would get again."""

POLICY_VIOLATION: Final = 1008
"""RFC 6455 §7.4.1; the server's word for a token that ended, and for a client that will not behave."""

IDLE_SLACK_S: Final = 10.0
"""How late a ping may be before the line counts as dead."""


@dataclass(slots=True)
class ReconnectPolicy:
    """
    When to dial next, and when never again. All times are milliseconds of a clock that does not step back.

    A line never dials.
    """

    backoff: Backoff = BACKOFF
    failures: int = 0
    not_before_ms: int = 0
    attempts_ms: list[int] = field(default_factory=list)

    def dialed(self, *, now_ms: int) -> None:
        """Note that an attempt begins."""
        self.attempts_ms.append(now_ms)
        del self.attempts_ms[: -self.backoff.attempts]

    def opened(self) -> None:
        """Note that the server has greeted us."""
        self.failures = 0
        self.not_before_ms = 0

    def failed(self, *, now_ms: int, random: float, opened: bool, retry_after_ms: int = 0) -> int:
        """
        Note that an attempt failed or an open connection was lost.

        Args:
            now_ms: The time now.
            random: A number in [0, 1), new for each call.
            opened: Whether the server had greeted us; then no attempt has failed yet.
            retry_after_ms: What the server asked for; 0 when it did not.

        Returns:
            Milliseconds to wait before the next attempt.
        """
        self.failures = 0 if opened else self.failures + 1
        self.not_before_ms = now_ms + retry_after_ms
        return self.backoff.delay_ms(
            self.failures, random=random, now_ms=now_ms, earlier_ms=self.attempts_ms, retry_after_ms=retry_after_ms
        )

    def wake(self, *, now_ms: int) -> int:
        """Tell how long to wait when there is a reason to try at once."""
        return self.backoff.wake_ms(
            now_ms=now_ms, earlier_ms=self.attempts_ms, retry_after_ms=max(0, self.not_before_ms - now_ms)
        )


def idle_limit_s(heartbeat_s: float, slack_s: float = IDLE_SLACK_S) -> float:
    """Tell after how long without a frame a connection is dead: one heartbeat, and the slack."""
    return heartbeat_s + slack_s


# Chapter: typing

TYPING_REPEAT_MS: Final = 3_000
"""Twice within the 6 s after which the server says the stop itself."""

TYPING_STOP_MS: Final = 5_000
"""Silence after which we say the stop ourselves."""


@dataclass(slots=True)
class TypingThrottle:
    """
    How often to say that the user writes in one thread.

    A throttle never sends; it answers whether to.
    """

    said_ms: int | None = None
    """When the last `true` was sent; None when the last word was a stop."""
    called_ms: int = 0

    def start(self, *, now_ms: int) -> bool:
        """Note a keystroke; True when `is_typing: true` is due."""
        self.called_ms = now_ms
        if self.said_ms is not None and now_ms - self.said_ms < TYPING_REPEAT_MS:
            return False
        self.said_ms = now_ms
        return True

    def stop(self) -> bool:
        """Note that the user stopped; True when `is_typing: false` is due."""
        due = self.said_ms is not None
        self.said_ms = None
        return due

    def silent_in_ms(self, *, now_ms: int) -> int:
        """Tell in how many milliseconds the stop is due when no keystroke comes; 0 when it is due now."""
        return max(0, self.called_ms + TYPING_STOP_MS - now_ms)
