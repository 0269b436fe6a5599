"""Which events call a device, and what a push message says of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.model import ClaimedPush, Event, GroupId, PushPreferences, PushTarget, UserId
from orbital_relay.server.push.encryption import PAYLOAD_BYTES
from orbital_relay.server.push.messages import KEEP_S, bare, calls, collapse, payload

NOW_MS = 1_800_000_000_000
GROUP = GroupId("6f1f7c0e-7d0b-4d52-9a53-3f6f2b1c8a11")


def _event(seq: int, data: Any, *, age_s: int = 0) -> Event:
    stamp_ms = NOW_MS - age_s * 1000
    return Event(GROUP, seq, stamp_ms, wire.seal(data, group_id=GROUP, seq=seq, stamp_ms=stamp_ms, prev="p" * 43))


def _reply(
    seq: int, thread: str = "t", author: str = "ben", body: str = "Ym9keQ==", message: str | None = None, **more: Any
) -> Event:
    at = "2026-05-04T12:00:00.000Z"
    return _event(seq, wire.NewReply(f"r{seq}", thread, author, author, body, at, message_id=message), **more)


def _claim(**muted: Any) -> ClaimedPush:
    return ClaimedPush(1, UserId("ada"), PushTarget("", b"", b"s" * 16), PushPreferences(**muted), 0, {})


def test_the_last_of_each_thread_calls():
    """[PUSH4] Of the events of a thread the last one calls, and the calls are in the order of the log."""
    events = [_reply(1, "a"), _reply(2, "b"), _reply(3, "a"), _reply(4, "c"), _reply(5, "b", "ada")]

    found = collapse(calls(events, _claim(), now_ms=NOW_MS), set())

    assert [(call.seq, call.subject) for call in found] == [(2, "b"), (3, "a"), (4, "c")]


def test_deleted_content_calls_nobody():
    """[DELETED19] Content that was deleted, or whose thread was, calls no device; the last of what is left does."""
    events = [
        _reply(1, "a"),
        _reply(2, "a"),
        _reply(3, "b"),
        _event(4, wire.NewThread("c", GROUP, "ben", "ben", "dGl0", "Ym9k", "x")),
        _event(5, wire.MediaUploaded("p", "b", "ben", "bWV0YQ==", 10, "x")),
        _event(6, wire.NewMessage("m1", GROUP, "ZW52", 1, "ben")),
        _event(7, wire.NewMessage("m2", GROUP, "ZW52", 1, "ben")),
        _reply(8, "d", message="m2"),
    ]
    found = calls(events, _claim(), now_ms=NOW_MS)

    left = collapse(found, {"r2", "b", "c", "m2", "another"})

    assert [call.seq for call in left] == [1, 6, 8]


def test_own_events_call_nobody():
    """[PUSH4] A user gets no push messages for the user's own posts, on any device."""
    message = wire.NewMessage("m", GROUP, "ZW52", 1, "ada")

    assert calls([_reply(1, author="ada"), _event(2, message)], _claim(), now_ms=NOW_MS) == []


def test_only_content_calls():
    """[PUSH4] Memberships, keys, records and expired media cause no push message."""
    quiet = [
        wire.MemberJoined(GROUP, "ben", "ben", "x"),
        wire.MemberLeft(GROUP, "ben", "ben", "x", "left"),
        wire.MediaExpired("m", "t", "x"),
        wire.IdentityChanged("ben", 1, "added", "a2V5"),
        wire.NewKeys("k", GROUP, "ben", "ZW52"),
        wire.NewRecord("r", GROUP, "ben", "cmVj", "x"),
    ]
    loud = [
        wire.NewMessage("m", GROUP, "ZW52", 1, "ben"),
        wire.NewThread("t1", GROUP, "ben", "ben", "dGl0", "Ym9k", "x"),
        wire.MediaUploaded("m", "t2", "ben", "bWV0YQ==", 10, "x"),
    ]
    events = [_event(seq, data) for seq, data in enumerate([*quiet, *loud], start=1)]

    found = calls(events, _claim(), now_ms=NOW_MS)

    assert [(call.seq, call.urgency) for call in found] == [(7, "high"), (8, "high"), (9, "normal")]


def test_muted():
    """[PUSH3] A muted thread does not call, and neither does any thread of a muted group."""
    events = [_reply(1, "a"), _reply(2, "b")]

    assert [call.seq for call in calls(events, _claim(threads=("a",)), now_ms=NOW_MS)] == [2]
    assert calls(events, _claim(groups=(GROUP,)), now_ms=NOW_MS) == []


def test_old_events_call_nobody():
    """[PUSH4] Push messages are sent for events of up to three days; the push service keeps them for the rest."""
    events = [_reply(1, "a", age_s=KEEP_S + 1), _reply(2, "b", age_s=KEEP_S - 60)]

    (call,) = calls(events, _claim(), now_ms=NOW_MS)

    assert (call.seq, call.ttl_s(NOW_MS)) == (2, 60)


def test_the_payload_holds_the_sealed_content():
    """[PUSH5] A payload contains group, thread, number, author, recipient, and the encrypted content and title."""
    (call,) = calls([_reply(7)], _claim(), now_ms=NOW_MS)

    found = json.loads(payload(call.message, {"t": "dGl0bGU="}))

    assert found == {
        "type": "new_reply",
        "group_id": GROUP,
        "seq": 7,
        "user_id": "ada",
        "server_timestamp": NOW_MS,
        "author_id": "ben",
        "thread_id": "t",
        "author_username": "ben",
        "encrypted_title": "dGl0bGU=",
        "data": msgspec.to_builtins(wire.event_data(_reply(7).frame)),
    }


@pytest.mark.parametrize(
    ("body", "title", "kept"),
    [
        ("A" * 2000, "B" * 400, {"data", "encrypted_title"}),
        ("A" * 4000, "B" * 400, {"encrypted_title"}),
        ("A", "B" * 4000, set()),
    ],
)
def test_what_does_not_fit_is_left_out(body: str, title: str, kept: set[str]):
    """[PUSH5] Content that does not fit into a message is left out, then the title; what is left always fits."""
    (call,) = calls([_reply(7, body=body)], _claim(), now_ms=NOW_MS)

    found = payload(call.message, {"t": title})

    assert len(found) <= PAYLOAD_BYTES
    assert {"data", "encrypted_title"} & json.loads(found).keys() == kept
    assert {"data", "encrypted_title"}.isdisjoint(json.loads(bare(call.message)))


def test_topics():
    """[PUSH6] Two messages of a thread have one topic, and the topics of one thread at two devices are not the same."""
    first, second = (calls([_reply(seq)], _claim(), now_ms=NOW_MS)[0] for seq in (1, 2))

    assert first.topic(b"a" * 16) == second.topic(b"a" * 16)
    assert first.topic(b"a" * 16) != first.topic(b"b" * 16)
    assert len(first.topic(b"a" * 16)) == 32
    assert first.message.thread_id not in first.topic(b"a" * 16)
