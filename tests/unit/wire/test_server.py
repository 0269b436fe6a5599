"""The frames of the server that are not durable, byte for byte."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orbital_relay import wire

FRAMES: list[tuple[wire.ServerData, str]] = [
    (
        wire.AuthSuccess("u", "ann", "AT", "s", 25.5, 65_536, "END"),
        (
            '{"type":"auth_success","data":{"user_id":"u","username":"ann","connected_at":"AT","session_id":"s",'
            '"heartbeat_seconds":25.5,"max_frame_bytes":65536,"expires_at":"END"},"server_timestamp":9}'
        ),
    ),
    (
        wire.Subscribed(["a", "b"], "AT", {"a": wire.GroupState(3), "b": wire.GroupState(0, recovered=False)}),
        (
            '{"type":"subscribed","data":{"group_ids":["a","b"],"subscribed_at":"AT",'
            '"groups":{"a":{"seq":3},"b":{"seq":0,"recovered":false}}},"server_timestamp":9}'
        ),
    ),
    (
        wire.Unsubscribed(["a"], "left"),
        '{"type":"unsubscribed","data":{"group_ids":["a"],"reason":"left"},"server_timestamp":9}',
    ),
    (wire.Ping(8), '{"type":"ping","data":{"server_time":8},"server_timestamp":9}'),
    (
        wire.TypingIndicator("t", "u", "ann", is_typing=True),
        (
            '{"type":"typing_indicator","data":{"thread_id":"t","user_id":"u","username":"ann","is_typing":true},'
            '"server_timestamp":9}'
        ),
    ),
    (wire.TokenExpiring("END"), '{"type":"token_expiring","data":{"expires_at":"END"},"server_timestamp":9}'),
    (wire.Authenticated("END"), '{"type":"authenticated","data":{"expires_at":"END"},"server_timestamp":9}'),
    (
        wire.KeysLow(3, 9, 8, 7),
        (
            '{"type":"keys_low","data":{"device_id":3,"pre_keys":9,"kyber_pre_keys":8,"hpke_pre_keys":7},'
            '"server_timestamp":9}'
        ),
    ),
    (wire.StateChanged("g"), '{"type":"state_changed","data":{"group_id":"g"},"server_timestamp":9}'),
]


@pytest.mark.parametrize("data, text", FRAMES, ids=[data.kind for data, _ in FRAMES])
def test_frames(data: wire.ServerData, text: str):
    """[WSRV1] A frame has `type`, `data` and `server_timestamp`, in this order, without white space."""
    assert wire.frame(data, stamp_ms=9).decode() == text


@pytest.mark.parametrize(
    "reply_to, written",
    [
        (None, ""),
        ("q", ',"reply_to":"q"'),
        (0, ',"reply_to":0'),
        (msgspec.Raw(b"9" * 5000), ',"reply_to":' + "9" * 5000),
    ],
    ids=["none", "text", "zero", "a long integer"],
)
def test_replies(reply_to: Any, written: str):
    """[WSRV2] The answer to a frame with an `id` ends with it as `reply_to`, also 0 and an integer of any length."""
    pong = wire.frame(wire.Ping(8), stamp_ms=9, reply_to=reply_to)
    posted = wire.posted_frame(wire.GroupState(3), stamp_ms=9, reply_to=reply_to)
    error = wire.error_frame("CODE", "Why.", {"field": "a"}, stamp_ms=9, reply_to=reply_to)

    assert pong.decode() == '{"type":"ping","data":{"server_time":8},"server_timestamp":9' + written + "}"
    assert posted.decode() == '{"type":"posted","data":{"seq":3},"server_timestamp":9' + written + "}"
    assert error.decode() == (
        '{"type":"error","data":{"code":"CODE","message":"Why.","field":"a"},"server_timestamp":9' + written + "}"
    )


def test_a_post_without_a_body_as_answer():
    """[WSRV3] The `posted` frame of an answer without a body has `null` as `data`."""
    assert wire.posted_frame(None, stamp_ms=9, reply_to="q") == (
        b'{"type":"posted","data":null,"server_timestamp":9,"reply_to":"q"}'
    )
