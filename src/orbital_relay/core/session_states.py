"""The states of a server's session, as a table; the documentation's diagram is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class SessionState(Enum):
    """Where a session stands."""

    OPEN = "open"
    EXPIRING = "expiring"
    ENDED = "ended"


class Cause(Enum):
    """What moves a session from one state to another; the value is the label in the diagram."""

    ENDS_SOON = "token ends within a minute"
    RENEWED = "newer token"
    EXPIRED = "token expired"
    REVOKED = "token revoked"
    BAD_FRAMES = "ten bad frames in a row"
    TOO_MANY_FRAMES = "too many frames"
    NO_PONG = "three pings unanswered"
    CLOSED = "connection closed"


_ENDS: Final[Mapping[Cause, SessionState]] = dict.fromkeys(
    (Cause.EXPIRED, Cause.REVOKED, Cause.BAD_FRAMES, Cause.TOO_MANY_FRAMES, Cause.NO_PONG, Cause.CLOSED),
    SessionState.ENDED,
)

TRANSITIONS: Final[Mapping[SessionState, Mapping[Cause, SessionState]]] = {
    SessionState.OPEN: {Cause.ENDS_SOON: SessionState.EXPIRING, Cause.RENEWED: SessionState.OPEN, **_ENDS},
    SessionState.EXPIRING: {Cause.RENEWED: SessionState.OPEN, **_ENDS},
    # The Close may still be in flight when the socket ends.
    SessionState.ENDED: {Cause.CLOSED: SessionState.ENDED},
}
"""From each state, where each cause leads; any other pair is a bug."""
