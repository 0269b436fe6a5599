"""What goes over the bus: what is written is read, and what nobody of ours wrote does no harm."""

from __future__ import annotations

import pytest

from orbital_relay import wire
from orbital_relay.model import Event
from orbital_relay.relay.bus_messages import StateNotice, decode_message, encode_event, encode_state, encode_typing

GROUP = "00000000-0000-4000-8000-000000000001"


def test_messages_round_trip():
    """[CLUSTER18] An event decodes with number, stamp and exact bytes; other messages with their fields."""
    event = Event(GROUP, 2**40, 1_800_000_000_000, '{"type":"new_message","data":"ä"}'.encode())
    typing = wire.TypingIndicator("t", "u", "Zoë", is_typing=True)

    assert decode_message(GROUP, encode_event(event)) == event
    assert decode_message(GROUP, encode_typing(typing)) == typing
    assert decode_message(GROUP, encode_state(StateNotice("Zoë"))) == StateNotice("Zoë")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"e",
        b"e" + b"\x00" * 16,
        b"x{}",
        b"t",
        b"t{}",
        b"s\xff",
        b't{"thread_id":"\xff","user_id":"u","username":"u","is_typing":true}',
        b't{"more":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_a_malformed_bus_message(payload: bytes):
    """[CLUSTER19] Any bytes that this program did not encode decode to None."""
    assert decode_message(GROUP, payload) is None
