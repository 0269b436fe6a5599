"""The greeting: the first frame of a connection, with its limits (maximum message size)."""

from __future__ import annotations

from typing import Final

from orbital_relay import wire
from orbital_relay.model import Principal

MAX_FRAME_BYTES: Final = 65_536
"""Largest message of a client; a longer one is answered with close 1009."""


def greeting(principal: Principal, session_id: str, *, connected_ms: int, heartbeat_s: float) -> wire.AuthSuccess:
    """
    Return the `auth_success` of a connection.

    Args:
        principal: The user of its token.
        session_id: Names the connection in logs.
        connected_ms: When it was opened, in milliseconds since the epoch.
        heartbeat_s: Time between two pings, in seconds.
    """
    return wire.AuthSuccess(
        user_id=principal.user_id,
        username=principal.username,
        connected_at=wire.iso(connected_ms),
        session_id=session_id,
        heartbeat_seconds=heartbeat_s,
        max_frame_bytes=MAX_FRAME_BYTES,
        expires_at=wire.iso(int(principal.expires_at_s * 1000)),
    )
