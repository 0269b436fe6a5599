"""The protocol as a state machine, no I/O: heartbeat, ping timeout, rate limit of frames, typing timeout, strikes."""

from __future__ import annotations

from math import inf
from sys import float_info
from typing import Any, Final, assert_never

import msgspec

from orbital_relay import wire
from orbital_relay.core.bucket import Bucket
from orbital_relay.core.session_states import TRANSITIONS, Cause, SessionState
from orbital_relay.errors import OrbitalError, TooManyRequests, Unauthorized, ValidationFailed
from orbital_relay.model import Principal, Resume

STRIKES: Final = 10
"""Bad frames in a row that end the connection with 1008."""

MISSED_PINGS: Final = 3
"""Pings without an answer after which the connection is cut."""

EXPIRY_NOTICE_S: Final = 60.0
"""How long before its token ends a client gets `token_expiring`, in seconds."""

TYPING_S: Final = 6.0
"""Silence after which a user no longer counts as typing, in seconds."""

TYPING_THREADS: Final = 8
"""Threads in which one connection can be typing at once: a bound on memory; people have two hands."""

POLICY_VIOLATION: Final = 1008

_LAST_S: Final = float_info.max
"""Later than any silence that was announced, and before `inf`, which is when nothing was."""


# Effects: what the session wants done, in order.


class Say(msgspec.Struct, frozen=True):
    """Send a frame that is no event."""

    data: wire.ServerData
    reply_to: str | int | None = None


class Complain(msgspec.Struct, frozen=True):
    """Send an `error` frame."""

    code: str
    message: str
    details: dict[str, Any]
    reply_to: wire.ReplyTo = None


class AddSubscriptions(msgspec.Struct, frozen=True):
    """Subscribe the connection to groups, and answer `subscribed`."""

    group_ids: list[str]
    since: dict[str, Resume]
    reply_to: str | int | None


class RemoveSubscriptions(msgspec.Struct, frozen=True):
    """Unsubscribe it from groups, and answer `unsubscribed`."""

    group_ids: list[str]
    reply_to: str | int | None


class StorePost(msgspec.Struct, frozen=True):
    """Do what a POST does, and answer `posted`, in the order of the frames."""

    frame: wire.PostFrame

    @property
    def reply_to(self) -> str | int | None:
        """What the answer carries."""
        return self.frame.id


class Type(msgspec.Struct, frozen=True):
    """
    Notify the thread's group that the user types or stopped.

    The caller checks whether the user may, and then calls `typing_sent` or `typing_refused`.
    """

    thread_id: str
    is_typing: bool
    reply_to: str | int | None


class StopTyping(msgspec.Struct, frozen=True):
    """Notify the group of a thread, which was notified of typing, that the user stopped."""

    thread_id: str


class Verify(msgspec.Struct, frozen=True):
    """Verify a newer token, and pass it to `renewed` or the refusal to `not_renewed`."""

    token: str
    reply_to: str | int | None


class Beat(msgspec.Struct, frozen=True):
    """Send a ping."""


class CloseConnection(msgspec.Struct, frozen=True):
    """Close the connection with a code."""

    code: int
    reason: str


class AbortConnection(msgspec.Struct, frozen=True):
    """Abort the connection: the client no longer answers."""


class WakeAt(msgspec.Struct, frozen=True):
    """Call `wake` at this steady time, in seconds; it replaces a later time that was asked for before."""

    at_s: float


StoreEffect = AddSubscriptions | RemoveSubscriptions | StorePost | Type | Verify
"""Effects that may wait for the store; they are executed one at a time."""
SessionEffect = StoreEffect | Say | Complain | StopTyping | Beat | CloseConnection | AbortConnection | WakeAt


class Session:
    """
    What one client may do, and what each of its frames leads to.

    It returns `CloseConnection` or `AbortConnection` once, and no effects after that. Its caller keeps one timer for
    it, set by `WakeAt`. A session never holds a socket, and never reads a clock: `now_s` is monotonic, `wall_s` is the
    time of day, both in seconds.
    """

    __slots__ = (
        "_asked_s",
        "_bucket",
        "_grace",
        "_horizon_s",
        "_refused",
        "_strikes",
        "_typing",
        "_unanswered",
        "principal",
        "state",
    )

    def __init__(self, principal: Principal, *, frame_rate: float, now_s: float, heartbeat_s: float = 30) -> None:
        """
        Args:
            principal: The user that the token names.
            frame_rate: Frames a second that the client may send; a burst may be twice that.
            now_s: The current time.
            heartbeat_s: Time between two calls of `beat`, in seconds.
        """
        self.principal = principal
        self.state = SessionState.OPEN
        self._bucket = Bucket(rate=frame_rate, capacity=2 * frame_rate, now_s=now_s)
        self._grace = frame_rate
        self._refused = 0
        self._strikes = 0
        self._unanswered = 0
        # Few sessions need a timer for their token: `beat` looks again until the notice is near.
        self._horizon_s = 2 * heartbeat_s + 1
        # The time of the last WakeAt; infinite when none is outstanding.
        self._asked_s = inf
        # When each thread's silence is too long; infinite until its group was notified. None until the first
        # indicator: nearly all connections never send one.
        self._typing: dict[str, float] | None = None

    # Chapter: receiving

    def receive(self, text: bytes, *, now_s: float) -> list[SessionEffect]:
        """
        Take a text frame.

        Args:
            text: The frame, valid UTF-8.
            now_s: The current time.
        """
        if self.state is SessionState.ENDED:
            return []
        over = self._over_rate(text, now_s=now_s)
        if over is not None:
            return over
        try:
            frame = wire.decode(text)
            effects = self._act(frame)
        except ValidationFailed as refusal:
            effects = [_complain(refusal, reply_to=wire.id_of(text))]
            if self.struck():
                effects += self._end(Cause.BAD_FRAMES)
            return effects
        if not isinstance(frame, wire.PostFrame):
            # The use case checks a post's data.
            self.accepted()
        return effects

    def control(self, *, now_s: float) -> list[SessionEffect]:
        """Take a frame that is no message: it counts against the rate like any other."""
        return [] if self.state is SessionState.ENDED else self._over_rate(b"", now_s=now_s) or []

    def _over_rate(self, text: bytes, *, now_s: float) -> list[SessionEffect] | None:
        if self._bucket.take(now_s):
            self._refused = 0
            return None
        self._refused += 1
        if self._refused > self._grace:
            return self._end(Cause.TOO_MANY_FRAMES)
        if not text:
            return []
        refusal = TooManyRequests("That is more frames a second than this server accepts. Send more slowly.")
        return [_complain(refusal, reply_to=wire.id_of(text))]

    def struck(self) -> bool:
        """Count a bad frame; return whether it is one too many."""
        self._strikes += 1
        return self._strikes >= STRIKES

    def accepted(self) -> None:
        """Reset the count of bad frames: a good one has come."""
        self._strikes = 0

    def _act(self, frame: wire.ClientFrame) -> list[SessionEffect]:
        match frame:
            case wire.Pong():
                self._unanswered = 0
                return []
            case wire.Subscribe(data=data):
                return [AddSubscriptions(_unique(data.group_ids), _positions(data), frame.id)]
            case wire.Unsubscribe(data=data):
                return [RemoveSubscriptions(_unique(data.group_ids), frame.id)]
            case wire.TypingFrame(data=data):
                return self._type(data, frame.id)
            case wire.Authenticate(data=data):
                return [Verify(data.token, frame.id)]
            case wire.PostMessageFrame() | wire.PostThreadFrame() | wire.PostReplyFrame():
                return [StorePost(frame)]
            case _:
                assert_never(frame)

    def pong(self) -> None:
        """Take a WebSocket pong: it proves life as the JSON one does."""
        self._unanswered = 0

    # Chapter: typing

    def _type(self, data: wire.TypingData, reply_to: str | int | None) -> list[SessionEffect]:
        thread_id = wire.read_uuid(data.thread_id)
        if thread_id is None:
            raise ValidationFailed("data.thread_id must be a UUID with hyphens.", field="data.thread_id")
        typing = self._typing if self._typing is not None else {}
        self._typing = typing
        if data.is_typing:
            if thread_id not in typing and len(typing) >= TYPING_THREADS:
                return [
                    _complain(
                        TooManyRequests("There are typing indicators in too many threads at once."), reply_to=reply_to
                    )
                ]
            typing.setdefault(thread_id, inf)
        return [Type(thread_id, data.is_typing, reply_to)]

    def typing_sent(self, thread_id: str, *, is_typing: bool, now_s: float) -> list[SessionEffect]:
        """Note that a thread's group was notified: only a typing that was announced can stop."""
        if self._typing is None:
            return []
        if not is_typing:
            self._typing.pop(thread_id, None)
            return []
        self._typing[thread_id] = now_s + TYPING_S
        return self._wake_at(now_s + TYPING_S)

    def typing_refused(self, thread_id: str) -> None:
        """Forget a thread in which the user may not type, or that does not exist."""
        if self._typing is not None:
            self._typing.pop(thread_id, None)

    def _typing_stops(self, now_s: float) -> list[SessionEffect]:
        silent = [thread_id for thread_id, due_s in (self._typing or {}).items() if due_s <= now_s]
        return [self._stop(thread_id) for thread_id in silent]

    def _stop(self, thread_id: str) -> SessionEffect:
        self.typing_refused(thread_id)
        return StopTyping(thread_id)

    def closed(self) -> list[SessionEffect]:
        """End the session with its connection; return the stops of what its user typed."""
        self._move(Cause.CLOSED)
        return self._typing_stops(_LAST_S)

    # Chapter: time

    def opened(self, *, now_s: float, wall_s: float) -> list[SessionEffect]:
        """Start the clock of a session whose connection is open."""
        return self._next_wake(now_s=now_s, wall_s=wall_s)

    def beat(self, *, now_s: float, wall_s: float) -> list[SessionEffect]:
        """Ping after each interval, or abort a client that missed MISSED_PINGS pings."""
        if self.state is SessionState.ENDED:
            return []
        if self._unanswered >= MISSED_PINGS:
            self._move(Cause.NO_PONG)
            return [AbortConnection()]
        self._unanswered += 1
        return [Beat(), *self._next_wake(now_s=now_s, wall_s=wall_s)]

    def wake(self, *, now_s: float, wall_s: float) -> list[SessionEffect]:
        """Do what is due: stop typing, announce the end of the token, end the session with its token."""
        if self.state is SessionState.ENDED:
            return []
        self._asked_s = inf
        effects = self._typing_stops(now_s)
        ends_s = self.principal.expires_at_s
        if wall_s >= ends_s:
            return effects + self._end(Cause.EXPIRED)
        if self.state is SessionState.OPEN and wall_s >= ends_s - EXPIRY_NOTICE_S:
            self._move(Cause.ENDS_SOON)
            effects.append(Say(wire.TokenExpiring(wire.iso(int(ends_s * 1000)))))
        return effects + self._next_wake(now_s=now_s, wall_s=wall_s)

    def _next_wake(self, *, now_s: float, wall_s: float) -> list[SessionEffect]:
        wait_s = self.principal.expires_at_s - wall_s
        if self.state is SessionState.OPEN:
            wait_s -= EXPIRY_NOTICE_S
        due_s = now_s + max(wait_s, 0) if wait_s < self._horizon_s else inf
        if self._typing:
            due_s = min(due_s, *self._typing.values())
        return self._wake_at(due_s)

    def _wake_at(self, due_s: float) -> list[SessionEffect]:
        if due_s >= self._asked_s:
            return []
        self._asked_s = due_s
        return [WakeAt(due_s)]

    def revoked(self) -> list[SessionEffect]:
        """End the session: its token was revoked."""
        return [] if self.state is SessionState.ENDED else self._end(Cause.REVOKED)

    # Chapter: a newer token

    def renewed(
        self, principal: Principal, *, reply_to: str | int | None, now_s: float, wall_s: float
    ) -> list[SessionEffect]:
        """Continue with a newer token of the same user; another user's token changes nothing."""
        if self.state is SessionState.ENDED:
            return []
        if principal.user_id != self.principal.user_id:
            return [Complain("FORBIDDEN", "This token is another user's; the connection is unchanged.", {}, reply_to)]
        self.principal = principal
        self._move(Cause.RENEWED)
        self._asked_s = inf
        said = Say(wire.Authenticated(wire.iso(int(principal.expires_at_s * 1000))), reply_to)
        return [said, *self._next_wake(now_s=now_s, wall_s=wall_s)]

    def not_renewed(self, refusal: Unauthorized, *, reply_to: str | int | None) -> list[SessionEffect]:
        """Refuse a token that is not valid; the connection keeps the one it has."""
        return [] if self.state is SessionState.ENDED else [_complain(refusal, reply_to=reply_to)]

    # Chapter: the end

    def bad_frames(self) -> list[SessionEffect]:
        """End the session: a post was the last bad frame that is allowed."""
        return [] if self.state is SessionState.ENDED else self._end(Cause.BAD_FRAMES)

    def _end(self, cause: Cause) -> list[SessionEffect]:
        self._move(cause)
        return [CloseConnection(POLICY_VIOLATION, cause.value)]

    def _move(self, cause: Cause) -> None:
        self.state = TRANSITIONS[self.state][cause]


def _complain(refusal: OrbitalError, *, reply_to: wire.ReplyTo) -> Complain:
    return Complain(refusal.code, refusal.message, refusal.details, reply_to)


def _unique(group_ids: list[str]) -> list[str]:
    return list(dict.fromkeys(map(_canonical, group_ids)))


def _canonical(group_id: str) -> str:
    """Return a UUID in lower case; what is not one stays as it is, so that the refusal names what was sent."""
    return wire.read_uuid(group_id) or group_id


def _positions(data: wire.SubscribeData) -> dict[str, Resume]:
    return {
        _canonical(group_id): Resume(position) if isinstance(position, int) else Resume(position.seq, position.hash)
        for group_id, position in (data.since or {}).items()
    }
