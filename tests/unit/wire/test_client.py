"""Frames of clients: what is read, what is refused with which field, and which id the refusal answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orbital_relay import wire
from orbital_relay.errors import ValidationFailed

FRAMES: list[tuple[bytes, Any]] = [
    (
        b'{"type":"subscribe","data":{"group_ids":["a"]}}',
        wire.Subscribe(wire.SubscribeData(["a"])),
    ),
    (
        b'{"id":"q","type":"subscribe","data":{"group_ids":[],"since":{"a":0,"b":{"seq":4,"hash":"h"},"c":{"seq":1}}}}',
        wire.Subscribe(wire.SubscribeData([], {"a": 0, "b": wire.SinceHash(4, "h"), "c": wire.SinceHash(1)}), id="q"),
    ),
    (
        b'{"type":"unsubscribe","data":{"group_ids":["a"]},"id":7}',
        wire.Unsubscribe(wire.UnsubscribeData(["a"]), id=7),
    ),
    (b'{"type":"pong"}', wire.Pong()),
    (b'{"type":"pong","data":[1,{}],"id":"q"}', wire.Pong(id="q")),
    (
        b'{"type":"typing_indicator","data":{"thread_id":"t","is_typing":false,"username":"forged"},"id":1}',
        wire.TypingFrame(wire.TypingData("t", is_typing=False), id=1),
    ),
    (
        b'{"type":"authenticate","data":{"token":"new"},"id":1}',
        wire.Authenticate(wire.AuthenticateData("new"), id=1),
    ),
    (b'{"type":"post_message","id":1}', wire.PostMessageFrame(wire.ABSENT, 1)),
    (b'{"type":"post_message","data": {"a": 1} }', wire.PostMessageFrame(msgspec.Raw(b'{"a": 1}'))),
    (b'{"type":"post_thread","data":null}', wire.PostThreadFrame(msgspec.Raw(b"null"))),
    (b'{"type":"post_reply","data":[],"id":"q"}', wire.PostReplyFrame(msgspec.Raw(b"[]"), "q")),
]


@pytest.mark.parametrize("text, frame", FRAMES)
def test_frames_are_read(text: bytes, frame: Any):
    """[WCLI1] Each frame of a client is read by its `type`; unknown members are ignored, the body of a post is kept."""
    assert wire.decode(text) == frame


@pytest.mark.parametrize(
    "text, field, message",
    [
        (b"{", None, "This is not JSON: it ends too early."),
        (b'{"type":"pong","data":' + b"[" * 100_000, None, "The JSON is nested too deeply."),
        (b'{"type":"authenticate","data":{"token":"\xff"}}', None, "The JSON is not UTF-8."),
        (b"[]", None, "The JSON must be an object, not a list."),
        (b"{}", "type", "type is missing."),
        (b'{"type":"nothing"}', "type", "type is not one of the values that are known."),
        (b'{"type":"subscribe"}', "data", "data is missing."),
        (b'{"type":"subscribe","data":{}}', "data.group_ids", "data.group_ids is missing."),
        (
            b'{"type":"subscribe","data":{"group_ids":[],"since":{"a":-1}}}',
            "data.since[...]",
            "Each entry of data.since must be at least 0.",
        ),
        (
            b'{"type":"subscribe","data":{"group_ids":[],"since":{"a":{"seq":-1}}}}',
            "data.since[...].seq",
            "data.since[...].seq must be at least 0.",
        ),
        (b'{"type":"pong","id":"' + b"x" * 65 + b'"}', "id", "id must have at most 64 characters."),
    ],
)  # fmt: skip
def test_frames_are_refused(text: bytes, field: str | None, message: str):
    """[WCLI2] A frame that is not JSON, or has an unknown type or wrong data, is VALIDATION_ERROR with its field."""
    with pytest.raises(ValidationFailed) as refused:
        wire.decode(text)

    assert (refused.value.details.get("field"), refused.value.message) == (field, message)


@pytest.mark.parametrize(
    "text, expected",
    [
        (b'{"type":"nothing","id":"q"}', "q"),
        (b'{"id":0}', 0),
        (b'{"id":-12}', -12),
        (b'{"id":"' + b"x" * 64 + b'"}', "x" * 64),
        (b'{"id":' + b"9" * 5000 + b"}", msgspec.Raw(b"9" * 5000)),
        (b'{"id":-' + b"9" * 5000 + b"}", msgspec.Raw(b"-" + b"9" * 5000)),
        (b'{"id":"' + b"x" * 65 + b'"}', None),
        (b'{"id":1.5}', None),
        (b'{"id":[1]}', None),
        (b'{"id":true}', None),
        (b'{"id":null}', None),
        (b'{"type":"nothing"}', None),
        (b"[1]", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b'{"id":' + b"[" * 100_000, None),
    ],
)
def test_ids_of_refused_frames(text: bytes, expected: Any):
    """[WCLI3] The `id` of a refused frame counts if it is text of up to 64 characters or an integer of any length."""
    assert wire.id_of(text) == expected
