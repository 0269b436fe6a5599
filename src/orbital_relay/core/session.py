"""One client's conversation: its frames and the passing of time in, effects out."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Any, Final, assert_never

import msgspec

from orbital_relay import wire
from orbital_relay.core.bucket import Bucket
from orbital_relay.errors import OrbitalError, TooManyRequests, Unauthorized, ValidationFailed
from orbital_relay.model import Principal, Resume

STRIKES: Final = 10
"""Bad frames in a row that end the connection with 1008."""

MISSED_PINGS: Final = 3
"""Pings without an answer after which the connection is cut."""

EXPIRY_NOTICE_S: Final = 60.0
"""How long before its token ends a client is told."""

TYPING_S: Final = 6.0
"""Silence after which somebody no longer types."""

TYPING_THREADS: Final = 8
"""Threads in which one connection can be typing at once; people have two hands."""

POLICY_VIOLATION: Final = 1008


class State(Enum):
    """Where a session stands."""

    OPEN = "open"
    ENDED = "ended"


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


class Subscribe(msgspec.Struct, frozen=True):
    """Let the connection hear groups, and answer `subscribed`."""

    group_ids: list[str]
    since: dict[str, Resume]
    reply_to: str | int | None


class Unsubscribe(msgspec.Struct, frozen=True):
    """Let it hear groups no longer, and answer `unsubscribed`."""

    group_ids: list[str]
    reply_to: str | int | None


class Post(msgspec.Struct, frozen=True):
    """Do what a POST does, and answer `posted`, in the order of the frames."""

    frame: wire.PostFrame

    @property
    def reply_to(self) -> str | int | None:
        """What the answer carries."""
        return self.frame.id


class Type(msgspec.Struct, frozen=True):
    """
    Tell the thread's group who is typing.

    Whether the user may is for whoever does it to find out, who then says `typing_told` or `typing_refused`.
    """

    thread_id: str
    is_typing: bool
    reply_to: str | int | None = None


class Verify(msgspec.Struct, frozen=True):
    """Check a newer token, and bring it to `renewed`."""

    token: str
    reply_to: str | int | None


class Beat(msgspec.Struct, frozen=True):
    """Send a ping."""


class End(msgspec.Struct, frozen=True):
    """Close the connection with a code."""

    code: int
    reason: str


class Cut(msgspec.Struct, frozen=True):
    """Cut the connection: nobody is there to be told."""


Effect = Say | Complain | Subscribe | Unsubscribe | Post | Type | Verify | Beat | End | Cut


class Session:
    """
    What one client may do, and what becomes of what it sends.

    It is open until it says `End` or `Cut`, and then does nothing more. A session never holds a socket, and never looks
    at a clock: `now_s` is steady, `wall_s` is the time of day, both in seconds.
    """

    __slots__ = (
        "_bucket",
        "_grace",
        "_noticed",
        "_refused",
        "_strikes",
        "_typing",
        "_unanswered",
        "principal",
        "state",
    )

    def __init__(self, principal: Principal, *, frame_rate: float, now_s: float) -> None:
        """
        Args:
            principal: Whom the token speaks for.
            frame_rate: Frames a second that the client may send; a burst may be twice that.
            now_s: Now.
        """
        self.principal = principal
        self.state = State.OPEN
        self._bucket = Bucket(rate=frame_rate, capacity=2 * frame_rate, now_s=now_s)
        self._grace = frame_rate
        self._refused = 0
        self._strikes = 0
        self._unanswered = 0
        self._noticed = False
        # When each thread's silence is too long; without end while its group was not told of any typing. None until the
        # first indicator: nearly all connections never have one.
        self._typing: dict[str, float] | None = None

    # Chapter: receiving

    def receive(self, text: bytes, *, now_s: float) -> list[Effect]:
        """
        Take a text frame.

        Args:
            text: The frame, valid UTF-8.
            now_s: Now.
        """
        if self.state is State.ENDED:
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
                effects += self._end(POLICY_VIOLATION, "ten bad frames in a row")
            return effects
        if not isinstance(frame, wire.PostFrame):
            # Whether a post has the right data is found out by the use case.
            self.accepted()
        return effects

    def control(self, *, now_s: float) -> list[Effect]:
        """Take a frame that is no message: it counts against the rate like any other."""
        return [] if self.state is State.ENDED else self._over_rate(b"", now_s=now_s) or []

    def _over_rate(self, text: bytes, *, now_s: float) -> list[Effect] | None:
        if self._bucket.take(now_s):
            self._refused = 0
            return None
        self._refused += 1
        if self._refused > self._grace:
            return self._end(POLICY_VIOLATION, "too many frames")
        if not text:
            return []
        refusal = TooManyRequests("That is more frames a second than this server takes. Send more slowly.")
        return [_complain(refusal, reply_to=wire.id_of(text))]

    def struck(self) -> bool:
        """Count a bad frame; return whether it is the last that is borne with."""
        self._strikes += 1
        return self._strikes >= STRIKES

    def accepted(self) -> None:
        """Count no bad frames any longer: a good one has come."""
        self._strikes = 0

    def _act(self, frame: wire.ClientFrame) -> list[Effect]:
        match frame:
            case wire.Pong():
                self._unanswered = 0
                return []
            case wire.Subscribe(data=data):
                return [Subscribe(_unique(data.group_ids), _positions(data), frame.id)]
            case wire.Unsubscribe(data=data):
                return [Unsubscribe(_unique(data.group_ids), frame.id)]
            case wire.Typing(data=data):
                return self._type(data, frame.id)
            case wire.Authenticate(data=data):
                return [Verify(data.token, frame.id)]
            case wire.PostMessageFrame() | wire.PostThreadFrame() | wire.PostReplyFrame():
                return [Post(frame)]
            case _:
                assert_never(frame)

    def pong(self) -> None:
        """Take a WebSocket pong: it proves life as the JSON one does."""
        self._unanswered = 0

    # Chapter: typing

    def _type(self, data: wire.TypingData, reply_to: str | int | None) -> list[Effect]:
        thread_id = wire.read_uuid(data.thread_id)
        if thread_id is None:
            raise ValidationFailed("data.thread_id must be a UUID with hyphens.", field="data.thread_id")
        typing = self._typing if self._typing is not None else {}
        self._typing = typing
        if data.is_typing:
            if thread_id not in typing and len(typing) >= TYPING_THREADS:
                return [_complain(TooManyRequests("Nobody types in that many threads at once."), reply_to=reply_to)]
            typing.setdefault(thread_id, inf)
        return [Type(thread_id, data.is_typing, reply_to)]

    def typing_told(self, thread_id: str, *, is_typing: bool, now_s: float) -> None:
        """Note what a thread's group was told: only who is known to type can be said to have stopped."""
        if self._typing is None:
            return
        if is_typing:
            self._typing[thread_id] = now_s + TYPING_S
        else:
            self._typing.pop(thread_id, None)

    def typing_refused(self, thread_id: str) -> None:
        """Forget a thread in which the user may not type, or that does not exist."""
        if self._typing is not None:
            self._typing.pop(thread_id, None)

    def typing_due_s(self) -> float | None:
        """Return when `typing_stops` should be asked next, or None."""
        due_s = min(self._typing.values(), default=inf) if self._typing else inf
        return None if due_s == inf else due_s

    def typing_stops(self, *, now_s: float) -> list[Effect]:
        """Stop what nothing was heard of for TYPING_S."""
        if not self._typing:
            return []
        silent = [thread_id for thread_id, due_s in self._typing.items() if due_s <= now_s]
        return [self._stop(thread_id) for thread_id in silent]

    def _stop(self, thread_id: str) -> Effect:
        self.typing_refused(thread_id)
        return Type(thread_id, is_typing=False)

    def closed(self) -> list[Effect]:
        """The connection has ended: nobody types here any longer."""
        self.state = State.ENDED
        typing = self._typing or {}
        return [self._stop(thread_id) for thread_id, due_s in list(typing.items()) if due_s < inf]

    # Chapter: time

    def beat(self) -> list[Effect]:
        """An interval has passed: ping, or cut a client that answered none of three."""
        if self.state is State.ENDED:
            return []
        if self._unanswered >= MISSED_PINGS:
            self.state = State.ENDED
            return [Cut()]
        self._unanswered += 1
        return [Beat()]

    def expiry_due_s(self) -> float:
        """Return the time of day at which `expiry` should be asked next."""
        ends = self.principal.expires_at_s
        return ends if self._noticed else ends - EXPIRY_NOTICE_S

    def expiry(self, *, wall_s: float) -> list[Effect]:
        """Tell the client that its token ends soon; end the connection when it has."""
        if self.state is State.ENDED:
            return []
        ends = self.principal.expires_at_s
        if wall_s >= ends:
            return self._end(POLICY_VIOLATION, "token expired")
        if not self._noticed and wall_s >= ends - EXPIRY_NOTICE_S:
            self._noticed = True
            return [Say(wire.TokenExpiring(wire.iso(int(ends * 1000))))]
        return []

    def revoked(self) -> list[Effect]:
        """The token no longer holds."""
        return [] if self.state is State.ENDED else self._end(POLICY_VIOLATION, "token revoked")

    # Chapter: a newer token

    def renewed(self, principal: Principal, *, reply_to: str | int | None) -> list[Effect]:
        """Go on with a newer token of the same user; another user's changes nothing."""
        if self.state is State.ENDED:
            return []
        if principal.user_id != self.principal.user_id:
            return [
                Complain("FORBIDDEN", "This token is another user's; the connection goes on as it was.", {}, reply_to)
            ]
        self.principal = principal
        self._noticed = False
        return [Say(wire.Authenticated(wire.iso(int(principal.expires_at_s * 1000))), reply_to)]

    def not_renewed(self, refusal: Unauthorized, *, reply_to: str | int | None) -> list[Effect]:
        """Say that a token does not hold; the connection goes on with the one it has."""
        return [] if self.state is State.ENDED else [_complain(refusal, reply_to=reply_to)]

    def _end(self, code: int, reason: str) -> list[Effect]:
        self.state = State.ENDED
        return [End(code, reason)]


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
