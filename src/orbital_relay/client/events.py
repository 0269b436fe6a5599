"""
The items of a subscription: typed events, and the marks between them (caught up, reset).

Durable events are tagged structs, so `match` distinguishes them:

    match event:
        case NewThread(data=thread):
            print(thread.author_username, "opened", thread.thread_id)
        case Reset(seq=seq):
            print("some events are gone; reload, then continue after", seq)
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec

from orbital_relay import wire

MAX_SEQ: Final = 2**53 - 1
"""The largest integer that every client can hold exactly (RFC 8259 §6)."""


class Position(msgspec.Struct, frozen=True):
    """
    Where a reader is in a group's log.

    ValueError if `seq` is not a whole number from 0 to 2^53 - 1, or `hash` is not text: a position that was read from
    somewhere else, such as a file or a query string, may be anything.

    Attributes:
        seq: Number of the last event it has; 0 before the first.
        hash: Hash of that event's frame, so that the server can check whether its log is still the same; None when
            the reader does not know it.
    """

    seq: int
    hash: str | None = None

    def __post_init__(self) -> None:
        if type(self.seq) is not int or not 0 <= self.seq <= MAX_SEQ:
            raise ValueError(f"A position is a whole number from 0 to 2^53 - 1, not {self.seq!r:.80}.")
        if self.hash is not None and type(self.hash) is not str:
            raise ValueError(f"A position's hash is text or None, not {self.hash!r:.80}.")


class Durable(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """
    One numbered event of a group.

    Attributes:
        group_id: The group.
        seq: Its number in the group, from 1, without a hole.
        server_timestamp: The server's stamp, milliseconds since the epoch; it does not decrease along `seq`.
        prev: The hash of the frame before it, None when the server keeps no chain.
        hash: The hash of its own frame.
        frame: Its text byte for byte as the server stores it.
    """

    group_id: str
    seq: int
    server_timestamp: int
    prev: str | None
    hash: str
    frame: bytes

    @property
    def type(self) -> str:
        """The event's type on the wire."""
        return str(self.__struct_config__.tag)

    @property
    def position(self) -> Position:
        """Where a reader stands who has this event."""
        return Position(self.seq, self.hash)


class NewMessage(Durable, frozen=True, kw_only=True, tag="new_message"):
    """A Signal Protocol envelope was posted."""

    data: wire.NewMessage


class NewThread(Durable, frozen=True, kw_only=True, tag="new_thread"):
    """A thread was opened."""

    data: wire.NewThread


class NewReply(Durable, frozen=True, kw_only=True, tag="new_reply"):
    """A reply was written."""

    data: wire.NewReply


class NewAnnotation(Durable, frozen=True, kw_only=True, tag="new_annotation"):
    """A thread, a reply or a medium was annotated: a reaction, an edit, as the clients agree."""

    data: wire.NewAnnotation


class MediaUploaded(Durable, frozen=True, kw_only=True, tag="media_uploaded"):
    """A medium is there, whole, until its `expires_at`."""

    data: wire.MediaUploaded


class MediaExpired(Durable, frozen=True, kw_only=True, tag="media_expired"):
    """The server no longer has a medium's bytes."""

    data: wire.MediaExpired


class Deleted(Durable, frozen=True, kw_only=True, tag="deleted"):
    """A message, a reply, or a thread with all that was in it, was deleted: forget what is stored of it."""

    data: wire.Deleted


class MemberJoined(Durable, frozen=True, kw_only=True, tag="member_joined"):
    """Somebody is in the group now."""

    data: wire.MemberJoined


class MemberLeft(Durable, frozen=True, kw_only=True, tag="member_left"):
    """Somebody is no longer in the group."""

    data: wire.MemberLeft


class RoleChanged(Durable, frozen=True, kw_only=True, tag="role_changed"):
    """The group's founder made a member an administrator of it, or a plain member again."""

    data: wire.RoleChanged


class IdentityChanged(Durable, frozen=True, kw_only=True, tag="identity_changed"):
    """A member's device was added or removed, or has another identity key."""

    data: wire.IdentityChanged


class NewKeys(Durable, frozen=True, kw_only=True, tag="new_keys"):
    """An envelope with keys for devices of the group was posted."""

    data: wire.NewKeys


class NewRecord(Durable, frozen=True, kw_only=True, tag="new_record"):
    """A signed record of the group's roster was posted."""

    data: wire.NewRecord


class UnknownEvent(Durable, frozen=True, kw_only=True, tag=None, tag_field=None):
    """
    A durable event that this version does not know, or whose data it cannot read.

    Attributes:
        kind: Its type on the wire.
        data: What came, as plain objects.
    """

    kind: str
    data: dict[str, Any]

    @property
    def type(self) -> str:
        """The event's type on the wire."""
        return self.kind


Event = (
    NewMessage
    | NewThread
    | NewReply
    | NewAnnotation
    | MediaUploaded
    | MediaExpired
    | MemberJoined
    | MemberLeft
    | IdentityChanged
    | NewKeys
    | NewRecord
    | RoleChanged
    | Deleted
    | UnknownEvent
)
"""A durable event."""


class ResetReason(Enum):
    """Why a position could not be resumed."""

    GONE = "gone"
    """Some events after it are no longer kept, or the log is another one than the reader knew."""
    AHEAD = "ahead"
    """The position is beyond the end of the log: the server's log is older than what the reader saw."""
    MISSING = "missing"
    """The log has a hole: the server keeps later events and does not hand these over."""


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """
    The events between two positions are no longer kept: load the state again, then continue.

    Attributes:
        group_id: The group.
        last_seq: Number of the last event that was delivered.
        seq: The events that follow are those after this number.
        reason: Why.
    """

    group_id: str
    last_seq: int
    seq: int
    reason: ResetReason

    @property
    def type(self) -> str:
        """`reset`: a name beside the events' own."""
        return "reset"


class CaughtUp(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that was missed is delivered; what follows happens now.

    Attributes:
        group_id: The group.
        seq: Number of the last event delivered.
    """

    group_id: str
    seq: int

    @property
    def type(self) -> str:
        """`caught_up`: a name beside the events' own."""
        return "caught_up"


class Typing(msgspec.Struct, frozen=True, kw_only=True):
    """
    A user started or stopped typing in a thread.

    Attributes:
        data: Who and where.
        server_timestamp: The server's stamp, milliseconds since the epoch; 0 when it gave none.
    """

    data: wire.TypingIndicator
    server_timestamp: int


class KeysLow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A device of the user offers few one-time keys: it should publish more.

    Attributes:
        data: The device, and how many keys of each kind are left.
    """

    data: wire.KeysLow


class DeviceStateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """
    A device of the user stored a new state for a group: read it with `member_state`.

    Attributes:
        data: The group.
    """

    data: wire.StateChanged


class Unnumbered(msgspec.Struct, frozen=True, kw_only=True):
    """
    An event without a number, of a server that keeps no log.

    Attributes:
        type: Its type on the wire.
        data: What came, as plain objects.
        server_timestamp: The server's stamp, milliseconds since the epoch; 0 when it gave none.
    """

    type: str
    data: dict[str, Any]
    server_timestamp: int


class State(Enum):
    """What the connection is doing."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """
    The connection is in another state.

    Attributes:
        state: The new one. CLOSED is permanent; a connection that was lost is CONNECTING again.
        code: The WebSocket close code, or the HTTP status of a refused handshake, that led here; None when none did.
        reason: A sentence; empty when the connection is open.
        retry_in_ms: How long until the next attempt, from when this was reported; None when none is planned.
    """

    state: State
    code: int | None = None
    reason: str = ""
    retry_in_ms: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """
    Something was wrong that the client could live with: a bad frame, an `error` of the server, a callback that raised.

    Attributes:
        code: For programs: `BAD_FRAME`, `CALLBACK`, `STORE`, `TOKEN`, `OUTBOX`, `SUBSCRIPTION`, `NO_ANSWER`, `MISSING`;
            with `verify` also `GAP`, `REPEATED`, `FALSE_RESET`, `FALSE_GONE` and `UNPROVEN_END`; or the server's own.
        message: A sentence.
        details: What the server said with it.
    """

    code: str
    message: str
    details: dict[str, Any] = {}


StreamItem = Event | Reset | CaughtUp
"""What a subscription yields; CaughtUp only when it was asked for."""

Signal = StateChange | Typing | KeysLow | DeviceStateChanged | Unnumbered | Problem | Reset | CaughtUp
"""What `Orbital.on` can subscribe to."""
