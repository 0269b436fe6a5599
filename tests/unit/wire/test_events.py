"""Durable frames: made once, in a fixed order of members, and taken apart without loss."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.core.chain import prev_of

GROUP = "9f0c1d2e-0000-4000-8000-00000000000b"
AT = "2023-11-14T22:13:20.000Z"
PREV = "A" * 43

DATA: list[tuple[Any, str, dict[str, Any]]] = [
    (
        wire.NewMessage("m", GROUP, "AA==", 5, "u"),
        "new_message",
        {
            "message_id": "m",
            "conversation_id": GROUP,
            "encrypted_envelope": "AA==",
            "server_timestamp": 5,
            "sender_id": "u",
        },
    ),
    (
        wire.NewThread("t", GROUP, "u", "ann", "BB", "CC", AT),
        "new_thread",
        {
            "thread_id": "t",
            "group_id": GROUP,
            "author_id": "u",
            "author_username": "ann",
            "encrypted_title": "BB",
            "encrypted_body": "CC",
            "created_at": AT,
        },
    ),
    (
        wire.NewReply("y", "t", "u", "ann", "DD", AT),
        "new_reply",
        {
            "reply_id": "y",
            "thread_id": "t",
            "author_id": "u",
            "author_username": "ann",
            "encrypted_body": "DD",
            "created_at": AT,
        },
    ),
    (
        wire.MediaUploaded("x", "t", "u", "GG", 50, AT),
        "media_uploaded",
        {
            "media_id": "x",
            "thread_id": "t",
            "author_id": "u",
            "encrypted_metadata": "GG",
            "size_bytes": 50,
            "expires_at": AT,
        },
    ),
    (
        wire.MediaExpired("x", "t", AT),
        "media_expired",
        {"media_id": "x", "thread_id": "t", "expired_at": AT},
    ),
    (
        wire.MemberJoined(GROUP, "u", "ann", AT),
        "member_joined",
        {"group_id": GROUP, "user_id": "u", "username": "ann", "joined_at": AT},
    ),
    (
        wire.MemberLeft(GROUP, "u", "ann", AT, "removed"),
        "member_left",
        {"group_id": GROUP, "user_id": "u", "username": "ann", "left_at": AT, "reason": "removed"},
    ),
    (
        wire.IdentityChanged("u", 3, "added", "JJ"),
        "identity_changed",
        {"user_id": "u", "device_id": 3, "change": "added", "identity_key": "JJ"},
    ),
    (
        wire.NewKeys("k", GROUP, "u", "HH"),
        "new_keys",
        {"keys_id": "k", "group_id": GROUP, "sender_id": "u", "encrypted_envelope": "HH"},
    ),
    (
        wire.NewRecord("c", GROUP, "u", "II", AT),
        "new_record",
        {"record_id": "c", "group_id": GROUP, "author_id": "u", "record": "II", "created_at": AT},
    ),
    (
        wire.RoleChanged(GROUP, "u", "ann", "admin", "v", AT),
        "role_changed",
        {"group_id": GROUP, "user_id": "u", "username": "ann", "role": "admin", "by": "v", "changed_at": AT},
    ),
    (
        wire.Deleted("y", "reply", "u"),
        "deleted",
        {"target_id": "y", "kind": "reply", "by": "u"},
    ),
    (
        wire.NewAnnotation("n", "t", "y", "u", "ann", "KK", AT),
        "new_annotation",
        {
            "annotation_id": "n",
            "thread_id": "t",
            "target_id": "y",
            "author_id": "u",
            "author_username": "ann",
            "encrypted_body": "KK",
            "created_at": AT,
        },
    ),
]
"""Every event with its `type` and its `data` as the protocol writes them."""


def sealed(data: Any) -> bytes:
    """Make the frame of an event with number 7."""
    return wire.seal(data, group_id=GROUP, seq=7, stamp_ms=1_700_000_000_123, prev=PREV)


def test_every_event_is_here():
    """[WEVT1] The table of events has each kind once, under the name that is on the wire."""
    assert {kind: cls for cls, kind in ((type(data), kind) for data, kind, _ in DATA)} == wire.EVENTS
    assert set(wire.EVENTS) > wire.EPOCH_KINDS == {"member_joined", "member_left", "identity_changed", "new_record"}


@pytest.mark.parametrize("data, kind, members", DATA, ids=[kind for _, kind, _ in DATA])
def test_frames(data: Any, kind: str, members: dict[str, Any]):
    """[WEVT2] A durable frame has its members in a fixed order, byte for byte, and ends with `prev`."""
    text = sealed(data)

    assert text.decode() == json.dumps(
        {
            "type": kind,
            "data": members,
            "server_timestamp": 1_700_000_000_123,
            "group_id": GROUP,
            "seq": 7,
            "prev": PREV,
        },
        separators=(",", ":"),
    )
    assert prev_of(text) == PREV


@pytest.mark.parametrize("data, kind", [row[:2] for row in DATA], ids=[kind for _, kind, _ in DATA])
def test_a_frame_is_taken_apart(data: Any, kind: str):
    """[WEVT3] A stored frame gives back its type, its typed data, and its members with the data unchanged."""
    text = sealed(data)

    assert wire.kind_of(text) == kind
    assert wire.event_data(text) == data
    parts = wire.open_frame(text)
    assert bytes(parts.data) in text
    assert msgspec.json.decode(parts.data, type=type(data)) == data
    assert (parts.type, parts.server_timestamp, parts.group_id, parts.seq, parts.prev) == (
        kind,
        1_700_000_000_123,
        GROUP,
        7,
        PREV,
    )


def test_what_an_author_names_is_written():
    """[WEVT4] `root_message_id` and `message_id` are in a frame only when the author names a message."""
    thread = wire.NewThread("t", GROUP, "u", "ann", "BB", "CC", AT, root_message_id="r")
    reply = wire.NewReply("y", "t", "u", "ann", "DD", AT, message_id="m")

    assert b'"root_message_id":"r"' in sealed(thread)
    assert b'"message_id":"m"' in sealed(reply)
    assert (wire.event_data(sealed(thread)), wire.event_data(sealed(reply))) == (thread, reply)
