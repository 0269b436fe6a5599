"""What the SDK demands of frames and answers is a part of what the server writes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.api.events import KeyMessages
from orbital_relay.api.messages import MessagePosted
from orbital_relay.api.receipts import Receipt
from orbital_relay.api.threads import ReplyCreated, ThreadCreated
from orbital_relay.client import outbox
from orbital_relay.client.api import keys
from orbital_relay.client.protocol import conversation
from orbital_relay.errors import Forbidden

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

RECEIPTS: list[Receipt] = [
    MessagePosted(message_id=ID, server_timestamp=1, seq=1),
    ThreadCreated(thread_id=ID, group_id=ID, created_at=WHEN, seq=1),
    ReplyCreated(reply_id=ID, thread_id=ID, created_at=WHEN, seq=1),
]
"""The answers to what the outbox posts: `Orbital.send`, `open_thread` and `reply`."""


@pytest.mark.parametrize("lenient, written", PAIRS, ids=lambda one: type(one).__name__)
def test_fields_of_the_server(lenient: Any, written: Any):
    """[LENIENT1] Every field that the SDK reads of a frame is one that the server writes, with the server's value."""
    sent = msgspec.to_builtins(written)
    read = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(written), type=lenient))

    assert set(read) - set(sent) == set()
    assert read == {name: sent[name] for name in read}


def test_data_of_an_error():
    """[LENIENT2] Every field that the SDK reads of an `error` is one that the server writes, with its value."""
    refusal = Forbidden("You are not in these groups.", group_ids=[ID])
    frame = wire.error_frame(refusal.code, refusal.message, refusal.details, stamp_ms=1, reply_to=None)
    sent = msgspec.json.decode(frame)["data"]
    read = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(sent), type=conversation._ErrorData))

    assert set(read) == {"code", "message", "group_ids"}
    assert read == {name: sent[name] for name in read}


@pytest.mark.parametrize("written", RECEIPTS, ids=lambda one: type(one).__name__)
def test_fields_of_a_receipt(written: Receipt):
    """[LENIENT3] Of each answer to a post of the outbox the SDK requires one id that the server writes."""
    sent = msgspec.to_builtins(written)
    read = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(written), type=outbox._Receipt))
    found = {name: value for name, value in read.items() if value is not None}

    assert found
    assert found == {name: value for name, value in sent.items() if name in read}


def test_every_lenient_struct_is_compared():
    """[LENIENT4] Each private struct that the SDK decodes an answer or a frame into is compared in this file."""
    private = {
        found
        for module in (conversation, keys, outbox)
        for name, found in vars(module).items()
        if name.startswith("_") and isinstance(found, type) and issubclass(found, msgspec.Struct)
    }

    assert private == {lenient for lenient, _ in PAIRS} | {conversation._ErrorData, outbox._Receipt}
