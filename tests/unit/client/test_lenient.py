"""What the SDK demands of frames and answers is a part of what the server writes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.api.events import KeyMessages
from orbital_relay.client.api import keys
from orbital_relay.client.protocol import conversation

ID = "0190b6a0-0000-7000-8000-000000000001"
WHEN = "2026-11-27T00:00:00.000Z"

PAIRS: list[tuple[Any, Any]] = [
    (conversation._State, wire.GroupState(7, recovered=True)),
    (conversation._SubscribedData, wire.Subscribed([ID], WHEN, {ID: wire.GroupState(7, recovered=False)})),
    (conversation._UnsubscribedData, wire.Unsubscribed([ID], "left")),
    (conversation._AuthSuccessData, wire.AuthSuccess(ID, "ada", WHEN, ID, 30, 65536, WHEN)),
    (conversation._AuthenticatedData, wire.Authenticated(WHEN)),
    (keys._KeyMessages, KeyMessages(events=[], has_more=True)),
]


@pytest.mark.parametrize("lenient, written", PAIRS, ids=lambda one: type(one).__name__)
def test_fields_of_the_server(lenient: Any, written: Any):
    """[LENIENT1] Every field that the SDK reads of a frame is one that the server writes, with the server's value."""
    sent = msgspec.to_builtins(written)
    read = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(written), type=lenient))

    assert set(read) - set(sent) == set()
    assert read == {name: sent[name] for name in read}
