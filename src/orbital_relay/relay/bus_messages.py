"""Encoding of bus messages: a letter for the kind; for an event its number, timestamp and frame."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from orbital_relay import wire
from orbital_relay.model import Event, GroupId, UserId

_EVENT: Final = b"e"
_TYPING: Final = b"t"
_STATE: Final = b"s"
_NUMBERS: Final = 8

_decode_typing = msgspec.json.Decoder(wire.TypingIndicator).decode


def encode_event(event: Event) -> bytes:
    """Write an event for the bus."""
    return b"".join(
        (_EVENT, event.seq.to_bytes(_NUMBERS, "big"), event.stamp_ms.to_bytes(_NUMBERS, "big"), event.frame)
    )


def encode_typing(data: wire.TypingIndicator) -> bytes:
    """Write a typing indicator for the bus."""
    return _TYPING + msgspec.json.encode(data)


class StateNotice(msgspec.Struct, frozen=True):
    """
    A member's devices share a new state.

    Attributes:
        user_id: The member, whose connections alone are notified.
    """

    user_id: UserId


def encode_state(notice: StateNotice) -> bytes:
    """Write a notice of a new state for the bus."""
    return _STATE + notice.user_id.encode()


def decode_message(group_id: GroupId, payload: bytes) -> Event | wire.TypingIndicator | StateNotice | None:
    """Read what came over the bus; None when it is nothing that this program writes."""
    if payload.startswith(_EVENT) and len(payload) > 1 + 2 * _NUMBERS:
        seq = int.from_bytes(payload[1 : 1 + _NUMBERS], "big")
        stamp_ms = int.from_bytes(payload[1 + _NUMBERS : 1 + 2 * _NUMBERS], "big")
        return Event(group_id, seq, stamp_ms, payload[1 + 2 * _NUMBERS :])
    if payload.startswith(_TYPING):
        # Each its own kind of nonsense: no JSON, no UTF-8, and more brackets than there is stack.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _decode_typing(payload[1:])
    if payload.startswith(_STATE):
        with suppress(UnicodeDecodeError):
            return StateNotice(UserId(payload[1:].decode()))
    return None
